//! Benchmarks: what something costs, measured, and how.
//!
//! - [`sweep`]: the agent's rounds over a full flow table

pub mod sweep;
