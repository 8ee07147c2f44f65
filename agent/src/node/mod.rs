//! The owner task and how the rest of the agent speaks to it.
//!
//! - [`messages`]: what can be asked of the node, and what it answers
//! - [`handle`]: the queue to the owner task
//! - [`error`]: why a request fails

pub mod error;
pub mod handle;
pub mod messages;

pub use error::Error;
pub use handle::{Handle, Request, channel};
