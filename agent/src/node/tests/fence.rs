//! Fences: of two leaders the later one counts, whoever speaks last; also for the next agent.

use Version::{Blue, Canary};

use super::*;
use crate::model::Fence;
use crate::node::events::Kind;
use crate::node::messages::{RenewLease, RollBack, SetBackend, Settle, Steer};

fn shop() -> String {
    spec("shop", 1, &[(Blue, 100, &[1]), (Canary, 0, &[3])])
}

#[allow(clippy::unnecessary_wraps, reason = "that is how requests have it")]
fn fence(holder: &str, number: u64) -> Option<Fence> {
    Some(Fence::new(holder, number).unwrap())
}

/// A shift of canary by a leader, as the request with this id.
fn led(weight: u32, by: Option<Fence>, request: Option<&str>) -> Shift {
    let mut shift = shift(&[("shop", Canary, weight)]);
    (shift.options.fence, shift.options.request_id) = (by, request.map(id));
    shift
}

fn stale(error: Error) -> (u64, u64, String) {
    match error {
        Error::StaleFence { given, known, .. } => {
            (given.number(), known.number(), known.holder().to_owned())
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_was_overtaken_changes_nothing_in_no_way() {
    let mut node = Node::with(&[shop()]);
    node.owner.shift(&led(5, fence("a", 7), None)).unwrap();
    node.owner.shift(&led(10, fence("b", 9), None)).unwrap();
    // Its own again and again.
    node.owner.shift(&led(15, fence("b", 9), None)).unwrap();
    let held = node.held();

    let old = || fence("a", 7);
    let options = || ChangeOptions { fence: old(), ..ChangeOptions::default() };
    let expected = (7, 9, "b".to_owned());
    assert_eq!(stale(node.owner.shift(&led(20, old(), None)).unwrap_err()), expected);
    let mut all = apply(&[shop()]);
    all.options = options();
    assert_eq!(stale(node.owner.apply(&all).unwrap_err()), expected);
    let delete = Delete { services: vec![name("shop")], request_id: None, fence: old() };
    assert_eq!(stale(node.owner.delete(&delete).unwrap_err()), expected);
    let (service, expected_generation) = (name("shop"), None);
    let in_flight = InFlight::BySpec;
    let back = RollBack { service, in_flight, expected_generation, options: options() };
    assert_eq!(stale(node.owner.roll_back(&back).unwrap_err()), expected);
    let service = name("shop");
    let renew = RenewLease { service, expected_generation, length: None, fence: old() };
    assert_eq!(stale(node.owner.renew(&renew).unwrap_err()), expected);
    let (service, add, remove) = (name("shop"), vec![], vec![]);
    let steer = Steer { service, add, remove, expected_generation, options: options() };
    assert_eq!(stale(node.owner.steer(&steer).unwrap_err()), expected);
    let (service, address) = (name("shop"), IpAddr::V4(Ipv4Addr::LOCALHOST));
    let state = crate::model::BackendState::Down;
    let set = SetBackend { service, address, port: 80, state, options: options() };
    assert_eq!(stale(node.owner.set_backend(&set).unwrap_err()), expected);
    let settle = Settle { service: name("shop"), dry_run: false, fence: old() };
    assert_eq!(stale(node.owner.settle_now(&settle).unwrap_err()), expected);
    assert_eq!(node.held(), held);
    assert_eq!(
        node.owner.shift(&led(20, old(), None)).unwrap_err().to_string(),
        "service \"shop\" is led by another by now: its last fence is 9 of b, this request has 7 \
         of a; whoever sent it leads no longer"
    );
}

#[test]
fn the_next_agent_knows_the_fence_and_get_shows_it() {
    let mut node = Node::with(&[shop()]);
    assert_eq!(node.owner.get(&name("shop")).unwrap().fence, None);
    node.owner.shift(&led(5, fence("b", 9), None)).unwrap();
    let mut node = node.restart();
    assert_eq!(node.owner.get(&name("shop")).unwrap().fence, fence("b", 9));
    stale(node.owner.shift(&led(20, fence("a", 8), None)).unwrap_err());
    // Also after changes without one.
    node.apply(&[shop()]).unwrap();
    stale(node.owner.shift(&led(20, fence("a", 8), None)).unwrap_err());
}

#[test]
fn a_state_that_knows_no_fences_is_read() {
    let node = Node::with(&[shop()]);
    let stored = serde_json::to_string(&node.store.kept().unwrap()).unwrap();
    assert!(!stored.contains("fence"), "an older agent reads what this one writes without one");
    let read: Stored = serde_json::from_str(&stored).unwrap();
    assert_eq!(Some(read), node.store.kept());
}

#[test]
fn the_next_leader_may_repeat_what_the_last_one_asked_and_the_last_one_no_more() {
    let mut node = Node::with(&[shop()]);
    let first = node.owner.shift(&led(5, fence("a", 7), Some("shop/3/lb1"))).unwrap();
    let again = node.owner.shift(&led(5, fence("b", 9), Some("shop/3/lb1"))).unwrap();
    assert_eq!(first, again, "it is done once");
    assert_eq!(node.store.kept().unwrap().services[0].fence, fence("b", 9));
    let late = node.owner.shift(&led(5, fence("a", 7), Some("shop/3/lb1"))).unwrap_err();
    assert_eq!(stale(late), (7, 9, "b".to_owned()));
    // If that cannot be stored, it is not answered.
    node.store.fail_next(|| ());
    node.owner.shift(&led(5, fence("c", 11), Some("shop/3/lb1"))).unwrap_err();
}

#[test]
fn what_is_refused_or_only_looked_at_raises_no_fence() {
    let mut node = Node::with(&[shop()]);
    node.owner.shift(&led(5, fence("a", 7), None)).unwrap();
    let mut dry = led(20, fence("b", 9), None);
    dry.options.dry_run = true;
    node.owner.shift(&dry).unwrap();
    let mut wrong = led(20, fence("b", 9), None);
    wrong.shifts[0].expected_generation = Some(99);
    node.owner.shift(&wrong).unwrap_err();
    node.store.fail_next(|| ());
    node.owner.shift(&led(20, fence("b", 9), None)).unwrap_err();
    assert_eq!(node.owner.get(&name("shop")).unwrap().fence, fence("a", 7));
    // But a dry run of somebody who leads no longer is told so.
    dry.options.fence = fence("z", 1);
    stale(node.owner.shift(&dry).unwrap_err());
}

#[test]
fn a_change_without_a_fence_is_told_where_there_is_a_rollout() {
    let mut node = Node::with(&[shop()]);
    let said = |node: &Node| node.said(0).pop().unwrap();
    node.owner.shift(&led(5, None, None)).unwrap();
    assert!(!said(&node).1.contains("fence"));
    node.owner.shift(&led(10, fence("b", 9), None)).unwrap();
    assert!(!said(&node).1.contains("fence"));
    node.owner.shift(&led(20, None, None)).unwrap();
    let (kind, text) = said(&node);
    assert_eq!(kind, Kind::Shifted);
    assert!(text.ends_with("; without a fence, past the rollout with fence 9 of b"), "{text}");
}
