//! The data plane in the agent's own memory: the same rules over the same commits, for tests.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use weir_ebpf::abi::{
    Address, Backend, BackendSlot, Bucket, Counters, DOWN, Endpoint, FlowEntry, FlowKey, GIVEN_UP,
    HOOK_TC, Link, Listener, MAX_LISTENERS, NextHop as HopWord, Reason, Return, ServerKey, Service,
    Signals, SteerSlot, TCP, UDP_STATELESS, UDP_TRACKED, VersionSlot,
};
use weir_ebpf::decide::{
    Decision, Remembered, Tables, Undecided, Why, decide, decide_stateless, decide_udp, slots,
};

use super::inspect::{self, Inspect, Room};
use super::next_hop::NextHop;
use super::{Carried, Commit, DataPlane, Devices, Error, Image, OuterSource, ReasonCounts, Use};
use crate::model::Handshakes;
use crate::plan::steering::{Entry as SteeringEntry, Prefix, Steering};
use crate::plan::tables::{BackendTable, ServiceTables};

/// A flow table with room for so many flows. Like the kernel's, it refuses rather than evicts.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FlowTable {
    /// What is remembered.
    pub entries: HashMap<FlowKey, FlowEntry>,
    /// Most entries.
    pub capacity: usize,
    /// Whether inserts are refused as in a flood. Replacing an entry is no insert.
    pub flooded: bool,
    /// The time that entries are stamped with, seconds.
    pub now: u32,
}

/// One service's tables and the flow table, as one packet of the flow `key` sees them.
pub struct MemoryTables<'a> {
    /// The service's tables.
    pub tables: &'a ServiceTables,
    /// Its steering entries.
    pub steering: &'a Steering,
    /// The flow table.
    pub flows: &'a RefCell<FlowTable>,
    /// Whether a backend, by index, is given up.
    pub given_up: &'a dyn Fn(u16) -> bool,
    /// The flow in question.
    pub key: FlowKey,
}

impl Tables for MemoryTables<'_> {
    fn version_slot(&self, slot: u32) -> Option<VersionSlot> {
        self.tables.versions().get(slot as usize).copied()
    }

    fn steer(&self) -> Option<SteerSlot> {
        self.steering.slot(self.key.source)
    }

    fn backend_slot(&self, version: u8, hash: u32) -> Option<BackendSlot> {
        self.tables.backends().get(usize::from(version)).map(|table| table.slot(hash))
    }

    fn flow(&self) -> Option<FlowEntry> {
        self.flows.borrow().entries.get(&self.key).copied()
    }

    fn given_up(&self, backend: u16) -> bool {
        (self.given_up)(backend)
    }

    fn remember(&self, backend: u16) -> Remembered {
        let mut flows = self.flows.borrow_mut();
        if !flows.entries.contains_key(&self.key) {
            if flows.flooded {
                return Remembered::Flooded;
            }
            if flows.entries.len() >= flows.capacity {
                return Remembered::Full;
            }
        }
        let entry = FlowEntry { backend, client: 0, server: 0, seen: flows.now };
        flows.entries.insert(self.key, entry);
        Remembered::Yes
    }
}

/// A data plane without a kernel. What it holds is open to look at.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Memory {
    /// Services by index, each with the commit that changed it last.
    pub services: BTreeMap<u32, (u32, Image)>,
    /// Records of backends, by index. What was written once stays.
    pub backends: BTreeMap<u16, Backend>,
    /// The way to each backend, as far as it was told.
    pub hops: BTreeMap<u16, NextHop>,
    /// Whom packets to an endpoint belong to.
    pub listeners: HashMap<Endpoint, Listener>,
    /// What answers of an endpoint are turned back into.
    pub returns: HashMap<Endpoint, Return>,
    /// Whom a server id belongs to.
    pub server_ids: HashMap<ServerKey, u16>,
    /// TCP and QUIC flows.
    pub flows: RefCell<FlowTable>,
    /// Other UDP flows. Here they do not end by being idle, and are not evicted.
    pub udp_flows: RefCell<FlowTable>,
    /// What was counted, by backend.
    pub counters: BTreeMap<u16, Counters>,
    /// Signals, by backend: what a test puts there.
    pub signals: BTreeMap<u16, Signals>,
    /// How long handshakes took, likewise.
    pub handshakes: BTreeMap<u16, Handshakes>,
    /// Packets that no backend counts.
    pub reasons: ReasonCounts,
    /// Where packets in tunnels would come from.
    pub outer: OuterSource,
    /// Interfaces that XDP may send through.
    pub devices: Devices,
    /// Commits made.
    pub commits: u64,
}

