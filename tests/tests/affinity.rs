//! Affinity: with `client`, all connections of a client address go to one version; with
//! `client-backend`, to one backend. While canary rises, no client leaves it.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use weir::model::Observed;
use weir_tests::identity::{Identity, Version};
use weir_tests::lab::LabBuilder;
use weir_tests::lab::addresses::{Family, HTTP_PORT, vip};
use weir_tests::lab::spec::Protocol;
use weir_tests::load::SourcePorts;
use weir_tests::load::fresh::{Close, Fresh, FreshPlan};
use weir_tests::node::{Mode, Node};

/// Who answered each client.
type Answers = BTreeMap<IpAddr, BTreeSet<Identity>>;

fn node(affinity: &str, weights: [u16; 3]) -> Node {
    let mut node = Node::start(LabBuilder::new(), Mode::Tc, &[]).unwrap();
    for family in Family::ALL {
        let service = node.lab().service(name(family), target(family), Protocol::Tcp);
        let service = service.weights(weights).with(&format!("affinity: {affinity}"));
        node.apply(&[service]).unwrap();
    }
    node
}

fn name(family: Family) -> &'static str {
    if family == Family::V4 { "web4" } else { "web6" }
}

fn target(family: Family) -> SocketAddr {
    SocketAddr::new(vip(family, 0), HTTP_PORT)
}

/// Eight connections of each client, from the same ports each time.
fn ask(node: &Node, family: Family) -> Answers {
    let lab = node.lab();
    let plan = FreshPlan::new(target(family), lab.client_addresses(family))
        .count(4_000)
        .ports(SourcePorts::Sequential)
        .close(Close::Reset);
    let counts = Fresh::start(lab.clients(), plan).unwrap().finish().unwrap();
    counts.check().unwrap();
    let mut answers = Answers::new();
    for (client, identity) in counts.answers.into_keys() {
        answers.entry(client).or_default().insert(identity);
    }
    assert_eq!(answers.len(), 500);
    answers
}

fn versions(identities: &BTreeSet<Identity>) -> BTreeSet<Version> {
    identities.iter().map(|identity| identity.version).collect()
}

/// The clients of each version are within the 99.9 % interval of its weight.
fn as_asked(answers: &Answers, weights: [u16; 3]) {
    for (version, weight) in Version::ALL.into_iter().zip(weights) {
        let of_version = answers.values().filter(|who| versions(who).contains(&version)).count();
        let observed =
            Observed { connections: of_version as u64, total: answers.len() as u64, steered: 0 };
        let (low, high) = observed.interval();
        let asked = f64::from(weight) / 10_000.0;
        assert!((low..=high).contains(&asked), "{version}: asked {asked}, saw {low}..{high}");
    }
}

#[test]
fn a_client_stays_with_a_version() {
    let weights = [5_000, 2_500, 2_500];
    let node = node("client", weights);
    for family in Family::ALL {
        let answers = ask(&node, family);
        assert!(answers.values().all(|who| versions(who).len() == 1), "{answers:?}");
        as_asked(&answers, weights);
        // Not with one backend: of eight connections all to one of two is a chance of 1 in 128.
        let one_backend = answers.values().filter(|who| who.len() == 1).count();
        assert!(one_backend < 30, "{one_backend} of 500 clients see one backend only");
    }
}

#[test]
fn a_client_stays_with_a_backend() {
    let weights = [5_000, 2_500, 2_500];
    let node = node("client-backend", weights);
    for family in Family::ALL {
        let answers = ask(&node, family);
        assert!(answers.values().all(|who| who.len() == 1), "{answers:?}");
        as_asked(&answers, weights);
        let backends: BTreeSet<_> = answers.values().flatten().collect();
        assert_eq!(backends.len(), 6, "every backend has clients");
    }
}

#[test]
fn no_client_leaves_a_canary_that_rises() {
    let mut node = node("client", [10_000, 0, 0]);
    for family in Family::ALL {
        let mut before = BTreeSet::new();
        for canary in [0, 500, 1_000, 2_500, 5_000, 10_000] {
            let weights = [10_000 - canary, 0, canary];
            node.shift(&[name(family)], weights).unwrap();
            let answers = ask(&node, family);
            as_asked(&answers, weights);
            let on_canary = |who: &BTreeSet<Identity>| versions(who).contains(&Version::Canary);
            let now: BTreeSet<IpAddr> =
                answers.iter().filter(|(_, who)| on_canary(who)).map(|(who, _)| *who).collect();
            assert!(now.is_superset(&before), "left: {:?}", before.difference(&now));
            before = now;
        }
        assert_eq!(before.len(), 500);
    }
}
