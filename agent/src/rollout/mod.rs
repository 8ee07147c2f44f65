//! Releases over a fleet of agents: the coordinator.
//!
//! - [`ledger`]: where its state lives, and who may change it
//! - [`external`]: what it asks others: Prometheus, web hooks, commands

pub mod external;
pub mod ledger;
