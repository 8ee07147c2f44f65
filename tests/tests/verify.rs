//! `weir shift --verify` with real connections through the loaded program.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use weir::model::Agreement;
use weir_tests::lab::LabBuilder;
use weir_tests::lab::addresses::{Family, HTTP_PORT, vip};
use weir_tests::lab::spec::Protocol;
use weir_tests::load::fresh::{Close, Fresh, FreshPlan};
use weir_tests::node::{Mode, Node};

fn target() -> SocketAddr {
    SocketAddr::new(vip(Family::V4, 0), HTTP_PORT)
}

/// A node with the service `web`, everything on blue.
fn node(arguments: &[&str], more: &str) -> Node {
    let mut node =
        Node::start(LabBuilder::new().families(&[Family::V4]), Mode::Tc, arguments).unwrap();
    node.apply(&[node.lab().service("web", target(), Protocol::Tcp).with(more)]).unwrap();
    node
}

/// New connections at this rate until stopped.
fn load(node: &Node, rate: u32) -> Fresh {
    let clients = node.lab().client_addresses(Family::V4);
    let plan = FreshPlan::new(target(), clients).rate(rate).close(Close::Reset);
    Fresh::start(node.lab().clients(), plan).unwrap()
}

/// Exit code, and what the service's verification says.
fn weir(node: &Node, arguments: &[&str]) -> (i32, Value) {
    let arguments = [arguments, &["-o", "json"]].concat();
    let output = node.lab().weir_output(&arguments).unwrap();
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    println!("{arguments:?}: {} {}", output.status, answer["verified"]);
    (output.status.code().unwrap(), answer["verified"][0].clone())
}

#[test]
fn shifts_are_verified_by_the_connections_that_come() {
    let mut node = node(&[], "");
    let load = load(&node, 1_000);
    for shift in ["canary=5%", "canary=50%", "canary=100%"] {
        let (code, verified) = weir(&node, &["shift", "web", shift, "--verify=30s"]);
        assert_eq!((code, &verified["outcome"]), (0, &"agrees".into()), "{shift}: {verified}");
        // As many as the smallest share needs, and not one that came before the commit.
        let counted = &verified["sample_ratio"];
        let (seen, needed) = (counted["connections"].as_u64(), counted["needed"].as_u64());
        assert!(seen >= needed && needed > Some(0), "{shift}: {verified}");
        let canary = node.status("web").unwrap().versions[weir::model::Version::Canary].observed;
        assert!(canary.total >= needed.unwrap());
    }
    let (code, verified) = weir(&node, &["rollback", "web", "--verify=30s"]);
    assert_eq!((code, &verified["outcome"]), (0, &"agrees".into()), "{verified}");
    load.stop().unwrap().check().unwrap();
}

#[test]
fn without_traffic_nothing_can_be_told() {
    let node = node(&[], "");
    let (code, verified) = weir(&node, &["shift", "web", "canary=5%", "--verify=300ms"]);
    assert_eq!((code, &verified["outcome"]), (6, &"too-few".into()), "{verified}");
    assert_eq!(verified["sample_ratio"]["needed"], 801, "819 of 16384 slots");
    assert!(verified["took_ms"].as_u64().unwrap() >= 300);
}

/// A flow table with room for one flow: new connections keep to where they would have gone before the
/// shift, as they must, and so the shift has no effect that anyone asked for.
#[test]
fn a_shift_that_the_flow_table_has_no_room_for_is_told() {
    let mut node = node(&["--flows", "1"], "");
    let load = load(&node, 500);
    let (code, verified) = weir(&node, &["shift", "web", "canary=50%", "--verify=30s"]);
    assert_eq!((code, &verified["outcome"]), (5, &"differs".into()), "{verified}");
    let status = node.status("web").unwrap();
    assert_eq!(status.sample_ratio.agreement, Agreement::Differs);
    assert!(node.total("web").unwrap().fallback_full > 0);
    load.stop().unwrap().check().unwrap();
}

#[test]
fn connections_of_clients_that_stay_together_are_not_judged() {
    let node = node(&[], "affinity: client");
    let load = load(&node, 500);
    std::thread::sleep(Duration::from_millis(300));
    let (code, verified) = weir(&node, &["shift", "web", "canary=50%", "--verify"]);
    assert_eq!((code, &verified["outcome"]), (6, &"not-judged".into()), "{verified}");
    load.stop().unwrap().check().unwrap();
}
