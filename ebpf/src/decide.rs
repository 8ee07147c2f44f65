//! The rules by which a flow gets a version and a backend: the heart of weir.
//!
//! In the steady state two table reads decide, and nothing is remembered. State exists only for
//! slots that a shift has moved, and only then is the flow table asked. The idea is known in
//! research as just-enough tracking (Mendelson et al., "Load Balancing with JET", CoNEXT 2020)
//! and stateless daisy-chaining (Olteanu et al., "Beamer", NSDI 2018).

use crate::abi::{
    AFFINITY_CLIENT_BACKEND, AFFINITY_CONNECTION, BackendSlot, FlowEntry, FlowKey, NO_BACKEND,
    Service, SteerSlot, VERSION_SLOTS, VersionSlot,
};
use crate::hash;

/// What `decide` reads and the one thing it writes. The kernel's maps are one implementation, the
/// tests' memory another.
pub trait Tables {
    /// The version slot with this index, below [`VERSION_SLOTS`].
    fn version_slot(&self, slot: u32) -> Option<VersionSlot>;
    /// The steering entry that the client's address matches longest; nothing where no rule holds,
    /// or the service has none: then this must cost no look-up.
    fn steer(&self) -> Option<SteerSlot>;
    /// The slot of `version`'s backend table for this hash; the table's own size masks it.
    fn backend_slot(&self, version: u8, hash: u32) -> Option<BackendSlot>;
    /// The entry of the flow in question, if it is remembered.
    fn flow(&self) -> Option<FlowEntry>;
    /// Whether this backend's flows are void.
    fn given_up(&self, backend: u16) -> bool;
    /// Remembers the flow in question at `backend`. An entry that is there already is replaced.
    /// That takes no room, so neither a full table nor a flood may refuse it: the old entry would
    /// stay, and the flow's next packet would follow it. Only if the entry has gone meanwhile is
    /// it an insert like any other.
    fn remember(&self, backend: u16) -> Remembered;
}

/// Answer to [`Tables::remember`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Remembered {
    /// It is in the table now.
    Yes,
    /// Another processor was first; the flow is pinned there.
    Already(u16),
    /// The table is full.
    Full,
    /// Too many inserts came within a second.
    Flooded,
}

/// Which slots a flow belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slots {
    /// Index of the version slot, below [`VERSION_SLOTS`].
    pub version: u32,
    /// Hash for the backend slot; its low bits count.
    pub backend: u32,
}

/// The slots of a flow by the service's seed and affinity. The two halves of one hash are
/// independent, so one hash serves both tables.
#[inline(always)]
#[must_use]
pub fn slots(service: &Service, key: &FlowKey) -> Slots {
    let by_client = service.affinity != AFFINITY_CONNECTION;
    let by_flow = service.affinity != AFFINITY_CLIENT_BACKEND;
    // Each hash stands here once: the program is inlined whole, and hashing is most of it.
    let client = if by_client { hash::client(service.seed, &key.source) } else { 0 };
    let flow = if by_flow { hash::flow(service.seed, key) } else { client };
    let version = if by_client { client } else { flow };
    Slots { version: (version >> 32) as u32 & (VERSION_SLOTS - 1), backend: flow as u32 }
}

/// Where a packet goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Decision {
    /// The backend, never [`NO_BACKEND`].
    pub backend: u16,
    /// Why.
    pub why: Why,
}

/// Why a packet goes where it goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// By the tables alone.
    Table,
    /// The flow was remembered already.
    Pinned,
    /// The flow has just been remembered.
    Remembered,
    /// The flow table was full, so it went where an older flow would have gone.
    Full,
    /// Flows came faster than the limit on inserts, so it went where an older flow would have gone.
    Flooded,
    /// By the server that the packet names.
    Named,
}

/// Why there is no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Undecided {
    /// The version has no backend for this slot.
    NoBackend,
    /// A table is missing.
    NoTable,
}

