//! How the slots of a service's tables are shared out: what "table share" says.

use weir_ebpf::abi::{BLUE, CANARY, GREEN, VERSIONS, VersionSlot};

use super::tables::ServiceTables;

/// Slots that are looked at together: as many as a byte can count.
const PIECE: usize = 128;
/// The versions, in the order of their index.
const ALL: [u8; VERSIONS] = [BLUE, GREEN, CANARY];

/// Version slots by the version that their new flows go to. They add up to
/// [`VERSION_SLOTS`](weir_ebpf::abi::VERSION_SLOTS).
#[must_use]
pub fn by_version(tables: &ServiceTables) -> [u32; VERSIONS] {
    ALL.map(|version| {
        let pieces = tables.versions().chunks(PIECE);
        pieces.map(|piece| sum(piece.iter().map(|slot| slot.cur() == version))).sum()
    })
}

/// Slots that are to move, by the version that their new flows go to and the one that these shall go to.
pub(super) fn moves(slots: &[VersionSlot], target: &[u8]) -> [[u32; VERSIONS]; VERSIONS] {
    let mut moved = [[0; VERSIONS]; VERSIONS];
    let mut add = |(from, to): (u8, u8), slots: usize| {
        if from != to {
            moved[usize::from(from)][usize::from(to)] += u32::try_from(slots).unwrap_or(u32::MAX);
        }
    };
    for (slots, target) in slots.chunks(PIECE).zip(target.chunks(PIECE)) {
        let pairs = || slots.iter().zip(target).map(|(slot, to)| (slot.cur(), *to));
        let Some(first) = pairs().next() else { continue };
        // All but the pieces with an edge in them. No branch between both: see `sum`.
        let differ = |one: (u8, u8)| (one.0 ^ first.0) | (one.1 ^ first.1);
        if pairs().fold(0, |all, one| all | differ(one)) == 0 {
            add(first, slots.len());
        } else {
            pairs().for_each(|one| add(one, 1));
        }
    }
    moved
}

/// How many of a piece are true. They are added up in a byte, so that a processor takes many at a time:
/// a hundred times as fast as one after the other into places in memory.
fn sum(piece: impl Iterator<Item = bool>) -> u32 {
    u32::from(piece.map(u8::from).sum::<u8>())
}
