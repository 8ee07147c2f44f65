//! Handshakes under way: the agent ends those that nothing comes of any more. All others are ended
//! by the program; the rules are the same, [`weir_ebpf::handshake`].

use std::collections::BTreeSet;
use std::mem::offset_of;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::time::{ClockId, clock_gettime};
use weir_ebpf::abi::{
    Backend, FORWARD_NAT, MAX_PENDING, Pending, SIGNALS_FULL, SIGNALS_OFF, Service, Signals,
};
use weir_ebpf::handshake::{Event, Verdict, Word, failing, step};

use super::Kernel;
use crate::dataplane::sys::Mapped;

/// Words of 64 bits of a place; the word, the time, and then the client's hash in the upper half.
const PLACE_WORDS: usize = size_of::<Pending>() / 8;
const TIME: usize = offset_of!(Pending, time) / 8;
const CLIENT: usize = offset_of!(Pending, client) / 4;

/// The word of 32 bits of a backend's record whose second half says whose it is.
const OWNER_WORD: usize = offset_of!(Backend, of) / 4;
const _: () = assert!(offset_of!(Backend, of) % 4 == 2);

/// Parts that the places are looked at in, so that a request need not wait for all of them.
const PARTS: usize = 4;

/// The map `PENDING`, and the map `FAILING`.
pub(super) struct Places {
    waiting: Mapped,
    failing: Mapped,
    /// The part that comes next.
    next: usize,
}

impl Places {
    pub(super) fn new(places: Mapped, failing: Mapped) -> Self {
        Self { waiting: places, failing, next: 0 }
    }

    fn all(&self) -> impl Iterator<Item = &[AtomicU64]> {
        self.waiting.long_words().chunks_exact(PLACE_WORDS)
    }

    /// Forgets the handshakes of backends.
    pub(super) fn forget(&self, backends: &BTreeSet<u16>) {
        if backends.is_empty() {
            return;
        }
        for place in self.all() {
            let word = place[0].load(Ordering::Acquire);
            if word != 0 && backends.contains(&Word(word).backend()) {
                // If it changes at this moment, the flow is another one's.
                let _ = place[0].compare_exchange(word, 0, Ordering::SeqCst, Ordering::Relaxed);
            }
        }
    }

    /// Forgets all handshakes, and all clients that have failed.
    fn forget_all(&self) {
        for word in self.all().map(|place| &place[0]).chain(self.failing.long_words()) {
            word.store(0, Ordering::SeqCst);
        }
    }

    /// Hash of the client in a place.
    fn client(&self, place: usize) -> u32 {
        let words = &self.waiting.words()[place * PLACE_WORDS * 2..];
        words[CLIENT].load(Ordering::Relaxed)
    }

    /// Whether a client that fails at `of` now has not within this second.
    fn is_first(&self, client: u32, of: u16, now: u64) -> bool {
        let (place, word) = failing(client, of, now);
        let Some(place) = self.failing.long_words().get(place as usize) else { return false };
        let known = place.load(Ordering::Relaxed);
        known != word
            && place.compare_exchange(known, word, Ordering::SeqCst, Ordering::Relaxed).is_ok()
    }
}

/// Whether the program still waits for how handshakes of a service end.
fn is_watched(record: &Service) -> bool {
    record.signals == SIGNALS_FULL
        || record.signals != SIGNALS_OFF && record.forwarding == FORWARD_NAT
}

fn service_of(of: u16) -> u32 {
    Backend { of, ..Backend::default() }.service()
}

impl Kernel {
    /// Forgets all handshakes under way, uncounted. For tests.
    pub fn forget_handshakes(&self) {
        self.pending.forget_all();
    }

    /// Whose a backend is, see [`Backend::owner`].
    fn owner_of(&self, backend: u16) -> u16 {
        let place = usize::from(backend) * size_of::<Backend>() / 4 + OWNER_WORD;
        let word = self.backend_memory.words()[place].load(Ordering::Relaxed).to_ne_bytes();
        u16::from_ne_bytes([word[2], word[3]])
    }

    /// Ends handshakes that have waited for too long, in all places, and gives the number of those
    /// that wait. For tests.
    #[must_use]
    pub fn end_handshakes(&self) -> u64 {
        self.sweep_places(0..MAX_PENDING as usize)
    }

    /// The same in the part of the places that comes next.
    pub(super) fn sweep_some_pending(&mut self) {
        const PART: usize = MAX_PENDING as usize / PARTS;
        let part = self.pending.next;
        self.pending.next = (part + 1) % PARTS;
        self.sweep_places(part * PART..(part + 1) * PART);
    }

    fn sweep_places(&self, places: Range<usize>) -> u64 {
        let Ok(now) = clock_gettime(ClockId::CLOCK_MONOTONIC) else { return 0 };
        let now = u64::try_from(std::time::Duration::from(now).as_nanos()).unwrap_or(u64::MAX);
        let mut waiting = 0;
        // Whether the last one's service is watched: the next one's is likely the same.
        let mut known = None;
        for (index, place) in self.pending.all().enumerate().skip(places.start).take(places.len()) {
            let word = Word(place[0].load(Ordering::Acquire));
            if !word.is_waiting() {
                continue;
            }
            let time = place[TIME].load(Ordering::Acquire);
            let client = self.pending.client(index);
            let of = self.owner_of(word.backend());
            let service = service_of(of);
            let watched = known.filter(|(of, _)| *of == service).map_or_else(
                || self.live.get(&service).is_some_and(|live| is_watched(&live.record)),
                |(_, watched)| watched,
            );
            known = Some((service, watched));
            let event = if watched { Event::Look } else { Event::Unwatched };
            let (next, verdict) = step(word, time, event, now);
            let (old, new) = (word.0, next.0);
            if verdict == Verdict::None
                || place[0].compare_exchange(old, new, Ordering::SeqCst, Ordering::Relaxed).is_err()
            {
                waiting += 1;
                continue;
            }
            let Some(signals) = self.counted.own_signals(word.backend()) else { continue };
            let count = |offset: usize| signals[offset / 8].fetch_add(1, Ordering::Relaxed);
            if verdict == Verdict::Unanswered {
                count(offset_of!(Signals, unanswered));
                if word.is_timed() && self.pending.is_first(client, of, now) {
                    count(offset_of!(Signals, failing_clients));
                }
            } else {
                count(offset_of!(Signals, lost_samples));
            }
        }
        waiting
    }
}
