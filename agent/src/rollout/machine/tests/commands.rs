//! What people ask for.

use super::super::*;
use super::world::*;
use crate::model::{Version, Weights};

const LONG: &str = "
strategy: { canary: { steps: [setWeight: 10%, pause: {}, setWeight: 50%, pause: { duration: 1m }] } }
bake: 10s
drain: { idle: 5s, timeout: 10s }
";

fn at(step: usize) -> World {
    let mut world = World::new(LONG, 2);
    world.until_step(1, 5);
    if step == 3 {
        world.command(Verb::Promote { full: false });
        world.until_step(3, 5);
    }
    world
}

fn next(lines: &str, revision: &str) -> Verb {
    let mut next = rollout(lines);
    next.revision = revision.to_owned();
    Verb::Run(Box::new(next))
}

#[test]
fn promote_ends_one_wait_or_all() {
    let mut world = at(1);
    world.command(Verb::Promote { full: false });
    world.until_step(3, 5);
    assert_eq!(world.weights(Version::Canary), [50; 2]);
    let mut world = at(1);
    world.command(Verb::Promote { full: true });
    world.until(Status::Baking, 5);
    assert_eq!(world.weights(Version::Canary), [100; 2]);
    world.until(Status::Draining, 20);
    world.command(Verb::Promote { full: true });
    world.run(1);
    assert!(world.has_event(EventKind::Refused, "the old version is drained"));
}

#[test]
fn a_pause_keeps_the_time_that_had_passed() {
    let mut world = at(3);
    world.run(50);
    world.command(Verb::Pause);
    world.run(600);
    assert_eq!(
        (world.state.status(), world.weights(Version::Canary)),
        (Status::Paused, vec![50; 2])
    );
    world.command(Verb::Resume);
    world.run(5);
    assert_eq!(world.weights(Version::Canary), [50; 2]);
    world.run(10);
    assert_eq!(world.weights(Version::Canary), [100; 2]);
}

#[test]
fn abort_is_accepted_everywhere_and_twice() {
    for moment in 0..60 {
        let mut world = World::new(LONG, 2);
        world.run(moment.min(8));
        if moment > 4 {
            world.command(Verb::Promote { full: true });
            world.run(moment - 4);
        }
        if world.state.status() == Status::Healthy {
            return;
        }
        world.command(Verb::Abort);
        world.command(Verb::Abort);
        world.run(1);
        assert_eq!(world.weights(Version::Canary), [0; 2], "second {moment}");
        world.until(Status::Degraded, 20);
        assert!(!world.has_event(EventKind::Refused, ""), "{:?}", world.events);
    }
    panic!("it was never healthy");
}

#[test]
fn undo_returns_to_any_kept_revision_in_one_write() {
    let mut world = at(1);
    world.command(Verb::Promote { full: true });
    world.until(Status::Healthy, 60);
    world.command(Verb::Undo { to_revision: Some("v9".to_owned()) });
    world.run(1);
    assert!(world.has_event(EventKind::Refused, "there are before, v2"), "{:?}", world.events);
    world.command(Verb::Undo { to_revision: None });
    world.run(1);
    assert_eq!(world.weights(Version::Blue), [100; 2]);
    world.until(Status::Healthy, 10);
    assert!(world.state.reason.contains("returned to before"));
    world.command(Verb::Undo { to_revision: Some("v2".to_owned()) });
    world.until(Status::RollingBack, 2);
    world.until(Status::Healthy, 10);
    assert_eq!(world.weights(Version::Canary), [100; 2], "and forth again");
    for agent in world.agents.values_mut() {
        agent.health(Version::Blue, false);
    }
    world.command(Verb::Undo { to_revision: Some("before".to_owned()) });
    world.run(1);
    assert!(world.has_event(EventKind::Refused, "blue has no ready backend on edge-00"));
    assert_eq!(world.weights(Version::Canary), [100; 2]);
}

#[test]
fn undo_under_way_is_an_abort() {
    let mut world = at(3);
    world.command(Verb::Undo { to_revision: None });
    world.until(Status::Degraded, 15);
    assert_eq!(world.weights(Version::Canary), [0; 2]);
    world.command(Verb::Retry);
    world.until_step(1, 10);
    assert_eq!(world.weights(Version::Canary), [10; 2]);
}

#[test]
fn a_new_revision_waits_takes_over_or_is_refused() {
    let mut world = at(1);
    world.command(next(LONG, "v3"));
    world.command(next(LONG, "v4"));
    world.run(2);
    assert_eq!(world.state.rollout.revision, "v2");
    assert_eq!(world.state.queued.as_ref().unwrap().revision, "v4", "the newest");
    world.command(Verb::Abort);
    world.run(3);
    assert_eq!(world.state.rollout.revision, "v4");
    world.until_step(1, 20);

    let mut world = World::new(&format!("{LONG}onNewRevision: supersede\n"), 2);
    world.until_step(1, 5);
    world.command(next(LONG, "v3"));
    world.run(1);
    assert_eq!(world.weights(Version::Canary), [0; 2]);
    world.run(3);
    assert_eq!(world.state.rollout.revision, "v3");

    let mut world = World::new(&format!("{LONG}onNewRevision: reject\n"), 2);
    world.until_step(1, 5);
    world.command(next(LONG, "v3"));
    world.run(1);
    assert!(world.has_event(EventKind::Refused, "v2 is under way"));
    assert_eq!(world.state.queued, None);
}

#[test]
fn a_command_is_heard_once() {
    let mut world = at(1);
    world.command(Verb::Promote { full: false });
    world.until_step(3, 5);
    world.run(30);
    assert_eq!(world.weights(Version::Canary), [50; 2], "the list still holds it");
    assert_eq!(world.state.heard, 1);
}

#[test]
fn what_cannot_be_is_refused_with_the_reason() {
    let mut world = World::new(LONG, 2);
    world.command(Verb::Promote { full: false });
    world.command(Verb::Resume);
    world.command(Verb::Retry);
    world.run(1);
    for part in ["nothing is under way", "it is not paused", "nothing has failed"] {
        assert!(world.has_event(EventKind::Refused, part), "{part}: {:?}", world.events);
    }
    world.until_step(1, 5);
    world.command(Verb::Pause);
    world.command(Verb::Pause);
    world.run(1);
    assert!(world.has_event(EventKind::Refused, "it is paused already"));
    let mut other = rollout(LONG);
    other.service = crate::model::ServiceName::new("other").unwrap();
    world.command(Verb::Run(Box::new(other)));
    world.run(1);
    assert!(world.has_event(EventKind::Refused, "it is for other, not shop"));
}

#[test]
fn a_rollout_begins_where_one_version_has_everything() {
    let mut world = World::new(LONG, 2);
    set_weights(&mut world.agent(1).view, Weights::all_to(Version::Green));
    world.run(5);
    assert_eq!(world.state.status(), Status::Preflight);
    assert!(world.state.reason.contains("green on edge-01"), "{}", world.state.reason);
    world.until(Status::Degraded, 620);
    assert!(world.asked.iter().all(|effect| !matches!(effect, Effect::SetWeights { .. })));
}
