//! What the store holds is what the next start makes of it.

use Version::{Blue, Canary, Green};

use super::*;
use crate::store::Directory;

#[test]
fn a_restart_brings_the_same_tables() {
    let mut node = Node::with(&[
        spec("gone", 9, &[(Blue, 100, &[9, 10])]),
        spec("shop", 1, &[(Blue, 90, &[1, 2, 3]), (Canary, 10, &[4])]),
        spec("api", 2, &[(Blue, 100, &[5]), (Green, 0, &[6])]),
    ]);
    node.shift(&[("shop", Green, 0), ("api", Green, 100)]).unwrap();
    node.shift(&[("shop", Canary, 25)]).unwrap();
    node.delete("gone").unwrap();
    node.apply(&[spec("shop", 1, &[(Blue, 75, &[3, 1]), (Canary, 25, &[4, 7])])]).unwrap();
    let kept = node.store.kept().unwrap();
    let again = Node::start(node.store.clone()).unwrap_or_else(|error| panic!("{error}"));

    let stored = again.store.kept().unwrap();
    assert_eq!(stored.services, kept.services);
    assert_ne!(stored.epoch, kept.epoch, "this data plane counts from zero");
    assert_eq!(again.owner.generation, node.owner.generation + 1);
    for service in ["shop", "api"] {
        let (was, is) = (
            node.owner.state.get(&name(service)).unwrap(),
            again.owner.state.get(&name(service)).unwrap(),
        );
        assert_eq!(is.service, was.service);
        assert_eq!(is.generation, was.generation);
        assert_eq!(is.digest, was.digest);
        assert_eq!(again.digest_in_plane(service), was.digest, "{service}");
        assert_eq!(node.digest_in_plane(service), was.digest, "{service}");
    }
    // Flows of the steady state meet the same backends.
    assert_eq!(again.open(1, 0..500), node.open(1, 0..500));
    assert_eq!(again.open(2, 0..500), node.open(2, 0..500));
}

#[test]
fn an_empty_state_is_a_state() {
    let mut node = Node::with(&[spec("shop", 1, &[(Blue, 100, &[1])])]);
    node.delete("shop").unwrap();
    let mut again = Node::start(node.store.clone()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(again.owner.generation, node.owner.generation);
    assert!(again.owner.list().unwrap().is_empty());
    again.apply(&[spec("shop", 1, &[(Blue, 100, &[1])])]).unwrap();
}

#[test]
fn what_was_forced_stays_forced() {
    let mut node = Node::with(&[spec("shop", 1, &[(Blue, 100, &[1])])]);
    let mut forced = shift(&[("shop", Green, 50)]);
    forced.options.force = true;
    node.owner.shift(&forced).unwrap();
    let again = Node::start(node.store.clone()).unwrap_or_else(|error| panic!("{error}"));
    let status = again.owner.get(&name("shop")).unwrap();
    assert_eq!(status.versions[Green].asked.bp(), 5_000);
}

#[test]
fn a_state_that_cannot_be_applied_is_said_and_kept() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("state.json");
    let start = || {
        let store = Directory::open(directory.path()).unwrap();
        Owner::start(Memory::new(10), store).map(|_| ()).unwrap_err().to_string()
    };
    let mut owner =
        Owner::start(Memory::new(10), Directory::open(directory.path()).unwrap()).unwrap();
    owner.apply(&apply(&[spec("shop", 1, &[(Blue, 100, &[1])])])).unwrap();
    let good = std::fs::read_to_string(&file).unwrap();
    for (put, with, says) in [
        (
            "10.60.0.1",
            "127.0.0.1",
            "services[0].versions.blue.backends[0].address: 127.0.0.1 is a loopback address",
        ),
        ("\"form\": 1", "\"form\": 2", "it has form 2, this agent knows 1"),
        ("\"generation\"", "\"generations\"", "unknown field `generations`"),
        ("}", "", "is not a state of weir"),
    ] {
        let bad = good.replace(put, with);
        assert_ne!(bad, good);
        std::fs::write(&file, &bad).unwrap();
        let said = start();
        assert!(said.contains(says), "{said}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), bad);
    }

    // A data plane that refuses it.
    let node = Node::with(&[spec("shop", 1, &[(Blue, 100, &[1])])]);
    let kept = node.store.kept();
    let plan = chaos::Plan::default();
    plan.fail(Call::Commit, 0);
    let plane = Chaos::new(Memory::new(10), plan);
    let error = Owner::start(plane, node.store.clone()).map(|_| ()).unwrap_err();
    assert_eq!(error, Error::DataPlane("map CHAOS: told to fail".to_owned()));
    assert_eq!(node.store.kept(), kept);
}
