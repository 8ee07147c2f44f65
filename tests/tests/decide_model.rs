//! `decide` against the slow, obvious model: each flow stays where it began, unless that backend
//! was given up. Random histories of shifts, backend changes, given-up and recovered backends,
//! settles, sweeps, floods and full flow tables.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

use weir::dataplane::memory::{FlowTable, MemoryTables};
use weir::plan::backend_table::Candidate;
use weir::plan::goal::Goal;
use weir::plan::identity::Identity;
use weir::plan::settle::{SlotRef, settle, untrack};
use weir::plan::tables::ServiceTables;
use weir::plan::transition::transition;
use weir_ebpf::abi::{
    Address, FlowKey, SEEN_DATA, SEEN_FIN, SEEN_RST, SEEN_SYN, Service, TCP, UDP, VERSIONS,
};
use weir_ebpf::decide::{Decision, Slots, Undecided, Why, decide, decide_udp, slots};

/// No live flow is silent for longer, in steps.
const IDLE: u32 = 40;
/// A closed flow says its last word within so many steps.
const LAST_WORDS: u32 = 3;
const STEPS: u32 = 400;

/// `SplitMix64`: a history is its seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(n).unwrap()).unwrap()
    }

    /// True in so many of a hundred cases.
    fn percent(&mut self, n: usize) -> bool {
        self.below(100) < n
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Sent nothing but SYNs.
    Opening,
    Open,
    /// Sent its FIN at this step; may still acknowledge.
    Closing(u32),
}

/// What the model knows of a flow: where it began. That is all it needs.
#[derive(Clone, Copy, Debug)]
struct Flow {
    key: FlowKey,
    home: u16,
    spoke: u32,
    quiet: bool,
    phase: Phase,
}

struct Backend {
    index: u16,
    candidate: Candidate,
}

/// A node, its clients, and the model.
struct World {
    random: Random,
    now: u32,
    service: Service,
    weights: [u16; VERSIONS],
    backends: [Vec<Backend>; VERSIONS],
    next_index: u16,
    given_up: HashSet<u16>,
    tables: ServiceTables,
    flows: RefCell<FlowTable>,
    /// When each version slot moved last, and anything in each backend table.
    version_moved: Vec<u32>,
    table_moved: [u32; VERSIONS],
    failed: Option<u32>,
    /// Slots in which the sweep of the last step found entries.
    swept: Option<HashSet<SlotRef>>,
    live: Vec<Flow>,
    ended: Vec<FlowKey>,
    next_client: u32,
    tally: Tally,
}

/// What was exercised, so that a test which exercises nothing is seen.
#[derive(Default, Debug)]
struct Tally {
    packets: u64,
    pinned: u64,
    remembered: u64,
    fallback: u64,
    reused: u64,
    retransmitted: u64,
    void: u64,
    settled: u64,
    untracked: u64,
    refused: u64,
}

impl World {
    fn new(seed: u64, capacity: usize) -> Self {
        let mut random = Random(seed);
        let service = Service {
            seed: [random.next(), random.next()],
            affinity: u8::try_from(random.below(3)).unwrap(),
            ..Service::default()
        };
        let goal = Goal::new([0; 16], [10_000, 0, 0], [&[], &[], &[]]);
        let tables =
            transition(None, &goal.on_this_node(&mut |_, _| unreachable!()), &|_| false).tables;
        let mut world = Self {
            random,
            now: 0,
            service,
            weights: [10_000, 0, 0],
            backends: [const { Vec::new() }; VERSIONS],
            next_index: 0,
            given_up: HashSet::new(),
            version_moved: vec![0; tables.versions().len()],
            table_moved: [0; VERSIONS],
            tables,
            flows: RefCell::new(FlowTable { capacity, ..FlowTable::default() }),
            failed: None,
            swept: None,
            live: Vec::new(),
            ended: Vec::new(),
            next_client: 0,
            tally: Tally::default(),
        };
        for version in 0..VERSIONS {
            for _ in 0..=world.random.below(4) {
                world.add_backend(version);
            }
        }
        world.commit();
        world
    }

    fn add_backend(&mut self, version: usize) {
        let index = self.next_index;
        self.next_index += 1;
        let [a, b] = index.to_be_bytes();
        let identity = Identity { address: Address::from_v4([10, 0, a, b]), port: 80 };
        let weight = [1, 100, 100, 1000][self.random.below(4)];
        self.backends[version].push(Backend { index, candidate: Candidate { identity, weight } });
    }

