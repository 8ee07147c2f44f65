//! What is to become of a packet: the part that both hooks share, from the parsed packet to the
//! backend or the client it goes to. It changes no packet.

use core::cell::Cell;
use core::mem::{offset_of, size_of};

use aya_ebpf::btf_maps::lpm_trie::Key;
use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;
use weir_ebpf::abi::{
    BY_TABLE, Backend, BackendSlot, DOWN, Endpoint, FlowEntry, FlowKey, GIVEN_UP, Listener, Reason,
    Return, Root, SEEN_DATA, SEEN_FIN, SEEN_RST, SEEN_SYN, STEER_SET_BITS, ServerKey, Service,
    SteerKey, SteerSlot, UDP_QUIC, UDP_TRACKED, VERSIONS, VersionSlot,
};
use weir_ebpf::decide::{self, Decision, Remembered, Tables, Undecided, Why};
use weir_ebpf::opaque::{Zero, masked};
use weir_ebpf::packet::{self, FIN, Frame, Packet, RST};
use weir_ebpf::quic;

use crate::count::{self, config};
use crate::flows::{self, Entry};
use crate::limit;
use crate::log;
use crate::maps::{
    self, BACKENDS, DIRECT, DIRECT_SEEN, FLOOD, PACKET, POOL, RETURNS, SERVER_IDS, STEERING,
    UDP_FLOWS,
};
use crate::signal;
use crate::trace::{self, Traceable};

const ANY: u64 = 0;
const NANOSECONDS: u64 = 1_000_000_000;

/// Whose packet it is.
pub(crate) enum Route {
    /// A client's, to a service: [`choose`] says to which backend.
    ToService(Ours),
    /// A backend's packet, to its client as if from this listener.
    ToClient(&'static Return),
    /// Not ours.
    Pass(Reason),
}

/// A listener of a service.
#[derive(Clone, Copy)]
pub(crate) struct Ours {
    listener: Listener,
    /// What the listener was found by, and its record is: a commit changes both at once.
    root: Root,
}

/// The backend that a packet goes to.
pub(crate) struct Chosen {
    /// Says how it is reached.
    pub(crate) service: &'static Service,
    pub(crate) backend: &'static Backend,
    /// The hash that the backend was chosen by.
    pub(crate) hash: u32,
    /// Index of the backend.
    pub(crate) index: u16,
    /// What is to be counted: [`BEGINS`] and the like.
    pub(crate) marks: u8,
}

/// The packet is the first of its flow.
pub(crate) const BEGINS: u8 = 1;
/// Its flow has just been remembered.
const REMEMBERED: u8 = 2;
/// There was no room for its flow.
const FULL: u8 = 4;
/// Flows came too fast for its flow.
const FLOODED: u8 = 8;
/// A steering entry has led it to its version.
pub(crate) const STEERED: u8 = 16;
/// A tracer is to be told of it.
pub(crate) const TRACED: u8 = 32;

/// Which address and port of a packet a hook rewrites.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Source,
    Destination,
}

/// Reads a frame, and keeps what the program needs to know of it.
///
/// # Errors
///
/// See [`packet::parse`].
#[inline(always)]
pub(crate) fn read<F: Frame>(frame: &F) -> Result<&'static mut Packet, Reason> {
    maps::keep(&PACKET, packet::parse(frame)?)
}

/// The port that a packet gets: `wanted`, or its own where that is zero.
#[inline(always)]
pub(crate) fn port_or(own: u16, wanted: u16) -> u16 {
    if wanted == 0 { own } else { wanted }
}

