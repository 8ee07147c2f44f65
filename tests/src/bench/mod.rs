//! Benchmarks: what something costs, measured, and how.
//!
//! - [`signals`]: what each level of signals costs a packet
//! - [`sweep`]: the agent's rounds over a full flow table

pub mod signals;
pub mod sweep;
