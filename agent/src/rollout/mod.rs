//! Releases over a fleet of agents: rolling, blue-green and canary, judged and rolled back by
//! themselves.
//!
//! - [`spec`]: a rollout as data; from the document, with everything that is wrong with it
//! - [`schedule`]: its strategy as a flat list of steps
//! - [`fleet`]: the agents: what they are seen to do, and what they are ordered to do
//! - [`run`]: the loop; [`api`]: what can be asked of it, over gRPC
//! - [`ledger`]: where states are kept, and who leads
//! - [`external`]: what is asked of others: Prometheus, web hooks, commands
//! - [`judge`]: what counters say of a candidate
//! - [`machine`]: what is so now, and what should be asked for; pure
//! - [`observe`]: a page, and series for Prometheus
//! - [`name`], [`time`]: the words that all of them share

pub mod api;
pub mod external;
pub mod fleet;
pub mod judge;
pub mod ledger;
pub mod machine;
pub mod name;
pub mod observe;
pub mod run;
pub mod schedule;
pub mod spec;
pub mod time;
