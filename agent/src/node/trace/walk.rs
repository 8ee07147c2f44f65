//! The way of a packet through the tables, as the program goes it: the same `decide`, over what is
//! read back from the data plane. It changes nothing: what the program would remember is only said.

use std::cell::OnceCell;

use nix::time::{ClockId, clock_gettime};
use weir_ebpf::abi::{
    BackendSlot, DOWN, Endpoint, FlowEntry, FlowKey, GIVEN_UP, Listener, MAX_BACKENDS, Return,
    Service, SteerSlot, TCP, UDP_QUIC, UDP_TRACKED, VersionSlot,
};
use weir_ebpf::decide::{
    Decision, Remembered, Slots, Tables, Undecided, decide, decide_stateless, decide_udp, slots,
};

use super::super::clock;
use crate::dataplane::inspect::{FlowTable, Room};
use crate::dataplane::{DataPlane, Error};
use crate::plan::tables::ServiceTables;

/// Whose packets these are.
#[derive(Debug)]
pub(super) enum Found {
    /// A client's, to a service.
    Service(Box<Walk>),
    /// A backend's, to its client as if from this listener.
    Answer(Return),
    /// Nobody's: left to the host.
    Nobody,
}

/// What the program finds on its way to a decision.
#[derive(Debug)]
pub(super) struct Walk {
    /// The listener as it was found: port 0 is every port.
    pub(super) listener: Endpoint,
    pub(super) record: Service,
    pub(super) slots: Slots,
    /// The slot of the version table.
    pub(super) table: VersionSlot,
    pub(super) steer: Option<SteerSlot>,
    /// It is the listener itself that steers.
    pub(super) by_listener: bool,
    /// The slot that counts: the table's, or what steering puts in its place.
    pub(super) version: VersionSlot,
    /// The slot of `version.cur`'s backend table,
    pub(super) backend: Place,
    /// and that of `version.base`'s, where it is another version.
    pub(super) base: Option<Place>,
    /// The flow's entry, and whether it holds.
    pub(super) entry: Option<(FlowEntry, Holds)>,
    /// What there was room for, where that was asked.
    pub(super) room: Option<Seen>,
    /// Where a packet goes that opens a flow,
    pub(super) opens: Result<Decision, Undecided>,
    /// and one that does not.
    pub(super) continues: Result<Decision, Undecided>,
}

/// A slot of a backend table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) slot: BackendSlot,
    pub(super) index: u32,
    /// Slots of the table.
    pub(super) of: u32,
}

/// Whether a flow's entry counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    Yes,
    /// Not for a packet that opens a flow: this one has ended.
    Closed,
    /// Its backend is given up.
    GivenUp,
    /// It was silent for too long.
    Silent,
}

/// Room for one more flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) used: u64,
    pub(super) capacity: u64,
    /// Processors that would refuse it, because flows come too fast,
    pub(super) refusing: usize,
    /// of so many.
    pub(super) processors: usize,
}

impl Seen {
    fn new(room: &Room) -> Self {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).map_or(0, |now| {
            let (seconds, rest) = (now.tv_sec().cast_unsigned(), now.tv_nsec().cast_unsigned());
            seconds * 1_000_000_000 + rest
        });
        let (used, capacity) = (room.used, room.capacity);
        let (refusing, processors) = (room.refusing(now), room.allowances.len());
        Self { used, capacity, refusing, processors }
    }
}

/// Goes the way of the packets of a flow.
///
/// # Errors
///
/// Something cannot be read.
pub(super) fn walk<P: DataPlane>(plane: &P, key: &FlowKey) -> Result<Found, Error> {
    let end = |address, port| Endpoint { address, port, protocol: key.protocol, pad: 0 };
    let mut to = end(key.destination, key.destination_port);
    let mut from = end(key.source, key.source_port);
    // As `route` in the program: the ports as they are, then every port.
    for _ in 0..2 {
        if let Some(service) = plane.listener(&to)? {
            let walk = to_service(plane, key, to, Listener { service })?;
            return Ok(walk.map_or(Found::Nobody, |walk| Found::Service(Box::new(walk))));
        }
        if let Some(back) = plane.way_back(&from)? {
            return Ok(Found::Answer(back));
        }
        (to.port, from.port) = (0, 0);
    }
    Ok(Found::Nobody)
}

