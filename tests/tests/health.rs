//! Backends that die and come back, checked by the running agent, under load: new connections avoid
//! them in time, nobody else's connection breaks, and what began meanwhile lives on.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

#[path = "health/many.rs"]
mod many;
#[path = "health/packets.rs"]
mod packets;
#[path = "health/vitals.rs"]
mod vitals;

use std::net::{IpAddr, SocketAddr};
use std::thread::sleep;
use std::time::{Duration, Instant};

use vitals::Vitals;
use weir::model::BackendState;
use weir::node::messages::BackendStatus;
use weir_tests::identity::Version;
use weir_tests::lab::LabBuilder;
use weir_tests::lab::addresses::{ECHO_PORT, Family, HTTP_PORT, vip};
use weir_tests::lab::spec::{Protocol, ServiceSpec};
use weir_tests::load::Fault;
use weir_tests::load::fresh::{Fresh, FreshPlan};
use weir_tests::load::long_lived::{LongLived, LongLivedPlan, LongLivedState};
use weir_tests::node::{Mode, Node};
use weir_tests::pace;

/// Often, so that the tests are short: down within 3 × 300 ms + 200 ms.
const OFTEN: &str = "interval: 300ms, timeout: 200ms";
const BOUND: Duration = Duration::from_millis(3 * 300 + 200);
/// For the commit, and for this machine, which does a lot at the same time.
const SLACK: Duration = Duration::from_millis(400);

fn target(port: u16) -> SocketAddr {
    SocketAddr::new(vip(Family::V4, 0), port)
}

/// The services `web` and `echo`, each with this check.
fn services(node: &Node, check: &str) -> Vec<ServiceSpec> {
    let service = |(name, port)| {
        let service = node.lab().service(name, target(port), Protocol::Tcp);
        service.with(&format!("health: {{ {check} }}"))
    };
    [("web", HTTP_PORT), ("echo", ECHO_PORT)].map(service).to_vec()
}

/// Connections that all talk, of the first or of the second half of the clients.
fn talking(node: &Node, half: usize) -> LongLived {
    let clients = node.lab().client_addresses(Family::V4);
    let clients = clients.chunks(clients.len() / 2).nth(half).unwrap().to_vec();
    let plan = LongLivedPlan::new(target(ECHO_PORT), clients, 150)
        .talking(150, Duration::from_millis(200));
    let opened = LongLived::open(node.lab().clients(), plan).unwrap();
    opened.state().check().unwrap();
    opened
}

fn fresh(node: &Node) -> Fresh {
    let plan = FreshPlan::new(target(HTTP_PORT), node.lab().client_addresses(Family::V4));
    Fresh::start(node.lab().clients(), plan.rate(pace::rate(200))).unwrap()
}

fn served(fresh: &Fresh, address: IpAddr) -> u64 {
    let all = fresh.counts().by_backend();
    all.iter().filter(|(one, _)| one.address == address).map(|(_, count)| count).sum()
}

/// After what time no new connection has come to a backend any more.
fn last_new(fresh: &Fresh, address: IpAddr) -> Duration {
    let began = Instant::now();
    let (mut last, mut count) = (Duration::ZERO, served(fresh, address));
    while began.elapsed() < pace::wait(BOUND + SLACK + Duration::from_secs(1)) {
        let now = served(fresh, address);
        if now != count {
            (last, count) = (began.elapsed(), now);
        }
        sleep(Duration::from_millis(10));
    }
    last
}

fn backend(node: &mut Node, service: &str, address: IpAddr) -> BackendStatus {
    let status = node.status(service).unwrap();
    let mut all = status.versions.iter().flat_map(|(_, version)| &version.backends);
    all.find(|one| one.address == address).unwrap().clone()
}

fn wait_for(node: &mut Node, service: &str, address: IpAddr, state: BackendState) -> Duration {
    let began = Instant::now();
    while backend(node, service, address).state != state {
        let limit = pace::wait(Duration::from_secs(20));
        assert!(began.elapsed() < limit, "{address} is not {state:?} in {limit:?}");
        sleep(Duration::from_millis(20));
    }
    began.elapsed()
}

/// How many connections are on a backend, and the rest, which must be unbroken.
fn on(state: &LongLivedState, address: IpAddr) -> (usize, usize) {
    let is_there = |one: &&weir_tests::load::long_lived::Connection| {
        one.identity.is_some_and(|identity| identity.address == address)
    };
    let there = state.connections.iter().filter(is_there).count();
    (there, state.connections.len() - there)
}

fn events(node: &Node) -> String {
    node.lab().weir(&["events"]).unwrap()
}

