//! Steering: prefixes of clients' addresses that go by a rule instead of the version table.

use super::{Address, VersionSlot};

/// Entries of `STEERING`, of all services together: the rules of a node, twice while a change of
/// them is made, and what their transitions keep.
pub const MAX_STEERING: u32 = 524_288;
/// Bits of a key before the address.
pub const STEER_SET_BITS: u32 = 32;

/// Stands for a version in a steering slot: the one that the version table gives.
pub const BY_TABLE: u8 = 3;

/// Key of `STEERING`, after the number of bits that count: [`STEER_SET_BITS`] and a prefix of the
/// address. So a look-up never leaves its set.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(C)]
pub struct SteerKey {
    /// The set, not zero. See [`Service::steering`](super::Service::steering).
    pub set: u32,
    /// The client, or the prefix with zeroes behind it. IPv4 is mapped: 96 bits, then the address.
    pub address: Address,
}

/// Value of `STEERING`: `cur` in bits 0–1, `base` in bits 2–3, `tracked` in bit 7, as in a
/// [`VersionSlot`]. Either version may be [`BY_TABLE`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct SteerSlot(pub u32);

impl SteerSlot {
    /// What holds where no rule does.
    pub const TABLE: Self = Self::new(BY_TABLE, BY_TABLE, false);

    /// An entry whose new flows go to `cur` and whose older ones belong to `base`.
    #[must_use]
    pub const fn new(cur: u8, base: u8, tracked: bool) -> Self {
        Self(VersionSlot::new(cur, base, tracked).0 as u32)
    }

    /// Where a new flow goes: a version, or [`BY_TABLE`].
    #[inline(always)]
    #[must_use]
    pub const fn cur(self) -> u8 {
        VersionSlot(self.0 as u8).cur()
    }

    /// Where a flow belongs that began before the entry changed.
    #[inline(always)]
    #[must_use]
    pub const fn base(self) -> u8 {
        VersionSlot(self.0 as u8).base()
    }

    /// Whether flows of this entry must be looked up.
    #[inline(always)]
    #[must_use]
    pub const fn tracked(self) -> bool {
        VersionSlot(self.0 as u8).tracked()
    }

    /// The version slot of a flow of this entry, whose hash gives the slot `table`.
    #[inline(always)]
    #[must_use]
    pub const fn over(self, table: VersionSlot) -> VersionSlot {
        let (new, old) = (self.cur() == BY_TABLE, self.base() == BY_TABLE);
        VersionSlot::new(
            if new { table.cur() } else { self.cur() },
            if old { table.base() } else { self.base() },
            self.tracked() || (new || old) && table.tracked(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_stands_over_the_table_as_far_as_it_says() {
        let moved = VersionSlot::new(2, 0, true);
        assert_eq!(SteerSlot::TABLE.over(moved), moved);
        assert_eq!(SteerSlot::TABLE.over(VersionSlot::new(1, 1, false)).0, 0b0101);
        // A rule that has settled does not care about the table.
        assert_eq!(SteerSlot::new(1, 1, false).over(moved), VersionSlot::new(1, 1, false));
        // One that has just come leaves older flows where the table had them.
        assert_eq!(SteerSlot::new(1, BY_TABLE, true).over(moved), VersionSlot::new(1, 0, true));
        assert_eq!(SteerSlot::new(BY_TABLE, 1, true).over(moved), VersionSlot::new(2, 1, true));
    }

    #[test]
    fn a_listener_says_its_service_and_perhaps_a_version() {
        use crate::abi::{CANARY, Listener, MAX_SERVICES};

        for service in [0, 7, MAX_SERVICES - 1] {
            let plain = Listener::of(service, None);
            // As it was before listeners could lead to a version.
            assert_eq!((plain.service, plain.index(), plain.slot()), (service, service, None));
            for version in 0..=CANARY {
                let led = Listener::of(service, Some(version));
                assert_eq!(led.index(), service);
                let moved = VersionSlot::new(2, 0, true);
                let over = led.slot().map(|slot| slot.over(moved));
                assert_eq!(over, Some(VersionSlot::new(version, version, false)));
            }
        }
    }
}
