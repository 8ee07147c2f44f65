//! What a look at the flow table finds: which entries may go, and which slots must stay tracked.
//! Pure.
//!
//! An entry lives while its flow may still need it. A slot that still has an entry stays tracked,
//! or the entry would be found again after a later shift.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::FixedState;
use weir_ebpf::abi::{
    Endpoint, FORWARD_NAT, FlowEntry, FlowKey, MAX_BACKENDS, SEEN_FIN, SEEN_SYN, Service,
    SteerSlot, VERSION_SLOTS, VERSIONS,
};
use weir_ebpf::decide;

use super::draining::Lost;
use crate::plan::settle::SlotRef;
use crate::plan::steering::Steering;
use crate::plan::tables::ServiceTables;

/// An entry of which only a SYN was seen goes after this many seconds.
const HALF_OPEN: u32 = 30;
/// An entry that both sides have closed, or one has reset, goes after this many seconds: time for
/// late packets.
const CLOSED: u32 = 10;
/// Where answers go directly, only the client's FIN is seen. Its flow is over after this many
/// seconds of silence: twice as long as Linux keeps half a connection that nobody holds any more.
const CLOSED_DIRECT: u32 = 120;

/// A service as a sweep sees it.
pub(super) struct Swept {
    /// Its tables, as committed.
    pub(super) tables: Arc<ServiceTables>,
    /// Its steering entries, likewise.
    steering: Arc<Steering>,
    /// Seed and affinity; the rest is not looked at.
    pub(super) record: Service,
    /// A flow that is silent for longer has ended, in seconds.
    idle: u32,
    /// Backends whose flows are given up.
    lost: HashMap<u16, Lost>,
    /// Version slots that have an entry.
    versions: Pinned,
    /// Slots of each version's backend table that have an entry.
    backends: [Pinned; VERSIONS],
    /// Steering entries that a flow in the table belongs to.
    steered: Pinned,
}

impl Swept {
    pub(super) fn new(
        (tables, steering): (Arc<ServiceTables>, Arc<Steering>),
        record: Service,
        idle: u32,
        lost: HashMap<u16, Lost>,
    ) -> Self {
        Self {
            idle,
            lost,
            record,
            versions: Pinned::none_of(VERSION_SLOTS as usize),
            backends: tables
                .backends()
                .each_ref()
                .map(|table| Pinned::none_of(table.slots().len())),
            steered: Pinned::none_of(steering.entries().len()),
            tables,
            steering,
        }
    }

    /// Whether an entry was left in this slot.
    pub(super) fn pinned(&self, slot: SlotRef) -> bool {
        match slot {
            SlotRef::Version(slot) => self.versions.has(slot),
            SlotRef::Backend { version, slot } => self.backends[version].has(slot),
        }
    }

    /// Whether a flow at a backend is to be forgotten, because it is given up. Not if the tables
    /// lead there: it would come back.
    fn is_lost(&self, backend: u16, leads: &[(u8, u16)], allowance: &mut u32) -> bool {
        let Some(lost) = self.lost.get(&backend) else { return false };
        let there = |(version, to): &(u8, u16)| match lost.version {
            Some(whole) => *version == whole,
            None => *to == backend,
        };
        if leads.iter().any(there) {
            return false;
        }
        if !lost.at_once {
            let Some(rest) = allowance.checked_sub(1) else { return false };
            *allowance = rest;
        }
        true
    }

    /// Whether a flow was left that belongs to this steering entry.
    pub(super) fn steers(&self, entry: usize) -> bool {
        self.steered.has(entry)
    }
}

/// Some of so many places. It takes memory from the first on: most services have none.
struct Pinned {
    of: usize,
    places: Vec<bool>,
}

impl Pinned {
    fn none_of(of: usize) -> Self {
        Self { of, places: Vec::new() }
    }

    fn add(&mut self, place: usize) {
        if self.places.is_empty() {
            self.places = vec![false; self.of];
        }
        self.places[place] = true;
    }

    fn has(&self, place: usize) -> bool {
        self.places.get(place).is_some_and(|pinned| *pinned)
    }
}

/// The flows that name a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Named {
    /// How many.
    pub(super) flows: u64,
    /// When the one spoke last that has been silent for longest, in seconds since boot.
    pub(super) oldest: u32,
    /// When any of them spoke last.
    pub(super) newest: u32,
}

