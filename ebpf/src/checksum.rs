//! The Internet checksum (RFC 1071), updated in place when words of a packet change (RFC 1624).
//!
//! A one's complement sum gives the same bytes whatever the order of bytes in which it is
//! reckoned, so words are taken as they lie in memory and nothing is swapped.

use crate::abi::Address;

/// What a change of words does to a checksum: collect the words, then [`apply`](Delta::apply) it.
/// Holds 255 words.
#[derive(Clone, Copy, Default, Debug)]
pub struct Delta(u64);

impl Delta {
    /// The word `old` becomes `new`. Both as they lie in memory.
    #[inline(always)]
    #[must_use]
    pub const fn word(self, old: u32, new: u32) -> Self {
        Self(self.0 + !old as u64 + new as u64)
    }

    /// The half word `old`, at an even offset, becomes `new`.
    #[inline(always)]
    #[must_use]
    pub const fn half(self, old: u16, new: u16) -> Self {
        Self(self.0 + !old as u64 + new as u64)
    }

    /// The address `old` becomes `new`, of the same family. The words that all mapped IPv4 addresses
    /// have in common add nothing.
    #[inline(always)]
    #[must_use]
    pub const fn address(self, old: Address, new: Address) -> Self {
        self.word(old.0[0], new.0[0])
            .word(old.0[1], new.0[1])
            .word(old.0[2], new.0[2])
            .word(old.0[3], new.0[3])
    }

    /// The checksum that was `old` before the change. RFC 1624 equation 3.
    #[inline(always)]
    #[must_use]
    pub const fn apply(self, old: u16) -> u16 {
        !fold(self.0 + !old as u64)
    }
}

/// Folds carries until the sum, of 255 words of 32 bits at most, has 16 bits.
#[inline(always)]
#[must_use]
pub const fn fold(sum: u64) -> u16 {
    // At most 40 bits; to 24 and a bit; to 0x1_0100, of which one carry is left.
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    sum as u16
}

/// A UDP checksum after a change: zero means "none" (RFC 768) and stays; a computed zero is sent
/// as all ones.
#[inline(always)]
#[must_use]
pub const fn apply_udp(delta: Delta, old: u16) -> u16 {
    if old == 0 {
        return 0;
    }
    match delta.apply(old) {
        0 => 0xffff,
        new => new,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The checksum of whole words, reckoned from the start (RFC 1071).
    fn whole(words: &[u16]) -> u16 {
        let mut sum = words.iter().map(|word| u32::from(*word)).sum::<u32>();
        while sum > 0xffff {
            sum = (sum >> 16) + (sum & 0xffff);
        }
        !(sum as u16)
    }

    fn halves(word: u32) -> [u16; 2] {
        let [a, b, c, d] = word.to_ne_bytes();
        [u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d])]
    }

    proptest! {
        /// Updating gives what reckoning anew gives, up to the two forms of zero, which a receiver
        /// takes for the same.
        #[test]
        fn an_update_is_a_new_reckoning(
            rest: Vec<u16>, old: [u32; 4], new: [u32; 4], old_port: u16, new_port: u16
        ) {
            let all = |words: [u32; 4], port: u16| {
                let mut all: Vec<u16> = words.into_iter().flat_map(halves).collect();
                all.push(port);
                all.extend(&rest);
                all
            };
            let mut delta = Delta::default().half(old_port, new_port);
            for (old, new) in old.into_iter().zip(new) {
                delta = delta.word(old, new);
            }
            let updated = delta.apply(whole(&all(old, old_port)));
            let anew = whole(&all(new, new_port));
            prop_assert!(updated == anew || (updated == 0xffff && anew == 0), "{updated:x} {anew:x}");
        }

        /// As many words as there may be, and the largest.
        #[test]
        fn no_carry_is_lost(words in prop::collection::vec(prop_oneof![any::<u32>(), Just(u32::MAX)], 0..256)) {
            let sum = words.iter().map(|word| u64::from(*word)).sum::<u64>();
            let all: Vec<u16> = words.into_iter().flat_map(halves).collect();
            prop_assert_eq!(!fold(sum), whole(&all));
        }

        #[test]
        fn udp_never_turns_a_sum_into_none(old: u16, a: u32, b: u32) {
            let delta = Delta::default().word(a, b);
            prop_assert_eq!(apply_udp(delta, old) == 0, old == 0);
        }
    }
}