    /// Brings the tables to what weights and backends ask for. A given-up backend gets no slot.
    fn commit(&mut self) {
        let candidates = self.backends.each_ref().map(|set| {
            let mut candidates: Vec<Candidate> = Vec::new();
            for b in set {
                let weight = if self.given_up.contains(&b.index) { 0 } else { b.candidate.weight };
                candidates.push(Candidate { weight, ..b.candidate });
            }
            candidates
        });
        let goal =
            Goal::new(*b"0123456789abcdef", self.weights, candidates.each_ref().map(|c| &c[..]));
        let indices: HashMap<Identity, u16> =
            self.backends.iter().flatten().map(|b| (b.candidate.identity, b.index)).collect();
        let target = goal.on_this_node(&mut |_, identity| indices[&identity]);
        let step = transition(Some(&self.tables), &target, &|b| self.given_up.contains(&b));
        for (slot, (old, new)) in
            self.tables.versions().iter().zip(step.tables.versions()).enumerate()
        {
            if old.cur() != new.cur() {
                self.version_moved[slot] = self.now;
            }
        }
        for (moved, within) in self.table_moved.iter_mut().zip(step.moves.backends) {
            if within.moved > 0 {
                *moved = self.now;
            }
        }
        self.tables = step.tables;
        // A sweep belongs to the tables it began with.
        self.swept = None;
    }

    fn slots(&self, key: &FlowKey) -> Slots {
        slots(&self.service, key)
    }

    /// One packet through `decide`, and what the program does to the entry afterwards.
    fn packet(&mut self, key: FlowKey, opens: bool, flags: u8) -> Result<Decision, Undecided> {
        self.tally.packets += 1;
        let slots = self.slots(&key);
        self.flows.borrow_mut().now = self.now;
        let given_up = |b| self.given_up.contains(&b);
        let view =
            MemoryTables { tables: &self.tables, flows: &self.flows, given_up: &given_up, key };
        let decision = decide(&view, slots, opens);
        match decision.map(|d| d.why) {
            Ok(Why::Pinned) => self.tally.pinned += 1,
            Ok(Why::Remembered) => self.tally.remembered += 1,
            Ok(Why::Full | Why::Flooded) => {
                self.tally.fallback += 1;
                self.failed = Some(self.now);
            }
            Ok(Why::Table) => {}
            Err(_) => self.tally.refused += 1,
        }
        if let Ok(Decision { why: Why::Pinned | Why::Remembered, .. }) = decision
            && let Some(entry) = self.flows.borrow_mut().entries.get_mut(&key)
        {
            entry.client |= flags;
            entry.seen = self.now;
        }
        decision
    }

    fn datagram(&self, key: FlowKey) -> Result<Decision, Undecided> {
        let given_up = |b| self.given_up.contains(&b);
        let view =
            MemoryTables { tables: &self.tables, flows: &self.flows, given_up: &given_up, key };
        decide_udp(&view, self.slots(&key))
    }

    /// A SYN. The flow begins wherever it goes, but to a backend that gets new flows, unless it
    /// found an entry or no room.
    fn open(&mut self, key: FlowKey) -> Option<u16> {
        let entry = self.flows.borrow().entries.get(&key).copied();
        let slots = self.slots(&key);
        let version = self.tables.versions()[slots.version as usize].cur();
        let fresh = self.tables.backends()[usize::from(version)].slot(slots.backend).cur();
        let decision = self.packet(key, true, SEEN_SYN).ok()?;
        match decision.why {
            Why::Pinned => {
                let entry = entry.unwrap();
                assert!(!entry.closed(), "a SYN was pinned to a closed flow");
                assert_eq!(decision.backend, entry.backend);
            }
            Why::Table | Why::Remembered => assert_eq!(decision.backend, fresh, "a new flow"),
            Why::Full | Why::Flooded => {}
        }
        assert!(!self.given_up.contains(&decision.backend), "a new flow at a given-up backend");
        Some(decision.backend)
    }

    fn open_flows(&mut self) {
        for _ in 0..3 {
            let reuse = !self.ended.is_empty() && self.random.percent(40);
            let key = if reuse {
                self.tally.reused += 1;
                let n = self.random.below(self.ended.len());
                self.ended.swap_remove(n)
            } else {
                self.next_client += 1;
                // Few addresses, so that affinity by client makes flows share slots.
                let [_, _, port @ ..] = self.next_client.to_be_bytes();
                let client = u8::try_from(self.next_client % 200).unwrap();
                FlowKey {
                    source: Address::from_v4([192, 0, 2, client]),
                    destination: Address::from_v4([198, 51, 100, 1]),
                    source_port: u16::from_ne_bytes(port),
                    destination_port: 80_u16.to_be(),
                    protocol: TCP,
                    pad: [0; 3],
                }
            };
            match self.open(key) {
                Some(home) => {
                    let (spoke, quiet) = (self.now, self.random.percent(20));
                    let phase = Phase::Opening;
                    self.live.push(Flow { key, home, spoke, quiet, phase });
                }
                None => self.ended.push(key),
            }
        }
    }

