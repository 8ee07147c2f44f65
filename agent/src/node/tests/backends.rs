//! What becomes known of backends breaks no flow, and moves back as it came.

use Version::{Blue, Canary};

use super::*;
use crate::model::BackendState;
use crate::node::directory::Key;

impl Node {
    /// Tells the owner what is so of the backend `10.60.0.last`.
    fn learn(&mut self, service: &str, version: Version, last: u8, known: impl Fn(&mut Place)) {
        let mut place = self.place(service, version, last).unwrap();
        known(&mut place);
        let key = Key { version, address: backend(last), port: 80 };
        assert!(self.owner.learn(&[(name(service), key, place)]).unwrap());
    }

    pub(super) fn share(&self, service: &str, version: Version) -> f64 {
        self.owner.get(&name(service)).unwrap().versions[version].table.share()
    }
}

#[test]
fn a_backend_that_fails_gets_no_new_flow_and_keeps_those_it_has() {
    let mut node = Node::with(&[spec("shop", 1, &[(Blue, 100, &[1, 2, 3])])]);
    let before = node.held().services;
    let old = node.open(1, 0..300);
    node.learn("shop", Blue, 2, |place| place.failing = true);
    assert_eq!(node.owner.get(&name("shop")).unwrap().generation, 1);
    let new = node.open(1, 300..600);
    assert!(!new.contains(&Some(2)) && new.contains(&Some(1)) && new.contains(&Some(3)));
    assert_eq!(node.go_on(1, 0..300), old, "a failed check is no proof of death");

    node.learn("shop", Blue, 2, |place| place.failing = false);
    assert_eq!(node.go_on(1, 0..300), old);
    assert_eq!(node.go_on(1, 300..600), new);
    let again = node.open(1, 600..900);
    assert!(again.contains(&Some(2)));
    let after = node.held().services;
    let digest = |held: &BTreeMap<_, (_, _, _, Digest, _)>| held[&name("shop")].3;
    assert_eq!(digest(&before), digest(&after), "what the spec says has not changed");
    assert_eq!(node.digest_in_plane("shop"), digest(&before), "all has moved back");
}

#[test]
fn a_version_that_fails_gives_its_weight_to_the_others_and_takes_it_back() {
    let versions: &[(Version, u32, &[u8])] = &[(Blue, 90, &[1, 2]), (Canary, 10, &[3])];
    let mut node = Node::with(&[spec("shop", 1, versions)]);
    let old = node.open(1, 0..500);
    assert!(old.contains(&Some(3)));
    node.learn("shop", Canary, 3, |place| place.failing = true);
    assert!((node.share("shop", Canary), node.share("shop", Blue)) == (0.0, 1.0));
    assert!(!node.open(1, 500..1000).contains(&Some(3)));
    assert_eq!(node.go_on(1, 0..500), old);
    // A shift in the meantime goes by what is asked for, as soon as it can.
    let mut asked = shift(&[("shop", Canary, 20)]);
    let refused = node.owner.shift(&asked).unwrap_err();
    assert_eq!(refused, Error::NoReadyBackend { service: name("shop"), version: Canary });
    asked.options.force = true;
    node.owner.shift(&asked).unwrap();
    assert!(node.share("shop", Canary) == 0.0);
    node.learn("shop", Canary, 3, |place| place.failing = false);
    assert!((node.share("shop", Canary) - 0.2).abs() < 0.001);
    assert_eq!(node.go_on(1, 0..500), old);
}

#[test]
fn what_was_known_is_known_after_a_restart() {
    let spec = spec("shop", 1, &[(Blue, 100, &[1, 2])]) + "    health: { type: tcp }\n";
    let mut node = Node::with(&[spec]);
    node.learn("shop", Blue, 1, |place| place.failing = true);
    node.learn("shop", Blue, 2, |place| place.by_hand = BackendState::Draining);
    let again = Node::start(node.store.clone()).unwrap();
    assert_eq!(again.places(), node.places());
    let states = again.owner.get(&name("shop")).unwrap().versions[Blue].backends.clone();
    let states: Vec<BackendState> = states.iter().map(|backend| backend.state).collect();
    assert_eq!(states, [BackendState::Down, BackendState::Draining]);
}