/// What a packet has to say of its flow.
#[derive(Clone, Copy)]
pub(crate) enum Standing {
    /// It is of the flow, and may begin it.
    Own,
    /// It goes where others of its flow go: a later fragment, or an ICMP error. It has no transport
    /// header to be rewritten, opens nothing, and nothing is remembered of it; and nobody is told
    /// if it goes no further.
    Follows,
    /// Either: it follows where this byte is [`FOLLOWS`]. In a map, because the verifier would walk
    /// all that comes next once for each value that it knows, and of what is in a map it knows none.
    Said(&'static u8),
}

/// See [`Standing::Said`].
pub(crate) const FOLLOWS: u8 = 2;

impl Standing {
    #[inline(always)]
    pub(crate) fn is_own(self) -> bool {
        match self {
            Self::Own => true,
            Self::Follows => false,
            // SAFETY: a live element of this processor. Read each time, so that it is not kept in a
            // register, of which the verifier would know something after the first branch.
            Self::Said(byte) => unsafe { (&raw const *byte).read_volatile() != FOLLOWS },
        }
    }
}

/// Finds the route of a packet: first by its own ports, then by "any port", which is zero.
#[inline(always)]
pub(crate) fn route(packet: &Packet, standing: Standing) -> Route {
    let (mut to, mut from) = (packet.destination(), packet.source());
    let Some(root) = maps::root() else { return Route::Pass(Reason::NotOurs) };
    for _ in 0..2 {
        if let Some(listener) = maps::listener(root, &to) {
            return Route::ToService(Ours { listener, root });
        }
        if let Some(back) = returns(&from) {
            return to_client(packet, back);
        }
        (to.port, from.port) = (0, 0);
    }
    if is_for_backend(packet) {
        if standing.is_own() {
            remember_direct(packet);
        }
        return Route::Pass(Reason::Direct);
    }
    Route::Pass(Reason::NotOurs)
}

/// Whether a packet that is not ours goes to one of our backends.
#[inline(always)]
fn is_for_backend(packet: &Packet) -> bool {
    let to = packet.destination();
    returns(&to).is_some() || returns(&Endpoint { port: 0, ..to }).is_some()
}

#[inline(always)]
fn returns(endpoint: &Endpoint) -> Option<&'static Return> {
    // SAFETY: only the agent writes this map, and elements are not reused while a program runs.
    unsafe { RETURNS.get(endpoint) }
}

/// Chooses the backend for a client's packet, in `frame`, to a service. Remembers the flow where
/// `decide` asks for it, if `sends` says that this program sends such a packet to that backend: else
/// the program that does remembers and counts it.
///
/// # Errors
///
/// Why the packet is dropped.
#[inline(always)]
pub(crate) fn choose<F: Traceable>(
    frame: &F,
    packet: &Packet,
    Ours { listener, root }: Ours,
    standing: Standing,
    sends: impl Fn(&Service, &Backend) -> bool,
) -> Result<Chosen, Reason> {
    let index = listener.index();
    let service = maps::record(root, index).ok_or(Reason::NoTable)?;
    let quic = !packet.is_tcp() && service.udp == UDP_QUIC;
    let head = if quic && standing.is_own() {
        quic::read(frame, packet, service)
    } else {
        quic::Head::default()
    };
    let opens = packet.opens() || head.opens;
    let tables = Kernel {
        by_listener: listener.slot(),
        standing,
        datagrams: !packet.is_tcp() && service.udp == UDP_TRACKED,
        ..Kernel::new(service, index, packet, sends)
    };
    let slots = decide::slots(service, &packet.key);
    let decided = if let Some(backend) = head.server.and_then(|id| tables.server(id)) {
        Ok(Decision { backend, why: Why::Named })
    } else if tables.datagrams {
        decide::decide_udp(&tables, slots)
    } else if packet.is_tcp() || quic {
        decide::decide(&tables, slots, opens)
    } else {
        decide::decide_stateless(&tables, slots)
    };
    let decision = match decided {
        Ok(decision) => decision,
        Err(Undecided::NoBackend) => return Err(Reason::NoBackend),
        Err(Undecided::NoTable) => return Err(Reason::NoTable),
    };
    if decision.why == Why::Pinned && standing.is_own() {
        tables.touch();
    }
    let backend = BACKENDS.get(u32::from(decision.backend)).ok_or(Reason::NoTable)?;
    // Here the ways to a decision end: what differs between them is one value from now on.
    let zero = Zero::from_unknown(u32::from(packet.key.source_port));
    let marks = if standing.is_own() { marks(&tables, decision, opens) } else { 0 };
    let marks = marks | trace::decided(frame, packet, index, decision, opens);
    let marks = zero.hide_byte(marks);
    if marks & BEGINS != 0 {
        forget_direct(packet, backend);
    }
    if marks & REMEMBERED != 0 {
        log::remembered(index, decision.backend);
    }
    Ok(Chosen { service, backend, hash: slots.backend, index: decision.backend, marks })
}

