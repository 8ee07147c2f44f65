//! Signals: what SYN, FIN and RST tell of a version, counted in maps of their own. Other packets do
//! not come here, but for those of clients in the direct modes, where none of a server's are seen.
//! The rules are in [`handshake`]; this is how they are applied to the maps.

use core::mem::offset_of;

use aya_ebpf::helpers::generated::{bpf_get_smp_processor_id, bpf_ktime_get_ns};
use weir_ebpf::abi::{
    Address, FORWARD_NAT, FlowKey, Pending, Return, SIGNALS_FULL, SIGNALS_OFF, Service, Signals,
};
use weir_ebpf::handshake::{self, Begin, Event, Verdict, Word, step};
use weir_ebpf::hash;
use weir_ebpf::latency::{self, BUCKETS};
use weir_ebpf::opaque::clamped;
use weir_ebpf::packet::{ACK, FIN, Packet, RST, SYN};

use crate::atomic::{add, compare_exchange};
use crate::count::{self, CONFIG};
use crate::maps::{self, BACKENDS, FAILING, HISTOGRAMS, PACKET, PENDING, SIGNALS};
use crate::route::{self, BEGINS, Chosen, STEERED};

/// The name of a counter: its offset in [`Signals`].
macro_rules! counter {
    ($name:ident) => {
        offset_of!(Signals, $name)
    };
}

/// Whether a client's packet tells a signal; then [`of_client`] counts it, and whether it begins a
/// connection.
#[inline(always)]
pub(crate) fn tells(packet: &Packet, chosen: &Chosen) -> bool {
    packet.flags & chosen.service.watch != 0
}

/// Counts a client's packet that was sent to a backend, and tells a signal.
///
/// It is the last thing that is done to a packet, here as below: what follows, the verifier would walk
/// twice as often.
#[inline(always)]
pub(crate) fn of_client(packet: &Packet, chosen: &Chosen) {
    let service = chosen.service;
    let [seed0, seed1] = service.seed;
    let about = About {
        backend: chosen.index,
        level: service.signals,
        direct: service.forwarding != FORWARD_NAT,
        marks: chosen.marks,
    };
    let hash = flow_hash(&raw const packet.key, seed0, seed1);
    if chosen.marks & BEGINS == 0 {
        go_on(hash, about.word(), packet.flags.into());
        return;
    }
    let client = client_hash(&raw const packet.key.source, seed0, seed1);
    begin(hash, client, packet.sequence.into(), about.word());
}

/// Counts a server's packet that was sent to a client.
#[inline(always)]
pub(crate) fn of_server(packet: &Packet, back: &Return) {
    // Those of UDP have no flags.
    if packet.flags & (SYN | FIN | RST) != 0 {
        answer(back);
    }
}

/// What a client's packet is counted by, in one word.
#[derive(Clone, Copy)]
struct About {
    backend: u16,
    level: u8,
    direct: bool,
    /// See [`Chosen`].
    marks: u8,
}

impl About {
    #[inline(always)]
    fn word(self) -> u64 {
        u64::from(self.backend)
            | u64::from(self.level) << 16
            | u64::from(self.direct) << 24
            | u64::from(self.marks) << 32
    }

    #[inline(always)]
    fn from_word(word: u64) -> Self {
        Self {
            backend: word as u16,
            level: (word >> 16) as u8,
            direct: word >> 24 & 1 != 0,
            marks: (word >> 32) as u8,
        }
    }
}

// What follows is done by functions that others could call too, for of such the verifier takes
// nothing for granted: so it walks each of them once, and not for each way that leads to it. And the
// stack that they take, they take one after the other.

/// Hash of a flow.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn flow_hash(key: *const FlowKey, seed0: u64, seed1: u64) -> u64 {
    // SAFETY: an element of a map, or nothing.
    let Some(key) = (unsafe { key.as_ref() }) else { return 0 };
    hash::flow([seed0, seed1], key)
}

/// Hash of a client's address.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn client_hash(address: *const Address, seed0: u64, seed1: u64) -> u64 {
    // SAFETY: an element of a map, or nothing.
    let Some(address) = (unsafe { address.as_ref() }) else { return 0 };
    hash::client([seed0, seed1], address)
}