impl Default for Named {
    fn default() -> Self {
        Self { flows: 0, oldest: u32::MAX, newest: 0 }
    }
}

impl Named {
    fn note(&mut self, seen: u32) {
        self.add(Self { flows: 1, oldest: seen, newest: seen });
    }

    /// Both together.
    pub(super) fn add(&mut self, other: Self) {
        self.flows += other.flows;
        self.oldest = self.oldest.min(other.oldest);
        self.newest = self.newest.max(other.newest);
    }
}

/// One look at the flow table.
pub(super) struct Sweep {
    /// Seconds since boot, as entries are stamped.
    now: u32,
    /// So many flows of those that are given up may still be forgotten.
    pub(super) allowance: u32,
    /// Who listens where: indices of `services`, and what the listener itself says of the version.
    /// Asked for each of a million entries; and nobody but the operator chooses the keys, so a fast
    /// hash will do.
    listeners: HashMap<Endpoint, (usize, Option<SteerSlot>), FixedState>,
    pub(super) services: Vec<Swept>,
    /// By backend, the entries that name it and were left.
    named: Vec<Named>,
}

impl Sweep {
    pub(super) fn new(now: u32, allowance: u32) -> Self {
        let listeners = HashMap::with_hasher(FixedState::default());
        let named = vec![Named::default(); MAX_BACKENDS as usize];
        Self { now, allowance, listeners, services: Vec::new(), named }
    }

    /// Goes on at a later time, until when more flows may be forgotten: so many a second.
    pub(super) fn go_on_at(&mut self, now: u32, pace: u32) {
        let passed = now.saturating_sub(self.now);
        self.allowance = self.allowance.saturating_add(passed.saturating_mul(pace));
        self.now = now;
    }

    /// The backends that entries name which were left.
    pub(super) fn named(&self) -> HashMap<u16, Named> {
        let named = (0..).zip(&self.named).filter(|(_, named)| named.flows > 0);
        named.map(|(index, named)| (index, *named)).collect()
    }

    fn note(&mut self, entry: FlowEntry) {
        if let Some(named) = self.named.get_mut(usize::from(entry.backend)) {
            named.note(entry.seen);
        }
    }

    /// Adds a service with its listeners.
    pub(super) fn add(
        &mut self,
        service: Swept,
        listeners: impl Iterator<Item = (Endpoint, Option<SteerSlot>)>,
    ) {
        let index = self.services.len();
        self.listeners.extend(listeners.map(|(at, slot)| (at, (index, slot))));
        self.services.push(service);
    }

    /// Whether an entry stays. If so, its slots are pinned.
    pub(super) fn keep(&mut self, key: &FlowKey, entry: FlowEntry) -> bool {
        let found = self.service(key);
        let by_listener = found.and_then(|(_, slot)| slot);
        let service = found.and_then(|(index, _)| self.services.get_mut(index));
        // No service, no packet that would ask for the entry.
        let Some(service) = service else { return false };
        let direct = service.record.forwarding != FORWARD_NAT;
        if ended(entry, direct, self.now, service.idle) {
            return false;
        }
        let slots = decide::slots(&service.record, key);
        let v = service.tables.versions()[slots.version as usize];
        let steered = match by_listener {
            Some(_) => None,
            None => service.steering.find(key.source),
        };
        let entry_slot = |entry: usize| service.steering.entries()[entry].slot;
        let v = by_listener.or_else(|| steered.map(entry_slot)).map_or(v, |slot| slot.over(v));
        let t = service.tables.backends()[usize::from(v.cur())].slot(slots.backend);
        let settled = v.base() == v.cur() && t.base() == t.cur();
        if settled && t.cur() == entry.backend {
            return false; // the tables say the same
        }
        let base = service.tables.backends()[usize::from(v.base())].slot(slots.backend).base();
        let leads = [(v.cur(), t.cur()), (v.base(), base)];
        if service.is_lost(entry.backend, &leads, &mut self.allowance) {
            return false;
        }
        // A listener that leads to a version asks no version slot.
        if by_listener.is_none() {
            service.versions.add(slots.version as usize);
        }
        if let Some(entry) = steered {
            service.steered.add(entry);
        }
        for table in &mut service.backends {
            table.add(slots.backend as usize & (table.of - 1));
        }
        self.note(entry);
        true
    }

