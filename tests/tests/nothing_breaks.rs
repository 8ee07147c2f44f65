//! Shifts break no connection: 2 000 long-lived TCP connections in each family, half of them
//! silent, and many that begin on the way, live through 50 random shifts, rollbacks and changes
//! of backends. The shifts overlap: each comes 100 to 200 ms after the one before, and none has
//! settled when the next one is made.
//!
//! A TCP connection that reached another backend would be reset by it, and one whose packets are
//! lost would stall, so an unbroken connection is one that has stayed where it began.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::Duration;

use weir::model::BackendState;
use weir::node::messages::BackendStatus;
use weir_tests::lab::LabBuilder;
use weir_tests::lab::addresses::{ECHO_PORT, Family, HTTP_PORT, vip};
use weir_tests::lab::spec::{Protocol, ServiceSpec};
use weir_tests::load::fresh::{Fresh, FreshPlan};
use weir_tests::load::long_lived::{LongLived, LongLivedPlan};
use weir_tests::node::{Mode, Node};
use weir_tests::random::Random;

const CONNECTIONS: u32 = 2_000;
const SHIFTS: u32 = 50;
/// Connections of each family that begin between two shifts now and then, and stay too.
const LATER: u32 = 40;

#[test]
fn nothing_breaks_in_tc() {
    assert_eq!(nothing_breaks(Mode::Tc, &[], 1), 0);
}

#[test]
fn nothing_breaks_in_native_xdp() {
    assert_eq!(nothing_breaks(Mode::Xdp, &[], 2), 0);
}

#[test]
fn nothing_breaks_in_tc_with_a_full_flow_table() {
    assert!(nothing_breaks(Mode::Tc, &["--flows=100"], 3) > 0);
}

#[test]
fn nothing_breaks_in_native_xdp_with_a_full_flow_table() {
    assert!(nothing_breaks(Mode::Xdp, &["--flows=100"], 4) > 0);
}

/// Gives how many packets found the flow table full.
fn nothing_breaks(mode: Mode, arguments: &[&str], seed: u64) -> u64 {
    let mut run = Run::start(mode, arguments, seed);
    for number in 1..=SHIFTS {
        run.shift();
        if number % 5 == 0 {
            run.open(LATER);
        }
        if number % 8 == 0 {
            run.change_backends(number / 8);
        }
    }
    run.verify()
}

struct Run {
    node: Node,
    chance: Random,
    services: Vec<ServiceSpec>,
    /// The weights that each service has had.
    history: Vec<[u16; 3]>,
    connections: Vec<LongLived>,
    fresh: Vec<Fresh>,
}

impl Run {
    fn start(mode: Mode, arguments: &[&str], seed: u64) -> Self {
        let mut node = Node::start(LabBuilder::new().backends(4), mode, arguments).unwrap();
        let weights = [3_400, 3_300, 3_300];
        let mut services = Vec::new();
        for (family, suffix) in [(Family::V4, "4"), (Family::V6, "6")] {
            for (name, port) in [("echo", ECHO_PORT), ("web", HTTP_PORT)] {
                let (name, listener) =
                    (name.to_owned() + suffix, SocketAddr::new(vip(family, 0), port));
                services.push(node.lab().service(&name, listener, Protocol::Tcp).weights(weights));
            }
        }
        node.apply(&services).unwrap();
        let mut run = Self {
            node,
            chance: Random(seed),
            services,
            history: vec![weights],
            connections: Vec::new(),
            fresh: Vec::new(),
        };
        run.open(CONNECTIONS);
        run.fresh = Family::ALL.map(|family| run.fresh(family)).into();
        run
    }

    fn fresh(&self, family: Family) -> Fresh {
        let target = SocketAddr::new(vip(family, 0), HTTP_PORT);
        let lab = self.node.lab();
        let plan = FreshPlan::new(target, lab.client_addresses(family)).rate(150);
        Fresh::start(lab.clients(), plan).unwrap()
    }

    /// Opens long-lived connections in both families, of which half will be silent.
    fn open(&mut self, connections: u32) {
        for family in Family::ALL {
            let target = SocketAddr::new(vip(family, 0), ECHO_PORT);
            let lab = self.node.lab();
            let plan = LongLivedPlan::new(target, lab.client_addresses(family), connections);
            let opened = LongLived::open(lab.clients(), plan).unwrap();
            opened.state().check().unwrap();
            self.connections.push(opened);
        }
    }

    /// Shifts all services in one commit, or those of one family.
    fn shift(&mut self) {
        let weights = self.next_weights();
        let names: &[&str] = match self.chance.below(4) {
            0 => &["echo4", "web4"],
            1 => &["echo6", "web6"],
            _ => &["echo4", "web4", "echo6", "web6"],
        };
        self.node.shift(names, weights).unwrap();
        for service in &mut self.services {
            if names.contains(&service.name.as_str()) {
                service.weights = weights;
            }
        }
        self.history.push(weights);
        sleep(Duration::from_millis(100 + u64::from(self.points(100))));
    }

    /// Everything to one version, a small share to canary, back to what was, or anything at all.
    fn next_weights(&mut self) -> [u16; 3] {
        match self.chance.below(4) {
            0 => {
                let mut weights = [0; 3];
                weights[self.chance.below(3)] = 10_000;
                weights
            }
            1 => {
                let canary = self.points(2_500);
                [10_000 - canary, 0, canary]
            }
            2 => {
                let recent = self.history.len().saturating_sub(4);
                *self.chance.one(&self.history[recent..])
            }
            _ => {
                let green = self.points(10_001);
                let canary = self.points(10_001 - green);
                [10_000 - green - canary, green, canary]
            }
        }
    }

    fn points(&mut self, below: u16) -> u16 {
        self.chance.half() % below
    }

    /// Takes a backend out of each version, and brings back the one taken out last.
    fn change_backends(&mut self, round: u32) {
        let out = usize::try_from(round % 4).unwrap();
        let changed = self.services.iter().map(|service| {
            let mut service = service.clone();
            for backends in &mut service.backends {
                backends.remove(out);
            }
            service
        });
        self.node.apply(&changed.collect::<Vec<_>>()).unwrap();
        let status = self.node.status("echo4").unwrap();
        for (version, status) in status.versions.iter() {
            let drains = |one: &&BackendStatus| one.state == BackendState::Draining;
            assert_eq!(status.backends.len(), 4, "{version}");
            assert_eq!(status.backends.iter().filter(drains).count(), 1, "{version}");
        }
    }

    fn verify(mut self) -> u64 {
        let mut answered = 0;
        for fresh in self.fresh {
            let counts = fresh.stop().unwrap();
            println!("fresh: {counts}");
            counts.check().unwrap();
            answered += counts.answered();
        }
        assert!(answered > 1_000, "few new connections came while weights changed: {answered}");
        let mut versions = [0; 3];
        for connections in &self.connections {
            let state = connections.verify();
            state.check().unwrap();
            for (sum, of_version) in versions.iter_mut().zip(state.by_version()) {
                *sum += of_version;
            }
        }
        println!("long-lived: {versions:?}");
        assert!(versions.iter().all(|version| *version > 1_000), "{versions:?}");

        let mut fallbacks = 0;
        for service in ["echo4", "echo6", "web4", "web6"] {
            let total = self.node.total(service).unwrap();
            println!("{service}: {total:?}");
            fallbacks += total.fallback_full;
            assert_eq!(total.fallback_flood, 0);
        }
        fallbacks
    }
}
