//! A store or a data plane that fails: nothing is lost, nothing is half done.

use Version::{Blue, Green};

use super::*;
use crate::dataplane::DataPlane as _;

/// A service with one backend in blue and one in green; all weight is blue's.
fn shop() -> String {
    spec("shop", 1, &[(Blue, 100, &[1]), (Green, 0, &[2])])
}

/// What each version slot does with new flows.
fn curs(node: &Node, index: u32) -> Vec<u8> {
    let plane = node.plane.lock();
    plane.services[&index].1.tables.versions().iter().map(|slot| slot.cur()).collect()
}

/// Lets the next save fail, after `clients` have opened flows through `listener`. Gives where.
fn fail_after_flows(
    node: &Node,
    listener: u8,
    clients: std::ops::Range<u16>,
) -> Arc<Mutex<Vec<Option<u8>>>> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (plane, notes) = (node.plane.clone(), Arc::clone(&seen));
    node.store.fail_next(move || *notes.lock().unwrap() = open(&plane, listener, clients));
    seen
}

#[test]
fn a_shift_that_is_not_stored_is_taken_back_and_breaks_no_flow() {
    let mut node = Node::with(&[shop()]);
    let old = node.open(1, 0..50);
    assert_eq!(old, vec![Some(1); 50]);
    let (before, kept) = (curs(&node, 0), node.store.kept());

    let between = fail_after_flows(&node, 1, 50..100);
    let error = node.shift(&[("shop", Green, 100)]).unwrap_err();
    let Error::Store(said) = &error else { panic!("{error:?}") };
    assert!(said.contains("the disk is full") && said.contains("nothing was changed"), "{said}");

    assert_eq!(*between.lock().unwrap(), vec![Some(2); 50], "the commit had taken effect");
    assert_eq!(curs(&node, 0), before);
    assert_eq!(node.store.kept(), kept);
    assert_eq!(node.go_on(1, 0..50), old);
    assert_eq!(node.go_on(1, 50..100), *between.lock().unwrap());
    assert_eq!(node.open(1, 100..150), vec![Some(1); 50]);
    let entry = node.owner.state.get(&name("shop")).unwrap();
    assert_eq!((entry.generation, entry.service.weights().get(Green).bp()), (1, 0));

    node.shift(&[("shop", Green, 100)]).unwrap();
    assert_eq!(node.go_on(1, 0..50), old);
    assert_eq!(node.go_on(1, 50..100), *between.lock().unwrap());
    assert_eq!(node.open(1, 150..200), vec![Some(2); 50]);
    assert!(node.store.kept().unwrap().generation > kept.unwrap().generation);
}

/// Flows that began on a backend which the failed change had brought go on there: it keeps its
/// index and its return path, and drains.
#[test]
fn a_new_backend_that_is_not_stored_keeps_the_flows_it_got() {
    let mut node = Node::with(&[shop()]);
    let between = fail_after_flows(&node, 1, 0..200);
    let wider = spec("shop", 1, &[(Blue, 100, &[1, 3]), (Green, 0, &[2])]);
    node.apply(std::slice::from_ref(&wider)).unwrap_err();

    let between = between.lock().unwrap().clone();
    assert!(between.contains(&Some(3)), "none went to the new backend");
    assert_eq!(node.go_on(1, 0..200), between);
    assert_eq!(node.open(1, 200..400), vec![Some(1); 200]);
    let place = node.place("shop", Blue, 3).expect("it keeps its index while flows name it");
    assert!(place.drains);
    assert!(node.plane.lock().returns.values().any(|back| back.backend == place.index));

    // A backend that comes now gets an index of its own.
    node.apply(&[spec("shop", 1, &[(Blue, 100, &[1, 4]), (Green, 0, &[2])])]).unwrap();
    assert_eq!(node.go_on(1, 0..200), between);
    node.apply(&[wider]).unwrap();
    assert_eq!(node.place("shop", Blue, 3), Some(Place { drains: false, draining: None, ..place }));
}

#[test]
fn a_service_that_is_not_stored_leaves_nothing_behind() {
    let mut node = Node::with(&[shop()]);
    let before = node.held();
    let between = fail_after_flows(&node, 2, 0..10);
    node.apply(&[spec("new", 2, &[(Blue, 100, &[9])])]).unwrap_err();
    assert_eq!(*between.lock().unwrap(), vec![Some(9); 10]);

    let after = node.held();
    assert_eq!(after.services, before.services);
    assert_eq!(after.places, before.places);
    assert_eq!(after.plane.listeners, before.plane.listeners);
    assert_eq!(after.plane.returns, before.plane.returns);
    assert_eq!(after.kept, before.kept);
    node.apply(&[spec("later", 3, &[(Blue, 100, &[8])])]).unwrap();
    let index = node.place("later", Blue, 8).unwrap().index;
    assert_eq!(index, 2, "the index that was given back");
    assert_eq!(node.plane.lock().counters(index).connections, 0, "it starts from zero");
}

