//! The layout of a version table: green grows from the left end, canary from the right end, blue
//! holds the rest.
//!
//! The slots stand in the order of their index. A flow's slot comes from a keyed hash, so any fixed
//! order is as random as another, and a permutation would add nothing.
//!
//! What follows from the layout, for any weights:
//! - each version is within one slot of its weight, and a weight above zero has a slot: an edge is
//!   rounded by at most half a slot, and one basis point is 1.6 slots;
//! - a shift between blue and one other, or between green and canary where blue has no weight,
//!   moves one edge, so it moves exactly the difference;
//! - a version whose weight rises while no other rises only gains slots. Green and canary only
//!   gain whatever the others do. Blue alone may slide: no layout of three versions can hold all
//!   three still.

use std::sync::Arc;

use weir_ebpf::abi::{BLUE, CANARY, GREEN, VERSION_SLOTS, VERSIONS};

/// Basis points in a whole.
pub const WHOLE: u32 = 10_000;

/// For each of the [`VERSION_SLOTS`] slots the version that new flows go to. `weights` are basis
/// points of blue, green and canary and add up to [`WHOLE`].
#[must_use]
pub fn lay_out(weights: [u16; VERSIONS]) -> Arc<[u8]> {
    let green_end = edge(u32::from(weights[usize::from(GREEN)]));
    let canary_start = edge(WHOLE.saturating_sub(u32::from(weights[usize::from(CANARY)])));
    let mut slots = [BLUE; VERSION_SLOTS as usize];
    slots[canary_start..].fill(CANARY);
    slots[..green_end].fill(GREEN);
    slots.into()
}

/// The slot at which this many basis points from the left end, rounded to the nearest; at most the
/// end of the table.
fn edge(basis_points: u32) -> usize {
    let edge = (basis_points * VERSION_SLOTS + WHOLE / 2) / WHOLE;
    edge.min(VERSION_SLOTS) as usize
}