impl Memory {
    /// An empty one, with room for so many TCP flows and as many UDP flows.
    #[must_use]
    pub fn new(flows: usize) -> Self {
        let table = FlowTable { capacity: flows, ..FlowTable::default() };
        Self {
            flows: RefCell::new(table.clone()),
            udp_flows: RefCell::new(table),
            ..Self::default()
        }
    }

    /// Decides a packet of the flow `key`, and counts it. `opens`: a SYN without ACK, an Initial.
    /// Nothing when no listener takes it.
    pub fn packet(&mut self, key: FlowKey, opens: bool) -> Option<Result<Decision, Undecided>> {
        let endpoint = Endpoint {
            address: key.destination,
            port: key.destination_port,
            protocol: key.protocol,
            pad: 0,
        };
        let any = Endpoint { port: 0, ..endpoint };
        let Some(listener) = self.listeners.get(&endpoint).or_else(|| self.listeners.get(&any))
        else {
            self.count(Reason::NotOurs);
            return None;
        };
        let Some((_, image)) = self.services.get(&listener.index()) else {
            self.count(Reason::NoTable);
            return Some(Err(Undecided::NoTable));
        };
        let service = image.record;
        let tcp = key.protocol == TCP;
        let tracked = !tcp && service.udp == UDP_TRACKED;
        let void = if tracked { GIVEN_UP | DOWN } else { GIVEN_UP };
        let given_up = |index| self.backends.get(&index).is_none_or(|b| b.flags & void != 0);
        let flows = if tracked { &self.udp_flows } else { &self.flows };
        // A listener that leads to a version is as a rule for everybody.
        let everybody = listener.slot().map(|slot| {
            let prefix = Prefix::new(Address::default(), 0);
            Steering::new(vec![SteeringEntry { prefix, slot }])
        });
        let (tables, steering) = (&image.tables, everybody.as_ref().unwrap_or(&image.steering));
        let tables = MemoryTables { tables, steering, flows, given_up: &given_up, key };
        let slots = slots(&service, &key);
        let decided = match service.udp {
            _ if tcp => decide(&tables, slots, opens),
            UDP_TRACKED => decide_udp(&tables, slots),
            UDP_STATELESS => decide_stateless(&tables, slots),
            _ => decide(&tables, slots, opens),
        };
        match decided {
            Ok(decision) => {
                let mut flows = flows.borrow_mut();
                let now = flows.now;
                if let Some(entry) = flows.entries.get_mut(&key) {
                    entry.seen = now;
                }
                let begins = if tracked { decision.why == Why::Remembered } else { opens };
                let counters = self.counters.entry(decision.backend).or_default();
                counters.connections += u64::from(begins);
                counters.packets_in += 1;
                counters.tracked += u64::from(decision.why == Why::Remembered);
                counters.fallback_full += u64::from(decision.why == Why::Full);
                counters.fallback_flood += u64::from(decision.why == Why::Flooded);
            }
            Err(Undecided::NoBackend) => self.count(Reason::NoBackend),
            Err(Undecided::NoTable) => self.count(Reason::NoTable),
        }
        Some(decided)
    }

