//! The ring of events, and the words by which the program is told who wants which.

use std::mem::offset_of;
use std::sync::atomic::Ordering;

use aya::maps::{MapData, PerCpuArray, RingBuf};
use weir_ebpf::abi::{
    Address, FlowKey, TRACE_EVENT, TRACERS, TraceEvent, TraceLost, Tracer, Tracers,
};

use super::Kernel;
use crate::dataplane::sys::Mapped;
use crate::dataplane::tap::{Filter, Tap, Told};

/// The program's side of live traces.
pub struct KernelTap {
    pub(super) ring: RingBuf<MapData>,
    /// The element of `TRACE`.
    pub(super) control: Mapped,
    pub(super) lost: PerCpuArray<MapData, TraceLost>,
}

/// Words of 32 bits of a tracer.
const TRACER_WORDS: usize = size_of::<Tracer>() / 4;

impl Kernel {
    /// The program's side of live traces, once.
    pub fn take_tap(&mut self) -> Option<KernelTap> {
        self.tap.take()
    }
}

impl KernelTap {
    /// Whether the program looks for tracers.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.until(None).is_some_and(|until| until.load(Ordering::Relaxed) != 0)
    }

    /// When a tracer ends; the word of all, if none is named.
    fn until(&self, tracer: Option<usize>) -> Option<&std::sync::atomic::AtomicU64> {
        let place = tracer.map_or(offset_of!(Tracers, until), |tracer| {
            offset_of!(Tracers, all) + tracer * size_of::<Tracer>() + offset_of!(Tracer, until)
        });
        self.control.long_words().get(place / 8)
    }

    fn begun(&self, tracer: usize) -> bool {
        self.until(Some(tracer)).is_some_and(|until| until.load(Ordering::Relaxed) != 0)
    }

    /// Sets the word that the program looks at first.
    fn set_until(&self, until: u64) {
        if let Some(word) = self.until(None) {
            word.store(until, Ordering::Release);
        }
    }
}

impl Tap for KernelTap {
    fn set(&mut self, tracer: usize, filter: Option<&Filter>, until: u64) {
        let Some(word) = self.until(Some(tracer)) else { return };
        // Off while it is half written.
        word.store(0, Ordering::Release);
        if let Some(filter) = filter {
            let start = (offset_of!(Tracers, all) + tracer * size_of::<Tracer>()) / 4;
            let words = words(&filter.tracer());
            // The first two are its end, which comes last.
            let places = self.control.words().iter().skip(start).zip(words).skip(2);
            places.for_each(|(place, word)| place.store(word, Ordering::Relaxed));
            word.store(until, Ordering::Release);
        }
        let any = (0..TRACERS).any(|tracer| self.begun(tracer));
        self.set_until(if any { until } else { 0 });
    }

    fn renew(&mut self, until: u64) {
        let mut any = false;
        for tracer in (0..TRACERS).filter(|tracer| self.begun(*tracer)) {
            any = true;
            if let Some(word) = self.until(Some(tracer)) {
                word.store(until, Ordering::Relaxed);
            }
        }
        if any {
            self.set_until(until);
        }
    }

    fn take(&mut self, limit: usize, show: &mut dyn FnMut(Told)) -> usize {
        let mut taken = 0;
        while taken < limit {
            let Some(item) = self.ring.next() else { break };
            taken += 1;
            if let Some(told) = told(&item) {
                show(told);
            }
        }
        taken
    }

    fn lost(&self) -> [u64; TRACERS] {
        let mut sum = [0; TRACERS];
        // What cannot be read counts as nothing: it is tried again.
        let processors = self.lost.get(&0, 0).ok();
        for one in processors.iter().flat_map(|all| all.iter()) {
            for (sum, lost) in sum.iter_mut().zip(one.events) {
                *sum += lost;
            }
        }
        sum
    }
}

/// A tracer as it lies in memory.
fn words(tracer: &Tracer) -> [u32; TRACER_WORDS] {
    let mut words = [0; TRACER_WORDS];
    let (m, a) = (tracer.mask, tracer.address);
    let rest = [tracer.service, tracer.services, tracer.wants, tracer.sample, tracer.frame];
    for (place, word) in words[2..].iter_mut().zip(m.into_iter().chain(a).chain(rest)) {
        *place = word;
    }
    words
}

/// An event as it lies in memory, and the frame behind it.
fn told(bytes: &[u8]) -> Option<Told> {
    let (head, rest) = bytes.split_at_checked(TRACE_EVENT as usize)?;
    let at = |place: usize| head.get(place..place + 4)?.try_into().ok().map(u32::from_ne_bytes);
    let half = |place: usize| head.get(place..place + 2)?.try_into().ok().map(u16::from_ne_bytes);
    let byte = |place: usize| head.get(place).copied();
    let long = |place: usize| head.get(place..place + 8)?.try_into().ok().map(u64::from_ne_bytes);
    let key = offset_of!(TraceEvent, key);
    let address =
        |place: usize| Some(Address([at(place)?, at(place + 4)?, at(place + 8)?, at(place + 12)?]));
    let event = TraceEvent {
        time: long(offset_of!(TraceEvent, time))?,
        key: FlowKey {
            source: address(key + offset_of!(FlowKey, source))?,
            destination: address(key + offset_of!(FlowKey, destination))?,
            source_port: half(key + offset_of!(FlowKey, source_port))?,
            destination_port: half(key + offset_of!(FlowKey, destination_port))?,
            protocol: byte(key + offset_of!(FlowKey, protocol))?,
            pad: [0; 3],
        },
        service: at(offset_of!(TraceEvent, service))?,
        ifindex: at(offset_of!(TraceEvent, ifindex))?,
        length: at(offset_of!(TraceEvent, length))?,
        captured: at(offset_of!(TraceEvent, captured))?,
        tag: at(offset_of!(TraceEvent, tag))?,
        reason: at(offset_of!(TraceEvent, reason))?,
        backend: half(offset_of!(TraceEvent, backend))?,
        hook: byte(offset_of!(TraceEvent, hook))?,
        what: byte(offset_of!(TraceEvent, what))?,
        why: byte(offset_of!(TraceEvent, why))?,
        opens: byte(offset_of!(TraceEvent, opens))?,
        flags: byte(offset_of!(TraceEvent, flags))?,
        tracers: byte(offset_of!(TraceEvent, tracers))?,
    };
    let frame = rest.get(..event.captured as usize)?.to_vec();
    Some(Told { event, frame })
}
