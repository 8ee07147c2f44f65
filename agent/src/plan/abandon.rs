//! Giving up what a shift has left behind: flows that nothing remembers, so that new ones need not
//! go where these belong when the flow table is full.

use weir_ebpf::abi::{BackendSlot, VERSIONS, VersionSlot};

use super::steering::Steering;
use super::tables::{ServiceTables, change};

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
    let mut changed = change(&mut tables.versions, |_, slot| {
        let given_up = versions.get(usize::from(slot.base())) == Some(&true);
        let leaves = slot.base() != slot.cur() && given_up;
        if leaves { VersionSlot::new(slot.cur(), slot.cur(), slot.tracked()) } else { slot }
    });
    for table in &mut tables.backends {
        changed |= change(&mut table.0, |_, slot| {
            let leaves = slot.base() != slot.cur() && backend(slot.base());
            if leaves { BackendSlot::new(slot.cur(), slot.cur(), slot.tracked()) } else { slot }
        });
    }
    tables.leave_empty_bases();
    changed |= steering.leave_empty_bases(versions);
    changed | steering.leave_empty_bases(tables.empty_bases())
}
