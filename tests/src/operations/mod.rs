//! Random operations on a whole node: its owner, its plan and the program in the kernel, driven
//! packet by packet, against a slow and obvious model: a flow stays where it began.
//!
//! Other than [`crate::history`], which holds `decide` and the tables to the model, this one goes
//! through all that an operator's request goes through: the spec, the owner, the store, restarts.
//!
//! - [`Step`]: what happens, as data; a list of steps is a case
//! - `world`: the node, which takes the steps: `operators` and `clients` say what each does
//! - `model`: where each flow belongs
//! - `shrink`: the shortest case that still breaks
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "only tests use it"
)]

mod clients;
mod model;
mod operators;
mod shrink;
mod step;
mod traced;
mod world;

pub use step::{Step, case};
pub use world::{Tally, World};

/// What a node is like.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Entries of the flow table.
    pub room: u32,
    /// Inserts a second, on each processor.
    pub inserts_per_second: u64,
    /// Whether clients and listener are IPv6.
    pub ipv6: bool,
    /// Whether each packet is traced before it is sent, and must go as was said.
    pub traced: bool,
}

/// Runs a case. One that breaks is made as short as possible, and shown so that it can be pasted
/// into a test.
pub fn run(world: &mut World, name: &str, steps: &[Step]) -> Tally {
    match world.run(steps) {
        Ok(tally) => tally,
        Err(broken) => {
            let (steps, why) = shrink::shrink(steps, |steps| world.run(steps).err());
            let lines: Vec<String> = steps.iter().map(|step| format!("    {step:?},\n")).collect();
            panic!(
                "{name}: {broken}\nthe shortest case that breaks ({why}):\n[\n{}]",
                lines.concat()
            );
        }
    }
}
