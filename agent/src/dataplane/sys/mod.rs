//! What the kernel offers and no library here does safely: the one fenced module of the agent that
//! holds unsafe code.
//!
//! - `batch`: many entries of a map in one call
//! - `mapped`: array maps as plain memory
//! - `link`: finding a link, and ending one at once

mod batch;
mod link;
mod mapped;

pub(super) use batch::{Batches, ROOM, set_all};
pub(super) use link::{detach, link};
pub use mapped::Mapped;
