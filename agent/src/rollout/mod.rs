//! Releases over a fleet of agents: rolling, blue-green and canary, judged and rolled back by
//! themselves.
//!
//! - [`spec`]: a rollout as data; from the document, with everything that is wrong with it
//! - [`schedule`]: its strategy as a flat list of steps
//! - [`judge`]: what counters say of a candidate
//! - [`machine`]: what is so now, and what should be asked for; pure
//! - [`name`], [`time`]: the words that all of them share

pub mod judge;
pub mod machine;
pub mod name;
pub mod schedule;
pub mod spec;
pub mod time;
