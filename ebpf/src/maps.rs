//! The maps. For each: who writes it, who reads it, how long an entry lives, what happens when it
//! is full. Sizes are the defaults; the agent may override them before loading.

use core::arch::asm;

use aya_ebpf::bindings::{bpf_fib_lookup, bpf_redir_neigh};
use aya_ebpf::btf_maps::{
    Array, ArrayOfMaps, DevMapHash, HashMap, LpmTrie, LruHashMap, PerCpuArray, ProgramArray,
    RingBuf,
};
use aya_ebpf::macros::btf_map;
use weir_ebpf::abi::{
    Backend, Bucket, Counters, DEFAULT_FLOWS, DEFAULT_UDP_FLOWS, Endpoint, FlowBucket, FlowEntry,
    FlowKey, FragmentKey, FragmentPorts, HOOKS, Histogram, LISTENER_BUCKETS, Line, Link, Listener,
    ListenerBucket, MAX_BACKENDS, MAX_DEVICES, MAX_DIRECT, MAX_FAILING, MAX_FRAGMENTED, MAX_LINKS,
    MAX_PENDING, MAX_SERVICES, MAX_STEERING, POOL_LINES, Pending, RARE_PROGRAMS, Reason, Reasons,
    Return, Root, ServerKey, Service, Signals, SteerKey, SteerSlot, TRACE_RING, TraceEvent,
    TraceLost, Tracers, flow_buckets,
};
use weir_ebpf::icmp::Quote;
use weir_ebpf::listener_table::{self, Key};
use weir_ebpf::packet::Packet;

use crate::rare::quote::Change;
use crate::trace::Traced;

/// `BPF_F_MMAPABLE`: the agent reads and writes the elements as plain memory.
const MMAPABLE: usize = 1024;

/// One word, a [`Root`]: agent writes, program reads. To replace it is the commit.
#[btf_map]
static ROOT: Array<u64, 1, MMAPABLE> = Array::new();

/// Where the records and the listeners lie that count.
#[inline(always)]
pub(crate) fn root() -> Option<Root> {
    let root: *const u64 = ROOT.get(0)?;
    // SAFETY: a live element, one word. It is read once, whoever asks for its parts.
    Some(Root(unsafe { root.read_volatile() }))
}

/// Listeners, twice: agent writes those that the root does not name, program reads.
/// [`weir_ebpf::listener_table`] says how they lie.
#[btf_map]
static LISTENERS: Array<ListenerBucket, { 2 * LISTENER_BUCKETS as usize }, MMAPABLE> = Array::new();

/// The listener at an endpoint. For the way of most packets; all others [`listener`] serves.
#[inline(always)]
pub(crate) fn listener_at_once(root: Root, at: &Endpoint) -> Option<Listener> {
    listener_table::find(root, Key::of(at), |at| LISTENERS.get(at))
}

/// The listener at an endpoint.
#[inline(always)]
pub(crate) fn listener(root: Root, at: &Endpoint) -> Option<Listener> {
    let Key([a, b, c]) = Key::of(at);
    match find_listener(root.0, a, b, c) {
        0 => None,
        found => Some(Listener { service: found as u32 }),
    }
}

/// The listener with this key, in the lower half, and then one; or zero. A function of its own, which
/// the verifier walks once, and not for each way that leads to it.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn find_listener(root: u64, a: u64, b: u64, c: u64) -> u64 {
    let listener = listener_table::find(Root(root), Key([a, b, c]), |at| LISTENERS.get(at));
    listener.map_or(0, |listener| 1 << 32 | u64::from(listener.service))
}

/// Backends by endpoint, for answers: agent writes, program reads. Lives as long as the backend.
/// A backend of a service with TCP and UDP listeners has two.
#[btf_map]
pub(crate) static RETURNS: HashMap<Endpoint, Return, { 2 * MAX_BACKENDS as usize }> =
    HashMap::new();

/// The records of all services, twice: agent writes those that the root does not name, program reads.
/// Mapped by nobody, but so each is a cache line.
#[btf_map]
static SERVICES: Array<Service, { 2 * MAX_SERVICES as usize }, MMAPABLE> = Array::new();

/// The record of a service, if there is one.
#[inline(always)]
pub(crate) fn record(root: Root, service: u32) -> Option<&'static Service> {
    SERVICES.get(root.services() + service).filter(|record| record.generation != 0)
}

