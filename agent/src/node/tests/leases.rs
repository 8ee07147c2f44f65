//! Leases: renewed, run out, held, taken back; stored, and ended by the next agent.

use Version::{Blue, Canary, Green};

use super::*;
use crate::model::{LeaseTerms, OnExpiry, Weights};
use crate::node::clock::unix_milliseconds;
use crate::node::events::Kind;
use crate::node::messages::RenewLease;

/// A service with a backend in each version; all weight is blue's.
fn shop() -> String {
    spec("shop", 1, &[(Blue, 100, &[1]), (Green, 0, &[2]), (Canary, 0, &[3])])
}

fn leased(shifts: &[(&str, Version, u32)], length: &str, on_expiry: OnExpiry) -> Shift {
    let length = length.parse().unwrap();
    Shift { lease: Some(LeaseTerms { length, on_expiry }), ..shift(shifts) }
}

fn renew(service: &str, length: Option<&str>) -> RenewLease {
    let length = length.map(|length| length.parse().unwrap());
    RenewLease { service: name(service), expected_generation: None, length, fence: None }
}

impl Node {
    pub(super) fn weights(&self, service: &str) -> String {
        self.owner.state.get(&name(service)).unwrap().service.weights().to_string()
    }

    /// The deadline of a service's lease, in milliseconds since 1970.
    fn deadline(&self, service: &str) -> Option<u64> {
        let lease = self.owner.get(&name(service)).unwrap().lease?;
        let since = lease.deadline.duration_since(std::time::UNIX_EPOCH).unwrap();
        Some(since.as_millis().try_into().unwrap())
    }
}

#[test]
fn a_lease_that_runs_out_takes_the_weights_back() {
    let mut node = Node::with(&[shop()]);
    let before = unix_milliseconds();
    let answer =
        node.owner.shift(&leased(&[("shop", Canary, 5)], "60s", OnExpiry::Revert)).unwrap();
    let lease = answer.changes[0].lease.unwrap();
    assert_eq!((lease.length.seconds(), lease.revert_to), (60, Weights::all_to(Blue)));
    let deadline = node.deadline("shop").unwrap();
    assert!((before + 60_000..=unix_milliseconds() + 60_000).contains(&deadline));

    let flows = node.open(1, 0..200);
    node.owner.expire(deadline - 1).unwrap();
    assert_eq!(node.weights("shop"), "blue 95%, canary 5%");
    node.owner.expire(deadline).unwrap();
    assert_eq!((node.weights("shop"), node.deadline("shop")), ("blue 100%".to_owned(), None));
    assert_eq!(node.go_on(1, 0..200), flows, "it is a shift like any other");
    assert_eq!(node.open(1, 200..300), vec![Some(1); 100]);
    let (kind, text) = node.said(2).remove(0);
    assert_eq!(kind, Kind::LeaseExpired);
    assert_eq!(
        text,
        "the lease of 1m was not renewed; the weights went back: blue 95% → 100%, canary 5% → 0% \
         (generation 3)"
    );
    // Once.
    let held = node.held();
    node.owner.expire(deadline + 10_000).unwrap();
    assert_eq!(node.held(), held);
    assert_eq!(node.store.kept().unwrap().services[0].lease, None);
}

#[test]
fn a_lease_that_runs_out_may_leave_the_weights_as_they_are() {
    let mut node = Node::with(&[shop()]);
    node.owner.shift(&leased(&[("shop", Canary, 5)], "1s", OnExpiry::Hold)).unwrap();
    let commits = node.plane.lock().commits;
    node.owner.expire(node.deadline("shop").unwrap()).unwrap();
    assert_eq!(node.weights("shop"), "blue 95%, canary 5%");
    assert_eq!(node.plane.lock().commits, commits, "no table differs");
    let (kind, text) = node.said(2).remove(0);
    assert_eq!(kind, Kind::LeaseExpired);
    assert_eq!(text, "the lease of 1s was not renewed; the weights stay: blue 95%, canary 5%");
    assert_eq!(node.store.kept().unwrap().services[0].lease, None);
    let entry = node.owner.state.get(&name("shop")).unwrap();
    assert_eq!(entry.generation, 2);
}

