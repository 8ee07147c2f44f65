//! Releases over a fleet of agents: rolling, blue-green and canary, judged and rolled back by
//! themselves.
//!
//! - [`judge`]: what counters say of a candidate

pub mod judge;