/// The same for a packet within a connection, kept nowhere yet, as far as looking goes: nothing where
/// more must be done, by [`route`] and [`choose`].
#[inline(always)]
pub(crate) fn choose_at_once(packet: &Packet) -> Option<Chosen> {
    let root = maps::root()?;
    let listener = maps::listener_at_once(root, &packet.destination())?;
    if listener.slot().is_some() || trace::is_on() {
        return None;
    }
    let index = listener.index();
    let service = maps::record(root, index)?;
    let sends = |_: &Service, _: &Backend| true;
    let tables = Kernel { kept: false, ..Kernel::new(service, index, packet, sends) };
    let slots = decide::slots(service, &packet.key);
    let decision = decide::look(&tables, slots)?;
    if decision.why == Why::Pinned {
        tables.touch();
    }
    let backend = BACKENDS.get(u32::from(decision.backend))?;
    Some(Chosen { service, backend, hash: slots.backend, index: decision.backend, marks: 0 })
}

/// What a decision says, for counting. Whether a packet is the first of its flow is told as far as
/// one packet can tell.
#[inline(always)]
fn marks<S>(tables: &Kernel<S>, decision: Decision, opens: bool) -> u8 {
    let marks = match decision.why {
        Why::Table | Why::Pinned | Why::Named => 0,
        Why::Remembered if tables.datagrams => REMEMBERED | BEGINS,
        Why::Remembered => REMEMBERED,
        Why::Full => FULL,
        Why::Flooded => FLOODED,
    };
    let by_cur = matches!(decision.why, Why::Table | Why::Remembered);
    let steered = if by_cur && tables.steered.get() { STEERED } else { 0 };
    if opens { marks | BEGINS | steered } else { marks }
}

/// Counts a packet that has been sent to a backend.
#[inline(always)]
pub(crate) fn count_in(packet: &Packet, chosen: &Chosen, bytes: u32) {
    let tells = signal::tells(packet, chosen);
    add_in(chosen, bytes, tells);
    if tells {
        signal::of_client(packet, chosen);
    }
}

/// The same for a packet that was chosen by [`choose_at_once`].
#[inline(always)]
pub(crate) fn count_at_once(packet: &Packet, chosen: &Chosen, bytes: u32) {
    add_in(chosen, bytes, false);
    // What it tells is read where packets are kept.
    if signal::tells(packet, chosen)
        && signal::is_waited_for(packet, chosen)
        && let Ok(packet) = maps::keep(&PACKET, *packet)
    {
        signal::of_client(packet, chosen);
    }
}

/// Adds a packet to its backend's counters.
#[inline(always)]
fn add_in(chosen: &Chosen, bytes: u32, tells: bool) {
    let marks = chosen.marks;
    let mark = |mark| u64::from(marks & mark != 0);
    count::backend(chosen.index, |counters| {
        counters.packets_in += 1;
        counters.bytes_in += u64::from(bytes);
        counters.connections += mark(BEGINS) & u64::from(!tells);
        counters.tracked += mark(REMEMBERED);
        counters.fallback_full += mark(FULL);
        counters.fallback_flood += mark(FLOODED);
    });
}

/// Counts a packet that has been sent to a client.
#[inline(always)]
pub(crate) fn count_out(packet: &Packet, back: &Return, bytes: u32) {
    count::backend(back.backend, |counters| {
        counters.packets_out += 1;
        counters.bytes_out += u64::from(bytes);
    });
    signal::of_server(packet, back);
}

#[inline(always)]
fn to_client(packet: &Packet, back: &'static Return) -> Route {
    if is_direct(packet) {
        return Route::Pass(Reason::Direct);
    }
    if packet.flags & (FIN | RST) != 0 {
        let key = FlowKey {
            source: packet.key.destination,
            destination: back.address,
            source_port: packet.key.destination_port,
            destination_port: port_or(packet.key.source_port, back.port),
            protocol: packet.key.protocol,
            pad: [0; 3],
        };
        if let Ok(key) = maps::keep_key(&key) {
            let shows = if packet.flags & RST != 0 { SEEN_RST } else { SEEN_FIN };
            flows::answer(key, back.backend, shows);
        }
    }
    Route::ToClient(back)
}

/// The key under which a direct connection is remembered: from the client to the backend.
#[inline(always)]
fn reversed(key: &FlowKey) -> FlowKey {
    FlowKey {
        source: key.destination,
        destination: key.source,
        source_port: key.destination_port,
        destination_port: key.source_port,
        protocol: key.protocol,
        pad: [0; 3],
    }
}

