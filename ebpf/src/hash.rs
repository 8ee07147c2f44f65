//! The keyed hash that turns a flow into slots.
//!
//! Each word is put in by a multiplication and a shift, and two more of both end it (as in Appleby's
//! `MurmurHash3`, whose constants these are). It begins and ends with a half of the service's seed, so that
//! who does not know that cannot say which flows share a slot. More it need not keep: who wants to reach
//! a certain backend can try ports until an answer comes from there, whatever the hash; and tables of
//! flows have a hash and a secret of their own, the kernel's or [`table`]. SipHash, which keeps more, took a
//! quarter of the whole program's time: the machine has no rotation.
//!
//! The input is read as little-endian words whatever the processor, so every node computes the same.

use crate::abi::{Address, FlowKey};

const FIRST: u64 = 0xff51_afd7_ed55_8ccd;
const SECOND: u64 = 0xc4ce_b9fe_1a85_ec53;

/// The state of a hash, and the half of the key that ends it.
#[derive(Clone, Copy)]
struct Mix {
    state: u64,
    end: u64,
}

impl Mix {
    #[inline(always)]
    const fn keyed([begin, end]: [u64; 2]) -> Self {
        Self { state: begin, end }
    }

    #[inline(always)]
    const fn word(self, word: u64) -> Self {
        let state = (self.state ^ word).wrapping_mul(FIRST);
        Self { state: state ^ state >> 32, ..self }
    }

    /// Ends a message of `bytes` bytes.
    #[inline(always)]
    const fn finish(self, bytes: u64) -> u64 {
        let state = (self.state ^ self.end ^ bytes).wrapping_mul(SECOND);
        let state = (state ^ state >> 29).wrapping_mul(FIRST);
        state ^ state >> 32
    }
}

/// Hash of a key of hash tables that are not the kernel's: NH (Black, Halevi, Krawczyk, Krovetz, Rogaway
/// 1999, "UMAC"), of which two keys have the same with a chance of one in 2³² whatever they are, as long as
/// nobody knows the secret; then mixed, so that all of its bits are of use.
#[inline(always)]
#[must_use]
pub fn table<const WORDS: usize>(secret: &[u32; WORDS], key: &[u32; WORDS]) -> u64 {
    const { assert!(WORDS.is_multiple_of(2)) };
    let mut sum = 0_u64;
    for i in 0..WORDS / 2 {
        let one = key[2 * i].wrapping_add(secret[2 * i]);
        let other = key[2 * i + 1].wrapping_add(secret[2 * i + 1]);
        sum = sum.wrapping_add(u64::from(one).wrapping_mul(u64::from(other)));
    }
    Mix::keyed([sum, 0]).finish(0)
}

/// Two words, as they lie in memory, as one little-endian word.
#[inline(always)]
fn pair(low: u32, high: u32) -> u64 {
    u64::from(u32::from_le(low)) | u64::from(u32::from_le(high)) << 32
}

/// Hash of the whole flow: addresses, ports, protocol. Its length keeps IPv4 and IPv6 apart.
#[inline(always)]
#[must_use]
pub fn flow(seed: [u64; 2], key: &FlowKey) -> u64 {
    let mix = Mix::keyed(seed);
    let (s, d) = (key.source.0, key.destination.0);
    let ports = u64::from(u16::from_le(key.source_port))
        | u64::from(u16::from_le(key.destination_port)) << 16
        | u64::from(key.protocol) << 32;
    if key.source.is_v4() {
        return mix.word(pair(s[3], d[3])).word(ports).finish(16);
    }
    let mix = mix.word(pair(s[0], s[1])).word(pair(s[2], s[3]));
    mix.word(pair(d[0], d[1])).word(pair(d[2], d[3])).word(ports).finish(40)
}

