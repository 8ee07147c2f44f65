//! The table of TCP flows, as the agent has it: [`weir_ebpf::flow_table`] in memory that it shares with
//! the program.

use std::collections::BTreeSet;
use std::hash::{BuildHasher as _, RandomState};
use std::mem::offset_of;
use std::sync::atomic::{AtomicU64, Ordering};

use weir_ebpf::abi::{FLOW_BUCKET, FlowBucket, FlowEntry, FlowKey};
use weir_ebpf::flow_table::{Bucket, Flow, Found, Key, Secret, Table, is_live};

use crate::dataplane::sys::Mapped;
use crate::dataplane::{Error, Swept, Use};

/// Words of 64 bits of a bucket, and where the marks and the keys are.
const WORDS: usize = size_of::<FlowBucket>() / 8;
const MARKS: usize = offset_of!(FlowBucket, marks) / 8;
const KEYS: usize = offset_of!(FlowBucket, keys) / 8;
const KEY_WORDS: usize = size_of::<Key>() / 8;

/// The map `FLOWS`.
pub(super) struct FlowTable<M = Mapped> {
    memory: M,
    secret: Secret,
    /// Buckets there are.
    buckets: u32,
    /// Flows that the last walk over all has left.
    left: u64,
    /// A walk that is under way: the bucket where it goes on, and how many flows it has left so far.
    under_way: Option<(u32, u64)>,
}

impl<M: AsRef<[AtomicU64]>> FlowTable<M> {
    /// Takes a table of so many elements up, or makes it: then its hash gets a secret.
    pub(super) fn new(memory: M, elements: u32) -> Self {
        let buckets = elements.saturating_sub(1);
        let head = At(&memory.as_ref()[..WORDS]);
        if head.entry(0) == 0 {
            // The standard library's keys are the system's random numbers.
            let random = RandomState::new();
            for (place, word) in head.key_words(0).iter().enumerate() {
                word.store(random.hash_one(place), Ordering::Relaxed);
            }
            head.exchange(0, 0, buckets.into());
        }
        let secret = head.key(0);
        let mut table = Self { memory, secret, buckets, left: 0, under_way: None };
        table.left = table.count();
        table
    }

    /// Flows there is room for; some more may find some.
    pub(super) fn capacity(&self) -> u64 {
        u64::from(self.buckets) * FLOW_BUCKET as u64 / 2
    }

    /// How many are taken of the places that a flow may have, and how many these are.
    pub(super) fn places(&self, key: &FlowKey) -> (u64, u64) {
        let buckets = BTreeSet::from(self.flow(&key.words()).buckets());
        let taken = |number: &u32| self.bucket(*number).map_or(0, |at| at.taken().count_ones());
        let taken: u32 = buckets.iter().map(taken).sum();
        (taken.into(), (buckets.len() * FLOW_BUCKET) as u64)
    }

    /// How full the last walk has left it.
    pub(super) fn used(&self) -> Use {
        Use { resource: "flows", used: self.left, limit: self.capacity() }
    }

    /// How many flows are remembered.
    pub(super) fn count(&self) -> u64 {
        self.live().count() as u64
    }

    /// The remembered flows.
    pub(super) fn all(&self) -> Vec<(FlowKey, FlowEntry)> {
        let shown = |(at, place, word): (At<'_>, _, _)| {
            (FlowKey::from_words(at.key(place)), FlowEntry::from_word(word))
        };
        self.live().map(shown).collect()
    }

    /// The entry of a flow, if there is one.
    pub(super) fn get(&self, key: &FlowKey) -> Option<FlowEntry> {
        Some(FlowEntry::from_word(self.find(key)?.word))
    }

    /// Remembers a flow, or changes its entry.
    ///
    /// # Errors
    ///
    /// There is no room for it.
    pub(super) fn put(&self, key: &FlowKey, entry: FlowEntry) -> Result<(), Error> {
        loop {
            if let Some(found) = self.find(key) {
                if found.bucket.exchange(found.place, found.word, entry.word()) == found.word {
                    return Ok(());
                }
                continue;
            }
            let words = key.words();
            let flow = self.flow(&words);
            let Some(number) = flow.put(&self, entry) else {
                return Err(Error::Map { map: "FLOWS", reason: "it is full".to_owned() });
            };
            let twin = flow.find(&self, number);
            if twin.is_none_or(|twin| flow.alone(&self, number, twin.number)) {
                return Ok(());
            }
        }
    }

    /// Forgets a flow, and says whether there was one.
    pub(super) fn remove(&self, key: &FlowKey) -> bool {
        while let Some(found) = self.find(key) {
            if found.bucket.exchange(found.place, found.word, 0) == found.word {
                return true;
            }
        }
        false
    }

    /// Gives a walk that is under way up.
    pub(super) fn begin_anew(&mut self) {
        self.under_way = None;
    }

