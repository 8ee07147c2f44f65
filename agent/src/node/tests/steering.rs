//! Steering rules are added, changed and removed without moving a flow, and outlive the agent.

use Version::{Blue, Canary, Green};

use super::*;
use crate::model::Rule;
use crate::model::steering::{MAX_RULES, prefix};
use crate::node::clock;
use crate::node::messages::Steer;
use crate::node::owner::DEFAULT_IDLE;

/// Adds and removes rules of `shop`.
fn rules(add: &[(&str, Version)], remove: &[&str]) -> Steer {
    let rule = |(source, version): &(&str, Version)| Rule {
        source: prefix(source).unwrap(),
        version: *version,
    };
    Steer {
        service: name("shop"),
        add: add.iter().map(rule).collect(),
        remove: remove.iter().map(|source| prefix(source).unwrap()).collect(),
        expected_generation: None,
        options: ChangeOptions::default(),
    }
}

/// All weight on blue, 1; green is 2, canary 3.
fn shop() -> Node {
    let versions: [(Version, u32, &[u8]); 3] =
        [(Blue, 100, &[1]), (Green, 0, &[2]), (Canary, 0, &[3])];
    Node::with(&[spec("shop", 1, &versions)])
}

fn entries(node: &Node) -> usize {
    node.owner.state.get(&name("shop")).unwrap().steering.entries().len()
}

/// Clients 0 to 99 are within `10.9.0.0/24`, 300 to 399 are not.
fn opened(node: &Node, first: u16) -> [Vec<Option<u8>>; 2] {
    [node.open(1, first..first + 50), node.open(1, first + 300..first + 350)]
}

#[test]
fn rules_come_and_go_without_moving_a_flow() {
    let mut node = shop();
    let old = opened(&node, 0);
    assert_eq!(old, [vec![Some(1); 50], vec![Some(1); 50]]);
    let answer = node.owner.steer(&rules(&[("10.9.0.0/24", Canary)], &[])).unwrap();
    let change = &answer.changes[0];
    assert_eq!((change.steering.rules, change.steering.moved, change.generation), (1, 1, 2));
    assert_eq!(node.digest_in_plane("shop").to_string(), change.digest);
    let new = opened(&node, 50);
    assert_eq!(new, [vec![Some(3); 50], vec![Some(1); 50]]);

    // The weights move below the rule, then a rule comes within it, then all go.
    node.shift(&[("shop", Green, 100)]).unwrap();
    node.owner.steer(&rules(&[("10.9.0.32/27", Blue)], &[])).unwrap();
    let third = opened(&node, 100);
    assert_eq!(third, [vec![Some(3); 50], vec![Some(2); 50]]);
    let answer = node.owner.steer(&rules(&[], &["10.9.0.0/24", "10.9.0.32/27"])).unwrap();
    assert_eq!((answer.changes[0].steering.rules, answer.changes[0].steering.moved), (0, 2));
    assert_eq!(opened(&node, 150), [vec![Some(2); 50], vec![Some(2); 50]]);
    for (first, homes) in [(0, &old), (50, &new), (100, &third)] {
        assert_eq!(node.go_on(1, first..first + 50), homes[0]);
        assert_eq!(node.go_on(1, first + 300..first + 350), homes[1]);
    }
    // The inner one says what the outer one says: both are between a rule and the table.
    assert_eq!(entries(&node), 1);
}

