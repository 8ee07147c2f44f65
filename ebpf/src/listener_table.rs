//! The table of listeners: whose an endpoint is, known by looking at a cache line or two. Pure: the program
//! reads it by this, and the agent lays it out by this.
//!
//! The kernel's hash tables take calls to be asked, which on many a processor cost more than what they do.
//! Here a listener lies in one of two [`ListenerBucket`]s, which its hash gives; a bucket has two places.
//! The table is laid out as a whole, and never changed while packets are decided by it: see [`Root`].

use core::borrow::Borrow;

use crate::abi::{Address, Endpoint, Listener, ListenerBucket, Root};
use crate::hash;

/// An endpoint as the table has it. Its last byte is one, so that none is that of an empty place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Key(pub [u64; 3]);

const TAKEN: u32 = u32::from_ne_bytes([0, 0, 0, 1]);
/// Numbers by chance (those of splitmix64). They are no secret: listeners are the operator's own.
const NUMBERS: [u32; 6] =
    [0x9e37_79b9, 0x7f4a_7c15, 0xbf58_476d, 0x1ce4_e5b9, 0x94d0_49bb, 0x1331_11eb];

const fn pair(low: u32, high: u32) -> u64 {
    low as u64 | (high as u64) << 32
}

impl Key {
    /// The key of an endpoint.
    #[inline(always)]
    #[must_use]
    pub const fn of(at: &Endpoint) -> Self {
        let [a, b, c, d, last] = at.words();
        Self([pair(a, b), pair(c, d), (last | TAKEN) as u64])
    }

    /// The buckets where a listener may lie: elements of the array.
    #[inline(always)]
    #[must_use]
    pub fn buckets(&self, root: Root) -> [u32; 2] {
        let Self([a, b, c]) = *self;
        let words = [a as u32, (a >> 32) as u32, b as u32, (b >> 32) as u32, c as u32, 0];
        let hash = hash::table(&NUMBERS.map(|number| number.wrapping_add(root.seed())), &words);
        let (first, mask) = (root.listeners(), root.listener_mask());
        [first + (hash as u32 & mask), first + ((hash >> 32) as u32 & mask)]
    }

    /// What a place holds that is this listener's.
    #[must_use]
    pub const fn place(&self, listener: Listener) -> [u64; 3] {
        let Self([a, b, c]) = *self;
        [a, b, c | (listener.service as u64) << 32]
    }
}

/// The listener that a place holds, and where; nothing, if it is empty.
#[must_use]
pub const fn listener([a, b, c]: [u64; 3]) -> Option<(Endpoint, Listener)> {
    if c == 0 {
        return None;
    }
    let [high, low, protocol, _] = (c as u32).to_ne_bytes();
    let address = Address([a as u32, (a >> 32) as u32, b as u32, (b >> 32) as u32]);
    let port = u16::from_ne_bytes([high, low]);
    let listener = Listener { service: (c >> 32) as u32 };
    Some((Endpoint { address, port, protocol, pad: 0 }, listener))
}

/// The listener with a key. `bucket` gives an element of the array.
#[inline(always)]
#[must_use]
pub fn find<B: Borrow<ListenerBucket>>(
    root: Root,
    key: Key,
    bucket: impl Fn(u32) -> Option<B>,
) -> Option<Listener> {
    for element in key.buckets(root) {
        let bucket = bucket(element)?;
        let ListenerBucket { places, .. } = bucket.borrow();
        let Key(key) = key;
        for &[a, b, c] in places {
            if (a ^ key[0]) | (b ^ key[1]) | u64::from(c as u32 ^ key[2] as u32) == 0 {
                return Some(Listener { service: (c >> 32) as u32 });
            }
        }
    }
    None
}
