//! What health checks find goes into the tables, breaks no flow that need not break, and is told.

use Version::{Blue, Canary, Green};

use super::*;
use crate::health::Subject;
use crate::model::{BackendState, Rule};
use crate::node::events::EventQuery;
use crate::node::messages::Steer;

impl Node {
    /// A node with the service `shop`, whose check says this.
    fn checked(check: &str, versions: &[(Version, u32, &[u8])]) -> Self {
        Self::with(&[checked(check, versions)])
    }

    /// What a check finds of the backend `10.60.0.last`.
    fn find(&mut self, version: Version, last: u8, error: Option<&str>) {
        self.owner.checks.find(&subject(version, last), error);
    }

    fn dies(&mut self, version: Version, last: u8) {
        self.find(version, last, Some("connection refused"));
        self.owner.hear();
    }

    fn comes_back(&mut self, version: Version, last: u8) {
        self.find(version, last, None);
        self.owner.hear();
    }

    /// The sentences of events since the last that an operator asked for.
    fn told(&self) -> Vec<String> {
        let events = self.owner.events.look(&EventQuery::default()).events.events;
        let told = events.iter().rev().take_while(|one| one.event.request_id.is_none());
        let asked = ["created", "applied", "shifted"];
        let told = told.take_while(|one| !asked.contains(&one.event.kind.name()));
        let mut told: Vec<String> = told.map(|one| one.event.text.clone()).collect();
        told.reverse();
        told
    }

    fn shares(&self) -> [f64; 3] {
        let status = self.owner.get(&name("shop")).unwrap();
        Version::ALL.map(|version| status.versions[version].table.share())
    }
}

fn checked(check: &str, versions: &[(Version, u32, &[u8])]) -> String {
    format!("{}    health: {{ type: tcp{check} }}\n", spec("shop", 1, versions))
}

fn subject(version: Version, last: u8) -> Subject {
    Subject { service: name("shop"), version, address: backend(last), port: 80 }
}

#[test]
fn what_is_asked_is_what_the_spec_says() {
    let mut node = Node::checked("", &[(Blue, 100, &[1, 2])]);
    let asked = |node: &Node| node.owner.checks.asked().keys().cloned().collect::<Vec<_>>();
    assert_eq!(asked(&node), [subject(Blue, 1), subject(Blue, 2)]);
    let before = node.owner.checks.asked();
    node.apply(&[spec("other", 2, &[(Blue, 100, &[9])])]).unwrap();
    node.shift(&[("shop", Blue, 100)]).unwrap();
    node.apply(&[checked("", &[(Blue, 100, &[2]), (Green, 0, &[3])])]).unwrap();
    assert_eq!(asked(&node), [subject(Blue, 2), subject(Green, 3)]);
    assert_ne!(before, node.owner.checks.asked());
    node.apply(&[checked(", rise: 7", &[(Blue, 100, &[2]), (Green, 0, &[3])])]).unwrap();
    assert!(node.owner.checks.asked().values().all(|asked| asked.health.rise() == 7));
    node.delete("shop").unwrap();
    assert!(asked(&node).is_empty());
}

#[test]
fn several_that_fail_are_one_commit_and_what_is_known_is_none() {
    let mut node = Node::checked("", &[(Blue, 90, &[1, 2, 3]), (Canary, 10, &[4])]);
    let generation = node.owner.generation;
    node.find(Blue, 1, Some("connection refused"));
    node.find(Canary, 4, Some("status 500, wanted 200-399"));
    node.find(Blue, 2, None);
    node.owner.hear();
    assert_eq!(node.owner.generation, generation + 1);
    node.owner.hear();
    assert_eq!(node.owner.generation, generation + 1);
    let new = node.open(1, 0..300);
    assert!(new.iter().all(|went| matches!(went, Some(2 | 3))));
    assert_eq!(
        node.told(),
        [
            "blue backend 10.60.0.1:80 is down: connection refused (3 of 3)",
            "canary backend 10.60.0.4:80 is down: status 500, wanted 200-399 (3 of 3)",
            "version canary has no backend left: its 10% go to blue",
        ]
    );
    let status = node.owner.get(&name("shop")).unwrap();
    let one = &status.versions[Canary].backends[0];
    assert_eq!((one.state, one.slots > 0), (BackendState::Down, true));
    let health = one.health.as_ref().unwrap();
    assert!(health.failing && health.error.as_deref() == Some("status 500, wanted 200-399"));
    node.comes_back(Canary, 4);
    assert_eq!(
        node.told()[3..],
        [
            "canary backend 10.60.0.4:80 is up again",
            "version canary has a backend again; its weight is 10%",
        ]
    );
    let now = node.shares();
    assert!((now[0] - 0.9).abs() < 0.001 && (now[2] - 0.1).abs() < 0.001);
}

#[test]
fn many_at_once_are_told_in_one_sentence() {
    let all: Vec<u8> = (1..=40).collect();
    let mut node = Node::checked("", &[(Blue, 100, &all)]);
    for last in 2..=40 {
        node.find(Blue, last, Some("no answer within 1s"));
    }
    node.owner.hear();
    let first = "blue backend 10.60.0.2:80 is down: no answer within 1s (3 of 3)";
    assert_eq!(node.told(), [format!("39 blue backends are down; {first}")]);
}