/// Decides a TCP packet, or a datagram of a QUIC service. `opens`: it is a SYN without ACK, or an
/// Initial.
///
/// # Errors
///
/// [`Undecided`] when the slot has no backend or a table is missing.
#[inline(always)]
pub fn decide<T: Tables>(tables: &T, slots: Slots, opens: bool) -> Result<Decision, Undecided> {
    let v = version_slot(tables, slots).ok_or(Undecided::NoTable)?;
    let t = tables.backend_slot(v.cur(), slots.backend).ok_or(Undecided::NoTable)?;
    if !v.tracked() && !t.tracked() {
        return to(t.cur(), Why::Table);
    }
    let known = tables.flow();
    if let Some(flow) = known
        && !(opens && flow.closed())
        && !tables.given_up(flow.backend)
    {
        return to(flow.backend, Why::Pinned);
    }
    let cur = t.cur();
    let base = if v.base() == v.cur() {
        t.base()
    } else {
        tables.backend_slot(v.base(), slots.backend).ok_or(Undecided::NoTable)?.base()
    };
    // Nothing to tell apart, so nothing to remember; but an entry that no longer holds must not
    // outlive the flow's first packet, or the next one would find it.
    if cur == base && known.is_none() {
        return to(cur, Why::Table);
    }
    let wanted = if opens { cur } else { base };
    if wanted == NO_BACKEND {
        return Err(Undecided::NoBackend);
    }
    match tables.remember(wanted) {
        Remembered::Yes => to(wanted, Why::Remembered),
        Remembered::Already(backend) => to(backend, Why::Pinned),
        Remembered::Full => to(base, Why::Full),
        Remembered::Flooded => to(base, Why::Flooded),
    }
}

/// Decides a packet that opens nothing as [`decide`] does, where that takes no more than looking: by
/// the tables, or by what is remembered. Nothing where it takes more.
#[inline(always)]
pub fn look<T: Tables>(tables: &T, slots: Slots) -> Option<Decision> {
    let v = version_slot(tables, slots)?;
    let t = tables.backend_slot(v.cur(), slots.backend)?;
    if !v.tracked() && !t.tracked() {
        return to(t.cur(), Why::Table).ok();
    }
    let flow = tables.flow()?;
    if tables.given_up(flow.backend) {
        return None;
    }
    to(flow.backend, Why::Pinned).ok()
}

/// Decides a datagram of a tracked UDP service. A datagram does not tell whether it begins a flow,
/// so each flow is remembered from its first one; the table evicts the flow that was silent longest.
/// An implementation's [`Tables::flow`] must not give an entry that was idle for too long.
///
/// # Errors
///
/// [`Undecided`] when the slot has no backend or a table is missing.
#[inline(always)]
pub fn decide_udp<T: Tables>(tables: &T, slots: Slots) -> Result<Decision, Undecided> {
    let known = tables.flow();
    if let Some(flow) = known
        && !tables.given_up(flow.backend)
    {
        return to(flow.backend, Why::Pinned);
    }
    let v = version_slot(tables, slots).ok_or(Undecided::NoTable)?;
    let t = tables.backend_slot(v.cur(), slots.backend).ok_or(Undecided::NoTable)?;
    if t.cur() == NO_BACKEND {
        return Err(Undecided::NoBackend);
    }
    match tables.remember(t.cur()) {
        Remembered::Yes => to(t.cur(), Why::Remembered),
        Remembered::Already(backend) => to(backend, Why::Pinned),
        Remembered::Full => to(t.cur(), Why::Full),
        Remembered::Flooded => to(t.cur(), Why::Flooded),
    }
}

/// Decides a datagram of a stateless UDP service: by the tables alone.
///
/// # Errors
///
/// [`Undecided`] when the slot has no backend or a table is missing.
#[inline(always)]
pub fn decide_stateless<T: Tables>(tables: &T, slots: Slots) -> Result<Decision, Undecided> {
    let v = version_slot(tables, slots).ok_or(Undecided::NoTable)?;
    let t = tables.backend_slot(v.cur(), slots.backend).ok_or(Undecided::NoTable)?;
    to(t.cur(), Why::Table)
}

/// The version slot of the flow in question: a steering entry stands in for the table's.
#[inline(always)]
fn version_slot<T: Tables>(tables: &T, slots: Slots) -> Option<VersionSlot> {
    let slot = tables.version_slot(slots.version)?;
    Some(match tables.steer() {
        Some(entry) => entry.over(slot),
        None => slot,
    })
}

#[inline(always)]
fn to(backend: u16, why: Why) -> Result<Decision, Undecided> {
    if backend == NO_BACKEND {
        return Err(Undecided::NoBackend);
    }
    Ok(Decision { backend, why })
}
