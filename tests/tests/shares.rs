//! New connections are shared as asked: at the clients, in the table and in the agent's counters,
//! which are exact.
//!
//! Nothing here is left to chance. Addresses, source ports and the service's seed are the same in
//! every run, so every run sees the same shares: a share within its interval stays within it.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use weir::model::Observed;
use weir::node::messages::Traffic;
use weir_tests::identity::Version;
use weir_tests::lab::LabBuilder;
use weir_tests::lab::addresses::{Family, HTTP_PORT, vip};
use weir_tests::lab::spec::Protocol;
use weir_tests::load::SourcePorts;
use weir_tests::load::fresh::{Close, Fresh, FreshCounts, FreshPlan};
use weir_tests::node::{Mode, Node};

/// Blue, green and canary, in basis points.
const WEIGHTS: [[u16; 3]; 3] = [[9_500, 0, 500], [9_000, 500, 500], [3_334, 3_333, 3_333]];

const SEED: &str = r#"seed: "5eed0000000000000000000000005eed""#;

#[test]
fn twenty_thousand_connections_are_shared_in_tc_over_ipv4() {
    let plan = |plan: FreshPlan| plan.count(20_000).ports(SourcePorts::Random(1));
    shares(Mode::Tc, Family::V4, plan);
}

#[test]
fn connections_are_shared_in_tc_over_ipv6() {
    shares(Mode::Tc, Family::V6, five_thousand);
}

#[test]
fn connections_are_shared_in_native_xdp() {
    for family in Family::ALL {
        shares(Mode::Xdp, family, five_thousand);
    }
}

#[test]
fn connections_are_shared_in_generic_xdp() {
    for family in Family::ALL {
        shares(Mode::XdpGeneric, family, five_thousand);
    }
}

/// With source ports that follow each other, on which a weak hash would fail.
fn five_thousand(plan: FreshPlan) -> FreshPlan {
    plan.count(5_000).ports(SourcePorts::Sequential)
}

fn shares(mode: Mode, family: Family, shape: impl Fn(FreshPlan) -> FreshPlan) {
    let mut node = Node::start(LabBuilder::new(), mode, &[]).unwrap();
    let target = SocketAddr::new(vip(family, 0), HTTP_PORT);
    node.apply(&[node.lab().service("web", target, Protocol::Tcp).with(SEED)]).unwrap();
    let clients = node.lab().client_addresses(family);
    assert_eq!(clients.len(), 500);
    for weights in WEIGHTS {
        node.shift(&["web"], weights).unwrap();
        let before = Counted::read(&mut node);
        // Reset, so that the next round may use the same ports.
        let plan = shape(FreshPlan::new(target, clients.clone()).close(Close::Reset));
        let counts = Fresh::start(node.lab().clients(), plan).unwrap().finish().unwrap();
        counts.check().unwrap();
        println!("{} {family:?} {weights:?}: {counts}", mode.name());
        as_asked(&counts, weights);
        in_the_table(&mut node, &counts, weights);
        exactly_counted(&before, &Counted::read(&mut node), &counts);
    }
}

/// Each version's share at the clients is within its 99.9 % interval of its weight.
fn as_asked(counts: &FreshCounts, weights: [u16; 3]) {
    let answers = counts.by_version();
    for (index, version) in Version::ALL.into_iter().enumerate() {
        let observed =
            Observed { connections: answers[index], total: counts.answered(), steered: 0 };
        let (low, high) = observed.interval();
        let asked = f64::from(weights[index]) / 10_000.0;
        assert!((low..=high).contains(&asked), "{version}: asked {asked}, saw {low}..{high}");
        assert!(weights[index] > 0 || answers[index] == 0, "{version} has no weight: {counts}");
    }
}

/// Each version's share of the table is its weight to the slot, and what the agent says it has
/// observed is what the clients saw.
fn in_the_table(node: &mut Node, counts: &FreshCounts, weights: [u16; 3]) {
    let status = node.status("web").unwrap();
    for (index, (version, status)) in status.versions.iter().enumerate() {
        assert_eq!(status.asked.bp(), u32::from(weights[index]));
        let exact = f64::from(status.table.total) * f64::from(weights[index]) / 10_000.0;
        let off = (f64::from(status.table.slots) - exact).abs();
        assert!(off < 1.0, "{version}: {} slots, {exact} are its weight", status.table.slots);
        let seen = (status.observed.connections, status.observed.total);
        assert_eq!(seen, (counts.by_version()[index], counts.answered()), "{version}");
    }
}

/// What was counted by backend: by the agent, and by the servers.
struct Counted {
    weir: BTreeMap<IpAddr, Traffic>,
    served: BTreeMap<IpAddr, u64>,
    retransmitted_syns: u64,
}

impl Counted {
    fn read(node: &mut Node) -> Self {
        let served = node.lab().served();
        Self {
            weir: node.traffic("web").unwrap(),
            served: served.iter().map(|(who, s)| (who.address, s.http_connections)).collect(),
            retransmitted_syns: node.lab().retransmitted_syns().unwrap(),
        }
    }
}

fn exactly_counted(before: &Counted, after: &Counted, counts: &FreshCounts) {
    // A SYN sent again is one connection for the server and two for weir, which remembers nothing.
    assert_eq!(
        before.retransmitted_syns, after.retransmitted_syns,
        "SYNs were lost or late: this machine is too busy to compare exactly"
    );
    let answers = counts.by_backend();
    for (address, now) in &after.weir {
        let was = before.weir[address];
        let new = now.connections - was.connections;
        let answered = answers.iter().find(|(who, _)| who.address == *address);
        assert_eq!(new, answered.map_or(0, |(_, count)| *count), "{address}: answers");
        assert_eq!(new, after.served[address] - before.served[address], "{address}: served");
        // SYN, ACK, request and RST at least, of 40 bytes or more; SYN-ACK and answer.
        let (packets_in, packets_out) =
            (now.packets_in - was.packets_in, now.packets_out - was.packets_out);
        assert!(packets_in >= 4 * new && packets_out >= 2 * new, "{address}: {now:?}");
        assert!(now.bytes_in - was.bytes_in >= 40 * packets_in, "{address}: {now:?}");
        assert!(now.bytes_out - was.bytes_out >= 40 * packets_out, "{address}: {now:?}");
    }
    let connections = |all: &Counted| all.weir.values().map(|one| one.connections).sum::<u64>();
    assert_eq!(connections(after) - connections(before), counts.answered());
}