#[test]
fn a_lease_that_is_renewed_goes_on() {
    let mut node = Node::with(&[shop()]);
    node.owner.shift(&leased(&[("shop", Canary, 5)], "60s", OnExpiry::Revert)).unwrap();
    let first = node.deadline("shop").unwrap();
    let lease = node.owner.renew(&renew("shop", Some("10m"))).unwrap();
    assert_eq!(lease.length.seconds(), 600);
    let second = node.deadline("shop").unwrap();
    assert!(second >= first + 540_000);
    assert_eq!(node.store.kept().unwrap().services[0].lease.unwrap().deadline_ms, second);
    node.owner.expire(first + 1).unwrap();
    assert_eq!(node.weights("shop"), "blue 95%, canary 5%");
    let (kind, text) = node.said(2).remove(0);
    assert_eq!(kind, Kind::LeaseRenewed);
    assert_eq!(text, "the lease is renewed: 10m left of 10m, then back to blue 100%");
    assert_eq!(node.owner.renew(&renew("shop", None)).unwrap().length.seconds(), 600);
    // What the caller did not expect is not renewed.
    let late = RenewLease { expected_generation: Some(1), ..renew("shop", None) };
    let error = node.owner.renew(&late).unwrap_err();
    assert!(matches!(error, Error::GenerationMismatch { .. }), "{error}");
    assert_eq!(node.owner.renew(&renew("none", None)), Err(Error::NotFound(name("none"))));
}

#[test]
fn a_renewal_that_is_not_stored_is_none() {
    let mut node = Node::with(&[shop()]);
    node.owner.shift(&leased(&[("shop", Canary, 5)], "60s", OnExpiry::Revert)).unwrap();
    let held = node.held();
    let deadline = node.deadline("shop");
    node.store.fail_next(|| ());
    let error = node.owner.renew(&renew("shop", Some("1h"))).unwrap_err();
    assert!(error.to_string().ends_with("the disk is full; the lease was not renewed"), "{error}");
    assert_eq!((node.held(), node.deadline("shop")), (held, deadline));
}

#[test]
fn leases_that_follow_each_other_end_where_the_first_began() {
    let mut node = Node::with(&[shop()]);
    for percent in [5, 25, 50] {
        node.owner.shift(&leased(&[("shop", Canary, percent)], "60s", OnExpiry::Revert)).unwrap();
    }
    node.owner.expire(node.deadline("shop").unwrap()).unwrap();
    assert_eq!(node.weights("shop"), "blue 100%");
}

#[test]
fn a_change_of_weights_without_a_lease_ends_it_and_others_do_not() {
    let mut node = Node::with(&[shop()]);
    let lease = |node: &mut Node| {
        node.owner.shift(&leased(&[("shop", Canary, 5)], "60s", OnExpiry::Revert)).unwrap();
        assert!(node.deadline("shop").is_some());
    };
    let text = "    steering: [{ source: 10.9.0.0/16, version: canary }]\n";
    let backend = |blue, canary| {
        spec("shop", 1, &[(Blue, blue, &[1, 4]), (Green, 0, &[2]), (Canary, canary, &[3])])
    };
    lease(&mut node);
    node.apply(&[backend(95, 5)]).unwrap();
    node.apply(&[backend(95, 5) + text]).unwrap();
    assert!(node.deadline("shop").is_some(), "weights are as before");
    node.apply(&[backend(90, 10)]).unwrap();
    assert_eq!(node.deadline("shop"), None);

    lease(&mut node);
    let mut dry = shift(&[("shop", Canary, 50)]);
    dry.options.dry_run = true;
    node.owner.shift(&dry).unwrap();
    assert!(node.deadline("shop").is_some());
    // To ask for the same weights without a lease makes them stay.
    node.shift(&[("shop", Canary, 5)]).unwrap();
    assert_eq!(node.deadline("shop"), None);
    assert_eq!(node.owner.renew(&renew("shop", None)), Err(Error::NoLease(name("shop"))));

    // The next one begins anew.
    node.owner.shift(&leased(&[("shop", Canary, 50)], "60s", OnExpiry::Revert)).unwrap();
    node.owner.expire(node.deadline("shop").unwrap()).unwrap();
    assert_eq!(node.weights("shop"), "blue 95%, canary 5%");
}

