//! How the slots of a service's tables are shared out: what "table share" says.

use weir_ebpf::abi::{VERSIONS, VersionSlot};

use super::tables::ServiceTables;

/// Slots that are looked at together: as many as a byte can count.
const PIECE: usize = 128;

/// Version slots by the version that their new flows go to. They add up to
/// [`VERSION_SLOTS`](weir_ebpf::abi::VERSION_SLOTS).
#[must_use]
pub fn by_version(tables: &ServiceTables) -> [u32; VERSIONS] {
    let count = |version| {
        let is = |slot: &VersionSlot| usize::from(slot.cur()) == version;
        let pieces = tables.versions().chunks(PIECE);
        pieces.map(|piece| sum(piece.iter().map(is))).sum()
    };
    std::array::from_fn(count)
}

/// Slots that are to move, by the version that their new flows go to and the one that these shall go to.
pub(super) fn moves(slots: &[VersionSlot], target: &[u8]) -> [[u32; VERSIONS]; VERSIONS] {
    let count = |from, to| {
        let is = |(slot, goes): (&VersionSlot, &u8)| {
            usize::from(slot.cur()) == from && usize::from(*goes) == to
        };
        let pieces = slots.chunks(PIECE).zip(target.chunks(PIECE));
        pieces.map(|(slots, target)| sum(slots.iter().zip(target).map(is))).sum()
    };
    let row = |from| std::array::from_fn(|to| if from == to { 0 } else { count(from, to) });
    std::array::from_fn(row)
}

/// How many of a piece are true. They are added up in a byte, so that a processor takes many at a time:
/// a hundred times as fast as one after the other into places in memory.
fn sum(piece: impl Iterator<Item = bool>) -> u32 {
    u32::from(piece.map(u8::from).sum::<u8>())
}
