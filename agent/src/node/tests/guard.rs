//! Guards over a data plane in memory: what trips one, what comes of it, and how it ends.

use Version::{Blue, Canary, Green};

use super::*;
use crate::model::{Guard, Weight, Weights, guard::Metric};
use crate::node::events::Kind;
use crate::node::messages::{ClearGuard, SetGuard};

/// Backends 1, 2 and 3 are blue's, green's and canary's, whose indices are 0, 1 and 2.
fn shop(blue: u32, green: u32, canary: u32) -> String {
    spec("shop", 1, &[(Blue, blue, &[1]), (Green, green, &[2]), (Canary, canary, &[3])])
}

fn guard() -> SetGuard {
    let guard = Guard {
        version: Canary,
        metric: Metric::ConnectSuccess,
        least: Weight::from_bp(5_000).unwrap(),
        min_connections: 20,
        window: 5.try_into().unwrap(),
        fallback: None,
    };
    SetGuard { service: name("shop"), guard, fence: None }
}

fn clear() -> ClearGuard {
    ClearGuard { service: name("shop"), fence: None }
}

impl Node {
    /// Canary's backend is refused so often, by as many clients.
    fn fail(&mut self, times: u64) {
        let service = name("shop");
        let mut of_shop = self.owner.state.directory.of(&service);
        let (_, canary) = of_shop.find(|(key, _)| key.version == Canary).unwrap();
        let mut plane = self.plane.lock();
        let signals = plane.signals.entry(canary.index).or_default();
        signals.refused += times;
        signals.failing_clients += times;
    }

    fn tripped(&self) -> bool {
        self.owner.get(&name("shop")).unwrap().guard.unwrap().tripped.is_some()
    }
}

/// A node whose canary has 5 % and has just broken its guard.
fn broken() -> Node {
    let mut node = Node::with(&[shop(100, 0, 0)]);
    node.owner.shift(&shift(&[("shop", Canary, 5)])).unwrap();
    node.owner.set_guard(&guard()).unwrap();
    node.owner.watch_guards(0);
    node.fail(30);
    node
}

#[test]
fn what_breaks_its_guard_loses_its_weight_in_one_commit_and_no_connection() {
    let mut node = broken();
    let flows = node.open(1, 0..200);
    let generation = node.owner.get(&name("shop")).unwrap().generation;
    node.owner.watch_guards(250);
    let status = node.owner.get(&name("shop")).unwrap();
    assert_eq!((node.weights("shop").as_str(), status.generation), ("blue 100%", generation + 1));
    let tripped = status.guard.unwrap().tripped.unwrap();
    assert_eq!((tripped.connections, tripped.failures), (30, 30));
    assert_eq!((tripped.before.get(Canary).bp(), tripped.after), (500, Weights::all_to(Blue)));
    assert_eq!(node.go_on(1, 0..200), flows, "it is a shift like any other");
    let (kind, text) = node.said(0).pop().unwrap();
    assert_eq!(kind, Kind::GuardTripped);
    assert_eq!(
        text,
        "connect_success of canary was 0% within 5s, 30 of 30 connections failed, and must be 50%; \
         blue 95% → 100%, canary 5% → 0% (generation 3)"
    );
    // Once, and by the next agent neither.
    let held = node.held();
    node.owner.watch_guards(500);
    assert_eq!(node.held(), held);
    let mut node = node.restart();
    assert!(node.tripped());
    node.owner.watch_guards(0);
    node.fail(1_000);
    node.owner.watch_guards(250);
    assert_eq!(node.weights("shop"), "blue 100%");
}

#[test]
fn too_little_or_without_weight_trips_nothing() {
    let mut node = Node::with(&[shop(100, 0, 0)]);
    node.owner.set_guard(&guard()).unwrap();
    node.owner.watch_guards(0);
    node.fail(1_000);
    node.owner.watch_guards(250);
    assert!(!node.tripped(), "a version without weight has nothing to lose");
    node.owner.watch_guards(10_000);
    node.owner.shift(&shift(&[("shop", Canary, 5)])).unwrap();
    node.owner.watch_guards(10_250);
    node.fail(19);
    node.owner.watch_guards(10_500);
    assert!(!node.tripped());
    let status = node.owner.get(&name("shop")).unwrap().guard.unwrap();
    assert_eq!((status.connections, status.failures), (19, 19));
    node.fail(1);
    node.owner.watch_guards(10_750);
    assert!(node.tripped());
}