/// In it nothing ever lies. When the agent writes to a map of maps, the kernel waits for all programs that
/// run before that call returns: so the agent knows that none reads what the root no longer names.
#[btf_map]
static FENCE: ArrayOfMaps<Array<u32, 1>, 1> = ArrayOfMaps::new();

/// The slots of all tables. The agent writes lines that no record points to; the program reads.
#[btf_map]
pub(crate) static POOL: Array<Line, { POOL_LINES as usize }, MMAPABLE> = Array::new();

/// Steering entries, in sets that records name: agent writes those that no record names; the
/// program reads. Takes memory for what is there.
#[btf_map]
pub(crate) static STEERING: LpmTrie<SteerKey, SteerSlot, { MAX_STEERING as usize }> =
    LpmTrie::new();

/// Backends of QUIC services by the server ids in their connection ids, as indices: agent writes,
/// program reads. Lives as long as the backend.
#[btf_map]
pub(crate) static SERVER_IDS: HashMap<ServerKey, u32, { MAX_BACKENDS as usize }> = HashMap::new();

/// Backends by index: agent writes, program reads.
#[btf_map]
pub(crate) static BACKENDS: Array<Backend, { MAX_BACKENDS as usize }, MMAPABLE> = Array::new();

/// Interfaces toward backends by index: agent writes, program reads.
#[btf_map]
pub(crate) static LINKS: Array<Link, { MAX_LINKS as usize }> = Array::new();

/// Interfaces that XDP may send frames out of, by their index, and by that with `GOES_BACK` or
/// `IN_BUFFERS`: agent writes, program reads. What is for another interface is left to TC. The kernel
/// forgets interfaces that go away.
#[btf_map]
pub(crate) static DEVICES: DevMapHash<{ MAX_DEVICES as usize }> = DevMapHash::new();

/// TCP flows of moved slots, as [`weir_ebpf::flow_table`] says: program inserts, agent removes. Full:
/// the flow goes where an older one would have gone. Never evicts.
#[btf_map]
pub(crate) static FLOWS: Array<FlowBucket, { 1 + flow_buckets(DEFAULT_FLOWS) as usize }, MMAPABLE> =
    Array::new();

/// UDP flows: program inserts. Full: the flow that was silent longest is forgotten.
#[btf_map]
pub(crate) static UDP_FLOWS: LruHashMap<FlowKey, FlowEntry, { DEFAULT_UDP_FLOWS as usize }> =
    LruHashMap::new();

/// Clients' direct connections to backends through this node, keyed by client and backend, so that
/// their answers are left alone. Program inserts. Full: the oldest is forgotten.
#[btf_map]
pub(crate) static DIRECT: LruHashMap<FlowKey, u32, { MAX_DIRECT as usize }> = LruHashMap::new();

/// One word: not zero once any direct connection was seen. Spares all others the look-up.
#[btf_map]
pub(crate) static DIRECT_SEEN: Array<u64, 1> = Array::new();

/// Counters of backends: element `processor * MAX_BACKENDS + backend`. Each processor adds to
/// its own lines only; the agent reads.
#[btf_map]
pub(crate) static COUNTERS: Array<Counters, { MAX_BACKENDS as usize }, MMAPABLE> = Array::new();

/// Signals of backends: element `processor * MAX_BACKENDS + backend`, as in `COUNTERS`. The
/// program adds to its processor's, the agent to the first one's.
#[btf_map]
pub(crate) static SIGNALS: Array<Signals, { MAX_BACKENDS as usize }, MMAPABLE> = Array::new();

/// Times of handshakes by backend: program adds, agent reads.
#[btf_map]
pub(crate) static HISTOGRAMS: Array<Histogram, { MAX_BACKENDS as usize }, MMAPABLE> = Array::new();

/// Handshakes under way, each in the place that its flow's hash gives: program writes; the agent ends
/// those that have waited for too long. A place that is taken is lost to the one who had it.
#[btf_map]
pub(crate) static PENDING: Array<Pending, { MAX_PENDING as usize }, MMAPABLE> = Array::new();

/// Clients that have failed of late: program and agent write. Where two have one place, both may
/// count again.
#[btf_map]
pub(crate) static FAILING: Array<u64, { MAX_FAILING as usize }, MMAPABLE> = Array::new();

/// Packets that were not forwarded: element `processor * HOOKS + hook`.
#[btf_map]
pub(crate) static REASONS: Array<Reasons, { HOOKS as usize }, MMAPABLE> = Array::new();

/// Values of the packet at hand, on each processor. Here, and not on the stack, because there is
/// little of it, and because the verifier forgets what it knows of a value that has been here: all
/// ways that lead to it become one. See [`keep`].
pub(crate) type Scratch<T> = PerCpuArray<T, 1>;

