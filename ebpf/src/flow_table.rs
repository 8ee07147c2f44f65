//! The table of TCP flows, in an array that the program and the agent have in common: which entry is
//! a flow's, how one comes in, and how one goes. The agent looks at a million flows without a system
//! call, and forgets one by a write.
//!
//! A flow has three buckets, by a keyed hash. Its first is in front, among one of eight: so as long as
//! there are not many flows they lie in few pages of memory, and most look-ups end at the first bucket.
//! Where that is full, it goes to the roomier one of two among the rest (Azar, Broder, Karlin, Upfal
//! 1994, "Balanced allocations"): so hardly any finds no room while half of all places are free. A
//! bucket's entries, with a byte of each one's hash, are one cache line; a key is read only where that
//! byte fits. Nothing is ever moved, and nothing is locked: every change of an entry is one
//! compare-and-exchange of its word. An entry is
//!
//! - free: zero;
//! - claimed: someone writes its key, and nobody else touches it;
//! - or a flow's, from the moment in which its word is written over the claim.
//!
//! Element 0 of the array is no bucket, but holds the secret of the hash and the number of buckets.

use crate::abi::{FLOW_BUCKET, FlowEntry, NO_BACKEND};
use crate::hash::table;

/// The words of a flow's key: [`FlowKey::words`](crate::abi::FlowKey::words).
pub type Key = [u32; 10];
/// What the hash is keyed by: drawn by chance when the table is made.
pub type Secret = [u32; 10];

/// The entry of a place that is being filled. No flow has it: its backend is none.
const CLAIMED: u64 = FlowEntry { backend: NO_BACKEND, client: 0, server: 0, seen: 0 }.word();
/// Places that are looked at in a bucket, some more than once: an entry that changes while its key is
/// compared is read again.
const LOOKS: usize = FLOW_BUCKET + 3;
/// How often a place is sought: another processor may be quicker.
const CLAIMS: usize = 4;

/// One of so many buckets is in front.
const FRONT: u32 = 8;
/// A byte of ones, or their lowest or highest bits, for each place of a bucket.
const ONES: u64 = 0x0001_0101_0101_0101;
const HIGHS: u64 = ONES << 7;

/// A bucket, in memory that others change at the same time. A place is below [`FLOW_BUCKET`].
pub trait Bucket {
    /// The word of an entry, read once.
    fn entry(&self, place: usize) -> u64;
    /// Puts `new` in place of `old`, if it is there, and gives what was there. Orders everything.
    fn exchange(&self, place: usize, old: u64, new: u64) -> u64;
    /// Whether a place's key is this one.
    fn has(&self, place: usize, key: &Key) -> bool;
    /// Writes the key and the mark of a place that the caller has claimed.
    fn fill(&self, place: usize, key: &Key, mark: u8);
    /// The marks of all places, a byte each from the lowest on.
    fn marks(&self) -> u64;
    /// The highest bit of the byte of each place that is not free.
    fn taken(&self) -> u64;
}

/// A table: its buckets by number, from 1 on.
pub trait Table {
    /// How it shows a bucket.
    type Bucket: Bucket;
    /// The bucket of this number, which is there if [`Flow::new`] gave it.
    fn bucket(&self, number: u32) -> Option<Self::Bucket>;
}

/// Where a flow may be in a table.
#[derive(Debug, Clone, Copy)]
pub struct Flow<'a> {
    key: &'a Key,
    buckets: [u32; 3],
    mark: u8,
}

/// An entry that is a flow's.
#[derive(Debug)]
pub struct Found<B> {
    /// Its bucket.
    pub bucket: B,
    /// Its place there.
    pub place: usize,
    /// Its word, as it was.
    pub word: u64,
    /// Which place it is in the whole table: eight times the bucket's number, and the place.
    pub number: u32,
}

/// Whether a word is the entry of a flow.
#[inline(always)]
#[must_use]
pub const fn is_live(word: u64) -> bool {
    word != 0 && word != CLAIMED
}

/// The keyed hash of a flow. [`crate::hash::flow`] does not promise what [`table`] does, and who could choose
/// flows of the same buckets would keep others out of them.
#[inline(always)]
#[must_use]
pub fn hash(secret: &Secret, key: &Key) -> u64 {
    table(secret, key)
}

