//! The machine against a simulated world.
//!
//! - `world`: agents that do what is asked, late, badly or not at all; hooks; a judge
//! - `walks`: whole walks of each strategy, stage by stage
//! - `troubles`: what goes wrong, and where it leads
//! - `commands`: what people ask for
//! - `rolling`: backends that are replaced
//! - `properties`: the invariants, in random histories

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

mod commands;
mod properties;
mod rolling;
mod troubles;
mod walks;
mod world;
