//! What the kernel offers and no library here does safely: the one fenced module of the agent that
//! holds unsafe code.
//!
//! - `mapped`: array maps as plain memory
//! - `detach`: ending a link at once

mod detach;
mod mapped;

pub(super) use detach::detach;
pub(super) use mapped::Mapped;
