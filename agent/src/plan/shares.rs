//! How the slots of a service's tables are shared out: what "table share" says.

use weir_ebpf::abi::VERSIONS;

use super::tables::ServiceTables;

/// Version slots by the version that their new flows go to. They add up to
/// [`VERSION_SLOTS`](weir_ebpf::abi::VERSION_SLOTS).
#[must_use]
pub fn by_version(tables: &ServiceTables) -> [u32; VERSIONS] {
    let mut slots = [0; VERSIONS];
    for slot in tables.versions() {
        slots[usize::from(slot.cur())] += 1;
    }
    slots
}