/// A SYN.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn begin(hash: u64, client: u64, sequence: u64, about: u64) -> u64 {
    let about = About::from_word(about);
    let full = about.level == SIGNALS_FULL;
    let Some(place) = PENDING.get_ptr_mut(handshake::place(hash)) else { return 0 };
    let begin = Begin { watched: full || !about.direct, timed: full };
    let new = Pending { word: 0, time: now(), sequence: sequence as u32, client: client as u32 };
    if begin_at(place, &new, hash, about.backend, begin) {
        count(about.backend, counter!(retransmissions));
        return 0;
    }
    count::backend(about.backend, |counters| counters.connections += 1);
    if about.marks & STEERED != 0 {
        count(about.backend, counter!(steered));
    }
    0
}

/// A client's packet that is no SYN.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn go_on(hash: u64, about: u64, flags: u64) -> u64 {
    let about = About::from_word(about);
    let Some(place) = PENDING.get_ptr_mut(handshake::place(hash)) else { return 0 };
    let flags = flags as u8;
    if flags & RST != 0 {
        if advance(place, hash, about.backend, Event::ClientReset) != Verdict::Abandoned {
            count(about.backend, counter!(resets_in));
        }
        return 0;
    }
    if flags & FIN != 0 {
        count(about.backend, counter!(fins_in));
    }
    if about.direct && about.level == SIGNALS_FULL {
        advance(place, hash, about.backend, Event::Answer);
    }
    0
}

/// The packet at hand, from a server, that goes to a client as if from this listener.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn answer(back: *const Return) -> u64 {
    // SAFETY: an element of a map, or nothing.
    let Some(back) = (unsafe { back.as_ref() }) else { return 0 };
    let Some(packet) = PACKET.get_ptr(0) else { return 0 };
    // SAFETY: an element of this processor alone, which holds the packet at hand.
    let packet = unsafe { &*packet };
    let backend = back.backend;
    let Some(service) = service_of(backend) else { return 0 };
    if service.signals == SIGNALS_OFF {
        return 0;
    }
    let flow = FlowKey {
        source: packet.key.destination,
        destination: back.address,
        source_port: packet.key.destination_port,
        destination_port: route::port_or(packet.key.source_port, back.port),
        protocol: packet.key.protocol,
        pad: [0; 3],
    };
    let hash = hash::flow(service.seed, &flow);
    let Some(place) = PENDING.get_ptr_mut(handshake::place(hash)) else { return 0 };
    if packet.flags & RST != 0 {
        if advance(place, hash, backend, Event::ServerReset) != Verdict::Refused {
            count(backend, counter!(resets_out));
        }
        return 0;
    }
    if packet.flags & FIN != 0 {
        count(backend, counter!(fins_out));
    }
    if packet.flags & (SYN | ACK) == SYN | ACK {
        advance(place, hash, backend, Event::Answer);
    }
    0
}

#[inline(always)]
fn service_of(backend: u16) -> Option<&'static Service> {
    maps::record(BACKENDS.get(u32::from(backend))?.service())
}

#[inline(always)]
fn now() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_ktime_get_ns() }
}

/// Puts a new handshake into its place, and says whether it is there already: then its SYN came
/// again. Where somebody else changes the place at this very moment, the new one is lost sight of.
#[inline(always)]
fn begin_at(place: *mut Pending, new: &Pending, hash: u64, backend: u16, begin: Begin) -> bool {
    // SAFETY: a live element. What stands beside the word is another handshake's only where the
    // word changes meanwhile, and then it is not replaced below.
    let (word, time, sequence, client) =
        unsafe { (Word((*place).word), (*place).time, (*place).sequence, (*place).client) };
    if word.is_of(hash, backend) && sequence == new.sequence {
        return true;
    }
    // SAFETY: as above.
    if word.is_claimed() || !unsafe { claim(place, word) } {
        if begin.watched {
            count(backend, counter!(lost_samples));
        }
        return false;
    }
    // SAFETY: the place is ours until its word is another one.
    unsafe {
        (*place).time = new.time;
        (*place).sequence = new.sequence;
        (*place).client = new.client;
        release(place, word, word.then(hash, backend, begin));
    }
    let (_, verdict) = step(word, time, Event::Displaced, new.time);
    settle(word, client, verdict, 0, new.time);
    false
}