    /// The same of a flow of a tracked UDP service. It pins nothing, and what it outlives goes by
    /// itself.
    pub(super) fn keep_datagrams(&mut self, key: &FlowKey, entry: FlowEntry) -> bool {
        let found = self.service(key);
        let by_listener = found.and_then(|(_, slot)| slot);
        let service = found.and_then(|(index, _)| self.services.get_mut(index));
        let Some(service) = service else { return true };
        if self.now.saturating_sub(entry.seen) > u32::from(service.record.udp_idle) {
            return true;
        }
        let slots = decide::slots(&service.record, key);
        let v = service.tables.versions()[slots.version as usize];
        let slot = by_listener.or_else(|| service.steering.slot(key.source));
        let v = slot.map_or(v, |slot| slot.over(v));
        let cur = service.tables.backends()[usize::from(v.cur())].slot(slots.backend).cur();
        if service.is_lost(entry.backend, &[(v.cur(), cur)], &mut self.allowance) {
            return false;
        }
        self.note(entry);
        true
    }

    /// The service that a flow belongs to.
    fn service(&self, key: &FlowKey) -> Option<(usize, Option<SteerSlot>)> {
        let at = Endpoint {
            address: key.destination,
            port: key.destination_port,
            protocol: key.protocol,
            pad: 0,
        };
        let any = Endpoint { port: 0, ..at };
        self.listeners.get(&at).or_else(|| self.listeners.get(&any)).copied()
    }
}

/// Whether a flow has ended, as far as its entry tells.
fn ended(entry: FlowEntry, direct: bool, now: u32, idle: u32) -> bool {
    let silent = now.saturating_sub(entry.seen);
    entry.is_over() && silent >= CLOSED
        || direct && entry.client & SEEN_FIN != 0 && silent >= CLOSED_DIRECT
        || entry.client == SEEN_SYN && silent >= HALF_OPEN
        || silent >= idle
}

#[cfg(test)]
mod tests {
    use weir_ebpf::abi::{SEEN_DATA, SEEN_RST};

    use super::*;

    fn entry(client: u8, server: u8, seen: u32) -> FlowEntry {
        FlowEntry { backend: 1, client, server, seen }
    }

    #[test]
    fn a_look_that_takes_long_gives_up_as_many_a_second() {
        let mut sweep = Sweep::new(100, 1_000);
        sweep.go_on_at(100, 1_000);
        assert_eq!(sweep.allowance, 1_000);
        sweep.allowance = 0;
        sweep.go_on_at(101, 1_000);
        sweep.go_on_at(103, 1_000);
        assert_eq!(sweep.allowance, 3_000);
        sweep.allowance = u32::MAX;
        sweep.go_on_at(u32::MAX, 1_000);
        assert_eq!(sweep.allowance, u32::MAX);
    }

    #[test]
    fn a_flow_ends_when_it_cannot_speak_again() {
        let idle = 900;
        let open = SEEN_SYN | SEEN_DATA;
        let after = |direct| {
            move |client, server, silent: u32| {
                ended(entry(client, server, 1000), direct, 1000 + silent, idle)
            }
        };
        let (ended_after, ended_direct) = (after(false), after(true));
        assert!(!ended_after(open, 0, 899));
        assert!(ended_after(open, 0, 900));
        assert!(!ended_after(SEEN_SYN, 0, 29));
        assert!(ended_after(SEEN_SYN, 0, 30));
        assert!(!ended_after(open | SEEN_RST, 0, 9));
        assert!(ended_after(open | SEEN_RST, 0, 10));
        assert!(ended_after(open, SEEN_RST, 10));
        // One side may go on speaking for long after the other has closed.
        assert!(!ended_after(open | SEEN_FIN, 0, 899));
        assert!(!ended_after(open, SEEN_FIN, 899));
        assert!(!ended_after(open | SEEN_FIN, SEEN_FIN, 9));
        assert!(ended_after(open | SEEN_FIN, SEEN_FIN, 10));
        // An entry stamped after the look began is not old.
        assert!(!ended(entry(open, 0, 1001), false, 1000, idle));
        // Where only one side is seen.
        assert!(!ended_direct(open | SEEN_FIN, 0, 119));
        assert!(ended_direct(open | SEEN_FIN, 0, 120));
        assert!(!ended_direct(open, 0, 120));
    }
}