#[test]
fn an_armed_guard_outlives_the_agent() {
    let mut node = broken().restart();
    // What was counted before is no news to the next agent.
    node.owner.watch_guards(0);
    node.owner.watch_guards(250);
    assert!(!node.tripped());
    node.fail(20);
    node.owner.watch_guards(500);
    assert_eq!((node.tripped(), node.weights("shop").as_str()), (true, "blue 100%"));
}

#[test]
fn until_it_is_ended_or_forced_the_version_gets_no_weight() {
    let mut node = broken();
    node.owner.watch_guards(250);
    let mut again = shift(&[("shop", Canary, 5)]);
    let error = node.owner.shift(&again).unwrap_err();
    assert!(matches!(&error, Error::GuardTripped { version: Canary, .. }), "{error}");
    assert!(error.to_string().ends_with("or force"), "{error}");
    let error = node.apply(&[shop(95, 0, 5)]).unwrap_err();
    assert!(matches!(error, Error::GuardTripped { .. }), "{error}");
    again.options.dry_run = true;
    node.owner.shift(&again).unwrap_err();
    again.options.dry_run = false;
    // Other versions are not concerned.
    node.owner.shift(&shift(&[("shop", Green, 50)])).unwrap();
    assert!(node.tripped());
    // The same guard is set already, another one is not taken for an end.
    assert!(node.owner.set_guard(&guard()).unwrap().tripped.is_some());
    let mut other = guard();
    other.guard.min_connections = 10;
    assert!(matches!(node.owner.set_guard(&other), Err(Error::GuardTripped { .. })));

    again.options.force = true;
    node.owner.shift(&again).unwrap();
    assert!(!node.tripped(), "it watches again");
    node.owner.watch_guards(1_000);
    node.fail(20);
    node.owner.watch_guards(1_250);
    assert!(node.tripped());

    node.owner.clear_guard(&clear()).unwrap();
    node.owner.clear_guard(&clear()).unwrap();
    assert_eq!(node.owner.get(&name("shop")).unwrap().guard, None);
    again.options.force = false;
    node.owner.shift(&again).unwrap();
    let kinds: Vec<_> = node.said(0).into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == Kind::GuardCleared).count(), 1);
}

#[test]
fn a_guard_that_cannot_work_is_refused() {
    let mut node = Node::with(&[shop(100, 0, 0)]);
    let mut set = guard();
    set.guard.fallback = Some(Weights::all_to(Canary));
    let error = node.owner.set_guard(&set).unwrap_err().to_string();
    assert!(error.contains("guard.fallback") && error.contains("has to go"), "{error}");
    node.apply(&[shop(100, 0, 0) + "    signals: off\n"]).unwrap();
    let error = node.owner.set_guard(&guard()).unwrap_err().to_string();
    assert!(error.contains("signals, which are off"), "{error}");
    let nobody = SetGuard { service: name("none"), ..guard() };
    assert!(matches!(node.owner.set_guard(&nobody), Err(Error::NotFound(_))));
}

#[test]
fn what_cannot_be_stored_or_committed_is_as_before() {
    let mut node = Node::with(&[shop(95, 0, 5)]);
    node.store.fail_next(|| ());
    node.owner.set_guard(&guard()).unwrap_err();
    assert_eq!(node.owner.get(&name("shop")).unwrap().guard, None);
    node.owner.set_guard(&guard()).unwrap();
    node.owner.watch_guards(0);
    node.fail(30);
    node.calls.fail(Call::Commit, 0);
    node.owner.watch_guards(250);
    assert!(!node.tripped(), "it is tried again");
    node.owner.watch_guards(500);
    // It has settled with 5 % for canary, which are shared among the others.
    assert_eq!((node.tripped(), node.weights("shop").as_str()), (true, "blue 100%"));
}
