//! Where versions meet in a version table: all that is to be known of one in which nothing moves.

use super::{BLUE, CANARY, GREEN, VERSION_SLOTS, VersionSlot};

/// The edges of a version table: green's slots are before one, canary's from another on, and blue's
/// between. With them a packet need not read the table, a line of which is in no cache where services
/// are many.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Edges {
    /// One, if every slot is as the edges say, and none has moved. Zero: the table must be read.
    pub settled: u16,
    /// The first slot that is not green's, at most [`VERSION_SLOTS`].
    pub green_end: u16,
    /// The first of canary's, not below [`green_end`](Self::green_end).
    pub canary_start: u16,
}

impl Edges {
    /// The slot with this index, below [`VERSION_SLOTS`]; nothing, where the table must be read.
    #[inline(always)]
    #[must_use]
    pub const fn slot(self, index: u32) -> Option<VersionSlot> {
        if self.settled == 0 {
            return None;
        }
        // Signs of differences, not comparisons: flows come by chance, and a processor cannot foresee a
        // branch on which version theirs is.
        let is_green = index.wrapping_sub(self.green_end as u32) >> 31;
        let is_canary = (self.canary_start as u32).wrapping_sub(index + 1) >> 31;
        let version = (is_green * GREEN as u32 + is_canary * CANARY as u32) as u8;
        Some(VersionSlot::new(version, version, false))
    }

    /// The edges of a table.
    #[must_use]
    pub fn of(table: &[VersionSlot]) -> Self {
        let still = |version| VersionSlot::new(version, version, false);
        let run = |slot: &VersionSlot| *slot == still(GREEN);
        let green = table.iter().take_while(|slot| run(slot)).count();
        let (_, rest) = table.split_at(green);
        let canary = rest.iter().rev().take_while(|slot| **slot == still(CANARY)).count();
        let (between, _) = rest.split_at(rest.len() - canary);
        if table.len() != VERSION_SLOTS as usize || between.iter().any(|slot| *slot != still(BLUE))
        {
            return Self::default();
        }
        let edge = |slots: usize| u16::try_from(slots).unwrap_or(u16::MAX);
        Self { settled: 1, green_end: edge(green), canary_start: edge(table.len() - canary) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(green: usize, canary: usize) -> Vec<VersionSlot> {
        let mut versions = [BLUE; VERSION_SLOTS as usize];
        versions[VERSION_SLOTS as usize - canary..].fill(CANARY);
        versions[..green].fill(GREEN);
        versions.iter().map(|version| VersionSlot::new(*version, *version, false)).collect()
    }

    #[test]
    fn edges_say_what_the_table_says() {
        let all = VERSION_SLOTS as usize;
        let shares = [
            (0, 0),
            (all, 0),
            (0, all),
            (1, 0),
            (0, 1),
            (1, 1),
            (all - 1, 1),
            (all / 2, all / 2),
            (4_915, 3_277),
        ];
        for (green, canary) in shares {
            let table = table(green, canary);
            let edges = Edges::of(&table);
            assert_eq!(edges.settled, 1, "{green} {canary}");
            for (index, slot) in (0..).zip(&table) {
                assert_eq!(edges.slot(index), Some(*slot), "{green} {canary}: slot {index}");
            }
        }
    }

    #[test]
    fn a_table_with_a_slot_that_is_otherwise_must_be_read() {
        let settled = table(4_915, 3_277);
        let others = [
            (0, VersionSlot::new(GREEN, GREEN, true)),
            (4_914, VersionSlot::new(GREEN, BLUE, true)),
            (4_914, VersionSlot::new(GREEN, BLUE, false)),
            (7, VersionSlot::new(CANARY, CANARY, false)),
            (9_000, VersionSlot::new(GREEN, GREEN, false)),
            (16_383, VersionSlot::new(BLUE, BLUE, false)),
        ];
        for (index, slot) in others {
            let mut table = settled.clone();
            table[index] = slot;
            assert_eq!(Edges::of(&table).slot(0), None, "{index} {slot:?}");
        }
        assert_eq!(Edges::default().slot(0), None);
        assert_eq!(Edges::of(&settled[1..]).slot(0), None);
    }
}
