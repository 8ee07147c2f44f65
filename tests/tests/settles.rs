//! Transitions end: with flows that count as ended after 3 s of silence, slots settle, what is
//! remembered goes, and backends that were removed are released once their connections have ended.
//! No connection that talks is broken by any of it.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::net::{IpAddr, SocketAddr};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use weir_tests::identity::Version;
use weir_tests::lab::addresses::{ECHO_PORT, Family, HTTP_PORT, vip};
use weir_tests::lab::spec::{Protocol, ServiceSpec};
use weir_tests::lab::{Lab, LabBuilder};
use weir_tests::load::fresh::{Fresh, FreshPlan};
use weir_tests::load::long_lived::{LongLived, LongLivedPlan};
use weir_tests::node::{Mode, Node};

const CONNECTIONS: u32 = 300;
/// Seconds of silence after which a flow counts as ended.
const IDLE: &str = "--drain-idle=3";
/// A shift has settled after the idle time, at the next round but one; flows that were closed are
/// forgotten after ten seconds more. Rounds come every five seconds.
const SETTLED: Duration = Duration::from_secs(25);

fn target(port: u16) -> SocketAddr {
    SocketAddr::new(vip(Family::V4, 0), port)
}

fn services(lab: &Lab) -> [ServiceSpec; 2] {
    [("echo", ECHO_PORT), ("web", HTTP_PORT)]
        .map(|(name, port)| lab.service(name, target(port), Protocol::Tcp))
}

/// Connections that all talk, so that none counts as ended.
fn talking(lab: &Lab) -> LongLived {
    let plan = LongLivedPlan::new(target(ECHO_PORT), lab.client_addresses(Family::V4), CONNECTIONS)
        .talking(CONNECTIONS, Duration::from_secs(1));
    let opened = LongLived::open(lab.clients(), plan).unwrap();
    opened.state().check().unwrap();
    opened
}

/// Waits until `done`, or fails with what it was waited for.
fn wait(node: &mut Node, limit: Duration, what: &str, mut done: impl FnMut(&mut Node) -> bool) {
    let deadline = Instant::now() + limit;
    while !done(node) {
        let capacity = node.node_status().unwrap().capacity;
        assert!(Instant::now() < deadline, "after {limit:?} not yet: {what}: {capacity:?}");
        sleep(Duration::from_millis(250));
    }
}

/// A figure of `weir status -o json`.
fn capacity(lab: &Lab, resource: &str) -> u64 {
    let status: Value =
        serde_json::from_str(&lab.weir(&["status", "-o", "json"]).unwrap()).unwrap();
    let all = status["capacity"].as_array().unwrap();
    let one = all.iter().find(|one| one["resource"] == resource).unwrap();
    one["used"].as_u64().unwrap()
}

/// Whether `weir get -o json` names a backend.
fn names(lab: &Lab, backend: IpAddr) -> bool {
    lab.weir(&["get", "echo", "-o", "json"]).unwrap().contains(&format!("\"{backend}\""))
}

#[test]
fn transitions_end() {
    for mode in [Mode::Tc, Mode::Xdp] {
        let mut node = Node::start(LabBuilder::new(), mode, &[IDLE]).unwrap();
        let all = services(node.lab());
        node.apply(&all).unwrap();
        let first = talking(node.lab());
        let plan = FreshPlan::new(target(HTTP_PORT), node.lab().client_addresses(Family::V4));
        let fresh = Fresh::start(node.lab().clients(), plan.rate(100)).unwrap();

        // These are remembered, as they began on another version than the one that settled last.
        node.shift(&["echo", "web"], [5_000, 0, 5_000]).unwrap();
        sleep(Duration::from_secs(2));
        let second = talking(node.lab());
        wait(&mut node, SETTLED, "flows are remembered", |node| node.used("flows").unwrap() > 0);

        // A backend of blue goes, while it has connections of the first.
        let gone = node.lab().backends(Family::V4, Version::Blue)[0];
        let backends = capacity(node.lab(), "backends");
        let without = all.map(|mut service| {
            service.backends[0].retain(|address| *address != gone);
            service.weights([5_000, 0, 5_000])
        });
        node.apply(&without).unwrap();
        // Several shifts, each given the time to settle halfway.
        for weights in [[0, 10_000, 0], [2_000, 3_000, 5_000]] {
            sleep(Duration::from_secs(8));
            node.shift(&["echo", "web"], weights).unwrap();
            for connections in [&first, &second] {
                connections.state().check().unwrap();
            }
        }
        assert!(names(node.lab(), gone), "released while connections are on it");
        fresh.stop().unwrap().check().unwrap();
        for connections in [&first, &second] {
            connections.verify().check().unwrap();
        }
        let places = second.state().by_version();
        assert!(places[0] > 0 && places[2] > 0, "{places:?}");

        // Of the other service nothing was left on it: only short connections.
        assert_eq!(capacity(node.lab(), "backends"), backends - 1);

        // Their ends are the end of all that is remembered, and of the backend.
        drop((first, second));
        wait(&mut node, SETTLED, "no flow is remembered", |node| node.used("flows").unwrap() == 0);
        let released = |node: &mut Node| node.used("backends").unwrap() == backends - 2;
        wait(&mut node, SETTLED, "the removed backend is released", released);
        assert!(!names(node.lab(), gone));
        assert_eq!(capacity(node.lab(), "flows"), 0);
    }
}