    fn count(&mut self, reason: Reason) {
        self.reasons[HOOK_TC as usize][reason as usize] += 1;
    }

    /// Whether a table or a flow names this backend.
    fn is_named(&self, backend: u16) -> bool {
        let in_tables = |(_, image): &(u32, Image)| {
            let mut slots = image.tables.backends().iter().flat_map(BackendTable::slots);
            slots.any(|slot| slot.cur() == backend || slot.base() == backend)
        };
        let in_flows = |flows: &RefCell<FlowTable>| {
            flows.borrow().entries.values().any(|entry| entry.backend == backend)
        };
        self.services.values().any(in_tables) || in_flows(&self.flows) || in_flows(&self.udp_flows)
    }
}

impl DataPlane for Memory {
    fn commit(&mut self, commit: &Commit) -> Result<(), Error> {
        // Where the kernel would lead packets astray in silence, this one refuses.
        let astray = |(index, new): &&(u16, Backend)| {
            let is_other = |old: &Backend| (old.address, old.port) != (new.address, new.port);
            self.backends.get(index).is_some_and(is_other) && self.is_named(*index)
        };
        if let Some((index, _)) = commit.backends.iter().find(astray) {
            let reason = format!("a table or a flow still names backend {index}");
            return Err(Error::Map { map: "BACKENDS", reason });
        }
        let mut listeners = self.listeners.clone();
        listeners.retain(|endpoint, _| !commit.closed.contains(endpoint));
        let opened = commit.listeners.iter();
        listeners.extend(opened.map(|&(endpoint, service)| (endpoint, Listener { service })));
        if listeners.len() > MAX_LISTENERS as usize {
            return Err(Error::Map { map: "LISTENERS", reason: "is full".to_owned() });
        }
        for (index, image) in &commit.services {
            match image {
                Some(image) => self.services.insert(*index, (commit.generation, image.clone())),
                None => self.services.remove(index),
            };
        }
        for (index, backend) in &commit.backends {
            self.backends.insert(*index, *backend);
            self.hops.remove(index);
        }
        for (index, flags) in &commit.flags {
            if let Some(backend) = self.backends.get_mut(index) {
                backend.flags = *flags;
            }
        }
        self.returns.retain(|endpoint, _| !commit.severed.contains(endpoint));
        self.returns.extend(commit.returns.iter().copied());
        self.server_ids.retain(|id, _| !commit.retired_ids.contains(id));
        self.server_ids.extend(commit.server_ids.iter().copied());
        self.listeners = listeners;
        self.commits += 1;
        Ok(())
    }

    fn tables(&self, service: u32) -> Result<Option<ServiceTables>, Error> {
        Ok(self.services.get(&service).map(|(_, image)| ServiceTables::clone(&image.tables)))
    }

    fn steering(&self, service: u32) -> Arc<Steering> {
        self.services
            .get(&service)
            .map(|(_, image)| Arc::clone(&image.steering))
            .unwrap_or_default()
    }

    fn set_next_hop(&mut self, backend: u16, hop: Option<NextHop>) -> Result<(), Error> {
        match hop {
            Some(hop) => self.hops.insert(backend, hop),
            None => self.hops.remove(&backend),
        };
        Ok(())
    }

    fn set_devices(&mut self, devices: &Devices) -> Result<(), Error> {
        self.devices.clone_from(devices);
        Ok(())
    }

    fn counters(&self, backend: u16) -> Counters {
        self.counters.get(&backend).copied().unwrap_or_default()
    }

    fn signals(&self, backend: u16) -> Signals {
        self.signals.get(&backend).copied().unwrap_or_default()
    }

    fn handshakes(&self, backend: u16) -> Handshakes {
        self.handshakes.get(&backend).cloned().unwrap_or_default()
    }

    fn clear_counters(&mut self, backends: &BTreeSet<u16>) {
        self.counters.retain(|backend, _| !backends.contains(backend));
        self.signals.retain(|backend, _| !backends.contains(backend));
        self.handshakes.retain(|backend, _| !backends.contains(backend));
    }

