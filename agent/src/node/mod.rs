//! The owner task and how the rest of the agent speaks to it.
//!
//! - [`messages`]: what can be asked of the node, and what it answers
//! - [`handle`]: the queue to the owner task
//! - [`error`]: why a request fails
//! - `state`, `directory`, `return_paths`, `difference`: what the node holds, and what a request makes of it; pure
//! - `repeats`: requests already carried out
//! - `owner`, `answers`, `task`: the owner, what it says, and its loop

mod answers;
mod difference;
mod directory;
pub mod error;
pub mod handle;
pub mod messages;
mod owner;
mod repeats;
mod return_paths;
mod state;
mod task;
#[cfg(test)]
mod tests;

pub use error::Error;
pub use handle::{Handle, Request, channel};
pub use owner::{Identity, Owner};
pub use task::serve;