#[test]
fn new_connections_avoid_one_that_fails_in_time_and_nothing_breaks() {
    let checks = [
        (Mode::Tc, format!("type: tcp, port: {}", vitals::TCP), "connection refused"),
        (
            Mode::Xdp,
            format!("type: http, port: {}, path: /healthz", vitals::HTTP),
            "status 500, wanted 200-399",
        ),
        (Mode::Tc, format!("type: grpc, port: {}", vitals::GRPC), "it says NOT_SERVING"),
    ];
    for (mode, check, error) in checks {
        let builder = LabBuilder::new().backends(3).families(&[Family::V4]);
        let mut node = Node::start(builder, mode, &[]).unwrap();
        let blue = node.lab().backends(Family::V4, Version::Blue);
        let vitals = Vitals::start(node.lab().version(Version::Blue), &blue);
        let services = services(&node, &format!("{check}, {OFTEN}"));
        node.apply(&services).unwrap();
        let (old, fresh) = (talking(&node, 0), fresh(&node));
        let victim = blue[1];
        assert!(on(&old.state(), victim).0 > 20);
        // A check that is due has been made: only now the first bad one may come late.
        sleep(pace::wait(Duration::from_secs(1)));

        vitals.set(victim, false);
        let took = last_new(&fresh, victim);
        println!(
            "{check}: the last new connection came {took:?} after the failure, {BOUND:?} are allowed"
        );
        assert!(took > Duration::from_millis(300), "it went before its third bad check");
        assert!(took <= pace::wait(BOUND + SLACK), "{took:?}");
        let down = backend(&mut node, "web", victim);
        let health = down.health.unwrap();
        assert_eq!((down.state, down.slots), (BackendState::Down, 0));
        assert_eq!((health.failing, health.error.as_deref()), (true, Some(error)));
        old.verify().check().unwrap();

        let meanwhile = talking(&node, 1);
        assert_eq!(on(&meanwhile.state(), victim).0, 0);
        vitals.set(victim, true);
        let back = wait_for(&mut node, "web", victim, BackendState::Active);
        wait_for(&mut node, "echo", victim, BackendState::Active);
        assert!(back <= pace::wait(2 * Duration::from_millis(500) + SLACK), "back after {back:?}");
        let before = served(&fresh, victim);
        sleep(pace::wait(Duration::from_secs(1)));
        assert!(served(&fresh, victim) > before);
        for connections in [&old, &meanwhile] {
            connections.verify().check().unwrap();
        }
        fresh.stop().unwrap().check().unwrap();
        let told = events(&node);
        assert!(
            told.contains(&format!("{victim}:{HTTP_PORT} is down: {error} (3 of 3)")),
            "{told}"
        );
        assert!(told.contains(&format!("{victim}:{HTTP_PORT} is up again")), "{told}");
    }
}

#[test]
fn what_is_reset_is_told_at_once_and_comes_back_elsewhere() {
    let builder = LabBuilder::new().backends(3).families(&[Family::V4]);
    let mut node = Node::start(builder, Mode::Tc, &[]).unwrap();
    let blue = node.lab().backends(Family::V4, Version::Blue);
    let vitals = Vitals::start(node.lab().version(Version::Blue), &blue);
    let check = format!("type: tcp, port: {}, {OFTEN}, on_down: reset", vitals::TCP);
    let services = services(&node, &check);
    node.apply(&services).unwrap();
    let old = talking(&node, 0);
    let victim = blue[2];
    let (gone, stay) = on(&old.state(), victim);
    assert!(gone > 20 && stay > 50);
    vitals.set(victim, false);
    wait_for(&mut node, "echo", victim, BackendState::Down);
    sleep(pace::wait(Duration::from_secs(1)));
    let state = old.verify();
    let reset = state.connections.iter().filter(|one| one.fault == Some(Fault::Reset));
    assert_eq!((reset.count(), state.healthy()), (gone, stay), "{state}");
    assert!(events(&node).contains("its connections are given up"));

    let meanwhile = talking(&node, 1);
    vitals.set(victim, true);
    wait_for(&mut node, "echo", victim, BackendState::Active);
    meanwhile.verify().check().unwrap();
    assert_eq!(old.verify().healthy(), stay);
}

