//! Drains: what may be stopped when, what is given up at their end, and what operators do by hand.

use Version::{Blue, Canary, Green};

use super::*;
use crate::model::{BackendState, OnTimeout};
use crate::node::clock;
use crate::node::messages::{DrainStatus, MayStop, SetBackend, Settle};
use crate::node::owner::DEFAULT_IDLE;

const LATER: u32 = DEFAULT_IDLE + 5;

impl Node {
    fn set(&mut self, last: u8, state: BackendState, force: bool) -> Result<Changed, Error> {
        let options = ChangeOptions { force, ..ChangeOptions::default() };
        let (service, address) = (name("shop"), backend(last));
        self.owner.set_backend(&SetBackend { service, address, port: 80, state, options })
    }

    fn in_flight(&mut self, canary: u32, in_flight: InFlight) -> Changed {
        let shift = Shift { in_flight, ..shift(&[("shop", Canary, canary)]) };
        self.owner.shift(&shift).unwrap()
    }

    /// The line of a version, or of a backend of it.
    fn drain(&self, version: Version, last: Option<u8>) -> Option<DrainStatus> {
        let all = self.owner.drains(&[name("shop")]).unwrap();
        let at = last.map(|last| (backend(last), 80).into());
        all.into_iter().find(|one| (one.version, one.backend) == (version, at))
    }

    fn answer(&self, version: Version, last: Option<u8>) -> MayStop {
        self.drain(version, last).unwrap().may_stop
    }

    fn names(&self, lasts: &[u8]) -> usize {
        let plane = self.plane.lock();
        let flows = plane.flows.borrow();
        let last = |index: u16| plane.backends[&index].address.0[3].to_ne_bytes()[3];
        flows.entries.values().filter(|entry| lasts.contains(&last(entry.backend))).count()
    }

    fn remembers(&self) -> usize {
        self.plane.lock().flows.borrow().entries.len()
    }

    /// Lets flows be stamped with this time.
    fn clock(&self, now: u32) -> u32 {
        self.plane.lock().flows.borrow_mut().now = now;
        now
    }
}

fn shop(canary: u32, drain: &str) -> String {
    let versions: &[(Version, u32, &[u8])] =
        &[(Blue, 100 - canary, &[1, 2]), (Green, 0, &[5]), (Canary, canary, &[3, 4])];
    spec("shop", 1, versions).replace("    versions:", &format!("{drain}    versions:"))
}

#[test]
fn a_version_may_be_stopped_when_nothing_names_it() {
    let mut node = Node::with(&[shop(50, "")]);
    let start = node.clock(clock::seconds());
    assert_eq!(node.owner.drains(&[]).unwrap(), [], "nothing drains");
    let old = node.open(1, 0..200);
    let on_canary = |homes: &[Option<u8>]| homes.iter().flatten().filter(|b| **b > 2).count();
    node.in_flight(0, InFlight::BySpec);
    assert_eq!(node.answer(Canary, None), MayStop::Unknown);
    let line = node.drain(Canary, None).unwrap();
    assert_eq!((line.why.as_str(), line.flows, line.deadline_in_s), ("no weight", 0, None));
    let settles = line.settles_in_s.unwrap();
    assert!((DEFAULT_IDLE..=DEFAULT_IDLE + 1).contains(&settles), "{settles}");

    // Those that speak are counted, exactly; the others may be there.
    assert_eq!(node.go_on(1, 0..100), old[..100]);
    node.owner.round(start + 5).unwrap();
    let line = node.drain(Canary, None).unwrap();
    assert_eq!((line.may_stop, line.flows), (MayStop::No, on_canary(&old[..100]) as u64));
    assert!(line.packets == 0 && line.reason.contains("flows, last packet"), "{line:?}");
    assert_eq!(node.go_on(1, 0..100), old[..100]);
    assert_eq!(node.drain(Canary, None).unwrap().packets, on_canary(&old[..100]) as u64);

    // Settled: the silent ones are gone, those that have spoken meanwhile are not.
    let settled = node.clock(start + LATER);
    assert_eq!(node.go_on(1, 0..10), old[..10]);
    node.owner.round(settled).unwrap();
    node.owner.round(settled + 5).unwrap();
    let line = node.drain(Canary, None).unwrap();
    assert_eq!((line.flows, line.settles_in_s), (on_canary(&old[..10]) as u64, None));
    assert_eq!(line.may_stop, MayStop::No);
    let ended = settled + LATER;
    node.owner.round(ended).unwrap();
    assert_eq!(node.answer(Canary, None), MayStop::Yes);
    node.owner.round(ended + 5).unwrap();
    assert_eq!(node.answer(Canary, None), MayStop::Yes);
    assert_eq!(node.drain(Canary, None).unwrap().reason, "nothing names it");

    node.shift(&[("shop", Canary, 1)]).unwrap();
    assert_ne!(node.drain(Canary, None).map(|line| line.why), Some("no weight".to_owned()));
}

