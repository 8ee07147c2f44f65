//! A store or a data plane that fails: nothing is lost, nothing is half done.

use Version::{Blue, Green};

use super::*;

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

#[test]
fn what_can_neither_be_stored_nor_taken_back_is_said_and_stays_in_the_tables() {
    let mut node = Node::with(&[shop()]);
    let kept = node.store.kept();
    node.store.fail_next(|| ());
    node.calls.fail(Call::Commit, 1);
    let error = node.shift(&[("shop", Green, 100)]).unwrap_err();
    let Error::Store(said) = &error else { panic!("{error:?}") };
    assert!(said.contains("neither be stored nor taken back"), "{said}");
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
