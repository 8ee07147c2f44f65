//! Dry runs, repeats, generations, and several services at once.

use Version::{Blue, Green};

use super::*;

fn pair() -> [String; 2] {
    [
        spec("shop", 1, &[(Blue, 100, &[1, 2]), (Green, 0, &[3])]),
        spec("api", 2, &[(Blue, 100, &[4]), (Green, 0, &[5])]),
    ]
}

/// What a dry run and the real run must agree on.
fn changes(changed: Changed) -> Vec<super::super::messages::Change> {
    changed.changes
}

#[test]
fn a_dry_run_changes_nothing_and_says_what_the_real_run_then_does() {
    let mut node = Node::with(&pair());
    node.shift(&[("shop", Green, 30)]).unwrap();
    node.open(1, 0..100);
    let before = node.held();

    let mut shift = shift(&[("shop", Green, 55), ("api", Green, 5)]);
    shift.options.dry_run = true;
    let said = node.owner.shift(&shift).unwrap();
    assert_eq!(node.held(), before);
    assert!(said.commit.dry_run);
    assert_eq!(said.commit.generation, u64::from(before.generation));
    shift.options.dry_run = false;
    let done = node.owner.shift(&shift).unwrap();
    assert!(!done.commit.dry_run);
    assert_eq!(done.commit.generation, u64::from(before.generation) + 1);
    assert_eq!(changes(said), changes(done));

    let before = node.held();
    let mut apply = apply(&[
        spec("shop", 1, &[(Blue, 50, &[1, 6]), (Green, 50, &[3])]),
        spec("new", 3, &[(Blue, 100, &[7])]),
    ]);
    apply.options.dry_run = true;
    let said = node.owner.apply(&apply).unwrap();
    assert_eq!(node.held(), before);
    apply.options.dry_run = false;
    let done = node.owner.apply(&apply).unwrap();
    assert!(done.changes[1].created && done.changes[0].versions[Blue].backend_slots_moved > 0);
    assert_eq!(changes(said), changes(done));
}

#[test]
fn a_dry_run_is_refused_like_the_real_run() {
    let mut node = Node::with(&pair());
    let before = node.held();
    let mut wrong = shift(&[("shop", Green, 5), ("none", Green, 5)]);
    wrong.options.dry_run = true;
    assert_eq!(node.owner.shift(&wrong).unwrap_err(), Error::NotFound(name("none")));
    assert_eq!(node.held(), before);
}

#[test]
fn a_repeated_request_gets_its_first_answer_and_is_carried_out_once() {
    let mut node = Node::with(&pair());
    let mut shift_ = shift(&[("shop", Green, 20)]);
    shift_.options.request_id = Some(id("a"));
    shift_.shifts[0].expected_generation = Some(1);
    let first = node.owner.shift(&shift_).unwrap();
    let mut apply = apply(&[spec("new", 3, &[(Blue, 100, &[7])])]);
    apply.options.request_id = Some(id("b"));
    let applied = node.owner.apply(&apply).unwrap();
    let delete = Delete { services: vec![name("api")], request_id: Some(id("c")), fence: None };
    let deleted = node.owner.delete(&delete).unwrap();

    let before = node.held();
    assert_eq!(node.owner.shift(&shift_).unwrap(), first);
    assert_eq!(node.owner.apply(&apply).unwrap(), applied);
    assert_eq!(node.owner.delete(&delete).unwrap(), deleted);
    assert_eq!(node.held(), before);
}

#[test]
fn an_id_is_refused_for_another_request() {
    let mut node = Node::with(&pair());
    let mut first = shift(&[("shop", Green, 20)]);
    first.options.request_id = Some(id("a"));
    node.owner.shift(&first).unwrap();
    let before = node.held();
    let reused = Error::RequestIdReused("a".to_owned());

    let mut other = shift(&[("shop", Green, 21)]);
    other.options.request_id = Some(id("a"));
    assert_eq!(node.owner.shift(&other).unwrap_err(), reused);
    let mut dry = first.clone();
    dry.options.dry_run = true;
    assert_eq!(node.owner.shift(&dry).unwrap_err(), reused);
    let mut apply = apply(&pair());
    apply.options.request_id = Some(id("a"));
    assert_eq!(node.owner.apply(&apply).unwrap_err(), reused);
    let delete = Delete { services: vec![name("shop")], request_id: Some(id("a")), fence: None };
    assert_eq!(node.owner.delete(&delete).unwrap_err(), reused);
    assert_eq!(node.held(), before);
}

