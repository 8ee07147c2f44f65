//! Drains, live: `weir drains` counts the connections that talk, exactly, while they do, and says yes
//! when they are gone; at its end a drain resets what is left, at a pace, and clients come back
//! elsewhere; a backend is taken out and taken back. All through the command line.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use weir_tests::identity::Version;
use weir_tests::lab::LabBuilder;
use weir_tests::lab::addresses::{ECHO_PORT, Family, vip};
use weir_tests::lab::spec::Protocol;
use weir_tests::load::Fault;
use weir_tests::load::long_lived::{LongLived, LongLivedPlan};
use weir_tests::node::{Mode, Node};

const CONNECTIONS: u32 = 200;
const IDLE: &str = "--drain-idle=3";
/// Looks come every five seconds; closed flows are forgotten after ten.
const SOON: Duration = Duration::from_secs(30);

fn target() -> SocketAddr {
    SocketAddr::new(vip(Family::V4, 0), ECHO_PORT)
}

/// A service that is half blue and half canary, with this more in its spec.
fn start(mode: Mode, spec: &str) -> Node {
    let mut node = Node::start(LabBuilder::new(), mode, &[IDLE]).unwrap();
    let service = node.lab().service("echo", target(), Protocol::Tcp).weights([5_000, 0, 5_000]);
    let service = if spec.is_empty() { service } else { service.with(spec) };
    node.apply(&[service]).unwrap();
    node
}

/// Connections that all talk, so that none counts as ended.
fn talking(node: &Node) -> LongLived {
    let clients = node.lab().client_addresses(Family::V4);
    let plan = LongLivedPlan::new(target(), clients, CONNECTIONS)
        .talking(CONNECTIONS, Duration::from_secs(1));
    let opened = LongLived::open(node.lab().clients(), plan).unwrap();
    opened.state().check().unwrap();
    opened
}

fn weir(node: &Node, arguments: &[&str]) -> String {
    node.lab().weir(arguments).unwrap_or_else(|error| panic!("weir {arguments:?}: {error}"))
}

/// The line of a version, or of a backend, of `weir drains`.
fn drain(node: &Node, version: &str, backend: Option<&str>) -> Option<Value> {
    let all: Vec<Value> =
        serde_json::from_str(&weir(node, &["drains", "echo", "-o", "json"])).unwrap();
    let is_it = |one: &Value| one["version"] == version && one["backend"].as_str() == backend;
    all.into_iter().find(is_it)
}

/// Waits until the line is as it should be.
fn wait(
    node: &Node,
    (version, backend): (&str, Option<&str>),
    what: &str,
    done: impl Fn(&Value) -> bool,
) {
    let deadline = Instant::now() + SOON;
    loop {
        let line = drain(node, version, backend);
        if line.as_ref().is_some_and(&done) {
            return println!("{}", weir(node, &["drains"]));
        }
        assert!(Instant::now() < deadline, "not yet: {what}: {line:?}");
        sleep(Duration::from_millis(500));
    }
}

#[test]
fn a_version_is_drained_until_it_may_be_stopped() {
    for mode in [Mode::Tc, Mode::Xdp] {
        let node = start(mode, "drain: { timeout: 10m }");
        assert_eq!(weir(&node, &["drains"]), "nothing drains\n");
        let old = talking(&node);
        let [_, _, on_canary] = old.state().by_version();
        println!("{}", weir(&node, &["drain", "echo", "canary"]));
        let line = drain(&node, "canary", None).unwrap();
        assert_eq!((&line["why"], &line["may_stop"]), (&"no weight".into(), &"unknown".into()));
        // Counted exactly while they talk, also once all has settled.
        let counted = |line: &Value| line["flows"] == on_canary && line["packets"] != 0;
        wait(&node, ("canary", None), "all flows are counted", counted);
        let settled = |line: &Value| counted(line) && line["settles_in_s"].is_null();
        wait(&node, ("canary", None), "settled, with its flows", settled);
        assert_eq!(drain(&node, "canary", None).unwrap()["may_stop"], "no");
        let left = drain(&node, "canary", None).unwrap()["deadline_in_s"].as_i64().unwrap();
        assert!((500..600).contains(&left), "{left}");
        let new = talking(&node);
        assert_eq!(new.state().by_version()[2], 0);
        old.verify().check().unwrap();
        drop(old);
        let gone = |line: &Value| line["may_stop"] == "yes";
        wait(&node, ("canary", None), "it may be stopped", gone);
        new.verify().check().unwrap();
    }
}

