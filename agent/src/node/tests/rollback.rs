//! Rollback restores the last settled weights, whatever has happened since.

use Version::{Blue, Canary, Green};

use super::*;
use crate::node::clock;
use crate::node::events::Kind;
use crate::node::messages::RollBack;
use crate::node::owner::DEFAULT_IDLE;

fn shop() -> String {
    spec("shop", 1, &[(Blue, 90, &[1]), (Green, 10, &[2]), (Canary, 0, &[3])])
}

fn back() -> RollBack {
    let options = ChangeOptions::default();
    let in_flight = InFlight::default();
    RollBack { service: name("shop"), in_flight, expected_generation: None, options }
}

/// Lets what a node does settle.
fn settle(node: &mut Node) {
    node.owner.round(clock::seconds() + DEFAULT_IDLE + 5).unwrap();
}

fn weights(node: &Node) -> [String; 2] {
    let entry = node.owner.state.get(&name("shop")).unwrap();
    [entry.service.weights(), &entry.settled].map(ToString::to_string)
}

const FIRST: &str = "blue 90%, green 10%";

#[test]
fn a_rollback_restores_what_has_settled_last() {
    let mut node = Node::with(&[shop()]);
    let old = node.open(1, 0..300);
    for percent in [5, 50] {
        node.shift(&[("shop", Canary, percent)]).unwrap();
    }
    let new = node.open(1, 300..600);
    assert!(new.contains(&Some(3)));
    assert_eq!(weights(&node), ["blue 40%, green 10%, canary 50%", FIRST]);
    assert_eq!(node.owner.get(&name("shop")).unwrap().settled.to_string(), FIRST);

    let dry =
        RollBack { options: ChangeOptions { dry_run: true, ..ChangeOptions::default() }, ..back() };
    let held = node.held();
    let said = node.owner.roll_back(&dry).unwrap();
    assert_eq!(node.held(), held);
    let done = node.owner.roll_back(&back()).unwrap();
    assert_eq!(said.changes, done.changes);
    assert_eq!(weights(&node), [FIRST, FIRST]);
    let (kind, text) = node.said(3).remove(0);
    assert_eq!(kind, Kind::RolledBack);
    assert_eq!(text, "blue 40% → 90%, canary 50% → 0% (generation 4)");

    // Nothing new is remembered, nothing breaks, and nobody comes to canary.
    let remembered = node.plane.lock().flows.borrow().entries.len();
    let later = node.open(1, 600..2_600);
    assert!(!later.contains(&Some(3)) && later.contains(&Some(2)));
    assert_eq!(node.go_on(1, 0..300), old);
    assert_eq!(node.go_on(1, 300..600), new);
    let flows = |node: &Node| node.plane.lock().flows.borrow().entries.len();
    assert!(flows(&node) < remembered + 300, "only old flows that spoke: {}", flows(&node));
}

#[test]
fn what_has_settled_is_what_the_next_rollback_restores() {
    let mut node = Node::with(&[shop()]);
    node.shift(&[("shop", Canary, 5)]).unwrap();
    settle(&mut node);
    let second = "blue 85%, green 10%, canary 5%";
    assert_eq!(weights(&node), [second, second]);
    node.apply(&[spec("shop", 1, &[(Blue, 0, &[1]), (Green, 100, &[2]), (Canary, 0, &[3])])])
        .unwrap();
    assert_eq!(weights(&node), ["green 100%", second]);
    node.owner.roll_back(&back()).unwrap();
    assert_eq!(weights(&node), [second, second]);
    // To come back by a shift is to be settled, too.
    node.shift(&[("shop", Canary, 50)]).unwrap();
    node.shift(&[("shop", Canary, 5)]).unwrap();
    assert_eq!(weights(&node), [second, second]);
}

