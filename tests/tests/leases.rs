//! Leases in a running agent: renewed, run out, and run out while no agent ran. Connections live
//! through all of it.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use weir_tests::lab::LabBuilder;
use weir_tests::lab::addresses::{ECHO_PORT, Family, vip};
use weir_tests::lab::spec::Protocol;
use weir_tests::load::long_lived::{LongLived, LongLivedPlan};
use weir_tests::node::{Mode, Node};
use weir_tests::pace;

fn target() -> SocketAddr {
    SocketAddr::new(vip(Family::V4, 0), ECHO_PORT)
}

fn weir(node: &Node, line: &str) -> String {
    node.lab().weir(&line.split(' ').collect::<Vec<_>>()).unwrap()
}

/// The weights asked for, in basis points. The table has them.
fn asked(node: &mut Node) -> [u32; 3] {
    let status = node.status("echo").unwrap();
    let mut asked = [0; 3];
    for (asked, (_, version)) in asked.iter_mut().zip(status.versions.iter()) {
        *asked = version.asked.bp();
        let exact = f64::from(version.table.total) * f64::from(*asked) / 10_000.0;
        assert!((f64::from(version.table.slots) - exact).abs() <= 1.0);
    }
    asked
}

fn connect(node: &Node) -> LongLived {
    let plan = LongLivedPlan::new(target(), node.lab().client_addresses(Family::V4), 200);
    let opened = LongLived::open(node.lab().clients(), plan).unwrap();
    opened.state().check().unwrap();
    opened
}

fn expired(node: &Node) -> String {
    let events = weir(node, "events echo");
    let last = events.lines().rfind(|line| line.contains("lease-expired"));
    last.unwrap_or_else(|| panic!("no lease has run out:\n{events}")).to_owned()
}

const BLUE: [u32; 3] = [10_000, 0, 0];
const HALF: [u32; 3] = [5_000, 0, 5_000];

#[test]
fn leases_are_renewed_and_run_out_also_while_no_agent_runs() {
    let mut node = Node::start(LabBuilder::new(), Mode::Tc, &[]).unwrap();
    let echo = node.lab().service("echo", target(), Protocol::Tcp);
    node.apply(&[echo]).unwrap();
    let mut connections = vec![connect(&node)];

    // Renewed for twice its length, it holds.
    let said = weir(&node, "shift echo canary=50% --lease 4s --on-expiry revert");
    assert!(said.contains("echo: lease: 4s left of 4s, then back to blue 100%"), "{said}");
    connections.push(connect(&node));
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(8) {
        sleep(Duration::from_secs(1));
        weir(&node, "renew echo");
        assert_eq!(asked(&mut node), HALF);
    }
    let get = weir(&node, "get echo");
    assert!(get.contains("left of 4s, then back to blue 100%; renew it with `weir renew echo`"));

    // Not renewed any more, it goes back.
    let deadline = Instant::now() + pace::wait(Duration::from_secs(10));
    while asked(&mut node) != BLUE {
        assert!(Instant::now() < deadline, "the lease does not run out");
        sleep(Duration::from_millis(100));
    }
    let text = "was not renewed; the weights went back: blue 50% → 100%, canary 50% → 0%";
    assert!(expired(&node).contains(text), "{}", expired(&node));
    assert!(!weir(&node, "get echo").contains("lease"));
    let refused = node.lab().weir_output(&["renew", "echo"]).unwrap();
    assert_eq!(refused.status.code(), Some(4));

    // The agent is killed; the lease outlives it, and runs out while there is none.
    weir(&node, "shift echo canary=50% --lease 1h --on-expiry revert");
    node.take_agent().unwrap().kill().unwrap();
    node.restart().unwrap();
    let lease = node.status("echo").unwrap().lease.unwrap();
    assert!(lease.left > Duration::from_secs(3_500), "{lease:?}");
    weir(&node, "renew echo --lease 2s");
    node.take_agent().unwrap().kill().unwrap();
    sleep(Duration::from_millis(2_100));
    node.restart().unwrap();
    assert_eq!(asked(&mut node), BLUE);
    assert!(expired(&node).contains("the lease of 2s was not renewed; the weights went back"));

    // Held, the weights stay.
    weir(&node, "shift echo canary=50% --lease 1s");
    sleep(Duration::from_secs(3));
    assert_eq!(asked(&mut node), HALF);
    assert!(expired(&node).contains("the weights stay: blue 50%, canary 50%"));
    let status = node.status("echo").unwrap();
    assert_eq!((status.lease, status.settled.to_string()), (None, "blue 100%".to_owned()));
    for connections in connections {
        connections.verify().check().unwrap();
    }
}
