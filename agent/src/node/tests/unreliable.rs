//! A data plane and a store that fail by chance, at any call: what a node holds is what was before
//! or what was asked for, whole; the same request brings it about in the end; and no flow moves.

use Version::{Blue, Canary, Green};

use super::*;
use crate::model::BackendState;
use crate::node::clock;
use crate::node::directory::Key;

/// So many of a hundred calls fail.
const FAILURES: u64 = 30;
/// A request that failed is made again so often at most.
const TRIES: u64 = 200;

/// The services as they were asked for.
fn asked(node: &Node) -> BTreeMap<ServiceName, Service> {
    let services = node.owner.state.services.iter();
    services.map(|(name, entry)| (name.clone(), entry.service.clone())).collect()
}

/// What the program would do is what the node says of itself.
fn must_agree(node: &Node, what: &str) {
    let plane = node.plane.lock().clone();
    assert_eq!(plane.services.len(), node.owner.state.services.len(), "{what}");
    for (name, entry) in &node.owner.state.services {
        let (_, image) = &plane.services[&entry.index];
        assert_eq!(image.tables, entry.tables, "{what}: {name}");
        assert_eq!(image.steering, entry.steering, "{what}: {name}");
    }
    for (name, key, place) in node.owner.state.directory.all() {
        let record = plane.backends[&place.index];
        let address = crate::node::directory::address(key.address);
        assert_eq!(record.address, address, "{what}: a backend of {name}");
    }
}

/// Carries something out, however often it fails, and looks at the node after each time.
fn insist<T>(node: &mut Node, what: &str, mut act: impl FnMut(&mut Node) -> Result<T, Error>) {
    let (before, mut failed) = (asked(node), 0);
    for number in 0..TRIES {
        let done = act(node);
        node.calls.fail_often(0, 0);
        must_agree(node, what);
        let generation = u64::from(node.owner.generation) << 32;
        node.calls.fail_often(FAILURES, generation + number);
        match done {
            Ok(_) => return,
            Err(Error::DataPlane(_) | Error::Store(_)) => failed += 1,
            Err(error) => panic!("{what}: {error}"),
        }
        // All of what was, unless it could be taken back neither: then all of what was asked for.
        let now = asked(node);
        if now != before {
            let other: Vec<_> =
                now.iter().filter(|(name, s)| before.get(*name) != Some(s)).collect();
            assert!(other.len() <= 1 && failed > 0, "{what}: {other:?}");
        }
    }
    panic!("{what} never succeeds");
}

/// Flows that do not go where they went.
fn moved(node: &Node, flows: &[Option<u8>]) -> Vec<(usize, Option<u8>, Option<u8>)> {
    let now = node.go_on(1, 0..u16::try_from(flows.len()).unwrap());
    let pairs = flows.iter().zip(now).enumerate();
    pairs.filter(|(_, (was, is))| **was != *is).map(|(i, (was, is))| (i, *was, is)).collect()
}

#[test]
fn what_fails_by_chance_is_whole_and_succeeds_in_the_end() {
    for seed in 0..30 {
        let mut node = Node::new();
        node.at(clock::seconds());
        node.store.chance = node.calls.clone();
        let versions: &[(Version, u32, &[u8])] =
            &[(Blue, 100, &[1, 2, 3]), (Green, 0, &[4]), (Canary, 0, &[5, 6])];
        node.calls.fail_often(FAILURES, seed);
        insist(&mut node, "the first apply", |node| node.apply(&[spec("shop", 1, versions)]));
        let mut flows = node.open(1, 0..100);
        for (step, percent) in [20, 100, 0, 55, 5].into_iter().enumerate() {
            insist(&mut node, "a shift", |node| node.shift(&[("shop", Canary, percent)]));
            let from = u16::try_from(flows.len()).unwrap();
            flows.extend(node.open(1, from..from + 50));
            assert_eq!(moved(&node, &flows), [], "seed {seed}, step {step}");
            let other = spec("other", 2, &[(Blue, 100, &[7 + u8::try_from(step).unwrap()])]);
            insist(&mut node, "an apply", |node| node.apply(std::slice::from_ref(&other)));
            insist(&mut node, "a round", |node| node.owner.round(clock::seconds()));
            insist(&mut node, "a state", |node| {
                let key = Key { version: Blue, address: backend(2), port: 80 };
                let mut place = node.place("shop", Blue, 2).unwrap();
                let drains = step % 2 == 0;
                place.by_hand = if drains { BackendState::Draining } else { BackendState::Active };
                node.owner.learn(&[(name("shop"), key, place)])
            });
            assert_eq!(moved(&node, &flows), [], "seed {seed}, step {step}");
        }
        insist(&mut node, "a delete", |node| node.delete("other"));
    }
}