#[test]
fn entries_settle_with_the_version_table_and_go() {
    let mut node = shop();
    let start = clock::seconds();
    let at = |node: &Node, now| node.plane.lock().flows.borrow_mut().now = now;
    at(&node, start);
    let old = node.open(1, 0..50);
    node.owner.steer(&rules(&[("10.9.0.0/24", Canary)], &[])).unwrap();
    node.owner.steer(&rules(&[], &["10.9.0.0/24"])).unwrap();
    node.owner.steer(&rules(&[("10.9.0.0/24", Canary)], &[])).unwrap();
    let new = node.open(1, 50..60);
    assert_eq!(node.go_on(1, 0..50), old);
    let slot = |node: &Node| {
        let entry = node.owner.state.get(&name("shop")).unwrap().steering.entries()[0];
        (entry.slot.cur(), entry.slot.base(), entry.slot.tracked())
    };
    assert_eq!(slot(&node), (2, 3, true));
    let before = start + DEFAULT_IDLE - 10;
    at(&node, before);
    assert_eq!(node.go_on(1, 0..50), old);
    assert_eq!(node.go_on(1, 50..60), new);
    node.owner.round(before).unwrap();
    assert_eq!(slot(&node), (2, 3, true));
    // Those at canary need no memory once the entry says so itself; those at blue pin it.
    let later = start + DEFAULT_IDLE + 5;
    for now in [later, later + 5, later + 10] {
        node.owner.round(now).unwrap();
        assert_eq!(slot(&node), (2, 2, true));
        assert_eq!(node.go_on(1, 0..50), old);
        assert_eq!(node.go_on(1, 50..60), new);
    }
    assert_eq!(node.plane.lock().flows.borrow().entries.len(), 50);
    for now in [2, 3] {
        node.owner.round(later + now * DEFAULT_IDLE).unwrap();
    }
    assert_eq!(slot(&node), (2, 2, false));
    assert_eq!(node.plane.lock().flows.borrow().entries.len(), 0);

    node.owner.steer(&rules(&[], &["10.9.0.0/24"])).unwrap();
    let state = &node.owner.state;
    let moved = state.get(&name("shop")).unwrap().moved.newest();
    for now in 1..5 {
        node.owner.round(moved + now * DEFAULT_IDLE + 5).unwrap();
    }
    assert_eq!(entries(&node), 0);
}

#[test]
fn rules_outlive_the_agent() {
    let mut node = shop();
    let old = opened(&node, 0);
    node.owner.steer(&rules(&[("10.9.0.0/24", Canary)], &[])).unwrap();
    let new = opened(&node, 50);
    let held = node.plane.lock().services[&0].1.clone();

    // With the data plane that the last one left, and with an empty one.
    let chaos = Chaos::new(node.plane.clone(), chaos::Plan::default());
    let taken = Owner::start(chaos, node.store.clone()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(taken.state.get(&name("shop")).unwrap().service.steering().len(), 1);
    assert_eq!(node.plane.lock().services[&0].1.steering, held.steering);
    assert_eq!((node.go_on(1, 0..50), node.go_on(1, 50..100)), (old[0].clone(), new[0].clone()));
    let again = Node::start(node.store.clone()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(opened(&again, 0), new);
}

#[test]
fn rules_that_are_not_stored_are_taken_back() {
    let mut node = shop();
    let old = node.open(1, 0..50);
    let (plane, between) = (node.plane.clone(), Arc::new(Mutex::new(Vec::new())));
    let seen = Arc::clone(&between);
    node.store.fail_next(move || *seen.lock().unwrap() = open(&plane, 1, 50..100));
    let error = node.owner.steer(&rules(&[("10.9.0.0/24", Canary)], &[])).unwrap_err();
    assert!(matches!(error, Error::Store(_)), "{error}");
    let between = between.lock().unwrap().clone();
    assert_eq!(between, vec![Some(3); 50], "the commit had taken effect");
    assert_eq!((node.go_on(1, 0..50), node.go_on(1, 50..100)), (old, between));
    assert_eq!(node.open(1, 100..150), vec![Some(1); 50]);
}

#[test]
fn a_node_takes_so_many_rules_and_no_more() {
    let mut node = shop();
    node.apply(&[spec("other", 2, &[(Blue, 100, &[5])])]).unwrap();
    let many = |service: &str, count: usize| {
        let rule = |n: u32| Rule {
            source: ipnet::Ipv4Net::new(Ipv4Addr::from(0x1400_0000 | n << 8), 24).unwrap().into(),
            version: Blue,
        };
        let add = (0..u32::try_from(count).unwrap()).map(rule).collect();
        Steer { service: name(service), add, ..rules(&[], &[]) }
    };
    node.owner.steer(&many("shop", MAX_RULES - 1)).unwrap();
    node.owner.steer(&many("other", 1)).unwrap();
    let before = node.held();
    let error = node.owner.steer(&many("other", 2)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "add: would make 100001 rules on this node; it takes at most 100000"
    );
    let error = node.owner.steer(&many("shop", MAX_RULES + 1)).unwrap_err();
    assert_eq!(error.to_string(), "add: would make 100001 rules; a service takes at most 100000");
    assert_eq!(node.held(), before);
}