/// Whatever is ready, and although nothing can be stored: the tables go back.
#[test]
fn nothing_keeps_weights_from_going_back() {
    let mut node = Node::with(&[shop()]);
    node.owner.shift(&leased(&[("shop", Green, 100)], "60s", OnExpiry::Revert)).unwrap();
    node.apply(&[spec("shop", 1, &[(Green, 100, &[2])])]).unwrap();
    let deadline = node.deadline("shop").unwrap();
    node.store.fail_next(|| ());
    node.owner.expire(deadline).unwrap();
    assert_eq!(node.weights("shop"), "blue 100%");
    let kinds: Vec<Kind> = node.said(3).into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, [Kind::LeaseExpired, Kind::StoreFailed]);
    // The next agent does it again, and stores it.
    assert!(node.store.kept().unwrap().services[0].lease.is_some());
}

#[test]
fn one_that_cannot_go_back_hinders_no_other_and_is_tried_again() {
    let mut node = Node::with(&[shop(), spec("api", 2, &[(Blue, 100, &[4]), (Green, 0, &[5])])]);
    node.owner
        .shift(&leased(&[("shop", Green, 50), ("api", Green, 50)], "60s", OnExpiry::Revert))
        .unwrap();
    let later = node.deadline("shop").unwrap() + 1_000;
    // Both at once, and then the first alone.
    node.calls.fail(Call::Commit, 0);
    node.calls.fail(Call::Commit, 1);
    node.owner.expire(later).unwrap_err();
    assert_eq!([node.weights("api"), node.weights("shop")], ["blue 50%, green 50%", "blue 100%"]);
    assert!(node.calls.is_done());
    node.owner.expire(later).unwrap();
    assert_eq!(node.weights("api"), "blue 100%");
}

#[test]
fn several_go_back_at_one_instant() {
    let mut node = Node::with(&[shop(), spec("api", 2, &[(Blue, 100, &[4]), (Green, 0, &[5])])]);
    node.owner
        .shift(&leased(&[("shop", Green, 50), ("api", Green, 50)], "60s", OnExpiry::Revert))
        .unwrap();
    let commits = node.plane.lock().commits;
    node.owner.expire(node.deadline("api").unwrap()).unwrap();
    assert_eq!(node.plane.lock().commits, commits + 1);
    assert_eq!([node.weights("api"), node.weights("shop")], ["blue 100%", "blue 100%"]);
}

#[test]
fn a_lease_outlives_the_agent() {
    let mut node = Node::with(&[shop()]);
    node.owner.shift(&leased(&[("shop", Canary, 5)], "60s", OnExpiry::Revert)).unwrap();
    let deadline = node.deadline("shop");
    let mut again = Node::start(node.store.clone()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(again.deadline("shop"), deadline);
    again.owner.expire(deadline.unwrap()).unwrap();
    assert_eq!(again.weights("shop"), "blue 100%");
}

#[test]
fn a_lease_of_a_clock_that_was_ahead_is_no_longer_than_it_says() {
    let mut node = Node::with(&[shop()]);
    node.owner.shift(&leased(&[("shop", Canary, 5)], "60s", OnExpiry::Revert)).unwrap();
    let mut kept = node.store.kept().unwrap();
    kept.services[0].lease.as_mut().unwrap().deadline_ms += 3_600_000;
    *node.store.kept.lock().unwrap() = Some(kept);
    let mut again = Node::start(node.store.clone()).unwrap_or_else(|error| panic!("{error}"));
    again.owner.expire(unix_milliseconds() + 59_000).unwrap();
    assert_eq!(again.weights("shop"), "blue 95%, canary 5%");
    again.owner.expire(unix_milliseconds() + 60_000).unwrap();
    assert_eq!(again.weights("shop"), "blue 100%");
}

#[test]
fn a_lease_that_ran_out_while_no_agent_ran_is_ended_by_the_next() {
    for (on_expiry, wanted) in
        [(OnExpiry::Revert, "blue 100%"), (OnExpiry::Hold, "blue 95%, canary 5%")]
    {
        let mut node = Node::with(&[shop()]);
        node.owner.shift(&leased(&[("shop", Canary, 5)], "60s", on_expiry)).unwrap();
        let mut kept = node.store.kept().unwrap();
        kept.services[0].lease.as_mut().unwrap().deadline_ms = unix_milliseconds() - 1;
        *node.store.kept.lock().unwrap() = Some(kept);
        let again = Node::start(node.store.clone()).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(again.weights("shop"), wanted);
        let stored = again.store.kept().unwrap();
        assert_eq!(stored.services[0].lease, None);
        let kinds: Vec<Kind> = again.said(0).into_iter().map(|(kind, _)| kind).collect();
        assert_eq!(kinds, [Kind::Restored, Kind::LeaseExpired]);
    }
}
