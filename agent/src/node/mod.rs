//! The owner task and how the rest of the agent speaks to it.
//!
//! - [`messages`]: what can be asked of the node, and what it answers
//! - [`handle`]: the queue to the owner task
//! - [`error`]: why a request fails
//! - `state`, `directory`, `return_paths`, `tunnels`, `difference`: what the node holds, and what a
//!   request makes of it; pure
//! - `devices`: what XDP may send through; pure
//! - `sweep`, `settle`: how a transition ends
//! - `repeats`: requests already carried out
//! - `restore`: how a state is found again at start; pure
//! - `attachments`: interfaces that go, come back, or lose the program
//! - `owner`, `follow`, `answers`, `task`: the owner, what it hears and says, and its loop

mod answers;
mod attachments;
mod clock;
mod devices;
mod difference;
mod directory;
pub mod error;
mod follow;
pub mod handle;
pub mod messages;
mod owner;
mod repeats;
mod restore;
mod return_paths;
mod settle;
mod state;
mod sweep;
mod task;
#[cfg(test)]
mod tests;
mod tunnels;

pub use attachments::{ATTACHED, GONE};
pub use error::Error;
pub use handle::{Handle, Request, channel};
pub use owner::{DEFAULT_IDLE, Identity, Owner};
pub use settle::Step;
pub use task::serve;
