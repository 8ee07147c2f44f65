//! What the store holds is what the next start makes of it.

use std::time::Duration;

use Version::{Blue, Canary, Green};
use weir_ebpf::abi::Signals;

use super::*;
use crate::model::Handshakes;
use crate::node::clock;
use crate::node::owner::DEFAULT_IDLE;
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
        assert_eq!(is.digest(), was.digest());
        assert_eq!(again.digest_in_plane(service), was.digest(), "{service}");
        assert_eq!(node.digest_in_plane(service), was.digest(), "{service}");
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
    // As older agents wrote it: without a checksum, and nothing to go back to.
    let text = std::fs::read(&file).unwrap();
    let mut good = serde_json::from_slice::<serde_json::Value>(&text).unwrap()["state"].take();
    good["form"] = 1.into();
    let good = serde_json::to_string_pretty(&good).unwrap();
    std::fs::remove_file(directory.path().join("state.json.prev")).unwrap();
    for (put, with, says) in [
        (
            "10.60.0.1",
            "127.0.0.1",
            "services[0].versions.blue.backends[0].address: 127.0.0.1 is a loopback address",
        ),
        ("\"form\": 1", "\"form\": 2", "it has form 2 and no checksum"),
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
    std::fs::write(&file, &good).unwrap();
    let owner = Owner::start(Memory::new(10), Directory::open(directory.path()).unwrap()).unwrap();
    assert_eq!(owner.list().unwrap().len(), 1);

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

/// What a version has counted does not shrink, whatever becomes of its backends and of the agent.
#[test]
fn what_retired_backends_have_counted_outlives_the_agent() {
    let mut node = Node::with(&[spec("shop", 1, &[(Blue, 100, &[1, 2])])]);
    node.open(1, 0..300);
    let total = |owner: &TestOwner| {
        let counters = owner.counters(&[]).unwrap();
        let blue = counters.services[0].versions[Blue].clone();
        (counters.epoch, blue.traffic, blue.handshakes)
    };
    for index in [0, 1] {
        let signals = Signals { established: 140, refused: 10, ..Signals::default() };
        let times = Handshakes::new(vec![0, 100, 40], Duration::from_micros(200));
        node.plane.lock().signals.insert(index, signals);
        node.plane.lock().handshakes.insert(index, times);
    }
    let before = total(&node.owner);
    assert_eq!((before.1.connections, before.1.established, before.2.count()), (300, 280, 280));
    node.apply(&[spec("shop", 1, &[(Blue, 100, &[1])])]).unwrap();
    // Killed after the backend was released and before that is stored, then after.
    node.plane.lock().flows.borrow_mut().entries.clear();
    for fails in [true, false] {
        if fails {
            node.store.fail_next(|| ());
        }
        let mut now = clock::seconds();
        for _ in 0..4 {
            now += DEFAULT_IDLE + 1;
            node.owner.round(now).unwrap();
            if fails && node.places().len() == 1 {
                break;
            }
        }
        assert_eq!(node.places().len(), 1, "the backend is released");
        assert_eq!(total(&node.owner), before);
        node = node.restart();
        assert_eq!(total(&node.owner), before, "after a restart, stored: {}", !fails);
        assert_eq!(node.places().len(), if fails { 2 } else { 1 });
    }

    // The index goes to another backend, which begins with nothing.
    node.apply(&[spec("shop", 1, &[(Blue, 100, &[1, 3])])]).unwrap();
    assert_eq!(total(&node.owner), before);
    let status = node.owner.get(&name("shop")).unwrap();
    let new = &status.versions[Blue].backends[1];
    assert_eq!((new.address, new.connections), (backend(3), 0));

    // The machine goes down, and with it all that was counted.
    let store = node.store.clone();
    let fresh = Node::start(store).unwrap();
    assert_eq!(total(&fresh.owner).1.connections, 0);
    assert_ne!(total(&fresh.owner).0, before.0);
}

#[test]
fn a_state_from_before_is_said_with_the_status() {
    let node = Node::with(&[spec("shop", 1, &[(Blue, 100, &[1])])]);
    *node.store.warning.lock().unwrap() = Some("state.json was damaged".to_owned());
    let node = node.restart();
    assert!(node.owner.status().warnings.contains(&"state.json was damaged".to_owned()));
}

/// The state is there, and holds; but the machine may lose it.
#[test]
fn a_state_that_is_not_flushed_holds_and_is_said_until_one_is() {
    let mut node = Node::with(&[spec("shop", 1, &[(Blue, 100, &[1]), (Green, 0, &[2])])]);
    *node.store.unflushed.lock().unwrap() = Some("an error of the disk".to_owned());
    node.shift(&[("shop", Green, 50)]).unwrap();
    let kept = node.store.kept().unwrap().services.remove(0);
    assert_eq!(kept.generation, 2);
    let said = |node: &Node| {
        let warnings = node.owner.status().warnings;
        warnings.iter().any(|text| text.contains("not flushed") && text.contains("of the disk"))
    };
    assert!(said(&node));
    node.owner.round(clock::seconds()).unwrap();
    assert!(!said(&node));
}
