//! Signals: what SYN, FIN and RST tell of a version, counted in maps of their own. Other packets do
//! not come here, but for those of clients in the direct modes, where none of a server's are seen.
//! The rules are in [`handshake`]; this is how they are applied to the maps.

use core::mem::offset_of;

use aya_ebpf::helpers::generated::{bpf_get_smp_processor_id, bpf_ktime_get_ns};
use weir_ebpf::abi::{
    FORWARD_NAT, FlowKey, MAX_BACKENDS, Pending, Return, SIGNALS_FULL, SIGNALS_OFF, Service,
    Signals,
};
use weir_ebpf::handshake::{self, Begin, Event, Verdict, Word, step};
use weir_ebpf::hash;
use weir_ebpf::latency::{self, BUCKETS};
use weir_ebpf::opaque::clamped;
use weir_ebpf::packet::{ACK, FIN, Packet, RST, SYN};

use crate::atomic::{add, compare_exchange};
use crate::count;
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

/// Whether a client's packet within a connection, which neither opens nor ends it, is the answer that a
/// handshake waits for. Nearly none is; of the others nothing is to be told.
#[inline(always)]
pub(crate) fn is_waited_for(packet: &Packet, chosen: &Chosen) -> bool {
    let hash = hash::flow(chosen.service.seed, &packet.key);
    let Some(place) = PENDING.get_ptr(handshake::place(hash)) else { return false };
    // SAFETY: a live element. Who acts on the word looks at it once more.
    let word = Word(unsafe { (*place).word });
    word.is_of(hash, chosen.index) && word.is_waiting()
}

/// Counts a client's packet that was sent to a backend, and tells a signal.
///
/// It is the last thing that is done to a packet, here as below: what follows, the verifier would walk
/// twice as often.
#[inline(always)]
pub(crate) fn of_client(packet: &Packet, chosen: &Chosen) {
    let hash = flow_hash(&raw const packet.key, chosen.service);
    from_client(chosen.service, hash, chosen.index.into(), chosen.marks.into());
}

/// Counts a server's packet that was sent to a client.
#[inline(always)]
pub(crate) fn of_server(packet: &Packet, back: &Return) {
    // Those of UDP have no flags.
    if packet.flags & (SYN | FIN | RST) != 0 {
        answer(back);
    }
}

// What follows is done by functions that others could call too, for of such the verifier takes
// nothing for granted: so it walks each of them once, and not for each way that leads to it. And the
// stack that they take, they take one after the other.

/// Hash of a flow of a service.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn flow_hash(key: *const FlowKey, service: *const Service) -> u64 {
    // SAFETY: elements of maps, or nothing.
    let (key, service) = unsafe { (key.as_ref(), service.as_ref()) };
    let (Some(key), Some(service)) = (key, service) else { return 0 };
    hash::flow(service.seed, key)
}

/// The packet at hand, from a client, for this backend, and the marks of [`Chosen`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn from_client(service: *const Service, hash: u64, backend: u64, marks: u64) -> u64 {
    // SAFETY: an element of a map, or nothing.
    let Some(service) = (unsafe { service.as_ref() }) else { return 0 };
    let Some(packet) = PACKET.get_ptr(0) else { return 0 };
    // SAFETY: an element of this processor alone, which holds the packet at hand.
    let packet = unsafe { &*packet };
    let Some(place) = PENDING.get_ptr_mut(handshake::place(hash)) else { return 0 };
    let (backend, marks) = (backend as u16, marks as u8);
    if marks & BEGINS == 0 {
        go_on(service, packet, place, hash, backend);
    } else {
        begin(service, packet, place, hash, (backend, marks));
    }
    0
}

/// A SYN.
#[inline(always)]
fn begin(
    service: &Service,
    packet: &Packet,
    place: *mut Pending,
    hash: u64,
    (backend, marks): (u16, u8),
) {
    // SAFETY: a live element. What stands beside the word is another handshake's only where the
    // word changes meanwhile, and then it is not replaced below.
    let (word, sequence) = unsafe { (Word((*place).word), (*place).sequence) };
    if word.is_of(hash, backend) && sequence == packet.sequence {
        count(backend, counter!(retransmissions));
        return;
    }
    count::backend(backend, |counters| counters.connections += 1);
    if marks & STEERED != 0 {
        count(backend, counter!(steered));
    }
    let now = now();
    let timed = service.signals == SIGNALS_FULL;
    let begin = Begin { watched: timed || service.forwarding == FORWARD_NAT, timed };
    // SAFETY: as above.
    let (time, client) = unsafe { ((*place).time, (*place).client) };
    // SAFETY: as above.
    if word.is_claimed() || !unsafe { claim(place, word) } {
        // Somebody else changes the place at this very moment.
        if begin.watched {
            count(backend, counter!(lost_samples));
        }
        return;
    }
    // SAFETY: the place is ours until its word is another one.
    unsafe {
        (*place).time = now;
        (*place).sequence = packet.sequence;
        (*place).client = handshake::client(service.seed[0], &packet.key.source);
        release(place, word, word.then(hash, backend, begin));
    }
    let (_, verdict) = step(word, time, Event::Displaced, now);
    settle(word, client, verdict, 0, now);
}

/// No SYN.
#[inline(always)]
fn go_on(service: &Service, packet: &Packet, place: *mut Pending, hash: u64, backend: u16) {
    if packet.flags & RST != 0 {
        if advance(place, hash, backend, Event::ClientReset) != Verdict::Abandoned {
            count(backend, counter!(resets_in));
        }
        return;
    }
    if packet.flags & FIN != 0 {
        count(backend, counter!(fins_in));
    }
    if service.watch & ACK != 0 {
        advance(place, hash, backend, Event::Answer);
    }
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
    maps::record(maps::root()?, BACKENDS.get(u32::from(backend))?.service())
}

#[inline(always)]
fn now() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_ktime_get_ns() }
}

/// Tells the handshake in a place, if it is this flow's, what has happened, and counts what follows.
/// Where it changes at this very moment, what has happened there comes first.
#[inline(always)]
fn advance(place: *mut Pending, hash: u64, backend: u16, event: Event) -> Verdict {
    // SAFETY: as in `begin`.
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
        // SAFETY: as in `begin`.
        unsafe {
            let claimed = claim(place, word);
            if claimed {
                (*place).time = now;
                release(place, word, next);
            }
            claimed
        }
    } else {
        // SAFETY: as in `begin`.
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
    // Nothing of what follows is worked out beforehand, and kept on the stack.
    // SAFETY: no instruction.
    unsafe { core::arch::asm!("", options(nostack)) };
    // SAFETY: the helper has no preconditions.
    let processor = unsafe { bpf_get_smp_processor_id() };
    let index = processor * MAX_BACKENDS + u32::from(backend);
    if let Some(signals) = SIGNALS.get_ptr_mut(index) {
        // SAFETY: the offset is that of a number in a live element.
        unsafe { add(signals.cast::<u8>().add(counter).cast(), amount) };
    }
}
