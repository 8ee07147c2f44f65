//! Random histories of a service, against the slow, obvious model: each flow stays where it began,
//! unless that backend was given up.
//!
//! - this file: what operators and backends do, and how the tables follow
//! - `clients`: the flows, and the model
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "only tests use it"
)]

mod clients;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};

use weir::dataplane::memory::FlowTable;
use weir::plan::abandon::abandon;
use weir::plan::backend_table::Candidate;
use weir::plan::goal::Goal;
use weir::plan::identity::Identity;
use weir::plan::moved::Moved;
use weir::plan::settle::{SlotRef, untrack};
use weir::plan::steering::{Prefix, Rules, Steering};
use weir::plan::tables::ServiceTables;
use weir::plan::transition::{Moves, transition};
use weir_ebpf::abi::{Address, FlowEntry, FlowKey, Service, TCP, UDP, UDP_IDLE_SECONDS, VERSIONS};
use weir_ebpf::decide::{Decision, Undecided, Why, slots};

use crate::random::Random;
use clients::Flow;

/// No live flow is silent for longer, in steps.
const IDLE: u32 = 40;
/// Steps of a history.
const STEPS: u32 = 400;

/// Sees all that happens in a history, and may do the same elsewhere.
pub trait Mirror {
    /// These tables are in use from now on, and these backends are given up.
    fn tables(&mut self, tables: &ServiceTables, steering: &Steering, given_up: &HashSet<u16>);
    /// A packet came that shows this of its sender, and was decided. `entry` is what is remembered
    /// of its flow now; its time means nothing.
    fn packet(
        &mut self,
        key: &FlowKey,
        shows: u8,
        decided: Result<Decision, Undecided>,
        entry: Option<FlowEntry>,
    );
    /// This flow is remembered no longer.
    fn forget(&mut self, key: &FlowKey);
    /// Whether its flow table has room for this flow. Nothing: it is as the setting says.
    fn has_room(&self, _: &FlowKey) -> Option<bool> {
        None
    }
}

/// Does nothing.
impl Mirror for () {
    fn tables(&mut self, _: &ServiceTables, _: &Steering, _: &HashSet<u16>) {}
    fn packet(&mut self, _: &FlowKey, _: u8, _: Result<Decision, Undecided>, _: Option<FlowEntry>) {
    }
    fn forget(&mut self, _: &FlowKey) {}
}

/// What a history is like.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// It follows from this.
    pub seed: u64,
    /// Flows for which the flow table has room.
    pub room: usize,
    /// Whether inserts into the flow table are refused for a while, now and then.
    pub floods: bool,
    /// Whether clients and listener are IPv6.
    pub ipv6: bool,
    /// Whether steering rules come and go.
    pub steered: bool,
}

impl Setting {
    /// The service, without tables.
    #[must_use]
    pub fn service(&self) -> Service {
        let mut random = Random(!self.seed);
        Service {
            seed: [random.word(), random.word()],
            affinity: u8::try_from(random.below(3)).unwrap(),
            udp_idle: UDP_IDLE_SECONDS,
            ..Service::default()
        }
    }
}

struct Backend {
    index: u16,
    candidate: Candidate,
}

/// A node, its clients, and the model.
struct World<M> {
    setting: Setting,
    mirror: M,
    random: Random,
    now: u32,
    service: Service,
    weights: [u16; VERSIONS],
    backends: [Vec<Backend>; VERSIONS],
    next_index: u16,
    given_up: HashSet<u16>,
    tables: ServiceTables,
    rules: BTreeMap<Prefix, u8>,
    steering: Steering,
    flows: RefCell<FlowTable>,
    /// When slots and entries moved last.
    moved: Moved,
    /// Versions that were abandoned and have had no weight since.
    abandoned: [bool; VERSIONS],
    /// Whether this happens at all.
    abandons: bool,
    /// The version of each backend there ever was, by index.
    version_of: Vec<usize>,
    failed: Option<u32>,
    /// Slots, and steering entries, in which the sweep of the last step found entries.
    swept: Option<(HashSet<SlotRef>, HashSet<usize>)>,
    live: Vec<Flow>,
    ended: Vec<FlowKey>,
    next_client: u32,
    tally: Tally,
}