#[test]
fn where_nothing_is_to_be_rolled_back_it_says_so() {
    let mut node = Node::with(&[shop()]);
    let held = node.held();
    let error = node.owner.roll_back(&back()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "service \"shop\" has nothing to roll back: blue 90%, green 10% are its last settled weights; \
         for others, use `weir shift`"
    );
    let late = RollBack { expected_generation: Some(7), ..back() };
    assert!(matches!(node.owner.roll_back(&late), Err(Error::GenerationMismatch { .. })));
    let unknown = RollBack { service: name("none"), ..back() };
    assert_eq!(node.owner.roll_back(&unknown), Err(Error::NotFound(name("none"))));
    assert_eq!(node.held(), held);
}

#[test]
fn a_version_that_has_lost_its_backends_is_not_rolled_back_to_unless_forced() {
    let mut node = Node::with(&[shop()]);
    let canary = spec("shop", 1, &[(Blue, 0, &[]), (Green, 0, &[2]), (Canary, 100, &[3])]);
    node.apply(&[canary]).unwrap();
    let error = node.owner.roll_back(&back()).unwrap_err();
    assert_eq!(error, Error::NoReadyBackend { service: name("shop"), version: Blue });
    let options = ChangeOptions { force: true, ..ChangeOptions::default() };
    node.owner.roll_back(&RollBack { options, ..back() }).unwrap();
    assert_eq!(weights(&node)[0], FIRST);
}

#[test]
fn a_repeated_rollback_is_carried_out_once() {
    let mut node = Node::with(&[shop()]);
    node.shift(&[("shop", Canary, 5)]).unwrap();
    let options = ChangeOptions { request_id: Some(id("abort-1")), ..ChangeOptions::default() };
    let named = RollBack { options, ..back() };
    let done = node.owner.roll_back(&named).unwrap();
    assert_eq!(node.owner.roll_back(&named).unwrap(), done);
    assert_eq!(node.events(2).len(), 1);
}

#[test]
fn a_rollback_that_is_not_stored_is_taken_back() {
    let mut node = Node::with(&[shop()]);
    node.shift(&[("shop", Canary, 50)]).unwrap();
    let flows = node.open(1, 0..300);
    node.store.fail_next(|| ());
    node.owner.roll_back(&back()).unwrap_err();
    assert_eq!(weights(&node), ["blue 40%, green 10%, canary 50%", FIRST]);
    assert_eq!(node.go_on(1, 0..300), flows);
    node.owner.roll_back(&back()).unwrap();
    assert_eq!(weights(&node), [FIRST, FIRST]);
}

/// An agent goes on where the last one was, whether it finds that one's tables or not.
#[test]
fn what_has_settled_outlives_the_agent() {
    for carried in [true, false] {
        let mut node = Node::with(&[shop()]);
        node.shift(&[("shop", Canary, 50)]).unwrap();
        let kept = node.store.kept().unwrap().services[0].settled;
        assert_eq!(kept.unwrap().to_string(), FIRST);
        let again = |node: &Node| {
            let plane = if carried { node.plane.clone() } else { Shared::new(Memory::new(1_000)) };
            Owner::start(plane, node.store.clone()).unwrap_or_else(|error| panic!("{error}"))
        };
        let mut next = again(&node);
        assert_eq!(next.get(&name("shop")).unwrap().settled.to_string(), FIRST);
        let later = clock::seconds() + DEFAULT_IDLE + 5;
        next.round(later).unwrap();
        let error = next.roll_back(&back()).unwrap_err();
        assert!(matches!(error, Error::NothingToRollBack { .. }), "{error}");
        assert_eq!(node.store.kept().unwrap().services[0].settled, None, "it is as the spec says");
        let commits = node.plane.lock().commits;
        next.round(later + 5).unwrap();
        next.round(later + 10).unwrap();
        assert!(node.plane.lock().commits <= commits + 1, "rounds rest");

        let mut node = Node::with(&[shop()]);
        node.shift(&[("shop", Canary, 50)]).unwrap();
        let mut next = again(&node);
        next.roll_back(&back()).unwrap();
        let weights = *next.state.get(&name("shop")).unwrap().service.weights();
        assert_eq!(weights.to_string(), FIRST);
    }
}