#[test]
fn settling_leaves_no_moment_of_a_wrong_yes() {
    let mut node = Node::with(&[shop(100, "")]);
    let start = node.clock(clock::seconds());
    let old = node.open(1, 0..50);
    node.in_flight(0, InFlight::BySpec);
    // A flow that speaks between the look of the round that settles and its commit.
    node.owner.round(start + 5).unwrap();
    node.clock(start + LATER);
    node.owner.round(start + LATER).unwrap();
    assert_eq!(node.answer(Canary, None), MayStop::Unknown, "the look was before the commit");
    node.owner.round(start + LATER + 5).unwrap();
    assert_eq!(node.answer(Canary, None), MayStop::Yes);
    assert!(old.iter().all(|home| home.is_some_and(|home| home > 2)));
}

#[test]
fn each_service_has_its_own_idle_time() {
    let quick = shop(50, "    drain: { idle: 10s }\n");
    let slow = spec("api", 2, &[(Blue, 50, &[11]), (Canary, 50, &[12])]);
    let mut node = Node::with(&[quick, slow]);
    let start = node.clock(clock::seconds());
    let old = [node.open(1, 0..100), node.open(2, 0..100)];
    node.shift(&[("shop", Canary, 0), ("api", Canary, 0)]).unwrap();
    for (listener, old) in [(1, &old[0]), (2, &old[1])] {
        assert_eq!(&node.go_on(listener, 0..100), old);
    }
    for round in 1..6 {
        node.owner.round(start + round * 5).unwrap();
    }
    let tracked = |service: &str| {
        let entry = node.owner.state.get(&name(service)).unwrap();
        entry.tables.versions().iter().any(|slot| slot.tracked())
    };
    assert!(!tracked("shop") && tracked("api"));
    assert_eq!(node.go_on(2, 0..100), old[1]);
}

#[test]
fn a_flow_that_finds_no_room_delays_its_own_service_alone() {
    let both = [1, 2].map(|n| {
        let versions: &[(Version, u32, &[u8])] = &[(Blue, 100, &[n]), (Canary, 0, &[10 + n])];
        spec(&format!("s{n}"), n, versions)
    });
    let mut node = Node::with(&both);
    let start = node.clock(clock::seconds());
    node.shift(&[("s1", Canary, 100), ("s2", Canary, 100)]).unwrap();
    node.owner.round(start + 5).unwrap();
    node.plane.lock().flows.borrow_mut().capacity = 0;
    node.open(1, 0..10);
    node.owner.round(start + 600).unwrap();
    node.owner.round(start + LATER).unwrap();
    node.owner.round(start + LATER + 5).unwrap();
    let tracked = ["s1", "s2"].map(|service| {
        let entry = node.owner.state.get(&name(service)).unwrap();
        entry.tables.versions().iter().any(|slot| slot.tracked())
    });
    assert_eq!(tracked, [true, false]);
}

#[test]
fn a_shift_now_and_then_keeps_only_what_it_moves_in_transition() {
    let mut node = Node::with(&[shop(0, "    drain: { idle: 60s }\n")]);
    let tracked = |node: &Node| {
        let entry = node.owner.state.get(&name("shop")).unwrap();
        entry.tables.versions().iter().filter(|slot| slot.tracked()).count()
    };
    let start = clock::seconds();
    // The first moves as if it had been made long ago; then others, each a percent more.
    node.in_flight(20, InFlight::BySpec);
    let entry = Arc::make_mut(node.owner.state.services.get_mut(&name("shop")).unwrap());
    let before = Arc::clone(&entry.tables);
    entry.moved = crate::plan::moved::Moved::all(start - 100);
    node.in_flight(21, InFlight::BySpec);
    assert_eq!(before.versions().iter().filter(|slot| slot.tracked()).count(), 3_277);
    assert_eq!(tracked(&node), 3_441);
    node.owner.round(start + 5).unwrap();
    node.owner.round(start + 10).unwrap();
    assert_eq!(tracked(&node), 3_441 - 3_277, "only the last percent is in transition");
}