/// What was exercised, so that a test which exercises nothing is seen.
#[derive(Clone, Copy, Default, Debug)]
pub struct Tally {
    /// Packets decided.
    pub packets: u64,
    /// Found remembered.
    pub pinned: u64,
    /// Decided by looking alone.
    pub looked: u64,
    /// Remembered.
    pub remembered: u64,
    /// Found no room.
    pub fallback: u64,
    /// Flows that began under the key of an ended one.
    pub reused: u64,
    /// SYNs sent again.
    pub retransmitted: u64,
    /// Flows at a given-up backend.
    pub void: u64,
    /// Commits that settled slots.
    pub settled: u64,
    /// Commits that untracked slots.
    pub untracked: u64,
    /// Packets without a backend.
    pub refused: u64,
    /// Commits that moved prefixes.
    pub steered: u64,
    /// Commits that abandoned versions.
    pub abandoned: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.packets += other.packets;
        self.pinned += other.pinned;
        self.looked += other.looked;
        self.remembered += other.remembered;
        self.fallback += other.fallback;
        self.reused += other.reused;
        self.retransmitted += other.retransmitted;
        self.void += other.void;
        self.settled += other.settled;
        self.untracked += other.untracked;
        self.refused += other.refused;
        self.steered += other.steered;
        self.abandoned += other.abandoned;
    }
}