#[test]
fn udp_flows_are_counted_too() {
    let mut node = Node::start(LabBuilder::new(), Mode::Tc, &[IDLE]).unwrap();
    let service = node.lab().service("echo", target(), Protocol::Udp).weights([5_000, 0, 5_000]);
    node.apply(&[service.with("udp_idle: 3s")]).unwrap();
    let clients = node.lab().client_addresses(Family::V4);
    let plan = LongLivedPlan::new(target(), clients, CONNECTIONS)
        .protocol(Protocol::Udp)
        .talking(CONNECTIONS, Duration::from_secs(1));
    let flows = LongLived::open(node.lab().clients(), plan).unwrap();
    let [_, _, on_canary] = flows.state().by_version();
    weir(&node, &["drain", "echo", "canary"]);
    wait(&node, ("canary", None), "all flows are counted", |line| line["flows"] == on_canary);
    sleep(Duration::from_secs(6));
    assert_eq!(drain(&node, "canary", None).unwrap()["flows"], on_canary);
    flows.verify().check().unwrap();
    drop(flows);
    wait(&node, ("canary", None), "it may be stopped", |line| line["may_stop"] == "yes");
}

#[test]
fn what_is_left_at_the_end_is_reset_and_comes_back_elsewhere() {
    let node = start(Mode::Tc, "drain: { timeout: 8s, on_timeout: reset }");
    let old = talking(&node);
    let [on_blue, _, on_canary] = old.state().by_version();
    weir(&node, &["drain", "echo", "canary"]);
    let began = Instant::now();
    sleep(Duration::from_secs(4));
    old.verify().check().unwrap();
    while old.state().by_version()[2] > 0 {
        assert!(began.elapsed() < SOON, "{}", old.state());
        sleep(Duration::from_millis(200));
    }
    println!("{on_canary} were reset {:?} after the drain began", began.elapsed());
    let state = old.verify();
    assert_eq!(state.by_version(), [on_blue, 0, 0]);
    assert_eq!(state.faults().into_iter().collect::<Vec<_>>(), [(Fault::Reset, on_canary)]);
    wait(&node, ("canary", None), "it may be stopped", |line| line["may_stop"] == "yes");
    assert_eq!(talking(&node).state().by_version()[2], 0);
}

#[test]
fn a_shift_gives_up_what_it_leaves_behind_at_once() {
    let mut node = start(Mode::Xdp, "");
    let old = talking(&node);
    let [on_blue, _, on_canary] = old.state().by_version();
    let began = Instant::now();
    println!("{}", weir(&node, &["shift", "echo", "canary=0%", "--in-flight", "reset"]));
    let line = drain(&node, "canary", None).unwrap();
    assert_eq!((&line["flows"], &line["why"]), (&0.into(), &"given up".into()));
    while old.state().by_version()[2] > 0 {
        assert!(began.elapsed() < Duration::from_secs(5), "{}", old.state());
        sleep(Duration::from_millis(100));
    }
    println!("{on_canary} were reset within {:?}", began.elapsed());
    assert_eq!(old.verify().by_version(), [on_blue, 0, 0]);
    wait(&node, ("canary", None), "it may be stopped", |line| line["may_stop"] == "yes");

    // With weight again, its connections are as safe as any.
    node.shift(&["echo"], [0, 0, 10_000]).unwrap();
    let new = talking(&node);
    assert_eq!(new.state().by_version()[2], CONNECTIONS as usize);
    sleep(Duration::from_secs(12));
    new.verify().check().unwrap();
}

#[test]
fn a_backend_is_taken_out_and_taken_back() {
    let node = start(Mode::Tc, "");
    let address = node.lab().backends(Family::V4, Version::Canary)[0];
    let backend = SocketAddr::new(address, ECHO_PORT).to_string();
    let on_it = |connections: &LongLived| {
        let state = connections.state();
        let there = state
            .connections
            .iter()
            .filter(|one| one.identity.is_some_and(|identity| identity.address == address));
        there.count()
    };
    let old = talking(&node);
    let before = on_it(&old);
    assert!(before > 0);
    println!("{}", weir(&node, &["drain", "echo", &backend]));
    let new = talking(&node);
    assert_eq!(on_it(&new), 0);
    let at = ("canary", Some(backend.as_str()));
    wait(&node, at, "its flows are counted", |line| line["flows"] == before);
    drop(old);
    wait(&node, at, "it may be stopped", |line| line["may_stop"] == "yes");
    new.verify().check().unwrap();
    println!("{}", weir(&node, &["undrain", "echo", &backend]));
    assert!(drain(&node, "canary", Some(&backend)).is_none());
    assert!(on_it(&talking(&node)) > 0);
    new.verify().check().unwrap();
    println!("{}", weir(&node, &["events"]));
    println!("{}", weir(&node, &["settle", "echo", "--dry-run"]));
    assert!(node.lab().weir(&["settle", "echo"]).is_err(), "nobody was asked");
    println!("{}", weir(&node, &["settle", "echo", "--yes"]));
    new.verify().check().unwrap();
}
