//! Where a packet's way through the maps begins.

use super::{LISTENER_BUCKETS, MAX_SERVICES};

/// Value of `ROOT`: where the services' records and the listeners lie that count. Of both there is room for
/// two; the agent writes the one that this word does not name, and to replace the word is the commit.
///
/// Bits 0–15: the first record in `SERVICES`; 16–31: the first bucket in `LISTENERS`; 32–47: buckets
/// there, less one; 48–63: the seed of their hash. Zero, as a new map has it: no service, no listener.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Root(pub u64);

impl Root {
    /// The first record that counts.
    #[inline(always)]
    #[must_use]
    pub const fn services(self) -> u32 {
        self.0 as u32 & 0xffff
    }

    /// The first bucket of listeners that counts.
    #[inline(always)]
    #[must_use]
    pub const fn listeners(self) -> u32 {
        (self.0 >> 16) as u32 & 0xffff
    }

    /// Buckets of listeners less one: a power of two less one.
    #[inline(always)]
    #[must_use]
    pub const fn listener_mask(self) -> u32 {
        (self.0 >> 32) as u32 & 0xffff
    }

    /// What the listeners' hash begins with.
    #[inline(always)]
    #[must_use]
    pub const fn seed(self) -> u32 {
        (self.0 >> 48) as u32
    }

    /// The same with the records in the other place.
    #[must_use]
    pub const fn with_other_services(self) -> Self {
        Self(self.0 ^ MAX_SERVICES as u64)
    }

    /// The same with the listeners in the other place, in so many buckets, a power of two up to
    /// [`LISTENER_BUCKETS`], by this seed.
    #[must_use]
    pub const fn with_other_listeners(self, buckets: u32, seed: u16) -> Self {
        let kept = self.0 & 0xffff_ffff ^ (LISTENER_BUCKETS as u64) << 16;
        Self(kept | ((buckets - 1) as u64) << 32 | (seed as u64) << 48)
    }
}

const _: () = assert!(MAX_SERVICES.is_power_of_two() && MAX_SERVICES < 1 << 16);
const _: () = assert!(LISTENER_BUCKETS.is_power_of_two() && LISTENER_BUCKETS < 1 << 16);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_changes_alone_and_back() {
        let root = Root::default().with_other_listeners(64, 0xabcd);
        assert_eq!((root.services(), root.listeners()), (0, LISTENER_BUCKETS));
        assert_eq!((root.listener_mask(), root.seed()), (63, 0xabcd));
        let other = root.with_other_services();
        assert_eq!((other.services(), other.listeners()), (MAX_SERVICES, LISTENER_BUCKETS));
        assert_eq!(other.with_other_services(), root);
        let most = other.with_other_listeners(LISTENER_BUCKETS, 1);
        assert_eq!((most.services(), most.listeners()), (MAX_SERVICES, 0));
        assert_eq!((most.listener_mask(), most.seed()), (LISTENER_BUCKETS - 1, 1));
    }
}