#[inline(always)]
fn any_direct() -> bool {
    DIRECT_SEEN.get(0).is_some_and(|seen| *seen != 0)
}

#[inline(always)]
fn is_direct(packet: &Packet) -> bool {
    any_direct()
        && maps::keep_key(&reversed(&packet.key)).is_ok_and(|key| DIRECT.get_ptr(key).is_some())
}

/// The client's port served a direct connection to this backend once and now begins a flow of a
/// service there: the answers are ours again.
#[inline(always)]
fn forget_direct(packet: &Packet, backend: &Backend) {
    if !any_direct() {
        return;
    }
    let mut key = packet.key;
    key.destination = backend.address;
    key.destination_port = port_or(key.destination_port, backend.port);
    if let Ok(key) = maps::keep_key(&key) {
        // It fails where there was none.
        let _ = DIRECT.remove(key);
    }
}

#[inline(always)]
fn remember_direct(packet: &Packet) {
    if DIRECT.get_ptr(&packet.key).is_some() {
        return;
    }
    // A failed insert costs this one connection, nothing else.
    let _ = DIRECT.insert(&packet.key, 1, 0);
    if let Some(seen) = DIRECT_SEEN.get_ptr_mut(0) {
        // SAFETY: a live element; all writers write the same value.
        unsafe { *seen = 1 };
    }
}

/// The kernel's maps as `decide` sees them, for one packet.
struct Kernel<'a, S> {
    service: &'a Service,
    /// Index of the service.
    index: u32,
    /// What the listener itself says of the version.
    by_listener: Option<SteerSlot>,
    packet: &'a Packet,
    /// Whether that lies in a map. Else its key is put there for a look-up: it stays in registers.
    kept: bool,
    standing: Standing,
    /// Whether this program sends the packet, if it goes to that backend.
    sends: S,
    /// Whether flows are remembered from any datagram on, in a table of their own.
    datagrams: bool,
    /// The flow's entry, once it was looked up.
    entry: Cell<Option<Entry>>,
    /// The time in nanoseconds, once it was asked.
    now: Cell<u64>,
    /// Whether a steering entry, or the listener, says where a new flow goes.
    steered: Cell<bool>,
}

impl<'a, S: Fn(&Service, &Backend) -> bool> Kernel<'a, S> {
    /// For a packet of a TCP flow that lies in a map.
    #[inline(always)]
    fn new(service: &'a Service, index: u32, packet: &'a Packet, sends: S) -> Self {
        Self {
            service,
            index,
            by_listener: None,
            packet,
            kept: true,
            standing: Standing::Own,
            sends,
            datagrams: false,
            entry: Cell::new(None),
            now: Cell::new(0),
            steered: Cell::new(false),
        }
    }

    /// The backend with this id in the connection ids of the service, unless it is given up.
    #[inline(always)]
    fn server(&self, id: u64) -> Option<u16> {
        let key =
            ServerKey { service: self.index, length: u32::from(self.service.quic_id_length), id };
        // SAFETY: only the agent writes this map, and elements are not reused while a program runs.
        let backend = unsafe { SERVER_IDS.get(key) }.map(|backend| *backend as u16)?;
        if self.given_up(backend) { None } else { Some(backend) }
    }

    #[inline(always)]
    fn now(&self) -> u64 {
        if self.now.get() == 0 {
            // SAFETY: the helper has no preconditions.
            self.now.set(unsafe { bpf_ktime_get_coarse_ns() });
        }
        self.now.get()
    }

    #[inline(always)]
    fn seconds(&self) -> u32 {
        (self.now() / NANOSECONDS) as u32
    }

    /// What this packet shows of its sender. A datagram neither opens nor ends anything, so that
    /// its flow is forgotten by being silent alone.
    #[inline(always)]
    fn shows(&self) -> u8 {
        if self.packet.opens() {
            return SEEN_SYN;
        }
        let fin = if self.packet.flags & FIN != 0 { SEEN_FIN } else { 0 };
        let rst = if self.packet.flags & RST != 0 { SEEN_RST } else { 0 };
        SEEN_DATA | fin | rst
    }

    #[inline(always)]
    fn new_entry(&self, backend: u16) -> FlowEntry {
        FlowEntry { backend, client: self.shows(), server: 0, seen: self.seconds() }
    }