#[test]
fn a_drain_that_is_over_keeps_its_flows_or_resets_them_at_a_pace() {
    for (then, kept) in [("keep", true), ("reset", false)] {
        let drain = format!("    drain: {{ timeout: 60s, on_timeout: {then} }}\n");
        let mut node = Node::with(&[shop(100, &drain)]);
        let (start, wall) = (node.clock(clock::seconds()), clock::wall());
        node.plane.lock().flows.borrow_mut().capacity = 20_000;
        let old = node.open(1, 0..7_000);
        node.in_flight(0, InFlight::BySpec);
        assert_eq!(node.go_on(1, 0..6_500), old[..6_500]);
        let new = node.open(1, 10_000..10_500);
        node.owner.round_at(start + 5, wall + 5).unwrap();
        assert_eq!(node.names(&[3, 4]), 6_500);
        let line = node.drain(Canary, None).unwrap();
        assert!(matches!(line.deadline_in_s, Some(55..=60)), "{line:?}");

        // It survives a restart.
        let stored = node.store.kept().unwrap();
        assert_eq!(stored.services[0].draining[2].unwrap().timeout, Some(60));

        let over = 62;
        node.owner.round_at(start + over, wall + u64::from(over)).unwrap();
        assert_eq!(node.names(&[3, 4]), 6_500, "first no slot leads there");
        let silent = node.go_on(1, 6_900..7_000);
        assert_eq!(silent == old[6_900..], kept, "what was silent is given up: {then}");
        let there = node.names(&[3, 4]);
        node.owner.round_at(start + over + 5, wall + u64::from(over) + 5).unwrap();
        let left = node.names(&[3, 4]);
        assert_eq!(left, if kept { there } else { there - 5_000 }, "a thousand a second");
        node.owner.round_at(start + over + 10, wall + u64::from(over) + 10).unwrap();
        assert_eq!(node.names(&[3, 4]), if kept { there } else { 0 });
        // What was given up goes elsewhere, and meets a host that does not know it.
        let now = node.go_on(1, 0..6_500);
        assert_eq!(now == old[..6_500], kept);
        assert!(kept || now.iter().flatten().all(|home| *home <= 2));
        assert_eq!(node.go_on(1, 10_000..10_500), new, "others are left alone");
    }
}

#[test]
fn a_shift_may_give_up_what_it_leaves_behind() {
    let mut node = Node::with(&[shop(50, "")]);
    node.clock(clock::seconds());
    let first = node.open(1, 0..400);
    node.in_flight(100, InFlight::Keep);
    let second = node.open(1, 400..600);
    assert_eq!(node.go_on(1, 0..400), first);
    // Room for no more flow.
    let full = node.remembers();
    node.plane.lock().flows.borrow_mut().capacity = full;
    node.in_flight(0, InFlight::Reset);
    assert_eq!(node.names(&[3, 4]), 0, "forgotten when the call returns");
    // With the table full again.
    let full = node.remembers();
    node.plane.lock().flows.borrow_mut().capacity = full;
    assert!(node.open(1, 1_000..3_000).iter().flatten().all(|home| *home <= 2));
    let (on_blue, on_canary): (Vec<u16>, Vec<u16>) =
        (0..400).partition(|client| first[usize::from(*client)].is_some_and(|home| home <= 2));
    for client in on_blue {
        assert_eq!(node.packet(1, client, false), first[usize::from(client)]);
    }
    for client in on_canary.into_iter().chain(400..600) {
        assert!(node.packet(1, client, false).is_some_and(|home| home <= 2));
    }
    assert_eq!(second.iter().flatten().filter(|home| **home <= 2).count(), 0);
    let line = node.drain(Canary, None).unwrap();
    assert_eq!((line.why.as_str(), line.flows), ("given up", 0));
    assert_eq!(line.may_stop, MayStop::Yes);
    // With weight again it is a version like any other.
    node.plane.lock().flows.borrow_mut().capacity = 10_000;
    node.in_flight(50, InFlight::BySpec);
    let again = node.open(1, 5_000..5_400);
    assert!(again.contains(&Some(3)));
    node.owner.round(clock::seconds() + 5).unwrap();
    assert_eq!(node.go_on(1, 5_000..5_400), again);
}

#[test]
fn an_end_by_hand_stands_in_for_that_of_the_spec() {
    let mut node = Node::with(&[shop(50, "    drain: { timeout: 60s, on_timeout: reset }\n")]);
    let draining = |node: &Node| {
        let one = node.owner.state.get(&name("shop")).unwrap().draining[2].unwrap();
        (one.timeout, one.on_timeout)
    };
    node.in_flight(0, InFlight::Keep);
    assert_eq!(draining(&node), (None, OnTimeout::Keep));
    node.in_flight(0, InFlight::Drain { timeout: None, on_timeout: None });
    assert_eq!(draining(&node), (Some(60), OnTimeout::Reset), "named again, it begins again");
    let by_hand = InFlight::Drain { timeout: Some(5), on_timeout: Some(OnTimeout::Keep) };
    node.in_flight(0, by_hand);
    assert_eq!(draining(&node), (Some(5), OnTimeout::Keep));
    node.in_flight(0, InFlight::BySpec);
    assert_eq!(draining(&node), (Some(5), OnTimeout::Keep), "nothing new was lost");
    let again = Node::start(node.store.clone()).unwrap();
    assert_eq!(draining(&again), (Some(5), OnTimeout::Keep));
}