impl<M: Mirror> World<M> {
    /// A service with some backends and all weight on the first version.
    fn new(setting: Setting, mirror: M) -> Self {
        let (random, service) = (Random(setting.seed), setting.service());
        let goal = Goal::new([0; 16], [10_000, 0, 0], [&[], &[], &[]]);
        let tables =
            transition(None, &goal.on_this_node(&mut |_, _| unreachable!()), &|_| false).tables;
        let mut world = Self {
            setting,
            mirror,
            random,
            now: 0,
            service,
            weights: [10_000, 0, 0],
            backends: [const { Vec::new() }; VERSIONS],
            next_index: 0,
            given_up: HashSet::new(),
            moved: Moved::all(0),
            abandoned: [false; VERSIONS],
            abandons: false,
            version_of: Vec::new(),
            tables,
            rules: BTreeMap::new(),
            steering: Steering::default(),
            flows: RefCell::new(FlowTable { capacity: setting.room, ..FlowTable::default() }),
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
        self.version_of.push(version);
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
        let before = std::mem::replace(&mut self.tables, step.tables);
        let rules = Rules::new(self.rules.iter().map(|(prefix, version)| (*prefix, *version)));
        let (mut steering, moved) = self.steering.lead(&rules);
        steering.leave_empty_bases(self.tables.empty_bases());
        assert_eq!(steering.rules(), rules, "new flows go by the rules");
        self.steering = steering;
        self.tally.steered += u64::from(moved > 0);
        let all = Moves { steered: moved, ..step.moves };
        self.moved.note(&before, &self.tables, &all, self.now);
        for (abandoned, weight) in self.abandoned.iter_mut().zip(self.weights) {
            *abandoned &= weight == 0;
        }
        self.abandon();
        // A sweep belongs to the tables it began with.
        self.swept = None;
        self.mirror.tables(&self.tables, &self.steering, &self.given_up);
    }

    /// What operators and backends do.
    fn change(&mut self) {
        let version = self.random.below(VERSIONS);
        let count = self.backends[version].len();
        match self.random.below(if self.setting.steered { 9 } else { 6 }) {
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
            6.. => self.revise_rules(),
            _ => {
                let backends = self.backends.iter().flatten();
                if let Some(b) = backends.into_iter().find(|b| self.given_up.contains(&b.index)) {
                    self.given_up.remove(&b.index);
                }
            }
        }
        self.commit();
    }

    /// Adds, changes and removes rules, some within others.
    fn revise_rules(&mut self) {
        for _ in 0..=self.random.below(6) {
            if self.random.percent(40) && !self.rules.is_empty() {
                let n = self.random.below(self.rules.len());
                let prefix = *self.rules.keys().nth(n).unwrap();
                self.rules.remove(&prefix);
            } else {
                let client = self.random.byte();
                let client = self.key(client, 0, TCP).source;
                let length = *self.random.one(&[0, 120, 121, 122, 123, 124, 125, 126, 127, 128]);
                let version = u8::try_from(self.random.below(VERSIONS)).unwrap();
                self.rules.insert(Prefix::new(client, length), version);
            }
        }
        if self.random.percent(20) {
            self.rules.clear();
        }
    }

    /// Now and then a version that has lost its weight is given up, as `weir shift --in-flight reset`
    /// does. Before anybody sees the new tables.
    fn abandon(&mut self) {
        for version in 0..VERSIONS {
            if self.abandons && self.weights[version] == 0 && self.random.percent(30) {
                self.abandoned[version] = true;
            }
        }
        if self.abandoned == [false; VERSIONS] {
            return;
        }
        self.tally.abandoned += 1;
        abandon(&mut self.tables, &mut self.steering, self.abandoned, &|_| false);
        let lost: Vec<FlowKey> = self.lost_flows();
        for key in lost {
            if self.flows.borrow_mut().entries.remove(&key).is_some() {
                self.mirror.forget(&key);
            }
        }
    }

    /// Remembered flows of versions that were abandoned, but for those that the tables lead there.
    /// These are over, and so are those that are not remembered and that no `base` leads there.
    fn lost_flows(&mut self) -> Vec<FlowKey> {
        let leads = |key: &FlowKey| {
            let slot = self.tables.versions()[slots(&self.service, key).version as usize];
            let slot = self.steering.slot(key.source).map_or(slot, |entry| entry.over(slot));
            [usize::from(slot.base()), usize::from(slot.cur())]
        };
        let entries = self.flows.borrow();
        let is_lost = |key: &FlowKey, backend: u16| {
            let (version, [base, cur]) = (self.version_of[usize::from(backend)], leads(key));
            let remembered = entries.entries.contains_key(key);
            self.abandoned[version] && base != version && !(remembered && cur == version)
        };
        let lost = entries.entries.iter().filter(|(key, entry)| is_lost(key, entry.backend));
        let lost = lost.map(|(key, _)| *key).collect();
        let (over, live) = std::mem::take(&mut self.live)
            .into_iter()
            .partition::<Vec<Flow>, _>(|flow| is_lost(&flow.key, flow.home));
        drop(entries);
        self.live = live;
        self.ended.extend(over.iter().map(|flow| flow.key));
        lost
    }

    fn settle(&mut self) {
        let past = |at: u32| self.now - at > IDLE;
        if !self.failed.is_none_or(past) {
            return;
        }
        if self.moved.settle(&mut self.tables, &mut self.steering, &past) {
            self.tally.settled += 1;
            self.swept = None;
            self.mirror.tables(&self.tables, &self.steering, &self.given_up);
        }
    }

    /// Forgets what is over or needs no memory, and looks which slots entries are left in.
    fn sweep(&mut self) {
        let tables = &self.tables;
        let steering = &self.steering;
        let (mut pinned, mut steered, mut gone) = (HashSet::new(), HashSet::new(), Vec::new());
        self.flows.borrow_mut().entries.retain(|key, entry| {
            let silent = self.now - entry.seen;
            let at = slots(&self.service, key);
            let rule = steering.find(key.source);
            let slot = tables.versions()[at.version as usize];
            let v = rule.map_or(slot, |rule| steering.entries()[rule].slot.over(slot));
            let t = tables.backends()[usize::from(v.cur())].slot(at.backend);
            let settled = v.base() == v.cur() && t.base() == t.cur() && t.cur() == entry.backend;
            if settled || silent > IDLE || (entry.closed() && silent > IDLE / 2) {
                gone.push(*key);
                return false;
            }
            steered.extend(rule);
            pinned.insert(SlotRef::Version(at.version as usize));
            for (version, table) in tables.backends().iter().enumerate() {
                let slot = at.backend as usize % table.slots().len();
                pinned.insert(SlotRef::Backend { version, slot });
            }
            true
        });
        for key in &gone {
            self.mirror.forget(key);
        }
        self.swept = Some((pinned, steered));
    }

    /// One step: flows open and speak, slots settle, now and then something changes.
    fn step(&mut self) {
        self.now += 1;
        self.open_flows();
        self.speak();
        if self.setting.floods && self.random.percent(1) {
            let flooded = self.random.percent(30);
            self.flows.borrow_mut().flooded = flooded;
        }
        // The look of one step, the commit of the next: flows speak in between.
        if let Some((pinned, steered)) = self.swept.take()
            && untrack(&mut self.tables, &|slot| pinned.contains(&slot))
                | self.steering.untrack(&|entry| steered.contains(&entry))
        {
            self.tally.untracked += 1;
            self.mirror.tables(&self.tables, &self.steering, &self.given_up);
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
pub fn run(setting: Setting, mirror: impl Mirror) -> Tally {
    struct Name(Setting, u32);
    impl Drop for Name {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("broken: {:?}, step {}", self.0, self.1);
            }
        }
    }
    let mut name = Name(setting, 0);
    let mut world = World::new(setting, mirror);
    world.abandons = true;
    for step in 0..STEPS {
        name.1 = step;
        world.step();
    }
    world.tally
}

/// A history of datagrams. UDP flows are remembered from their first one: they stay through
/// everything, while there is room, until their backend is given up. Says how many are left.
pub fn run_udp(setting: Setting, mirror: impl Mirror) -> usize {
    let mut world = World::new(setting, mirror);
    let mut homes: Vec<(FlowKey, u16)> = Vec::new();
    for round in 0..60_u16 {
        for client in 0..20 {
            let key = world.key(client, round, UDP);
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
    homes.len()
}