/// Hash of the client's address alone.
#[inline(always)]
#[must_use]
pub fn client(seed: [u64; 2], address: &Address) -> u64 {
    let mix = Mix::keyed(seed);
    let s = address.0;
    if address.is_v4() {
        return mix.word(pair(s[3], 0)).finish(8);
    }
    mix.word(pair(s[0], s[1])).word(pair(s[2], s[3])).finish(16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::TCP;

    const SEED: [u64; 2] = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];

    fn key(source: Address, destination: Address, ports: [u16; 2]) -> FlowKey {
        FlowKey {
            source,
            destination,
            source_port: ports[0].to_be(),
            destination_port: ports[1].to_be(),
            protocol: TCP,
            pad: [0; 3],
        }
    }

    fn v4(client: u32, port: u16) -> FlowKey {
        let client = Address::from_v4(client.to_be_bytes());
        key(client, Address::from_v4([198, 51, 100, 1]), [port, 443])
    }

    fn v6(client: u128, port: u16) -> FlowKey {
        let client = Address::from_v6((0x2001_0db8_u128 << 96 | client).to_be_bytes());
        key(client, Address::from_v6([0x20; 16]), [port, 443])
    }

    /// As an independent implementation of the description above gives them.
    #[test]
    fn it_is_the_same_everywhere() {
        assert_eq!(flow(SEED, &v4(0xc000_0207, 40_000)), VECTORS[0]);
        assert_eq!(flow(SEED, &v6(7, 40_000)), VECTORS[1]);
        assert_eq!(client(SEED, &v4(0xc000_0207, 0).source), VECTORS[2]);
        assert_eq!(client(SEED, &v6(7, 0).source), VECTORS[3]);
    }

    const VECTORS: [u64; 4] = [
        0xc6a7_89f5_c084_24f6,
        0x55b9_d996_dc69_21fc,
        0x96d5_1fa6_8d71_13dc,
        0x5920_8990_ce65_5794,
    ];

    /// How far counts are from equal ones, in standard deviations (chi-squared, as a normal one).
    fn unevenness(counts: &[u32]) -> f64 {
        let cells = f64::from(counts.len() as u32);
        let mean = counts.iter().map(|count| f64::from(*count)).sum::<f64>() / cells;
        let squares = counts.iter().map(|count| (f64::from(*count) - mean).powi(2) / mean);
        (squares.sum::<f64>() - (cells - 1.0)) / (2.0 * (cells - 1.0)).sqrt()
    }

    /// Where a hash is counted.
    type Cell = fn(u64) -> u64;

    /// Flows as they come in life: neighbours in every field. Each half, and both together, as even as
    /// by chance; neither less nor more.
    #[test]
    fn neighbours_are_spread_as_by_chance() {
        let kinds: [(&str, Vec<FlowKey>); 4] = [
            ("ports of one client", (0..=u16::MAX).map(|port| v4(0x0a00_0001, port)).collect()),
            ("clients", (0..1 << 16).map(|client| v4(0x0a00_0000 + client, 40_000)).collect()),
            ("ports, IPv6", (0..=u16::MAX).map(|port| v6(1, port)).collect()),
            ("clients, IPv6", (0..1 << 16).map(|client| v6(client << 64, 40_000)).collect()),
        ];
        for (what, flows) in kinds {
            for seed in [SEED, [0, 0], [1, 0], [u64::MAX, 1 << 63]] {
                let hashes: Vec<u64> = flows.iter().map(|key| flow(seed, key)).collect();
                let cells: [(&str, Cell); 3] = [
                    ("version slots", |hash| hash >> 32 & 0xfff),
                    ("backend slots", |hash| hash & 0xfff),
                    ("both", |hash| hash >> 32 & 0x3f | (hash & 0x3f) << 6),
                ];
                for (name, cell) in cells {
                    let mut counts = vec![0; 1 << 12];
                    for hash in &hashes {
                        counts[cell(*hash) as usize] += 1;
                    }
                    let uneven = unevenness(&counts);
                    assert!(uneven.abs() < 5.0, "{what}, {name}, seed {seed:x?}: {uneven:.1}");
                }
            }
        }
    }

    /// Each bit of the input changes each bit of the hash about every other time.
    #[test]
    fn every_bit_counts() {
        for bit in 0..64 {
            let mut changed = [0_u32; 64];
            for flow_number in 0..1_000_u32 {
                let (client, port) = (flow_number.wrapping_mul(0x9e37_79b9), 1_024);
                let one = v4(client, port);
                let mut other = one;
                match bit {
                    0..32 => other.source.0[3] ^= 1 << bit,
                    32..48 => other.source_port ^= 1 << (bit - 32),
                    _ => other.destination_port ^= 1 << (bit - 48),
                }
                let difference = flow(SEED, &one) ^ flow(SEED, &other);
                for (at, changed) in changed.iter_mut().enumerate() {
                    *changed += (difference >> at & 1) as u32;
                }
            }
            assert!(changed.iter().all(|times| (400..600).contains(times)), "{bit}: {changed:?}");
        }
    }

    /// Another seed is another hash: neither half of it is lost.
    #[test]
    fn every_bit_of_the_seed_counts() {
        for bit in 0..128 {
            let mut seed = SEED;
            seed[bit / 64] ^= 1 << (bit % 64);
            let same = (0..1_000).filter(|port| {
                let key = v4(0x0a00_0001, *port);
                flow(SEED, &key) >> 57 == flow(seed, &key) >> 57
            });
            let same = same.count();
            assert!(same < 30, "bit {bit} of the seed: {same} of 1000 keep one of 128 cells");
        }
    }
}
