//! Fresh connections are counted exactly, and failures are told apart.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use weir_tests::identity::{Identity, Version};
use weir_tests::lab::addresses::{ECHO_PORT, Family, HTTP_PORT, backend, vip};
use weir_tests::lab::{Lab, LabBuilder};
use weir_tests::load::fresh::{Close, Fresh, FreshPlan};
use weir_tests::load::{Fault, SourcePorts};

use crate::{direct, small_lab};

fn fresh(lab: &Lab, target: SocketAddr) -> FreshPlan {
    FreshPlan::new(target, lab.client_addresses(Family::of(target.ip())))
}

#[test]
fn fresh_counts_are_what_the_servers_counted() {
    let lab = small_lab();
    for family in Family::ALL {
        for version in Version::ALL {
            let target = direct(family, version, HTTP_PORT);
            let plan = fresh(&lab, target).count(300).ports(SourcePorts::Sequential);
            let counts = Fresh::start(lab.clients(), plan).unwrap().finish().unwrap();
            counts.check().unwrap();
            let identity = Identity { version, address: target.ip() };
            assert_eq!(counts.by_backend().into_iter().collect::<Vec<_>>(), [(identity, 300)]);
            let served = lab.served()[&identity];
            assert_eq!((served.http_connections, served.http_requests), (300, 300));
        }
    }
    // And nothing at the others.
    let total: u64 = lab.served().values().map(|served| served.http_connections).sum();
    assert_eq!(total, 6 * 300);
}

#[test]
fn twenty_thousand_connections_take_seconds() {
    let lab = LabBuilder::new().start().unwrap();
    for (close, ports) in
        [(Close::Normal, SourcePorts::Kernel), (Close::Reset, SourcePorts::Random(1))]
    {
        let plan = fresh(&lab, direct(Family::V4, Version::Blue, HTTP_PORT))
            .count(20_000)
            .close(close)
            .ports(ports);
        let started = Instant::now();
        let counts = Fresh::start(lab.clients(), plan).unwrap().finish().unwrap();
        let taken = started.elapsed();
        println!("20000 connections, {close:?}: {taken:?}");
        assert_eq!(counts.answered(), 20_000, "{counts}");
        assert!(taken < Duration::from_secs(30), "took {taken:?}");
    }
    let identity =
        Identity { version: Version::Blue, address: backend(Family::V4, Version::Blue, 0) };
    assert_eq!(lab.served()[&identity].http_connections, 40_000);
}

#[test]
fn fresh_load_keeps_its_rate_and_stops() {
    let lab = small_lab();
    let plan = fresh(&lab, direct(Family::V4, Version::Green, HTTP_PORT)).rate(200);
    let load = Fresh::start(lab.clients(), plan).unwrap();
    std::thread::sleep(Duration::from_secs(1));
    let first = load.counts();
    std::thread::sleep(Duration::from_secs(1));
    let total = load.stop().unwrap();
    let second = total.since(&first);
    for second in [&first, &second] {
        assert!((150..=250).contains(&second.answered()), "at 200 a second: {second}");
    }
    total.check().unwrap();
}

#[test]
fn periods_are_counted_apart() {
    let lab = small_lab();
    let plan = fresh(&lab, direct(Family::V4, Version::Blue, HTTP_PORT)).rate(200);
    let load = Fresh::start(lab.clients(), plan).unwrap();
    let pause = || std::thread::sleep(Duration::from_millis(500));
    let first = load.begin_period();
    pause();
    let second = load.begin_period();
    pause();
    second.end();
    let before = second.counts().answered();
    pause();
    first.end();
    let total = load.stop().unwrap();
    total.check().unwrap();
    let [first, second] = [first, second].map(|period| period.counts().answered());
    for count in [first, second] {
        assert!((70..=130).contains(&count), "in half a second at 200 a second: {count}");
    }
    // What ran at its end is all that came later.
    assert!(second - before <= 64);
    assert!((70..=130).contains(&(total.answered() - first - second)), "{total}");
}

#[test]
fn fresh_tells_failures_apart() {
    let lab = small_lab();
    let failure_at = |target: SocketAddr, limit: Duration| {
        let plan = fresh(&lab, target).count(20).limit(limit);
        let counts = Fresh::start(lab.clients(), plan).unwrap().finish().unwrap();
        assert!(counts.check().is_err());
        counts.failures.into_iter().collect::<Vec<_>>()
    };
    let (short, long) = (Duration::from_millis(500), Duration::from_secs(4));
    let refused = failure_at(direct(Family::V4, Version::Blue, 81), short);
    assert_eq!(refused, [(Fault::Refused, 20)]);
    // The echo server greets with something that is no HTTP, and waits.
    let stalled = failure_at(direct(Family::V6, Version::Blue, ECHO_PORT), short);
    assert_eq!(stalled, [(Fault::Stalled, 20)]);
    // Without weir nobody answers for a service. The limit is long because an ICMP error that
    // finds the socket busy is forgotten until the next SYN.
    for family in Family::ALL {
        let unreachable = failure_at(SocketAddr::new(vip(family, 0), HTTP_PORT), long);
        assert_eq!(unreachable, [(Fault::Unreachable, 20)]);
    }
}
