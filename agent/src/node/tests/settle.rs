//! Transitions end, and nothing breaks on the way.

use Version::{Blue, Canary};

use super::*;
use crate::node::clock;
use crate::node::owner::DEFAULT_IDLE;
use crate::plan::tables::BackendTable;

impl Node {
    /// Lets flows be stamped with this time.
    pub(super) fn at(&self, now: u32) -> u32 {
        self.plane.lock().flows.borrow_mut().now = now;
        now
    }

    fn tracked(&self, service: &str) -> usize {
        let tables = &self.owner.state.get(&name(service)).unwrap().tables;
        let versions = tables.versions().iter().filter(|slot| slot.tracked()).count();
        let backends = tables.backends().iter().flat_map(BackendTable::slots);
        versions + backends.filter(|slot| slot.tracked()).count()
    }

    fn remembered(&self) -> usize {
        self.plane.lock().flows.borrow().entries.len()
    }
}

#[test]
fn a_shift_settles_when_what_began_before_has_ended_or_is_remembered() {
    let mut node = Node::with(&[spec("shop", 1, &[(Blue, 100, &[1, 2]), (Canary, 0, &[3, 4])])]);
    let start = node.at(clock::seconds());
    let old = node.open(1, 0..300);
    node.shift(&[("shop", Canary, 50)]).unwrap();
    let new = node.open(1, 300..600);
    assert!(node.tracked("shop") > 8_000);

    // Not before a silent flow may be given up. The first hundred speak once in between.
    node.owner.round(start + 10).unwrap();
    let spoke = node.at(start + DEFAULT_IDLE - 10);
    assert_eq!(node.go_on(1, 0..100), old[..100]);
    assert_eq!(node.go_on(1, 300..600), new);
    node.owner.round(spoke).unwrap();
    assert_eq!(node.go_on(1, 0..100), old[..100]);
    let commits = node.plane.lock().commits;

    // First half: every slot settles, and is tracked until a later look finds it empty.
    let settled = node.at(start + DEFAULT_IDLE + 5);
    node.owner.round(settled).unwrap();
    assert_eq!(node.plane.lock().commits, commits + 1);
    assert!(node.tracked("shop") > 8_000);
    assert_eq!(node.go_on(1, 0..100), old[..100]);
    assert_eq!(node.go_on(1, 300..600), new);

    // Second half: only slots that some remembered flow needs stay tracked, and what the tables
    // say of themselves is forgotten.
    node.owner.round(settled + 5).unwrap();
    let left = node.remembered();
    assert!(left > 0 && left <= 100, "{left} remembered");
    assert!(node.tracked("shop") > 0 && node.tracked("shop") <= 4 * left);
    assert_eq!(node.go_on(1, 0..100), old[..100]);
    assert_eq!(node.go_on(1, 300..600), new);

    // When the last of them has ended, nothing is remembered, and the rounds rest.
    let later = node.at(settled + DEFAULT_IDLE + 1);
    node.owner.round(later).unwrap();
    assert_eq!((node.remembered(), node.tracked("shop")), (0, 0));
    let held = node.held();
    node.owner.round(later + 5).unwrap();
    assert_eq!(node.held(), held);
    assert_eq!(node.go_on(1, 300..600), new);
}

#[test]
fn a_flow_that_found_no_room_delays_the_end() {
    let mut node = Node::with(&[spec("shop", 1, &[(Blue, 100, &[1]), (Canary, 0, &[3])])]);
    let start = node.at(clock::seconds());
    let old = node.open(1, 0..100);
    node.plane.lock().flows.borrow_mut().capacity = 10;
    node.shift(&[("shop", Canary, 100)]).unwrap();
    node.open(1, 100..200);
    let failed = node.at(start + DEFAULT_IDLE - 10);
    assert_eq!(node.go_on(1, 0..100), old);
    node.owner.round(failed).unwrap();
    // Long enough since the shift, but not since the last flow that found no room.
    node.owner.round(failed + 100).unwrap();
    assert_eq!(node.go_on(1, 0..100), old);
}

#[test]
fn a_removed_backend_is_released_when_nothing_names_it() {
    let mut node = Node::with(&[spec("shop", 1, &[(Blue, 100, &[1, 2])])]);
    let start = node.at(clock::seconds());
    let old = node.open(1, 0..100);
    let before = node.owner.counters(&[]).unwrap().services[0].versions[Blue].traffic;
    node.apply(&[spec("shop", 1, &[(Blue, 100, &[1])])]).unwrap();
    assert!(node.place("shop", Blue, 2).unwrap().drains);
    for round in 0..4 {
        node.owner.round(start + round * 5).unwrap();
    }
    assert!(node.place("shop", Blue, 2).is_some(), "its flows may be silent");
    assert_eq!(node.go_on(1, 0..100), old);

    let end = start + 3 * DEFAULT_IDLE;
    for round in 0..4 {
        node.owner.round(end + round * 5).unwrap();
    }
    assert_eq!(node.place("shop", Blue, 2), None);
    assert_eq!(node.plane.lock().returns.len(), 1);
    assert_eq!((node.remembered(), node.tracked("shop")), (0, 0));
    let after = node.owner.counters(&[]).unwrap().services[0].versions[Blue].traffic;
    assert_eq!(after.connections, before.connections, "what it counted is still the version's");
    let kept = node.store.kept().unwrap();
    assert_eq!(kept.services[0].backends.len(), 1);
}

/// A look in several steps: what it finds says nothing of tables that came in between.
#[test]
fn a_shift_during_a_look_is_not_settled_by_it() {
    let mut node = Node::with(&[spec("shop", 1, &[(Blue, 100, &[1]), (Canary, 0, &[3])])]);
    let start = node.at(clock::seconds());
    node.shift(&[("shop", Canary, 50)]).unwrap();
    let new = node.open(1, 0..200);
    let idle = node.at(start + DEFAULT_IDLE + 5);
    assert_eq!(node.go_on(1, 0..200), new);
    node.owner.round(idle).unwrap();
    let (half, commits) = (node.tracked("shop"), node.plane.lock().commits);
    assert!(half > 8_000, "settled, and still tracked");

    // The second half is due. A shift comes while the look is under way.
    node.calls.fail(Call::SweepOn, 0);
    assert!(!node.owner.step(idle + 5).unwrap().ended);
    node.shift(&[("shop", Canary, 100)]).unwrap();
    assert!(node.owner.step(idle + 5).unwrap().ended);
    assert_eq!(node.plane.lock().commits, commits + 1, "the shift alone");
    assert!(node.tracked("shop") > half);
    assert_eq!(node.go_on(1, 0..200), new);
    // The next look is a whole one.
    node.owner.round(idle + 10).unwrap();
    assert_eq!(node.plane.lock().commits, commits + 2);
    assert_eq!(node.go_on(1, 0..200), new);
}
