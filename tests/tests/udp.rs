//! UDP flows stay with their backend over shifts and changes of backends, and new ones follow the
//! weights. Each answer names its backend, so a flow that moved is seen at once.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::Duration;

use weir::model::Observed;
use weir_tests::lab::LabBuilder;
use weir_tests::lab::addresses::{ECHO_PORT, Family, vip};
use weir_tests::lab::spec::Protocol;
use weir_tests::load::SourcePorts;
use weir_tests::load::long_lived::{LongLived, LongLivedPlan};
use weir_tests::node::{Mode, Node};

const FLOWS: u32 = 400;
const NEW_FLOWS: u32 = 2_400;

#[test]
fn flows_stay_and_new_ones_follow_in_tc() {
    for family in Family::ALL {
        flows_stay_and_new_ones_follow(Mode::Tc, family);
    }
}

#[test]
fn flows_stay_and_new_ones_follow_in_native_xdp() {
    for family in Family::ALL {
        flows_stay_and_new_ones_follow(Mode::Xdp, family);
    }
}

fn flows_stay_and_new_ones_follow(mode: Mode, family: Family) {
    let mut node = Node::start(LabBuilder::new(), mode, &[]).unwrap();
    let target = SocketAddr::new(vip(family, 0), ECHO_PORT);
    let service = node.lab().service("echo", target, Protocol::Udp).weights([3_400, 3_300, 3_300]);
    node.apply(std::slice::from_ref(&service)).unwrap();
    let clients = node.lab().client_addresses(family);
    // Old and new flows have clients of their own, and so cannot meet on a port.
    let (old, new) = clients.split_at(100);
    let open = |clients: &[_], flows, node: &Node| {
        let plan = LongLivedPlan::new(target, clients.to_vec(), flows)
            .protocol(Protocol::Udp)
            .ports(SourcePorts::Sequential)
            .talking(flows / 2, Duration::from_millis(500));
        let flows = LongLived::open(node.lab().clients(), plan).unwrap();
        flows.state().check().unwrap();
        flows
    };
    let flows = open(old, FLOWS, &node);

    for weights in [[0, 10_000, 0], [10_000, 0, 0], [0, 0, 10_000], [5_000, 0, 5_000]] {
        node.shift(&["echo"], weights).unwrap();
        sleep(Duration::from_millis(300));
        flows.verify().check().unwrap();
    }
    let mut fewer = service.clone().weights([5_000, 0, 5_000]);
    for backends in &mut fewer.backends {
        backends.remove(0);
    }
    node.apply(&[fewer]).unwrap();
    flows.verify().check().unwrap();
    let weights = [5_000, 2_000, 3_000];
    node.apply(&[service.weights(weights)]).unwrap();
    flows.verify().check().unwrap();

    let before = node.total("echo").unwrap();
    let new = open(new, NEW_FLOWS, &node);
    let by_version = new.state().by_version();
    println!("{} {family:?}: {by_version:?}", mode.name());
    for (weight, flows) in weights.into_iter().zip(by_version) {
        let observed =
            Observed { connections: flows as u64, total: u64::from(NEW_FLOWS), steered: 0 };
        let (low, high) = observed.interval();
        let asked = f64::from(weight) / 10_000.0;
        assert!((low..=high).contains(&asked), "asked {asked}, saw {low}..{high}");
    }
    let after = node.total("echo").unwrap();
    assert_eq!(after.connections - before.connections, u64::from(NEW_FLOWS));
    node.shift(&["echo"], [0, 10_000, 0]).unwrap();
    new.verify().check().unwrap();
    let old = flows.verify();
    old.check().unwrap();
    assert!(old.by_version().iter().all(|flows| *flows > 80), "{:?}", old.by_version());
}