#[test]
fn what_is_reset_is_given_up_and_what_ran_meanwhile_stays() {
    let mut node = Node::checked(", on_down: reset", &[(Blue, 100, &[1, 2, 3])]);
    let old = node.open(1, 0..300);
    node.dies(Blue, 2);
    assert_eq!(
        node.told(),
        [
            "blue backend 10.60.0.2:80 is down: connection refused (3 of 3); its connections are given up"
        ]
    );
    let then = node.go_on(1, 0..300);
    for (old, then) in old.iter().zip(&then) {
        assert!(if *old == Some(2) { *then != Some(2) } else { then == old });
    }
    let meanwhile = node.open(1, 300..600);
    node.comes_back(Blue, 2);
    assert_eq!(node.go_on(1, 300..600), meanwhile);
    assert!(node.open(1, 600..900).contains(&Some(2)));
    assert_eq!(node.go_on(1, 300..600), meanwhile);
    // It falls again: what has come to it since is given up too, and nothing else moves.
    node.dies(Blue, 2);
    assert_eq!(node.go_on(1, 300..600), meanwhile);
    assert!(!node.go_on(1, 600..900).contains(&Some(2)));
}

#[test]
fn a_version_that_is_reset_goes_over_to_the_others() {
    let mut node = Node::checked(
        ", on_down: reset",
        &[(Blue, 50, &[1]), (Green, 25, &[2]), (Canary, 25, &[3])],
    );
    let old = node.open(1, 0..400);
    node.dies(Blue, 1);
    assert_eq!(node.told()[1], "version blue has no backend left: its 50% go to green and canary");
    let then = node.go_on(1, 0..400);
    for (old, then) in old.iter().zip(&then) {
        assert!(if *old == Some(1) { matches!(then, Some(2 | 3)) } else { then == old });
    }
    let now = node.shares();
    assert!(now[0] == 0.0 && (now[1] - 0.5).abs() < 0.001);
}

#[test]
fn nothing_is_given_up_where_nothing_stands_in() {
    for check in [", on_down: reset", ", on_down: reset, on_empty: hold"] {
        let mut node = Node::checked(check, &[(Blue, 100, &[1, 2])]);
        let old = node.open(1, 0..200);
        for last in [1, 2] {
            node.find(Blue, last, Some("connection refused"));
        }
        node.owner.hear();
        assert_eq!(node.go_on(1, 0..200), old);
        assert!(node.told()[0].ends_with("its connections stay, for nothing stands in for it"));
        let empty = node.told()[2].clone();
        assert!(empty.starts_with("version blue has no backend left"), "{empty}");
        assert!(node.open(1, 200..400).iter().all(Option::is_some));
    }
}

#[test]
fn a_version_may_hold_its_weight() {
    let versions: &[(Version, u32, &[u8])] = &[(Blue, 90, &[1]), (Canary, 10, &[2])];
    let mut node = Node::checked(", on_empty: hold", versions);
    node.dies(Canary, 2);
    assert_eq!(node.told()[1], "version canary has no backend left: its 10% stay (on_empty: hold)");
    assert!((node.shares()[2] - 0.1).abs() < 0.001);
}

#[test]
fn no_weight_and_no_clients_for_a_version_that_is_down() {
    let versions = |blue, canary| -> Vec<(Version, u32, &'static [u8])> {
        vec![(Blue, blue, &[1]), (Canary, canary, &[2])]
    };
    let mut node = Node::checked("", &versions(100, 0));
    node.dies(Canary, 2);
    let held = node.held();
    let refusal = Error::NoReadyBackend { service: name("shop"), version: Canary };
    assert_eq!(node.shift(&[("shop", Canary, 5)]), Err(refusal.clone()));
    assert_eq!(node.apply(&[checked("", &versions(95, 5))]), Err(refusal.clone()));
    let rule = Rule { source: "10.9.0.0/16".parse().unwrap(), version: Canary };
    let mut steer = Steer {
        service: name("shop"),
        add: vec![rule],
        remove: Vec::new(),
        expected_generation: None,
        options: ChangeOptions::default(),
    };
    assert_eq!(node.owner.steer(&steer), Err(refusal));
    assert_eq!(node.held(), held, "what is refused changes nothing");
    steer.options.force = true;
    node.owner.steer(&steer).unwrap();
    assert!(node.open(1, 0..50).iter().all(|went| *went == Some(1)), "clients go by the table");
    // A backend that is new is taken to be up.
    let more: &[(Version, u32, &[u8])] = &[(Blue, 95, &[1]), (Canary, 5, &[2, 3])];
    node.apply(&[checked("", more)]).unwrap();
    assert!((node.shares()[2] - 0.05).abs() < 0.001);
}

#[test]
fn without_a_check_every_backend_is_up() {
    let mut node = Node::checked("", &[(Blue, 100, &[1, 2])]);
    node.dies(Blue, 1);
    assert!(!node.open(1, 0..200).contains(&Some(1)));
    node.apply(&[spec("shop", 1, &[(Blue, 100, &[1, 2])])]).unwrap();
    assert!(node.open(1, 200..400).contains(&Some(1)));
    // What the checks found last is no longer believed.
    node.owner.hear();
    assert!(node.open(1, 400..600).contains(&Some(1)));
}

#[test]
fn what_could_not_be_carried_out_is_tried_again() {
    let mut node = Node::checked("", &[(Blue, 100, &[1, 2])]);
    node.calls.fail(Call::Commit, 0);
    node.dies(Blue, 1);
    assert!(node.calls.is_done());
    assert!(node.open(1, 0..200).contains(&Some(1)) && node.told().is_empty());
    node.owner.hear();
    assert!(!node.open(1, 200..400).contains(&Some(1)));
    assert_eq!(node.told().len(), 1);
}