    /// Every flow that has something to say says it, and must reach its home.
    fn speak(&mut self) {
        for mut flow in std::mem::take(&mut self.live) {
            if self.given_up.contains(&flow.home) {
                // Void. Its last packet meets some other backend's RST.
                self.tally.void += 1;
                if self.random.percent(50)
                    && let Ok(decision) = self.packet(flow.key, false, SEEN_DATA)
                {
                    assert!(!self.given_up.contains(&decision.backend), "sent to a given-up one");
                    if self.random.percent(50) {
                        // The client does not care and goes on: it has begun anew.
                        self.live.push(Flow {
                            home: decision.backend,
                            spoke: self.now,
                            phase: Phase::Open,
                            ..flow
                        });
                        continue;
                    }
                }
                self.ended.push(flow.key);
                continue;
            }
            let due = self.now - flow.spoke >= IDLE - 2;
            if !due && (flow.quiet || !self.random.percent(20)) {
                self.live.push(flow);
                continue;
            }
            flow.spoke = self.now;
            match flow.phase {
                Phase::Opening if self.random.percent(30) => {
                    self.tally.retransmitted += 1;
                    let known = self.flows.borrow().entries.get(&flow.key).copied();
                    match self.open(flow.key) {
                        // A SYN that finds no entry cannot be told from a first one. Only SYNs
                        // were sent so far, so the flow begins anew, wherever that is.
                        Some(home) if known.is_none() => flow.home = home,
                        Some(home) => assert_eq!(home, flow.home, "a retransmitted SYN"),
                        None => {
                            assert!(known.is_none(), "a remembered flow was refused");
                            self.ended.push(flow.key);
                            continue;
                        }
                    }
                }
                Phase::Opening | Phase::Open => {
                    self.data(&flow, SEEN_DATA);
                    flow.phase = Phase::Open;
                    match self.random.below(100) {
                        0..5 => {
                            self.data(&flow, SEEN_FIN);
                            flow.phase = Phase::Closing(self.now);
                        }
                        5..8 => {
                            self.data(&flow, SEEN_RST);
                            self.ended.push(flow.key);
                            continue;
                        }
                        8..11 => {
                            // Gone without a word.
                            self.ended.push(flow.key);
                            continue;
                        }
                        _ => {}
                    }
                }
                Phase::Closing(at) if self.now - at > LAST_WORDS => {
                    self.ended.push(flow.key);
                    continue;
                }
                Phase::Closing(_) => self.data(&flow, SEEN_DATA),
            }
            self.live.push(flow);
        }
    }

    /// The model.
    fn data(&mut self, flow: &Flow, flags: u8) {
        let decision = self.packet(flow.key, false, flags);
        assert_eq!(decision.map(|d| d.backend), Ok(flow.home), "{flow:?}: {decision:?}");
    }

    /// What operators and backends do.
    fn change(&mut self) {
        let version = self.random.below(VERSIONS);
        let count = self.backends[version].len();
        match self.random.below(6) {
            0 | 1 => {
                let ends = [0, 10_000, 500, 5_000, self.random.below(10_001)];
                let [a, b] = [ends[self.random.below(5)], ends[self.random.below(5)]];
                let (a, b) = (a.min(b), a.max(b));
                let mut weights = [a, b - a, 10_000 - b].map(|w| u16::try_from(w).unwrap());
                weights.rotate_left(self.random.below(3));
                self.weights = weights;
            }
            2 => (0..=self.random.below(15)).for_each(|_| self.add_backend(version)),
            // Removed or without weight: drained. Now and then the whole version.
            3 if count > 0 => {
                let n = self.random.below(count);
                if self.random.percent(15) {
                    self.backends[version].clear();
                } else if self.random.percent(50) {
                    self.backends[version].swap_remove(n);
                } else {
                    self.backends[version][n].candidate.weight = 0;
                }
            }
            4 if count > 0 => {
                let all = self.random.percent(15);
                let n = self.random.below(count);
                for (i, b) in self.backends[version].iter().enumerate() {
                    if all || i == n {
                        self.given_up.insert(b.index);
                    }
                }
            }
            _ => {
                let backends = self.backends.iter().flatten();
                if let Some(b) = backends.into_iter().find(|b| self.given_up.contains(&b.index)) {
                    self.given_up.remove(&b.index);
                }
            }
        }
        self.commit();
    }

    fn settle(&mut self) {
        let past = |at: u32| self.now - at > IDLE;
        if !self.failed.is_none_or(past) {
            return;
        }
        let ready = |slot: SlotRef| match slot {
            SlotRef::Version(slot) => past(self.version_moved[slot]),
            SlotRef::Backend { version, .. } => past(self.table_moved[version]),
        };
        if settle(&mut self.tables, &ready) {
            self.tally.settled += 1;
            self.swept = None;
        }
    }

