//! The keyed hash that turns a flow into slots: SipHash-1-3 (Aumasson and Bernstein, 2012).
//!
//! Keyed by the service's seed, so that nobody without it can aim flows at one slot. The input is
//! read as little-endian words whatever the processor, so every node computes the same.

use crate::abi::{Address, FlowKey};

/// The state of SipHash after its key.
#[derive(Clone, Copy)]
struct Sip([u64; 4]);

impl Sip {
    #[inline(always)]
    fn keyed(seed: [u64; 2]) -> Self {
        let [k0, k1] = seed;
        Self([
            k0 ^ 0x736f_6d65_7073_6575,
            k1 ^ 0x646f_7261_6e64_6f6d,
            k0 ^ 0x6c79_6765_6e65_7261,
            k1 ^ 0x7465_6462_7974_6573,
        ])
    }

    #[inline(always)]
    fn round(&mut self) {
        let [mut a, mut b, mut c, mut d] = self.0;
        a = a.wrapping_add(b);
        c = c.wrapping_add(d);
        b = b.rotate_left(13) ^ a;
        d = d.rotate_left(16) ^ c;
        a = a.rotate_left(32).wrapping_add(d);
        c = c.wrapping_add(b);
        d = d.rotate_left(21) ^ a;
        b = b.rotate_left(17) ^ c;
        c = c.rotate_left(32);
        self.0 = [a, b, c, d];
    }

    #[inline(always)]
    fn word(&mut self, word: u64) {
        self.0[3] ^= word;
        self.round();
        self.0[0] ^= word;
    }

    /// Ends a message of `bytes` bytes, a multiple of eight.
    #[inline(always)]
    fn finish(mut self, bytes: u64) -> u64 {
        self.word(bytes << 56);
        self.0[2] ^= 0xff;
        self.round();
        self.round();
        self.round();
        let [a, b, c, d] = self.0;
        a ^ b ^ c ^ d
    }
}

/// Two words, as they lie in memory, as one little-endian word.
#[inline(always)]
fn pair(low: u32, high: u32) -> u64 {
    u64::from(u32::from_le(low)) | u64::from(u32::from_le(high)) << 32
}

/// Hash of the whole flow: addresses, ports, protocol. An IPv4 flow hashes its two addresses as
/// eight bytes, an IPv6 flow as 32; the length keeps the two kinds apart.
#[inline(always)]
#[must_use]
pub fn flow(seed: [u64; 2], key: &FlowKey) -> u64 {
    let mut sip = Sip::keyed(seed);
    let (s, d) = (key.source.0, key.destination.0);
    let ports = u64::from(u16::from_le(key.source_port))
        | u64::from(u16::from_le(key.destination_port)) << 16
        | u64::from(key.protocol) << 32;
    if key.source.is_v4() {
        sip.word(pair(s[3], d[3]));
        sip.word(ports);
        sip.finish(16)
    } else {
        sip.word(pair(s[0], s[1]));
        sip.word(pair(s[2], s[3]));
        sip.word(pair(d[0], d[1]));
        sip.word(pair(d[2], d[3]));
        sip.word(ports);
        sip.finish(40)
    }
}

/// Hash of the client's address alone.
#[inline(always)]
#[must_use]
pub fn client(seed: [u64; 2], address: &Address) -> u64 {
    let mut sip = Sip::keyed(seed);
    let s = address.0;
    if address.is_v4() {
        sip.word(pair(s[3], 0));
        sip.finish(8)
    } else {
        sip.word(pair(s[0], s[1]));
        sip.word(pair(s[2], s[3]));
        sip.finish(16)
    }
}

#[cfg(test)]
mod tests {
    use core::hash::Hasher as _;

    use proptest::prelude::*;
    use siphasher::sip::SipHasher13;

    use super::*;

    /// An independent SipHash-1-3 over bytes.
    fn reference(seed: [u64; 2], bytes: &[u8]) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(seed[0], seed[1]);
        hasher.write(bytes);
        hasher.finish()
    }

    fn key(source: Address, destination: Address, ports: [u8; 4], protocol: u8) -> FlowKey {
        FlowKey {
            source,
            destination,
            source_port: u16::from_ne_bytes([ports[0], ports[1]]),
            destination_port: u16::from_ne_bytes([ports[2], ports[3]]),
            protocol,
            pad: [0; 3],
        }
    }

    proptest! {
        #[test]
        fn ipv4_is_siphash_of_addresses_ports_protocol(
            seed: [u64; 2], s: [u8; 4], d: [u8; 4], ports: [u8; 4], protocol: u8
        ) {
            let key = key(Address::from_v4(s), Address::from_v4(d), ports, protocol);
            let tail = [protocol, 0, 0, 0];
            prop_assert_eq!(flow(seed, &key), reference(seed, &[s, d, ports, tail].concat()));
            let client_bytes = [s, [0; 4]].concat();
            prop_assert_eq!(client(seed, &key.source), reference(seed, &client_bytes));
        }

        #[test]
        fn ipv6_is_siphash_of_addresses_ports_protocol(
            seed: [u64; 2], s: [u8; 16], d: [u8; 16], ports: [u8; 4], protocol: u8
        ) {
            let key = key(Address::from_v6(s), Address::from_v6(d), ports, protocol);
            prop_assume!(!key.source.is_v4());
            let bytes = [&s[..], &d[..], &ports[..], &[protocol, 0, 0, 0]].concat();
            prop_assert_eq!(flow(seed, &key), reference(seed, &bytes));
            prop_assert_eq!(client(seed, &key.source), reference(seed, &s));
        }
    }
}
