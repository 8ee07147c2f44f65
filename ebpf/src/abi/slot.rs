//! Slots, and the lines of the pool that they lie in.

use super::VERSION_SLOTS;

/// Marks a slot without a backend. Largest value of 15 bits.
pub const NO_BACKEND: u16 = 0x7fff;

/// One slot of a version table, one byte: `cur` in bits 0–1, `base` in bits 2–3, `tracked` in bit 7.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct VersionSlot(pub u8);

impl VersionSlot {
    /// A slot whose new flows go to `cur` and whose older ones belong to `base`, both below 3.
    #[must_use]
    pub const fn new(cur: u8, base: u8, tracked: bool) -> Self {
        Self(cur & 3 | (base & 3) << 2 | (tracked as u8) << 7)
    }

    /// Where a new flow goes.
    #[inline(always)]
    #[must_use]
    pub const fn cur(self) -> u8 {
        self.0 & 3
    }

    /// Where a flow belongs that began before the slot moved.
    #[inline(always)]
    #[must_use]
    pub const fn base(self) -> u8 {
        self.0 >> 2 & 3
    }

    /// Whether flows of this slot must be looked up.
    #[inline(always)]
    #[must_use]
    pub const fn tracked(self) -> bool {
        self.0 & 0x80 != 0
    }
}

/// One slot of a backend table, one word: `cur` in bits 0–14, `base` in bits 15–29, `tracked` in bit 31.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct BackendSlot(pub u32);

impl BackendSlot {
    /// A slot whose new flows go to `cur` and whose older ones belong to `base`, both 15 bits.
    #[must_use]
    pub const fn new(cur: u16, base: u16, tracked: bool) -> Self {
        Self((cur & 0x7fff) as u32 | ((base & 0x7fff) as u32) << 15 | (tracked as u32) << 31)
    }

    /// Where a new flow goes: an index of `BACKENDS`, or [`NO_BACKEND`].
    #[inline(always)]
    #[must_use]
    pub const fn cur(self) -> u16 {
        (self.0 & 0x7fff) as u16
    }

    /// Where a flow belongs that began before the slot moved.
    #[inline(always)]
    #[must_use]
    pub const fn base(self) -> u16 {
        (self.0 >> 15 & 0x7fff) as u16
    }

    /// Whether flows of this slot must be looked up.
    #[inline(always)]
    #[must_use]
    pub const fn tracked(self) -> bool {
        self.0 & 0x8000_0000 != 0
    }
}

/// One element of the pool that all tables live in: a cache line of slots. A version slot `i` is
/// byte `i % 4` (lowest first) of word `i / 4 % 16` in line `i / 64`; a backend slot `i` is word
/// `i % 16` in line `i / 16`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Line {
    /// The slots.
    pub words: [u32; 16],
}

/// Lines of a version table.
pub const VERSION_LINES: u32 = VERSION_SLOTS / 64;

impl Line {
    /// The version slot with this index, in the line `index / 64`.
    #[inline(always)]
    #[must_use]
    pub fn version_slot(&self, index: u32) -> VersionSlot {
        let word = self.words[(index >> 2 & 15) as usize];
        VersionSlot((word >> ((index & 3) * 8)) as u8)
    }

    /// The backend slot with this index, in the line `index / 16`.
    #[inline(always)]
    #[must_use]
    pub fn backend_slot(&self, index: u32) -> BackendSlot {
        BackendSlot(self.words[(index & 15) as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_keep_what_they_are_given() {
        for cur in 0..3 {
            for base in 0..3 {
                for tracked in [false, true] {
                    let slot = VersionSlot::new(cur, base, tracked);
                    assert_eq!((slot.cur(), slot.base(), slot.tracked()), (cur, base, tracked));
                }
            }
        }
        for (cur, base, tracked) in [(0, 0x7fff, true), (0x7fff, 0, false), (0x1234, 0x4321, true)]
        {
            let slot = BackendSlot::new(cur, base, tracked);
            assert_eq!((slot.cur(), slot.base(), slot.tracked()), (cur, base, tracked));
        }
    }

    #[test]
    fn a_line_gives_each_slot_in_its_place() {
        let mut line = Line::default();
        for (i, word) in line.words.iter_mut().enumerate() {
            let first = i as u32 * 4;
            *word = first | (first + 1) << 8 | (first + 2) << 16 | (first + 3) << 24;
        }
        for slot in 0..64 {
            // Lines repeat: the index of the line is not the slot's business.
            assert_eq!(u32::from(line.version_slot(slot).0), slot);
            assert_eq!(u32::from(line.version_slot(640 + slot).0), slot);
        }
        assert_eq!(line.backend_slot(17).0, line.words[1]);
    }
}
