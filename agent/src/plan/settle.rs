//! The end of a transition, in two halves and two commits.
//!
//! First [`settle`]: `base` becomes `cur`, and the slot stays tracked. From then on nothing new can
//! be pinned there. Later, when a sweep that began after that commit has found no entry left in the
//! slot, [`untrack`]. One half alone would lose a flow that speaks between the look and the commit.

use weir_ebpf::abi::{BackendSlot, VersionSlot};

use super::tables::{ServiceTables, change};

/// Names one slot of a service's tables.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SlotRef {
    /// A slot of the version table.
    Version(usize),
    /// A slot of a version's backend table.
    Backend {
        /// The version.
        version: usize,
        /// Index of the slot in the table as it is.
        slot: usize,
    },
}

/// First half: each tracked slot that is `ready` has its `base` become `cur`. A slot is ready when
/// it has not moved for as long as a flow may be silent, and no flow has failed to find room in the
/// flow table for as long; where a service has steering entries, see [`super::steering`]. Says
/// whether anything changed.
pub fn settle(tables: &mut ServiceTables, ready: &dyn Fn(SlotRef) -> bool) -> bool {
    let mut changed = change(&mut tables.versions, |i, slot| {
        let settles = slot.base() != slot.cur() && ready(SlotRef::Version(i));
        if settles { VersionSlot::new(slot.cur(), slot.cur(), true) } else { slot }
    });
    for (version, table) in tables.backends.iter_mut().enumerate() {
        changed |= change(&mut table.0, |i, slot| {
            let settles = slot.base() != slot.cur() && ready(SlotRef::Backend { version, slot: i });
            if settles { BackendSlot::new(slot.cur(), slot.cur(), true) } else { slot }
        });
    }
    tables.leave_empty_bases();
    changed
}

/// Second half: each tracked slot whose `base` is `cur` and that is not `pinned` is tracked no
/// longer. A slot is pinned while any entry of the flow table belongs to it, also one that is
/// closed or void: an entry that outlives the tracking would be found again after the next shift.
/// An entry belongs to its flow's version slot and to its backend slot in all three versions. The
/// look must have begun after the last commit that changed `cur` or `base` of the slot. Says whether
/// anything changed.
pub fn untrack(tables: &mut ServiceTables, pinned: &dyn Fn(SlotRef) -> bool) -> bool {
    let mut changed = change(&mut tables.versions, |i, slot| {
        let settled = slot.tracked() && slot.base() == slot.cur();
        let free = settled && !pinned(SlotRef::Version(i));
        if free { VersionSlot::new(slot.cur(), slot.base(), false) } else { slot }
    });
    for (version, table) in tables.backends.iter_mut().enumerate() {
        changed |= change(&mut table.0, |i, slot| {
            let settled = slot.tracked() && slot.base() == slot.cur();
            let free = settled && !pinned(SlotRef::Backend { version, slot: i });
            if free { BackendSlot::new(slot.cur(), slot.base(), false) } else { slot }
        });
    }
    changed
}