#[test]
fn a_backend_is_taken_out_by_hand_and_taken_back() {
    let mut node = Node::with(&[shop(50, "")]);
    let start = node.clock(clock::seconds());
    let old = node.open(1, 0..200);
    let changed = node.set(3, BackendState::Draining, false).unwrap();
    assert!(changed.changes[0].versions[Canary].backend_slots_moved > 0);
    assert!(changed.changes[0].moves.is_empty(), "no flow changes its version");
    let new = node.open(1, 200..400);
    assert!(!new.contains(&Some(3)) && new.contains(&Some(4)));
    assert_eq!(node.go_on(1, 0..200), old);
    node.owner.round(start + 5).unwrap();
    let line = node.drain(Canary, Some(3)).unwrap();
    let on_it = old.iter().filter(|home| **home == Some(3)).count() as u64;
    assert_eq!((line.why.as_str(), line.flows), ("by hand", on_it));
    assert_eq!(line.may_stop, MayStop::No);

    // The last one only by force.
    let refused = node.set(4, BackendState::Down, false).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "10.60.0.4:80 is the last backend of canary in service \"shop\" that takes connections, and \
         canary has weight; shift the weight away first, or force"
    );
    node.set(4, BackendState::Down, true).unwrap();
    assert!(node.share("shop", Canary) == 0.0, "blue stands in");
    node.set(4, BackendState::Active, false).unwrap();
    // A backend of a version without weight is nobody's last.
    node.set(5, BackendState::Draining, false).unwrap();

    let again = Node::start(node.store.clone()).unwrap();
    assert_eq!(again.places(), node.places());
    node.set(3, BackendState::Active, false).unwrap();
    assert_eq!(node.drain(Canary, Some(3)), None);
    assert!(node.open(1, 400..600).contains(&Some(3)));
    assert_eq!(node.go_on(1, 0..200), old);
    let unknown = node.set(99, BackendState::Down, false).unwrap_err();
    assert!(unknown.to_string().contains("10.60.0.99:80 is no backend of shop"), "{unknown}");
}

#[test]
fn a_drained_backend_is_given_up_at_its_end() {
    let mut node = Node::with(&[shop(50, "    drain: { timeout: 30s, on_timeout: reset }\n")]);
    let (start, wall) = (node.clock(clock::seconds()), clock::wall());
    let old = node.open(1, 0..200);
    node.set(3, BackendState::Draining, false).unwrap();
    assert_eq!(node.go_on(1, 0..100), old[..100]);
    for round in [32, 37] {
        node.owner.round_at(start + round, wall + u64::from(round)).unwrap();
    }
    for (client, home) in (0..200).zip(&old) {
        let now = node.packet(1, client, false);
        assert_eq!(now == *home, *home != Some(3), "only its flows are given up");
        assert_ne!(now, Some(3));
    }
}

#[test]
fn settling_by_hand_says_first_what_it_costs() {
    let mut node = Node::with(&[shop(0, "")]);
    let old = node.open(1, 0..300);
    node.in_flight(50, InFlight::BySpec);
    assert_eq!(node.go_on(1, 0..100), old[..100]);
    let commits = node.plane.lock().commits;
    let mut settle = Settle { service: name("shop"), dry_run: true, fence: None };
    let would = node.owner.settle_now(&settle).unwrap();
    assert_eq!(would.slots.iter().map(|one| one.slots).sum::<u32>(), 8_192);
    assert_eq!((would.slots[0].from, would.slots[0].to), (Blue, Canary));
    assert!((DEFAULT_IDLE - 1..=DEFAULT_IDLE).contains(&would.by_itself_s));
    assert_eq!(node.plane.lock().commits, commits);

    settle.dry_run = false;
    node.owner.settle_now(&settle).unwrap();
    assert_eq!(node.go_on(1, 0..100), old[..100], "what has spoken since is remembered");
    assert_ne!(node.go_on(1, 100..300), old[100..300], "what was silent is broken, as was said");
    assert!(node.owner.settle_now(&settle).unwrap().is_none());
}