#[test]
fn a_version_that_dies_fails_over_by_weight_or_holds() {
    for hold in [false, true] {
        let mut node =
            Node::start(LabBuilder::new().families(&[Family::V4]), Mode::Tc, &[]).unwrap();
        let option = if hold { ", on_empty: hold" } else { "" };
        let services = services(&node, &format!("type: tcp, {OFTEN}{option}"))
            .into_iter()
            .map(|service| service.weights([5_000, 3_000, 2_000]))
            .collect::<Vec<_>>();
        node.apply(&services).unwrap();
        let old = talking(&node, 0);
        let canary = node.lab().backends(Family::V4, Version::Canary)[0];
        let lost = old.state().by_version()[2];
        sleep(pace::wait(Duration::from_secs(1)));

        let died = Instant::now();
        node.lab_mut().stop_servers(Version::Canary);
        for service in ["web", "echo"] {
            wait_for(&mut node, service, canary, BackendState::Down);
            let other = node.lab().backends(Family::V4, Version::Canary)[1];
            wait_for(&mut node, service, other, BackendState::Down);
        }
        println!("down after {:?}, {BOUND:?} are allowed", died.elapsed());
        assert!(died.elapsed() <= pace::wait(BOUND + SLACK));
        let share =
            node.status("web").unwrap().versions[weir::model::Version::Canary].table.share();
        let told = events(&node);
        if hold {
            assert!((share - 0.2).abs() < 0.001);
            assert!(told.contains("its 20% stay (on_empty: hold)"), "{told}");
        } else {
            assert!(share == 0.0);
            assert!(
                told.contains("version canary has no backend left: its 20% go to blue and green")
            );
            let clients = node.lab().client_addresses(Family::V4);
            let plan = FreshPlan::new(target(HTTP_PORT), clients).count(400);
            let counts = Fresh::start(node.lab().clients(), plan).unwrap().finish().unwrap();
            counts.check().unwrap();
            let [blue, green, gone] = counts.by_version();
            assert!(blue > green && green > 90 && gone == 0, "{counts}");
            // A shift to what is down is refused.
            let refused = node.shift(&["web"], [0, 0, 10_000]).unwrap_err().to_string();
            assert!(refused.contains("no backend that takes connections"), "{refused}");
            let meanwhile = talking(&node, 1);
            node.lab_mut().start_servers(Version::Canary).unwrap();
            wait_for(&mut node, "echo", canary, BackendState::Active);
            wait_for(&mut node, "web", canary, BackendState::Active);
            meanwhile.verify().check().unwrap();
            let plan = FreshPlan::new(target(HTTP_PORT), node.lab().client_addresses(Family::V4))
                .count(400);
            let counts = Fresh::start(node.lab().clients(), plan).unwrap().finish().unwrap();
            counts.check().unwrap();
            assert!(counts.by_version()[2] > 40, "{counts}");
        }
        let state = old.verify();
        assert_eq!(state.healthy(), 150 - lost, "only the dead version's own: {state}");
    }
}

#[test]
fn one_that_flaps_is_damped() {
    let builder = LabBuilder::new().families(&[Family::V4]);
    let mut node = Node::start(builder, Mode::Tc, &[]).unwrap();
    let blue = node.lab().backends(Family::V4, Version::Blue);
    let vitals = Vitals::start(node.lab().version(Version::Blue), &blue);
    let check = format!("type: tcp, port: {}, interval: 100ms, timeout: 100ms", vitals::TCP);
    let service = services(&node, &check).remove(0);
    node.apply(&[service]).unwrap();
    let victim = blue[0];
    let mut returns = Vec::new();
    for _ in 0..6 {
        vitals.set(victim, false);
        wait_for(&mut node, "web", victim, BackendState::Down);
        vitals.set(victim, true);
        returns.push(wait_for(&mut node, "web", victim, BackendState::Active));
    }
    println!("back after {returns:?}");
    // 2, 2, 4, 8, 16 and 32 good checks, 80 to 100 ms apart.
    assert!(returns[0] < Duration::from_millis(600) && returns[1] < Duration::from_millis(600));
    assert!(returns[3] > Duration::from_millis(7 * 80));
    assert!(returns[5] > Duration::from_millis(31 * 80));
}

#[test]
fn what_was_down_is_down_after_a_restart() {
    let builder = LabBuilder::new().families(&[Family::V4]);
    let mut node = Node::start(builder, Mode::Tc, &[]).unwrap();
    let blue = node.lab().backends(Family::V4, Version::Blue);
    let vitals = Vitals::start(node.lab().version(Version::Blue), &blue);
    let check = format!("type: tcp, port: {}, {OFTEN}", vitals::TCP);
    let service = services(&node, &check).remove(0);
    node.apply(&[service]).unwrap();
    vitals.set(blue[0], false);
    wait_for(&mut node, "web", blue[0], BackendState::Down);
    node.take_agent().unwrap().kill().unwrap();
    node.restart().unwrap();
    let now = backend(&mut node, "web", blue[0]);
    assert_eq!((now.state, now.slots), (BackendState::Down, 0));
    vitals.set(blue[0], true);
    wait_for(&mut node, "web", blue[0], BackendState::Active);
}