    /// Goes on with a walk over all flows, or begins one: looks at so many buckets, and forgets the
    /// flows that `keep` does not keep. One that changes at this moment stays.
    pub(super) fn sweep(
        &mut self,
        buckets: u32,
        keep: &mut dyn FnMut(&FlowKey, &FlowEntry) -> bool,
    ) -> Swept {
        let (first, mut left) = self.under_way.take().unwrap_or((1, 0));
        let beyond = self.buckets + 1;
        let end = first.saturating_add(buckets).min(beyond);
        let mut forgotten = 0;
        for (bucket, place, word) in self.live_in(first, end) {
            let key = FlowKey::from_words(bucket.key(place));
            let stays = keep(&key, &FlowEntry::from_word(word));
            if stays || bucket.exchange(place, word, 0) != word {
                left += 1;
            } else {
                forgotten += 1;
            }
        }
        if end == beyond {
            self.left = left;
        } else {
            self.under_way = Some((end, left));
        }
        Swept { forgotten, ended: end == beyond }
    }

    fn live(&self) -> impl Iterator<Item = (At<'_>, usize, u64)> {
        self.live_in(1, self.buckets + 1)
    }

    /// The flows in these buckets: each one's bucket, place and word.
    fn live_in(&self, first: u32, end: u32) -> impl Iterator<Item = (At<'_>, usize, u64)> {
        let buckets = (first..end).filter_map(move |number| self.bucket(number));
        buckets.flat_map(|bucket| {
            let words = (0..FLOW_BUCKET).map(move |place| (bucket, place, bucket.entry(place)));
            words.filter(|(_, _, word)| is_live(*word))
        })
    }

    fn find(&self, key: &FlowKey) -> Option<Found<At<'_>>> {
        self.flow(&key.words()).find(&self, 0)
    }

    fn flow<'k>(&self, key: &'k Key) -> Flow<'k> {
        Flow::new(&self.secret, self.buckets, key)
    }
}

impl<'a, M: AsRef<[AtomicU64]>> Table for &'a FlowTable<M> {
    type Bucket = At<'a>;

    fn bucket(&self, number: u32) -> Option<At<'a>> {
        let start = number as usize * WORDS;
        self.memory.as_ref().get(start..start + WORDS).map(At)
    }
}

/// A bucket, or the element before them: its words.
#[derive(Debug, Clone, Copy)]
pub(super) struct At<'a>(&'a [AtomicU64]);

impl At<'_> {
    fn key_words(&self, place: usize) -> &[AtomicU64] {
        &self.0[KEYS + place * KEY_WORDS..][..KEY_WORDS]
    }

    fn key(&self, place: usize) -> Key {
        let mut key = Key::default();
        for (two, word) in key.chunks_exact_mut(2).zip(self.key_words(place)) {
            two.copy_from_slice(&halves(word.load(Ordering::Acquire)));
        }
        key
    }
}

/// The words of 32 bits of a word, as they lie in memory.
fn halves(word: u64) -> [u32; 2] {
    let bytes = word.to_ne_bytes();
    let (halves, _) = bytes.as_chunks::<4>();
    [halves[0], halves[1]].map(u32::from_ne_bytes)
}

impl Bucket for At<'_> {
    fn entry(&self, place: usize) -> u64 {
        self.0[place].load(Ordering::Acquire)
    }

    fn exchange(&self, place: usize, old: u64, new: u64) -> u64 {
        let done = self.0[place].compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst);
        done.unwrap_or_else(|found| found)
    }

    fn has(&self, place: usize, key: &Key) -> bool {
        self.key(place) == *key
    }

    fn fill(&self, place: usize, key: &Key, mark: u8) {
        for (word, two) in self.key_words(place).iter().zip(key.chunks_exact(2)) {
            let mut bytes = [0; 8];
            for (half, there) in two.iter().zip(bytes.as_chunks_mut::<4>().0) {
                *there = half.to_ne_bytes();
            }
            word.store(u64::from_ne_bytes(bytes), Ordering::Release);
        }
        let shift = 8 * place;
        let marked = |marks: u64| {
            let marks = u64::from_le(marks) & !(0xff << shift);
            Some((marks | u64::from(mark) << shift).to_le())
        };
        // The program writes the bytes of other places at the same time.
        let _ = self.0[MARKS].fetch_update(Ordering::AcqRel, Ordering::Acquire, marked);
    }

    fn marks(&self) -> u64 {
        u64::from_le(self.0[MARKS].load(Ordering::Acquire))
    }

    fn taken(&self) -> u64 {
        (0..FLOW_BUCKET)
            .filter(|place| self.entry(*place) != 0)
            .map(|place| 0x80 << (8 * place))
            .sum()
    }
}

#[cfg(test)]
mod tests;