    /// Forgets what is over or needs no memory, and looks which slots entries are left in.
    fn sweep(&mut self) {
        let tables = &self.tables;
        let mut pinned = HashSet::new();
        self.flows.borrow_mut().entries.retain(|key, entry| {
            let silent = self.now - entry.seen;
            let at = slots(&self.service, key);
            let v = tables.versions()[at.version as usize];
            let t = tables.backends()[usize::from(v.cur())].slot(at.backend);
            let settled = v.base() == v.cur() && t.base() == t.cur() && t.cur() == entry.backend;
            if settled || silent > IDLE || (entry.closed() && silent > IDLE / 2) {
                return false;
            }
            pinned.insert(SlotRef::Version(at.version as usize));
            for (version, table) in tables.backends().iter().enumerate() {
                let slot = at.backend as usize % table.slots().len();
                pinned.insert(SlotRef::Backend { version, slot });
            }
            true
        });
        self.swept = Some(pinned);
    }

    fn step(&mut self) {
        self.now += 1;
        self.open_flows();
        self.speak();
        if self.random.percent(1) {
            let flooded = self.random.percent(30);
            self.flows.borrow_mut().flooded = flooded;
        }
        // The look of one step, the commit of the next: flows speak in between.
        if let Some(pinned) = self.swept.take()
            && untrack(&mut self.tables, &|slot| pinned.contains(&slot))
        {
            self.tally.untracked += 1;
        }
        if self.random.percent(4) {
            self.change();
        }
        if self.now.is_multiple_of(5) {
            self.settle();
        }
        if self.now.is_multiple_of(7) {
            self.sweep();
        }
    }
}

/// Runs a history. When it breaks, says which.
fn history(seed: u64, capacity: usize) -> Tally {
    struct Name(u64, usize, u32);
    impl Drop for Name {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("broken: seed {}, capacity {}, step {}", self.0, self.1, self.2);
            }
        }
    }
    let mut name = Name(seed, capacity, 0);
    let mut world = World::new(seed, capacity);
    for step in 0..STEPS {
        name.2 = step;
        world.step();
    }
    world.tally
}

fn histories(count: u64, capacity: usize) {
    let mut total = Tally::default();
    for seed in 0..count {
        let t = history(seed, capacity);
        total.packets += t.packets;
        total.pinned += t.pinned;
        total.remembered += t.remembered;
        total.fallback += t.fallback;
        total.reused += t.reused;
        total.retransmitted += t.retransmitted;
        total.void += t.void;
        total.settled += t.settled;
        total.untracked += t.untracked;
        total.refused += t.refused;
    }
    println!("capacity {capacity}: {count} histories, {total:?}");
    assert!(total.packets > 1_000 && total.reused > 0 && total.retransmitted > 0);
    assert!(total.settled > 0 && total.untracked > 0 && total.void > 0 && total.fallback > 0);
    assert_eq!(total.remembered > 0, capacity > 0);
}

#[test]
fn flows_stay_with_room_for_all() {
    histories(50, usize::MAX);
}

#[test]
fn flows_stay_with_room_for_fifty() {
    histories(50, 50);
}

#[test]
fn flows_stay_with_room_for_five() {
    histories(50, 5);
}

#[test]
fn flows_stay_with_no_room() {
    histories(50, 0);
}

/// UDP flows are remembered from their first datagram: they stay through everything, while there
/// is room, until their backend is given up.
#[test]
fn udp_flows_stay_while_there_is_room() {
    let mut world = World::new(7, usize::MAX);
    let mut homes: Vec<(FlowKey, u16)> = Vec::new();
    for round in 0..60_u16 {
        for client in 0..20 {
            let key = FlowKey {
                source: Address::from_v4([192, 0, 2, client]),
                destination: Address::from_v4([198, 51, 100, 1]),
                source_port: round,
                destination_port: 53_u16.to_be(),
                protocol: UDP,
                pad: [0; 3],
            };
            if let Ok(decision) = world.datagram(key) {
                homes.push((key, decision.backend));
            }
        }
        for _ in 0..3 {
            world.now += 1;
            world.change();
        }
        homes.retain_mut(|(key, home)| {
            let decision = world.datagram(*key);
            if world.given_up.contains(home) {
                let anew = decision.ok().filter(|d| d.why == Why::Remembered);
                anew.inspect(|d| *home = d.backend).is_some()
            } else {
                assert_eq!(decision, Ok(Decision { backend: *home, why: Why::Pinned }));
                true
            }
        });
    }
    assert!(homes.len() > 500);
}
