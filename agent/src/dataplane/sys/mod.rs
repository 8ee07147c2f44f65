//! What the kernel offers and no library here does safely: the one fenced module of the agent that
//! holds unsafe code.
//!
//! - `batch`: hash maps, many entries a call
//! - `mapped`: array maps as plain memory
//! - `detach`: ending a link at once

mod batch;
mod detach;
mod mapped;

pub(super) use batch::{Batches, Place};
pub(super) use detach::detach;
pub(super) use mapped::Mapped;