/// Tells the handshake in a place, if it is this flow's, what has happened, and counts what follows.
/// Where it changes at this very moment, what has happened there comes first.
#[inline(always)]
fn advance(place: *mut Pending, hash: u64, backend: u16, event: Event) -> Verdict {
    // SAFETY: as in `begin_at`.
    let (word, time, client) = unsafe { (Word((*place).word), (*place).time, (*place).client) };
    // The steady path of the direct modes ends here.
    if !word.is_of(hash, backend) || event == Event::Answer && !word.is_waiting() {
        return Verdict::None;
    }
    let now = now();
    let (next, verdict) = step(word, time, event, now);
    let changed = if next == word {
        true
    } else if verdict == Verdict::Established {
        // SAFETY: as in `begin_at`.
        unsafe {
            let claimed = claim(place, word);
            if claimed {
                (*place).time = now;
                release(place, word, next);
            }
            claimed
        }
    } else {
        // SAFETY: as in `begin_at`.
        unsafe { compare_exchange(&raw mut (*place).word, word.0, next.0) == word.0 }
    };
    if !changed {
        return Verdict::None;
    }
    settle(word, client, verdict, now.saturating_sub(time), now);
    verdict
}

/// Makes a place ours.
///
/// # Safety
///
/// It is a live element.
#[inline(always)]
unsafe fn claim(place: *mut Pending, word: Word) -> bool {
    // SAFETY: the word is eight aligned bytes.
    unsafe { compare_exchange(&raw mut (*place).word, word.0, word.claimed().0) == word.0 }
}

/// Gives a place of ours its next word, after what was written to it.
///
/// # Safety
///
/// It was claimed when it held `word`.
#[inline(always)]
unsafe fn release(place: *mut Pending, word: Word, next: Word) {
    // SAFETY: the word is eight aligned bytes, and nobody else changes it now.
    unsafe { compare_exchange(&raw mut (*place).word, word.claimed().0, next.0) };
}

/// Counts what has come of the handshake that had `word`, after `took`.
#[inline(always)]
fn settle(word: Word, client: u32, verdict: Verdict, took: u64, now: u64) {
    let backend = word.backend();
    let failed = match verdict {
        Verdict::None => return,
        Verdict::Established => {
            count(backend, counter!(established));
            if word.is_timed() {
                time(backend, took);
            }
            false
        }
        Verdict::Refused => {
            count(backend, counter!(refused));
            true
        }
        Verdict::Unanswered => {
            count(backend, counter!(unanswered));
            true
        }
        Verdict::EarlyReset => {
            count(backend, counter!(early_resets));
            true
        }
        Verdict::Abandoned => {
            count(backend, counter!(abandoned));
            false
        }
        Verdict::Lost => {
            count(backend, counter!(lost_samples));
            false
        }
    };
    if failed && word.is_timed() {
        fail(backend, client, now);
    }
}

/// Counts a client that has failed, unless it has within this second.
#[inline(always)]
fn fail(backend: u16, client: u32, now: u64) {
    let Some(record) = BACKENDS.get(u32::from(backend)) else { return };
    let (place, word) = handshake::failing(client, record.of, now);
    let Some(place) = FAILING.get_ptr_mut(place) else { return };
    // SAFETY: a live element of eight aligned bytes.
    unsafe {
        let known = *place;
        // Only who puts it there counts it.
        if known != word && compare_exchange(place, known, word) == known {
            count(backend, counter!(failing_clients));
        }
    }
}

/// Notes how long a handshake took.
#[inline(always)]
fn time(backend: u16, took: u64) {
    add_to(backend, counter!(handshake_ns), took);
    if let Some(histogram) = HISTOGRAMS.get_ptr_mut(u32::from(backend)) {
        let bucket = clamped::<0, { BUCKETS as u32 - 1 }>(latency::bucket(took) as u32);
        // SAFETY: the bucket is within a live element.
        unsafe { add(histogram.cast::<u64>().add(bucket as usize), 1) };
    }
}

/// Adds one to a counter of a backend.
#[inline(always)]
fn count(backend: u16, counter: usize) {
    add_to(backend, counter, 1);
}

#[inline(always)]
fn add_to(backend: u16, counter: usize, amount: u64) {
    // SAFETY: the helper has no preconditions.
    let processor = unsafe { bpf_get_smp_processor_id() };
    let index = processor * CONFIG.load().backends + u32::from(backend);
    if let Some(signals) = SIGNALS.get_ptr_mut(index) {
        // SAFETY: the offset is that of a number in a live element.
        unsafe { add(signals.cast::<u8>().add(counter).cast(), amount) };
    }
}