impl<'a> Flow<'a> {
    /// A flow in a table of so many buckets.
    #[inline(always)]
    #[must_use]
    pub fn new(secret: &Secret, buckets: u32, key: &'a Key) -> Self {
        let hash = hash(secret, key);
        let front = buckets / FRONT;
        // 32 bits of it from this one on, of which a number takes the highest: so each has its own, and
        // the mark the lowest of all.
        let one_of = |count: u32, bit: u32| {
            let part = hash >> bit & 0xffff_ffff;
            ((part * u64::from(count)) >> 32) as u32
        };
        let one = 1 + front + one_of(buckets - front, 0);
        let other = 1 + front + one_of(buckets - front, 32);
        // A table of a few buckets has none in front.
        let first = if front == 0 { one } else { 1 + one_of(front, 16) };
        Self { key, buckets: [first, one, other], mark: hash as u8 }
    }

    /// The numbers of its buckets, of which some may be the same.
    #[inline(always)]
    #[must_use]
    pub const fn buckets(&self) -> [u32; 3] {
        self.buckets
    }

    /// Its entry, if it has one, in any place but this one; the place of number zero is none.
    #[inline(always)]
    pub fn find<T: Table>(&self, table: &T, but: u32) -> Option<Found<T::Bucket>> {
        for number in self.buckets {
            let bucket = table.bucket(number)?;
            let mut fitting = equal(bucket.marks(), self.mark);
            for _ in 0..LOOKS {
                if fitting == 0 {
                    break;
                }
                let place = lowest(fitting);
                let (word, number) = (bucket.entry(place), number * 8 + place as u32);
                if number == but || !is_live(word) || !bucket.has(place, self.key) {
                    fitting &= fitting - 1;
                } else if bucket.entry(place) == word {
                    // So the key was this entry's: nobody has come between, or two have that brought
                    // the same word back.
                    return Some(Found { bucket, place, word, number });
                }
            }
        }
        None
    }

    /// Puts it in with this entry. Gives the number of its place, unless its buckets are full. Another
    /// processor may have put it in at the same time: what [`Flow::find`] gives but for this place
    /// then is for [`Flow::alone`].
    #[inline(always)]
    pub fn put<T: Table>(&self, table: &T, entry: FlowEntry) -> Option<u32> {
        for _ in 0..CLAIMS {
            let [front, one, other] = self.buckets;
            let (mut number, mut free) = (front, table.bucket(front)?.taken() ^ HIGHS);
            if free == 0 {
                (number, free) = (one, table.bucket(one)?.taken() ^ HIGHS);
                let in_other = table.bucket(other)?.taken() ^ HIGHS;
                if count(in_other) > count(free) {
                    (number, free) = (other, in_other);
                }
            }
            if free == 0 {
                return None;
            }
            let bucket = table.bucket(number)?;
            let place = lowest(free);
            if bucket.exchange(place, 0, CLAIMED) == 0 {
                bucket.fill(place, self.key, self.mark);
                bucket.exchange(place, CLAIMED, entry.word());
                return Some(number * 8 + place as u32);
            }
        }
        None
    }

    /// Leaves one of two entries that two processors have put in at the same time, each seeing the
    /// other, or the later one does: the one in the lower place. Says whether it is the first.
    #[inline(always)]
    pub fn alone<T: Table>(&self, table: &T, this: u32, twin: u32) -> bool {
        self.remove(table, this.max(twin));
        this < twin
    }

    /// Takes it out of this place, where it was a moment ago.
    #[inline(always)]
    fn remove<T: Table>(&self, table: &T, number: u32) {
        let Some(bucket) = table.bucket(number / 8) else { return };
        let place = number as usize % 8;
        let word = bucket.entry(place);
        if is_live(word) && bucket.has(place, self.key) {
            bucket.exchange(place, word, 0);
        }
    }
}

/// The highest bit of the byte of each place whose mark is this one.
#[inline(always)]
fn equal(marks: u64, mark: u8) -> u64 {
    let others = marks ^ (u64::from(mark) * ONES);
    // A byte's lower bits carry into its highest unless all are zero, and never further.
    let lower = !HIGHS & (ONES * 0xff);
    !(((others & lower) + lower) | others) & HIGHS
}

/// How many places these are.
#[inline(always)]
fn count(places: u64) -> u64 {
    (places >> 7).wrapping_mul(0x0101_0101_0101_0101) >> 56
}

/// The lowest of them; there is one.
#[inline(always)]
fn lowest(places: u64) -> usize {
    let below = (places & places.wrapping_neg()).wrapping_sub(1);
    count(below & HIGHS) as usize
}