    fn carried(&self) -> Carried {
        Carried {
            services: self.services.keys().copied().collect(),
            listeners: self.listeners.keys().copied().collect(),
            returns: self.returns.keys().copied().collect(),
            server_ids: self.server_ids.keys().copied().collect(),
        }
    }

    fn backend(&self, index: u16) -> Backend {
        let record = self.backends.get(&index).copied().unwrap_or_default();
        // Here each backend has a link of its own.
        let hop = |hop: &NextHop| HopWord::new(index + 1, hop.mac).0;
        Backend { next_hop: self.hops.get(&index).map_or(0, hop), ..record }
    }

    fn sweep(
        &mut self,
        protocol: u8,
        keep: &mut dyn FnMut(&FlowKey, &FlowEntry) -> bool,
    ) -> Result<u64, Error> {
        let flows = if protocol == TCP { &self.flows } else { &self.udp_flows };
        let entries = &mut flows.borrow_mut().entries;
        let before = entries.len();
        entries.retain(|key, entry| keep(key, entry));
        Ok((before - entries.len()) as u64)
    }

    fn reasons(&self) -> ReasonCounts {
        self.reasons
    }

    fn outer_source(&self) -> OuterSource {
        self.outer
    }

    fn uses(&self) -> Vec<Use> {
        let flows = |resource, flows: &RefCell<FlowTable>| {
            let flows = flows.borrow();
            Use { resource, used: flows.entries.len() as u64, limit: flows.capacity as u64 }
        };
        let listeners = Use {
            resource: "listeners",
            used: self.listeners.len() as u64,
            limit: u64::from(MAX_LISTENERS),
        };
        vec![listeners, flows("flows", &self.flows), flows("udp_flows", &self.udp_flows)]
    }
}

impl Inspect for Memory {
    fn listener(&self, at: &Endpoint) -> Result<Option<u32>, Error> {
        Ok(self.listeners.get(at).map(|listener| listener.service))
    }

    fn way_back(&self, from: &Endpoint) -> Result<Option<Return>, Error> {
        Ok(self.returns.get(from).copied())
    }

    fn record(&self, service: u32) -> Result<Option<Service>, Error> {
        let service = self.services.get(&service);
        Ok(service.map(|(generation, image)| Service { generation: *generation, ..image.record }))
    }

    fn steer(&self, service: u32, client: Address) -> Result<Option<SteerSlot>, Error> {
        Ok(self.services.get(&service).and_then(|(_, image)| image.steering.slot(client)))
    }

    fn remembered(
        &self,
        table: inspect::FlowTable,
        key: &FlowKey,
    ) -> Result<Option<FlowEntry>, Error> {
        let flows = match table {
            inspect::FlowTable::Moved => &self.flows,
            inspect::FlowTable::Datagrams => &self.udp_flows,
        };
        Ok(flows.borrow().entries.get(key).copied())
    }

    fn room(&self, _: &FlowKey) -> Result<Room, Error> {
        let flows = self.flows.borrow();
        // A flood: one processor, whose allowance is used up.
        let rate = u64::from(!flows.flooded);
        let tokens = if flows.flooded { 0 } else { u64::from(u32::MAX) };
        Ok(Room {
            used: flows.entries.len() as u64,
            capacity: flows.capacity as u64,
            rate,
            allowances: vec![Bucket { filled: 0, tokens }],
        })
    }

    fn link(&self, index: u32) -> Link {
        let backend = u16::try_from(index.saturating_sub(1)).unwrap_or(u16::MAX);
        self.hops.get(&backend).map_or(Link::default(), |hop| Link {
            ifindex: hop.interface,
            lower: hop.lower,
            mtu: hop.mtu,
            mac: hop.interface_mac,
            back: 0,
            pad: 0,
            tags: hop.tags,
        })
    }
}
