//! The clients of a history: their flows, and the model of where each must go.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "only tests use it"
)]

use weir::dataplane::memory::MemoryTables;
use weir_ebpf::abi::{Address, FlowKey, SEEN_DATA, SEEN_FIN, SEEN_RST, SEEN_SYN, TCP};
use weir_ebpf::decide::{Decision, Slots, Undecided, Why, decide, decide_udp, look, slots};

use super::{IDLE, Mirror, World};

/// A closed flow says its last word within so many steps.
const LAST_WORDS: u32 = 3;

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
pub(super) struct Flow {
    pub(super) key: FlowKey,
    pub(super) home: u16,
    spoke: u32,
    quiet: bool,
    phase: Phase,
}

impl<M: Mirror> World<M> {
    /// The key of a client's flow to the service.
    pub(super) fn key(&self, client: u8, port: u16, protocol: u8) -> FlowKey {
        let v6 =
            |last| Address::from_v6([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, last]);
        let (source, destination) = if self.setting.ipv6 {
            (v6(client), v6(0))
        } else {
            (Address::from_v4([192, 0, 2, client]), Address::from_v4([198, 51, 100, 1]))
        };
        FlowKey {
            source,
            destination,
            source_port: port.to_be(),
            destination_port: 80_u16.to_be(),
            protocol,
            pad: [0; 3],
        }
    }

    fn slots(&self, key: &FlowKey) -> Slots {
        slots(&self.service, key)
    }

    /// One packet through `decide`, and what the program does to the entry afterwards.
    fn packet(&mut self, key: FlowKey, opens: bool, flags: u8) -> Result<Decision, Undecided> {
        self.tally.packets += 1;
        let slots = self.slots(&key);
        self.flows.borrow_mut().now = self.now;
        if let Some(room) = self.mirror.has_room(&key) {
            self.flows.borrow_mut().capacity = if room { usize::MAX } else { 0 };
        }
        let given_up = |b| self.given_up.contains(&b);
        let (tables, steering) = (&self.tables, &self.steering);
        let view = MemoryTables { tables, steering, flows: &self.flows, given_up: &given_up, key };
        // What looking alone says, and the program then does at once, must be the whole answer.
        let looked = if opens { None } else { look(&view, slots) };
        let decision = decide(&view, slots, opens);
        assert!(looked.is_none_or(|looked| Ok(looked) == decision), "{looked:?}, {decision:?}");
        self.tally.looked += u64::from(looked.is_some());
        match decision.map(|d| d.why) {
            Ok(Why::Pinned) => self.tally.pinned += 1,
            Ok(Why::Remembered) => self.tally.remembered += 1,
            Ok(Why::Full | Why::Flooded) => {
                self.tally.fallback += 1;
                self.failed = Some(self.now);
            }
            Ok(Why::Table | Why::Named) => {}
            Err(_) => self.tally.refused += 1,
        }
        if let Ok(Decision { why: Why::Pinned | Why::Remembered, .. }) = decision
            && let Some(entry) = self.flows.borrow_mut().entries.get_mut(&key)
        {
            entry.client |= flags;
            entry.seen = self.now;
        }
        self.mirrored(&key, flags, decision);
        decision
    }

    /// One datagram likewise.
    pub(super) fn datagram(&mut self, key: FlowKey) -> Result<Decision, Undecided> {
        self.flows.borrow_mut().now = self.now;
        let given_up = |b| self.given_up.contains(&b);
        let (tables, steering) = (&self.tables, &self.steering);
        let view = MemoryTables { tables, steering, flows: &self.flows, given_up: &given_up, key };
        let decision = decide_udp(&view, self.slots(&key));
        if let Some(entry) = self.flows.borrow_mut().entries.get_mut(&key) {
            entry.client |= SEEN_DATA;
        }
        self.mirrored(&key, SEEN_DATA, decision);
        decision
    }

    fn mirrored(&mut self, key: &FlowKey, shows: u8, decision: Result<Decision, Undecided>) {
        let entry = self.flows.borrow().entries.get(key).copied();
        self.mirror.packet(key, shows, decision, entry);
    }

    /// A SYN. The flow begins wherever it goes, but to a backend that gets new flows, unless it
    /// found an entry or no room.
    fn open(&mut self, key: FlowKey) -> Option<u16> {
        let entry = self.flows.borrow().entries.get(&key).copied();
        let slots = self.slots(&key);
        let slot = self.tables.versions()[slots.version as usize];
        let version = self.steering.slot(key.source).map_or(slot, |entry| entry.over(slot)).cur();
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
            Why::Named => panic!("a TCP packet names no server"),
        }
        assert!(!self.given_up.contains(&decision.backend), "a new flow at a given-up backend");
        // Full or flooded, nothing new goes to a version that is abandoned, unless a rule says so.
        let home = self.version_of[usize::from(decision.backend)];
        if self.abandoned[home] {
            let of = self.steering.slot(key.source).map_or(slot, |entry| entry.over(slot));
            let led = [of.cur(), of.base()].iter().any(|one| usize::from(*one) == home);
            assert!(led && self.setting.steered, "a new flow at an abandoned version");
        }
        Some(decision.backend)
    }

    pub(super) fn open_flows(&mut self) {
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
                self.key(client, u16::from_ne_bytes(port), TCP)
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
    pub(super) fn speak(&mut self) {
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
                            self.data(&flow, SEEN_DATA | SEEN_FIN);
                            flow.phase = Phase::Closing(self.now);
                        }
                        5..8 => {
                            self.data(&flow, SEEN_DATA | SEEN_RST);
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
}