/// The packet.
#[btf_map]
pub(crate) static PACKET: Scratch<Packet> = PerCpuArray::new();

/// A flow other than the packet's own.
#[btf_map]
static KEY: Scratch<[u32; 10]> = PerCpuArray::new();

/// A question to the kernel's routing, and its answer.
#[btf_map]
pub(crate) static FIB: Scratch<bpf_fib_lookup> = PerCpuArray::new();

/// A next hop whose MAC address the kernel must find.
#[btf_map]
pub(crate) static NEIGHBOUR: Scratch<bpf_redir_neigh> = PerCpuArray::new();

/// Of a fragment, what all fragments of its packet have in common.
#[btf_map]
pub(crate) static FRAGMENT: Scratch<FragmentKey> = PerCpuArray::new();

/// Which fragment it is: `rare::fragment` says how.
#[btf_map]
pub(crate) static PIECE: Scratch<u8> = PerCpuArray::new();

/// Of an ICMP error, the packet that it quotes,
#[btf_map]
pub(crate) static QUOTE: Scratch<Quote> = PerCpuArray::new();

/// and one that would answer that.
#[btf_map]
pub(crate) static ANSWER: Scratch<Packet> = PerCpuArray::new();

/// What becomes of the quote: for the program that translates it.
#[btf_map]
pub(crate) static CHANGE: Scratch<Change> = PerCpuArray::new();

/// Keeps a value in one of these.
///
/// # Errors
///
/// [`Reason::NoTable`], which cannot be.
#[inline(always)]
pub(crate) fn keep<T>(scratch: &Scratch<T>, value: T) -> Result<&'static mut T, Reason> {
    let place = scratch.get_ptr_mut(0).ok_or(Reason::NoTable)?;
    // SAFETY: an element of this processor alone, which nothing else refers to during this run.
    // The instruction does nothing. But for all the compiler knows it gives another pointer and
    // changes what is there, so the values are read from there from now on.
    unsafe {
        place.write(value);
        let known: *mut T;
        asm!("{place} = {place}", place = inout(reg) place => known, options(nostack));
        Ok(&mut *known)
    }
}

/// Keeps a flow for a look-up.
///
/// # Errors
///
/// As [`keep`].
#[inline(always)]
pub(crate) fn keep_key(key: &FlowKey) -> Result<&'static FlowKey, Reason> {
    let words: *const [u32; 10] = keep(&KEY, key.words())?;
    // SAFETY: its words are the flow's bytes, and lie as a flow must.
    Ok(unsafe { &*words.cast::<FlowKey>() })
}

/// The limit on inserts into `FLOWS`, on each processor.
#[btf_map]
pub(crate) static FLOOD: PerCpuArray<Bucket, 1> = PerCpuArray::new();

/// The limit on errors and echo answers, on each processor.
#[btf_map]
pub(crate) static ICMP_LIMIT: PerCpuArray<Bucket, 1> = PerCpuArray::new();

/// Ports of packets that come in fragments: program inserts, and takes no entry that is older than
/// [`FRAGMENT_SECONDS`](weir_ebpf::abi::FRAGMENT_SECONDS). Full: the oldest is forgotten.
#[btf_map]
pub(crate) static FRAGMENTS: LruHashMap<FragmentKey, FragmentPorts, { MAX_FRAGMENTED as usize }> =
    LruHashMap::new();

/// The programs for rare work: agent writes. It empties when nobody holds it, neither agent nor pin.
#[btf_map]
pub(crate) static PROGRAMS: ProgramArray<{ RARE_PROGRAMS as usize }> = ProgramArray::new();

/// Who traces, and what: agent writes. Its first word is zero when nobody does; the program sets it
/// to zero when the agent does not renew it.
#[btf_map]
pub(crate) static TRACE: Array<Tracers, 1, MMAPABLE> = Array::new();

/// The event in the making, on each processor.
#[btf_map]
pub(crate) static TRACED: Scratch<Traced> = PerCpuArray::new();

/// Events for tracers: program writes, agent reads some fifty times a second. Full: the event is lost,
/// and counted.
#[btf_map]
pub(crate) static TRACES: RingBuf<TraceEvent, { TRACE_RING as usize }> = RingBuf::new();

/// Events that found no room there, on each processor.
#[btf_map]
pub(crate) static TRACE_LOST: PerCpuArray<TraceLost, 1> = PerCpuArray::new();