    /// Notes in the flow's entry that this packet was seen. Writes only what changes, so that a
    /// busy flow does not dirty the line with every packet.
    #[inline(always)]
    fn touch(&self) {
        let Some(entry) = self.entry.get() else { return };
        entry.touch(self.shows(), self.seconds());
    }
}

impl<S: Fn(&Service, &Backend) -> bool> Tables for Kernel<'_, S> {
    #[inline(always)]
    fn version_slot(&self, slot: u32) -> Option<VersionSlot> {
        if let Some(slot) = self.service.edges.slot(slot) {
            return Some(slot);
        }
        let line = POOL.get(self.service.version_table + slot / 64)?;
        Some(line.version_slot(slot))
    }

    #[inline(always)]
    fn steer(&self) -> Option<SteerSlot> {
        if self.by_listener.is_some() {
            self.steered.set(true);
            return self.by_listener;
        }
        if self.service.steering == 0 {
            return None;
        }
        let client = SteerKey { set: self.service.steering, address: self.packet.key.source };
        let entry = *STEERING.get(&Key::new(STEER_SET_BITS + 128, client))?;
        self.steered.set(entry.cur() != BY_TABLE);
        Some(entry)
    }

    #[inline(always)]
    fn backend_slot(&self, version: u8, hash: u32) -> Option<BackendSlot> {
        if usize::from(version) >= VERSIONS {
            return None;
        }
        // No match, which a processor cannot foresee. For the verifier there are four.
        const { assert!(offset_of!(Service, backend_mask) + 8 <= size_of::<Service>()) };
        let version = masked::<3>(version.into());
        let record = core::ptr::from_ref(self.service);
        // SAFETY: within the record, for there are three.
        let (table, mask) = unsafe {
            let tables = record.byte_add(offset_of!(Service, backend_table)).cast::<u32>();
            let masks = record.byte_add(offset_of!(Service, backend_mask)).cast::<u16>();
            (*tables.add(version), u32::from(*masks.add(version)))
        };
        let slot = hash & mask;
        Some(POOL.get(table + slot / 16)?.backend_slot(slot))
    }

    #[inline(always)]
    fn flow(&self) -> Option<FlowEntry> {
        let key =
            if self.kept { &self.packet.key } else { maps::keep_key(&self.packet.key).ok()? };
        let entry = if self.datagrams {
            Entry::of_element(UDP_FLOWS.get_ptr_mut(key)?.cast())
        } else {
            flows::find(key)?
        };
        self.entry.set(Some(entry));
        let flow = FlowEntry::from_word(entry.word);
        // A datagram flow that was silent for too long has ended. Another processor may have seen it
        // in a second that had not begun here.
        if self.datagrams
            && self.seconds().saturating_sub(flow.seen) > u32::from(self.service.udp_idle)
        {
            return None;
        }
        Some(flow)
    }

    #[inline(always)]
    fn given_up(&self, backend: u16) -> bool {
        let void = if self.datagrams { GIVEN_UP | DOWN } else { GIVEN_UP };
        BACKENDS.get(u32::from(backend)).is_none_or(|backend| backend.flags & void != 0)
    }

    #[inline(always)]
    fn remember(&self, backend: u16) -> Remembered {
        if !self.standing.is_own() {
            return Remembered::Full;
        }
        if !BACKENDS.get(backend.into()).is_some_and(|to| (self.sends)(self.service, to)) {
            // It will be, before the packet is sent. Whatever is there is left alone.
            self.entry.set(None);
            return Remembered::Already(backend);
        }
        let new = self.new_entry(backend);
        if self.datagrams {
            let inserted = UDP_FLOWS.insert(&self.packet.key, &new, ANY).is_ok();
            return if inserted { Remembered::Yes } else { Remembered::Full };
        }
        if let Some(entry) = self.entry.get() {
            return entry.replace(new);
        }
        if !limit::take(&FLOOD, config!(inserts_per_second), self.now()) {
            return Remembered::Flooded;
        }
        match flows::insert(&self.packet.key, new) {
            Ok(None) => Remembered::Yes,
            Ok(Some(entry)) => Remembered::Already(FlowEntry::from_word(entry.word).backend),
            Err(()) => Remembered::Full,
        }
    }
}
