//! What the program has counted, by backend, in maps that are mapped.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use weir_ebpf::abi::{Counters, MAX_BACKENDS, Signals};
use weir_ebpf::latency::BUCKETS;

use crate::dataplane::sys::Mapped;
use crate::model::Handshakes;

/// Words of 64 bits of an element of `COUNTERS`, of `SIGNALS`.
const COUNTER_WORDS: usize = size_of::<Counters>() / 8;
const SIGNAL_WORDS: usize = size_of::<Signals>() / 8;

/// The maps `COUNTERS`, `SIGNALS` and `HISTOGRAMS`.
pub(super) struct Counted {
    counters: Mapped,
    signals: Mapped,
    histograms: Mapped,
    processors: usize,
}

impl Counted {
    pub(super) fn new(
        counters: Mapped,
        signals: Mapped,
        histograms: Mapped,
        processors: usize,
    ) -> Self {
        Self { counters, signals, histograms, processors }
    }

    /// The words of a backend in a map that has an element for each processor.
    fn words<'a, const N: usize>(
        &self,
        map: &'a Mapped,
        backend: u16,
    ) -> impl Iterator<Item = &'a [AtomicU64]> + use<'a, N> {
        (0..self.processors).map(move |processor| {
            let start = (processor * MAX_BACKENDS as usize + usize::from(backend)) * N;
            &map.long_words()[start..start + N]
        })
    }

    fn sum<const N: usize>(&self, map: &Mapped, backend: u16) -> [u64; N] {
        let mut sum = [0_u64; N];
        for words in self.words::<N>(map, backend) {
            for (total, word) in sum.iter_mut().zip(words) {
                *total += word.load(Ordering::Relaxed);
            }
        }
        sum
    }

    pub(super) fn traffic(&self, backend: u16) -> Counters {
        let [connections, packets_in, bytes_in, packets_out, bytes_out, tracked, full, flood] =
            self.sum::<COUNTER_WORDS>(&self.counters, backend);
        Counters {
            connections,
            packets_in,
            bytes_in,
            packets_out,
            bytes_out,
            tracked,
            fallback_full: full,
            fallback_flood: flood,
        }
    }

    pub(super) fn signals(&self, backend: u16) -> Signals {
        let sum = self.sum::<SIGNAL_WORDS>(&self.signals, backend);
        let [retransmissions, established, refused, unanswered, abandoned, lost, ..] = sum;
        let [.., resets_in, resets_out, early, fins_in, fins_out, failing, steered, ns, _, _] = sum;
        Signals {
            retransmissions,
            established,
            refused,
            unanswered,
            abandoned,
            lost_samples: lost,
            resets_in,
            resets_out,
            early_resets: early,
            fins_in,
            fins_out,
            failing_clients: failing,
            steered,
            handshake_ns: ns,
            pad: [0; 2],
        }
    }

    /// The counters of a backend that the agent adds to: those of the first processor.
    pub(super) fn own_signals(&self, backend: u16) -> Option<&[AtomicU64]> {
        let start = usize::from(backend) * SIGNAL_WORDS;
        self.signals.long_words().get(start..start + SIGNAL_WORDS)
    }

    fn histogram(&self, backend: u16) -> &[AtomicU64] {
        let start = usize::from(backend) * BUCKETS;
        &self.histograms.long_words()[start..start + BUCKETS]
    }

    pub(super) fn handshakes(&self, backend: u16) -> Handshakes {
        let buckets = self.histogram(backend).iter().map(|bucket| bucket.load(Ordering::Relaxed));
        let sum = self.signals(backend).handshake_ns;
        Handshakes::new(buckets.collect(), Duration::from_nanos(sum))
    }

    /// Begins with nothing counted.
    pub(super) fn clear(&self, backend: u16) {
        let counters = self.words::<COUNTER_WORDS>(&self.counters, backend).flatten();
        let signals = self.words::<SIGNAL_WORDS>(&self.signals, backend).flatten();
        for word in counters.chain(signals).chain(self.histogram(backend)) {
            word.store(0, Ordering::Relaxed);
        }
    }
}