#[test]
fn what_failed_or_was_a_dry_run_may_be_repeated_for_real() {
    let mut node = Node::with(&pair());
    let mut shift = shift(&[("shop", Green, 20)]);
    shift.options.request_id = Some(id("a"));
    shift.options.dry_run = true;
    node.owner.shift(&shift).unwrap();
    shift.options.dry_run = false;
    node.calls.fail(Call::Commit, 0);
    node.owner.shift(&shift).unwrap_err();
    node.store.fail_next(|| ());
    node.owner.shift(&shift).unwrap_err();
    let done = node.owner.shift(&shift).unwrap();
    assert_eq!(done.changes[0].versions[Green].asked.bp(), 2_000);
}

#[test]
fn the_oldest_id_is_forgotten_first() {
    let mut node = Node::with(&pair());
    for n in 0..=1_024 {
        let mut shift = shift(&[("shop", Green, n % 2)]);
        shift.options.request_id = Some(id(&format!("r{n}")));
        node.owner.shift(&shift).unwrap();
    }
    let mut again = shift(&[("shop", Green, 7)]);
    again.options.request_id = Some(id("r0"));
    node.owner.shift(&again).unwrap();
    again.options.request_id = Some(id("r1024"));
    node.owner.shift(&again).unwrap_err();
}

#[test]
fn a_service_that_changed_meanwhile_is_not_shifted() {
    let mut node = Node::with(&pair());
    node.shift(&[("shop", Green, 20)]).unwrap();
    let before = node.held();
    let mut late = shift(&[("api", Green, 10), ("shop", Green, 30)]);
    late.shifts[1].expected_generation = Some(1);
    let wanted = Error::GenerationMismatch { service: name("shop"), expected: 1, actual: 2 };
    assert_eq!(node.owner.shift(&late).unwrap_err(), wanted);
    assert_eq!(node.held(), before);
    late.shifts[1].expected_generation = Some(2);
    assert_eq!(node.owner.shift(&late).unwrap().changes[1].generation, 3);
}

#[test]
fn several_services_shift_in_one_commit_or_not_at_all() {
    let mut node = Node::with(&pair());
    let before = node.held();
    for (wrong, field) in [
        (("none", Green, 5), "there is no service \"none\""),
        (("api", Version::Canary, 5), "canary of service \"api\" has no backend"),
    ] {
        let error = node.shift(&[("shop", Green, 50), wrong]).unwrap_err().to_string();
        assert!(error.contains(field), "{error}");
        assert_eq!(node.held(), before);
    }
    let mut too_much = shift(&[("shop", Green, 50), ("api", Green, 60)]);
    too_much.shifts[1].set.push((Version::Canary, Weight::from_bp(5_000).unwrap()));
    let Error::Invalid(violations) = node.owner.shift(&too_much).unwrap_err() else { panic!() };
    assert_eq!(violations[0].field, "shifts[1].set");
    assert_eq!(node.held(), before);

    let done = node.shift(&[("shop", Green, 50), ("api", Green, 100)]).unwrap();
    assert_eq!(done.changes.len(), 2);
    let plane = node.plane.lock();
    assert_eq!(plane.commits, before.plane.commits + 1);
    let generations: Vec<u32> = plane.services.values().map(|(commit, _)| *commit).collect();
    assert_eq!(generations, [before.generation + 1; 2]);
}

/// Forced weight without a backend: new flows are dropped and counted, and it can be taken back.
#[test]
fn force_gives_weight_to_an_empty_version() {
    let mut node = Node::with(&pair());
    let mut forced = shift(&[("api", Version::Canary, 100)]);
    forced.options.force = true;
    node.owner.shift(&forced).unwrap();
    assert_eq!(node.open(2, 0..10), vec![None; 10]);
    // A version that has its weight already keeps it: only more is refused.
    node.shift(&[("api", Version::Canary, 50)]).unwrap();
    node.shift(&[("api", Version::Canary, 0)]).unwrap();
    assert_eq!(node.open(2, 10..20), vec![Some(4); 10]);
}

#[test]
fn what_is_observed_counts_from_the_last_change_of_weights() {
    let mut node = Node::with(&pair());
    node.open(1, 0..30);
    let done = node.shift(&[("shop", Green, 100)]).unwrap();
    assert_eq!(done.changes[0].versions[Blue].observed.connections, 30);
    node.open(1, 30..50);
    let status = node.owner.get(&name("shop")).unwrap();
    assert_eq!(status.versions[Blue].observed.connections, 0);
    assert_eq!(status.versions[Green].observed.connections, 20);
    assert_eq!(status.versions[Green].observed.total, 20);
    // Other backends, the same weights: the interval goes on.
    node.apply(&[spec("shop", 1, &[(Blue, 0, &[1]), (Green, 100, &[3, 6])])]).unwrap();
    let status = node.owner.get(&name("shop")).unwrap();
    assert_eq!(status.versions[Green].observed.connections, 20);
}
