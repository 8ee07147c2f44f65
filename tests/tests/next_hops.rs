//! The agent follows the way to each backend: traffic goes on when a backend's MAC address
//! changes and when neighbour entries are flushed, and before a next hop is known the kernel finds
//! the way for each packet, which is counted.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use weir_tests::identity::Version;
use weir_tests::lab::LabBuilder;
use weir_tests::lab::addresses::{ECHO_PORT, FAR_END, Family, HTTP_PORT, vip};
use weir_tests::lab::spec::Protocol;
use weir_tests::load::fresh::{Fresh, FreshPlan};
use weir_tests::load::long_lived::{LongLived, LongLivedPlan};
use weir_tests::node::{Mode, Node};
use weir_tests::pace;

/// The reason under which packets are counted for which the kernel found the way.
const BY_KERNEL: &str = "forward-by-kernel-route";

#[test]
fn traffic_goes_on_in_tc() {
    traffic_goes_on(Mode::Tc);
}

#[test]
fn traffic_goes_on_in_native_xdp() {
    traffic_goes_on(Mode::Xdp);
}

/// Where TC finishes what XDP leaves in frames that the kernel may have copied for XDP.
#[test]
fn traffic_goes_on_in_generic_xdp() {
    traffic_goes_on(Mode::XdpGeneric);
}

fn traffic_goes_on(mode: Mode) {
    let mut node = Node::start(LabBuilder::new(), mode, &[]).unwrap();
    the_kernel_finds_a_way_that_the_agent_does_not_know(&mut node);
    let load = Load::start(&node);
    neighbours_are_flushed(&node);
    backends_get_other_addresses(&node);
    load.stop();
    agent_knows_the_way_again(&mut node);
}

fn apply(node: &mut Node) {
    for (family, suffix) in [(Family::V4, "4"), (Family::V6, "6")] {
        for (name, port) in [("echo", ECHO_PORT), ("web", HTTP_PORT)] {
            let listener = SocketAddr::new(vip(family, 0), port);
            let service = node.lab().service(&format!("{name}{suffix}"), listener, Protocol::Tcp);
            node.apply(&[service.weights([3_400, 3_300, 3_300])]).unwrap();
        }
    }
}

/// Long-lived and new connections in both families.
struct Load {
    fresh: Vec<Fresh>,
    long_lived: Vec<LongLived>,
}

impl Load {
    fn start(node: &Node) -> Self {
        let lab = node.lab();
        let at = |family, port| SocketAddr::new(vip(family, 0), port);
        let fresh = Family::ALL.map(|family| {
            let plan = FreshPlan::new(at(family, HTTP_PORT), lab.client_addresses(family));
            Fresh::start(lab.clients(), plan.rate(200)).unwrap()
        });
        let long_lived = Family::ALL.map(|family| {
            let clients = lab.client_addresses(family);
            let plan = LongLivedPlan::new(at(family, ECHO_PORT), clients, 200);
            let plan = plan.talking(100, Duration::from_millis(100));
            LongLived::open(lab.clients(), plan).unwrap()
        });
        Self { fresh: fresh.into(), long_lived: long_lived.into() }
    }

    fn stop(self) {
        for long_lived in self.long_lived {
            long_lived.verify().check().unwrap();
        }
        for fresh in self.fresh {
            let counts = fresh.stop().unwrap();
            counts.check().unwrap();
            assert!(counts.answered() > 300, "{counts}");
        }
    }
}

/// The backends answer no question for their MAC address for a while, so nobody can know it.
fn the_kernel_finds_a_way_that_the_agent_does_not_know(node: &mut Node) {
    for version in Version::ALL {
        arp(node, version, "off");
    }
    node.lab().lb().ip(&["neigh flush all".to_owned()]).unwrap();
    apply(node);
    assert_eq!(node.verdict(BY_KERNEL).unwrap(), 0);
    for (name, state) in next_hops(node) {
        assert_eq!(state, "unresolved", "{name}");
    }
    let family = Family::V4;
    let plan = LongLivedPlan::new(
        SocketAddr::new(vip(family, 0), ECHO_PORT),
        node.lab().client_addresses(family),
        40,
    );
    let first = std::thread::scope(|scope| {
        let opening = scope.spawn(|| LongLived::open(node.lab().clients(), plan).unwrap());
        sleep(pace::wait(Duration::from_millis(400)));
        for version in Version::ALL {
            arp(node, version, "on");
        }
        opening.join().unwrap()
    });
    first.state().check().unwrap();
    assert!(node.verdict(BY_KERNEL).unwrap() >= 40);
    agent_knows_the_way_again(node);

    // From now on the agent's knowledge is used.
    let before = node.verdict(BY_KERNEL).unwrap();
    first.verify().check().unwrap();
    assert_eq!(node.verdict(BY_KERNEL).unwrap(), before);
}

fn arp(node: &Node, version: Version, state: &str) {
    node.lab().version(version).ip(&[format!("link set {FAR_END} arp {state}")]).unwrap();
}

/// On the balancer host and on the clients' and backends' side.
fn neighbours_are_flushed(node: &Node) {
    let lab = node.lab();
    for _ in 0..3 {
        sleep(pace::wait(Duration::from_millis(300)));
        for namespace in [lab.lb(), lab.clients(), lab.version(Version::Blue)] {
            namespace.ip(&["neigh flush all".to_owned()]).unwrap();
        }
    }
}

/// Each version's host gets another MAC address, and tells so, as a host does that takes over.
fn backends_get_other_addresses(node: &Node) {
    for (index, version) in Version::ALL.into_iter().enumerate() {
        let host = node.lab().version(version);
        let says_so =
            [("net/ipv4/conf/all/arp_notify", "1"), ("net/ipv6/conf/all/ndisc_notify", "1")];
        host.sysctl(&says_so).unwrap();
        host.ip(&[format!("link set {FAR_END} address 02:00:00:00:00:0{index}")]).unwrap();
        sleep(pace::wait(Duration::from_millis(300)));
    }
}

/// Within a few seconds, of every backend.
fn agent_knows_the_way_again(node: &mut Node) {
    let deadline = Instant::now() + pace::wait(Duration::from_secs(15));
    loop {
        let hops = next_hops(node);
        assert_eq!(hops.len(), 4 * 6);
        let unknown: Vec<_> = hops.iter().filter(|(_, state)| state != "resolved").collect();
        if unknown.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "{unknown:?}");
        sleep(Duration::from_millis(100));
    }
}

/// Each backend of each service with the state of its next hop, as `weir get -o json` tells.
fn next_hops(node: &Node) -> Vec<(String, String)> {
    let text = node.lab().weir(&["get", "-o", "json"]).unwrap();
    let services: Value = serde_json::from_str(&text).unwrap();
    let mut hops = Vec::new();
    for service in services.as_array().unwrap() {
        for version in service["versions"].as_object().unwrap().values() {
            for backend in version["backends"].as_array().unwrap() {
                let name = format!("{} {}", service["spec"]["name"], backend["address"]);
                let state = backend["next_hop"]["state"].as_str().unwrap().to_owned();
                hops.push((name, state));
            }
        }
    }
    hops
}