#[test]
fn a_delete_that_is_not_stored_brings_everything_back() {
    let mut node = Node::with(&[shop(), spec("other", 2, &[(Blue, 100, &[9])])]);
    node.owner.follow(vec![crate::dataplane::next_hop::Change::Hop(backend(1), Some(hop(7)))]);
    node.shift(&[("shop", Green, 100)]).unwrap();
    let flows = node.open(1, 0..50);
    let before = node.held();
    node.store.fail_next(|| ());
    node.delete("shop").unwrap_err();

    let after = node.held();
    assert_eq!(after.services, before.services);
    assert_eq!(after.places, before.places);
    assert_eq!(after.plane.listeners, before.plane.listeners);
    assert_eq!(after.plane.returns, before.plane.returns);
    assert_eq!(after.plane.hops, before.plane.hops, "next hops are told only once");
    assert_eq!(after.kept, before.kept);
    assert_eq!(node.go_on(1, 0..50), flows);
    assert_eq!(after.plane.counters, before.plane.counters);
    node.delete("shop").unwrap();
    assert_eq!(node.packet(1, 0, false), None);
}

#[test]
fn what_can_neither_be_stored_nor_taken_back_is_said_and_stays_in_the_tables() {
    let mut node = Node::with(&[shop()]);
    let kept = node.store.kept();
    node.store.fail_next(|| ());
    node.calls.fail(Call::Commit, 1);
    let error = node.shift(&[("shop", Green, 100)]).unwrap_err();
    let Error::Store(said) = &error else { panic!("{error:?}") };
    assert!(said.contains("it could not be taken back: data plane"), "{said}");
    assert_eq!(node.store.kept(), kept);
    assert_eq!(node.open(1, 0..10), vec![Some(2); 10]);
    // What is answered is what holds.
    let status = node.owner.get(&name("shop")).unwrap();
    assert_eq!(status.versions[Green].asked.bp(), 10_000);
    // The next change goes on from there, and is stored.
    node.shift(&[("shop", Green, 0)]).unwrap();
    assert_eq!(node.go_on(1, 0..10), vec![Some(2); 10]);
    assert_eq!(node.open(1, 10..20), vec![Some(1); 10]);
}

#[test]
fn a_commit_that_fails_changes_nothing() {
    let mut node = Node::with(&[shop()]);
    node.shift(&[("shop", Green, 10)]).unwrap();
    node.open(1, 0..100);
    let before = node.held();
    let refused = |result: Result<(), Error>| {
        let error = result.unwrap_err();
        assert_eq!(error, Error::DataPlane("map CHAOS: told to fail".to_owned()));
    };
    node.calls.fail(Call::Commit, 0);
    refused(node.shift(&[("shop", Green, 20)]).map(drop));
    node.calls.fail(Call::Commit, 0);
    refused(node.apply(&[spec("new", 2, &[(Blue, 100, &[9])])]).map(drop));
    node.calls.fail(Call::Commit, 0);
    refused(node.apply(&[spec("shop", 3, &[(Blue, 100, &[7, 8])])]).map(drop));
    node.calls.fail(Call::Commit, 0);
    refused(node.delete("shop").map(drop));
    assert_eq!(node.held(), before);
    assert!(node.calls.is_done());
    node.shift(&[("shop", Green, 20)]).unwrap();
}

/// After the commit there is no way back: what fails then is logged, and the answer is given.
#[test]
fn what_fails_after_the_commit_does_not_turn_the_answer_into_an_error() {
    let mut node = Node::with(&[shop(), spec("other", 2, &[(Blue, 100, &[9])])]);
    let change = crate::dataplane::next_hop::Change::Hop(backend(5), Some(hop(7)));
    node.apply(&[spec("third", 3, &[(Blue, 100, &[5])])]).unwrap();
    node.owner.follow(vec![change]);

    node.calls.fail(Call::Tables, 0);
    let changed = node.shift(&[("shop", Green, 50)]).unwrap();
    assert_eq!(changed.changes[0].versions[Green].table.slots, 8_192);

    node.calls.fail(Call::SetNextHop, 0);
    node.owner.follow(vec![crate::dataplane::next_hop::Change::Hop(backend(9), Some(hop(8)))]);

    node.calls.fail(Call::Forget, 0);
    let delete = Delete { services: vec![name("shop")], request_id: Some(id("d")), fence: None };
    let answer = node.owner.delete(&delete).unwrap();
    assert_eq!(node.owner.delete(&delete).unwrap(), answer);
    assert!(node.calls.is_done());

    node.calls.fail(Call::Tables, 0);
    let error = node.owner.get(&name("other")).unwrap_err();
    assert_eq!(error, Error::DataPlane("map CHAOS: told to fail".to_owned()));
}