/// The same from the listener on. Nothing, if it has no service.
fn to_service<P: DataPlane>(
    plane: &P,
    key: &FlowKey,
    listener: Endpoint,
    word: Listener,
) -> Result<Option<Walk>, Error> {
    let service = word.index();
    let (Some(record), Some(tables)) = (plane.record(service)?, plane.tables(service)?) else {
        return Ok(None);
    };
    let tcp = key.protocol == TCP;
    let datagrams = !tcp && record.udp == UDP_TRACKED;
    let remembers = tcp || datagrams || record.udp == UDP_QUIC;
    let table = if datagrams { FlowTable::Datagrams } else { FlowTable::Moved };
    let view = View {
        plane,
        key,
        tables: &tables,
        steer: match word.slot() {
            Some(slot) => Some(slot),
            None => plane.steer(service, key.source)?,
        },
        entry: if remembers { plane.remembered(table, key)? } else { None },
        datagrams,
        idle: u32::from(record.udp_idle),
        now: clock::seconds(),
        room: OnceCell::new(),
    };
    let slots = slots(&record, key);
    let decide = |opens| match record.udp {
        _ if tcp => decide(&view, slots, opens),
        UDP_TRACKED => decide_udp(&view, slots),
        UDP_QUIC => decide(&view, slots, opens),
        _ => decide_stateless(&view, slots),
    };
    let (opens, continues) = (decide(true), decide(false));
    let (steer, entry) = (view.steer, view.entry.map(|entry| (entry, view.holds(entry))));
    let room = view.room.into_inner().transpose()?;
    let table = tables.versions()[slots.version as usize];
    let version = steer.map_or(table, |entry| entry.over(table));
    let at = |version| place(&tables, version, slots.backend);
    Ok(Some(Walk {
        listener,
        record,
        slots,
        table,
        steer,
        by_listener: word.slot().is_some(),
        version,
        backend: at(version.cur()),
        base: (version.base() != version.cur()).then(|| at(version.base())),
        entry,
        room,
        opens,
        continues,
    }))
}

fn place(tables: &ServiceTables, version: u8, hash: u32) -> Place {
    let table = &tables.backends()[usize::from(version)];
    let of = u32::try_from(table.slots().len()).unwrap_or(u32::MAX);
    Place { slot: table.slot(hash), index: hash & (of - 1), of }
}

/// The data plane as `decide` sees it, for one flow.
struct View<'a, P> {
    plane: &'a P,
    key: &'a FlowKey,
    tables: &'a ServiceTables,
    steer: Option<SteerSlot>,
    entry: Option<FlowEntry>,
    /// Whether flows are remembered from any datagram on.
    datagrams: bool,
    /// Seconds of silence that end such a flow.
    idle: u32,
    /// Seconds since boot.
    now: u32,
    /// What there is room for, once it was asked.
    room: OnceCell<Result<Seen, Error>>,
}

impl<P: DataPlane> View<'_, P> {
    fn holds(&self, entry: FlowEntry) -> Holds {
        if self.datagrams && self.now.saturating_sub(entry.seen) > self.idle {
            Holds::Silent
        } else if self.given_up(entry.backend) {
            Holds::GivenUp
        } else if !self.datagrams && entry.closed() {
            Holds::Closed
        } else {
            Holds::Yes
        }
    }
}

impl<P: DataPlane> Tables for View<'_, P> {
    fn version_slot(&self, slot: u32) -> Option<VersionSlot> {
        self.tables.versions().get(slot as usize).copied()
    }

    fn steer(&self) -> Option<SteerSlot> {
        self.steer
    }

    fn backend_slot(&self, version: u8, hash: u32) -> Option<BackendSlot> {
        self.tables.backends().get(usize::from(version)).map(|table| table.slot(hash))
    }

    fn flow(&self) -> Option<FlowEntry> {
        self.entry.filter(|entry| self.holds(*entry) != Holds::Silent)
    }

    fn given_up(&self, backend: u16) -> bool {
        let void = if self.datagrams { GIVEN_UP | DOWN } else { GIVEN_UP };
        u32::from(backend) >= MAX_BACKENDS || self.plane.backend(backend).flags & void != 0
    }

    /// What would come of it.
    fn remember(&self, _: u16) -> Remembered {
        match self.entry {
            Some(_) => Remembered::Yes,
            // An LRU takes every flow.
            None if self.datagrams => Remembered::Yes,
            None => {
                match self.room.get_or_init(|| self.plane.room(self.key).map(|r| Seen::new(&r))) {
                    // Where only some processors would, it depends on which one the packet meets.
                    Ok(room) if room.refusing == room.processors => Remembered::Flooded,
                    Ok(room) if room.used < room.capacity => Remembered::Yes,
                    Ok(_) | Err(_) => Remembered::Full,
                }
            }
        }
    }
}
