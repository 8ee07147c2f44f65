//! The owner task and how the rest of the agent speaks to it.
//!
//! - [`messages`]: what can be asked of the node, and what it answers
//! - [`handle`]: the queue to the owner task
//! - [`error`]: why a request fails
//! - `caller`: who asks
//! - [`events`]: what happened on the node
//! - `state`, `next`, `wanted`, `directory`, `return_paths`, `tunnels`, `difference`: what the node
//!   holds, and what a request makes of it; pure
//! - `devices`: what XDP may send through; pure
//! - `backends`: what becomes known of backends, and what it changes
//! - `by_hand`: what an operator sets of backends, and settling by hand
//! - `draining`, `drains`: when drains begin and end; what to say of them
//! - `health`: which checks are wanted, and what they have found
//! - [`interval`]: what was counted between two looks; pure
//! - `rounds`, `sweep`, `settle`: how a transition ends
//! - `fence`: leaders that were overtaken; pure
//! - `guard`, `guarding`: limits that the agent enforces on its own (the former is pure)
//! - `lease`, `expiry`, `rollback`: weights that go back
//! - `repeats`: requests already carried out
//! - `restore`: how a state is found again at start; pure
//! - `attachments`: interfaces that go, come back, or lose the program
//! - [`trace`]: why a packet goes where it goes
//! - `owner`, `commit`, `follow`, `answers`, `words`, `task`: the owner, how a state takes effect, what
//!   it hears and says, and its loop

mod answers;
mod attachments;
mod backends;
mod by_hand;
mod caller;
pub mod clock;
mod commit;
mod counted;
mod devices;
mod difference;
mod directory;
mod draining;
mod drains;
pub mod error;
pub mod events;
mod expiry;
mod fence;
mod follow;
mod guard;
mod guarding;
pub mod handle;
mod health;
pub mod interval;
mod lease;
pub mod messages;
mod next;
mod owner;
mod repeats;
mod restore;
mod return_paths;
mod rollback;
mod rounds;
mod settle;
mod state;
mod sweep;
mod task;
#[cfg(test)]
mod tests;
pub mod trace;
mod tunnels;
mod wanted;
mod words;

pub use answers::hooks_and_reasons;
pub use attachments::{ATTACHED, GONE};
pub use caller::Caller;
pub use error::Error;
pub use handle::{Handle, Request, channel};
pub use owner::{DEFAULT_IDLE, Identity, Owner};
pub use rounds::Step;
pub use task::serve;
