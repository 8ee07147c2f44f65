//! Rollouts, run: look, tick, persist, carry out.
//!
//! - [`coordinator`]: what can be asked; one runner for each service
//! - `lead`: who leads, and what follows from it
//! - `runner`: the loop of one service
//! - `jumps`: the host's clock, and how it jumps
//! - `kept`: its state, as the store has it
//! - `court`: its judge, fed by the counters of all agents
//! - `recent`: what happened last
//! - `opinion`: what the judge says
//! - [`tell`]: all of it, as it is told to people
//! - [`record`]: what is judged, as lines for `weir rollout replay`
//! - [`plan`]: a rollout before it begins

pub mod coordinator;
mod court;
mod jumps;
mod kept;
mod lead;
mod opinion;
pub mod plan;
mod recent;
pub mod record;
mod runner;
pub mod tell;

pub use coordinator::{Coordinator, Options, Wish};
