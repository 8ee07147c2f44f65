//! Giving up what a shift has left behind: flows that nothing remembers, so that new ones need not
//! go where these belong when the flow table is full.

use weir_ebpf::abi::{BackendSlot, VERSIONS, VersionSlot};

use super::steering::Steering;
use super::tables::ServiceTables;

/// Each slot and each steering entry whose `base` is given up, while its `cur` is another, gets `cur`
/// as `base`: flows there that were silent since the shift meet a backend that does not know them.
/// It stays tracked. Flows that are remembered stay where they are until they are forgotten. Says
/// whether anything changed.
pub fn abandon(
    tables: &mut ServiceTables,
    steering: &mut Steering,
    versions: [bool; VERSIONS],
    backend: &dyn Fn(u16) -> bool,
) -> bool {
    let mut changed = false;
    for slot in &mut tables.versions {
        if slot.base() != slot.cur() && versions.get(usize::from(slot.base())) == Some(&true) {
            *slot = VersionSlot::new(slot.cur(), slot.cur(), slot.tracked());
            changed = true;
        }
    }
    for slot in tables.backends.iter_mut().flat_map(|table| &mut table.0) {
        if slot.base() != slot.cur() && backend(slot.base()) {
            *slot = BackendSlot::new(slot.cur(), slot.cur(), slot.tracked());
            changed = true;
        }
    }
    tables.leave_empty_bases();
    changed |= steering.leave_empty_bases(versions);
    changed | steering.leave_empty_bases(tables.empty_bases())
}
