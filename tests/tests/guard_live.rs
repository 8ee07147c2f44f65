//! A canary whose backend refuses everybody, under real traffic: the agent alone, told by nobody,
//! takes its weight away within the guard's window, and no connection at blue breaks.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use weir_tests::identity::Version;
use weir_tests::lab::LabBuilder;
use weir_tests::lab::addresses::{ECHO_PORT, Family, HTTP_PORT, backend, vip};
use weir_tests::lab::spec::{Protocol, yaml};
use weir_tests::load::fresh::{Fresh, FreshPlan};
use weir_tests::load::long_lived::{LongLived, LongLivedPlan};
use weir_tests::node::{Mode, Node};
use weir_tests::pace;

/// Nobody listens there.
const CLOSED: u16 = 81;
const RATE: u32 = 400;
const CONNECTIONS: u32 = 200;
/// The guard's window, and as long again for the looks and for a busy machine.
const RETURN: Duration = Duration::from_secs(10);

#[test]
fn a_canary_that_refuses_is_gone_within_the_window() {
    let mut node = Node::start(LabBuilder::new().clients(100), Mode::Tc, &[]).unwrap();
    let family = Family::V4;
    let at = |port| SocketAddr::new(vip(family, 0), port);
    let echo = node.lab().service("echo", at(ECHO_PORT), Protocol::Tcp).weights([10_000, 0, 0]);
    let (blue, ill) = (backend(family, Version::Blue, 0), backend(family, Version::Canary, 0));
    let web = format!(
        "  - name: web
    listeners: [{{ address: {}, port: {HTTP_PORT}, protocol: tcp }}]
    versions:
      blue: {{ weight: 100%, backends: [{{ address: {blue}, port: {HTTP_PORT} }}] }}
      canary: {{ weight: 0%, backends: [{{ address: {ill}, port: {CLOSED} }}] }}
",
        vip(family, 0)
    );
    node.apply_text(&(yaml(&[echo]) + &web)).unwrap();
    let clients = node.lab().client_addresses(family);
    let plan = LongLivedPlan::new(at(ECHO_PORT), clients.clone(), CONNECTIONS)
        .talking(CONNECTIONS, Duration::from_secs(1));
    let staying = LongLived::open(node.lab().clients(), plan).unwrap();
    let guard = ["guard", "web", "canary", "connect_success", ">= 50%", "--min-connections", "20"];
    node.lab().weir(&guard).unwrap();

    let plan = FreshPlan::new(at(HTTP_PORT), clients).rate(RATE);
    let load = Fresh::start(node.lab().clients(), plan).unwrap();
    sleep(Duration::from_secs(1));
    assert_eq!(load.counts().failed(), 0, "all is well, and the guard says nothing");
    let began = Instant::now();
    node.shift(&["web"], [9_500, 0, 500]).unwrap();
    let tripped = loop {
        if let Some(tripped) = node.status("web").unwrap().guard.unwrap().tripped {
            break tripped;
        }
        assert!(began.elapsed() < pace::wait(RETURN), "the guard has not tripped");
        sleep(Duration::from_millis(10));
    };
    let took = began.elapsed();
    sleep(Duration::from_millis(500));
    let harmed = load.counts().failed();
    sleep(Duration::from_secs(1));
    let counts = load.stop().unwrap();
    println!(
        "returned after {took:.2?}: {} of {} failed by its counters, {harmed} connections harmed \
         of {} in all",
        tripped.failures,
        tripped.connections,
        counts.answered() + counts.failed()
    );
    assert!(tripped.failures >= 20);
    assert_eq!(counts.failed(), harmed, "none has failed after the return");
    let status = node.status("web").unwrap();
    assert_eq!(status.versions[weir::model::Version::Canary].table.slots, 0);
    staying.state().check().unwrap();

    let again = node.lab().weir(&["shift", "web", "canary=5%"]).unwrap_err().to_string();
    assert!(again.contains("the guard on canary of service"), "{again}");
    let events = node.lab().weir(&["events"]).unwrap();
    assert!(events.contains("guard-tripped"), "{events}");
    assert!(node.lab().weir(&["get", "web"]).unwrap().contains("guard       TRIPPED at"));
    node.lab().weir(&["guard", "web", "--off"]).unwrap();
    node.lab().weir(&["shift", "web", "canary=5%"]).unwrap();
    staying.state().check().unwrap();
}
