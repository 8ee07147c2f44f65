//! What goes wrong, and where it leads.

use super::super::super::time::Timestamp;
use super::super::*;
use super::world::*;
use crate::model::{PerVersion, Version, Weight, Weights};
use crate::rollout::judge::Role;

const LONG: &str = "
strategy: { canary: { steps: [setWeight: 10%, pause: {}] } }
";

/// A canary at 10 %, waiting to be promoted.
fn waiting(more: &str, agents: usize) -> World {
    let mut world = World::new(&format!("{LONG}{more}"), agents);
    world.until_step(1, 10);
    assert_eq!(world.weights(Version::Canary), vec![10; agents]);
    world
}

#[test]
fn a_bad_verdict_leads_back_while_a_person_is_waited_for() {
    let mut world = waiting("", 3);
    world.run(100);
    world.verdict = fail();
    world.run(1);
    assert_eq!(world.weights(Version::Canary), [0; 3]);
    world.until(Status::Degraded, 2);
    assert!(world.state.reason.contains("the candidate fails"), "{}", world.state.reason);
    assert!(world.state.reason.contains("everything is back"));
}

#[test]
fn failure_freezes_or_is_told_if_asked() {
    let mut world = waiting("onFailure: freeze\n", 2);
    world.verdict = fail();
    world.run(5);
    assert_eq!(
        (world.state.status(), world.weights(Version::Canary)),
        (Status::Paused, vec![10; 2])
    );
    world.command(Verb::Retry);
    world.verdict = undecided();
    world.run(5);
    assert_eq!(world.state.status(), Status::Progressing);

    let mut world = waiting("onFailure: notify\n", 2);
    world.verdict = fail();
    world.run(1);
    world.verdict = undecided();
    world.run(5);
    assert_eq!(world.state.status(), Status::Progressing);
    assert!(world.has_event(EventKind::Failure, "the candidate fails"));
}

#[test]
fn an_incident_pauses_and_passes() {
    let mut world = waiting("", 2);
    world.verdict = incident();
    world.run(3);
    assert_eq!(world.state.status(), Status::Paused);
    world.verdict = undecided();
    world.run(2);
    assert_eq!(world.state.status(), Status::Progressing);
    world.verdict = mismatch();
    world.run(3);
    assert_eq!(world.state.status(), Status::Paused);
    world.verdict = undecided();
    world.run(30);
    assert_eq!(world.state.status(), Status::Paused, "a mismatch is a person's to look at");
}

#[test]
fn one_bad_backend_is_taken_out_and_the_rollout_goes_on() {
    let mut world = waiting("", 2);
    let (bad_one, before) = (address(Version::Canary, 1), world.judging);
    world.verdict = bad(bad_one, Role::Candidate);
    world.run(1);
    world.verdict = undecided();
    world.run(3);
    assert_eq!(world.state.status(), Status::Progressing);
    assert!(world.has_event(EventKind::Ejected, "fails alone"));
    assert_ne!(world.judging, before, "the evidence begins anew");
    for agent in world.agents.values() {
        assert_eq!(agent.view.ready, PerVersion::new(2, 2, 1));
    }
    world.verdict = bad(address(Version::Canary, 0), Role::Candidate);
    world.until(Status::Degraded, 5);
    assert_eq!(world.weights(Version::Canary), [0; 2], "the last one is the candidate itself");
}

#[test]
fn a_backend_is_taken_out_once() {
    let mut world = waiting("", 2);
    // Not one of the candidate's own: as many of those are ready as before.
    world.verdict = bad(address(Version::Green, 0), Role::Candidate);
    world.run(1);
    assert_eq!(world.state.status(), Status::Progressing);
    world.until(Status::Degraded, 5);
    assert_eq!(world.weights(Version::Canary), [0; 2]);
}

#[test]
fn a_guard_leads_back_even_if_a_person_has_paused() {
    let guard = "guard: { connectSuccess: \">= 50%\" }\nonFailure: freeze\n";
    let mut world = waiting(guard, 3);
    assert!(world.agents.values().all(|agent| agent.view.guard.is_some()));
    world.command(Verb::Pause);
    world.run(2);
    let at = world.now;
    let agent = world.agent(1);
    set_weights(&mut agent.view, Weights::all_to(Version::Blue));
    let reason = "3 of 40 connections".to_owned();
    agent.view.tripped = Some(Tripped { at, version: Version::Canary, reason });
    world.run(1);
    assert_eq!(world.weights(Version::Canary), [0; 3]);
    world.until(Status::Degraded, 2);
    assert!(world.state.reason.contains("guard of edge-01"), "{}", world.state.reason);
    world.run(1);
    assert!(world.agents.values().all(|agent| agent.view.guard.is_none()), "it protects no more");
    world.command(Verb::Retry);
    world.until_step(1, 10);
    assert!(world.agents.values().all(|agent| agent.view.tripped.is_none()), "set anew");
}

#[test]
fn while_a_person_has_paused_verdicts_are_not_acted_on() {
    let mut world = waiting("", 2);
    world.command(Verb::Pause);
    world.verdict = fail();
    world.run(10);
    assert_eq!(
        (world.state.status(), world.weights(Version::Canary)),
        (Status::Paused, vec![10; 2])
    );
    world.command(Verb::Resume);
    world.until(Status::Degraded, 3);
}

#[test]
fn agents_that_are_away_stop_it_until_they_are_back() {
    let mut world = waiting("", 4);
    world.agent(3).manner.gone = true;
    world.run(4);
    assert_eq!(world.state.status(), Status::Progressing, "a restart is shorter");
    world.run(3);
    assert_eq!(world.state.status(), Status::Paused);
    assert!(
        world.state.reason.contains("1 of 4 agents are away: edge-03"),
        "{}",
        world.state.reason
    );
    world.agent(3).manner.gone = false;
    world.run(3);
    assert_eq!(world.state.status(), Status::Progressing);
}

#[test]
fn an_agent_that_returns_gets_what_its_wave_has() {
    let more = "agents: { unreachable: { maxPercent: 25, action: abort } }\n";
    let mut world = waiting(more, 4);
    world.agent(3).manner.gone = true;
    world.run(10);
    assert_eq!(world.state.status(), Status::Progressing, "a quarter may be away");
    let agent = world.agent(3);
    set_weights(&mut agent.view, Weights::all_to(Version::Blue));
    world.agent(3).manner.gone = false;
    world.run(2);
    assert_eq!(world.weights(Version::Canary), [10; 4]);
    world.agent(2).manner.gone = true;
    world.agent(3).manner.gone = true;
    world.until(Status::Degraded, 20);
    let missing: Vec<&str> =
        world.state.unanswered.iter().map(crate::rollout::name::AgentName::as_str).collect();
    assert_eq!(missing, ["edge-02", "edge-03"], "those that did not answer are named");
    assert!(world.state.reason.contains("not verified on edge-02, edge-03"));
    assert_eq!(world.weights(Version::Canary), [0, 0, 10, 10]);
    world.agent(2).manner.gone = false;
    world.run(3);
    assert_eq!(world.weights(Version::Canary), [0, 0, 0, 10], "it is led back when it returns");
    assert!(world.has_event(EventKind::Returned, "edge-02"));
    assert_eq!(world.state.unanswered.len(), 1);
}

#[test]
fn a_weight_that_is_not_applied_stops_it() {
    let mut world = World::new(LONG, 3);
    world.agent(1).manner.refuses = true;
    world.until(Status::Paused, 15);
    assert!(world.state.reason.contains("edge-01"), "{}", world.state.reason);
    world.agent(1).manner.refuses = false;
    world.until_step(1, 20);

    let mut world = World::new(&format!("{LONG}verify: {{ onFail: abort }}\n"), 3);
    world.agent(1).manner.refuses = true;
    world.until(Status::Degraded, 30);
    assert_eq!(world.weights(Version::Canary), [0; 3]);

    let mut world = World::new(&format!("{LONG}verify: {{ quorum: 60% }}\n"), 3);
    world.agent(1).manner.refuses = true;
    world.until_step(1, 5);
}

#[test]
fn connections_must_agree_or_be_too_few_to_tell() {
    let mut world = World::new(LONG, 2);
    world.agent(1).view.share = ShareView::TooLittle;
    world.run(9);
    assert!(matches!(world.state.phase, Phase::Progressing(Position { step: 0, .. })));
    world.until_step(1, 5);
    assert!(world.trace().iter().any(|line| line.contains("too few connections to tell")));

    let mut world = World::new(LONG, 2);
    let (version, observed, expected) = (Version::Canary, 0.5, 0.1);
    world.agent(1).view.share = ShareView::Differs { version, observed, expected, p: 0.0 };
    world.until(Status::Paused, 15);
    assert!(world.state.reason.contains("canary gets 50.00%"), "{}", world.state.reason);
}

/// At a small weight it takes long to see that new connections agree; one that fails is not waited for.
#[test]
fn what_fails_is_found_before_connections_agree() {
    let mut world = World::new(LONG, 2);
    for index in 0..2 {
        world.agent(index).view.share = ShareView::TooLittle;
    }
    world.until_stage(Stage::Verifying, 10);
    assert!(world.judging.is_some(), "judged since the tables say it");
    world.verdict = mismatch();
    world.run(2);
    assert_eq!(world.state.status(), Status::Progressing, "shares are what is verified");
    world.verdict = fail();
    world.run(2);
    assert_eq!(world.state.status(), Status::Degraded);
    assert_eq!(world.weights(Version::Canary), [0; 2]);
}

#[test]
fn nothing_gets_weight_that_nobody_serves() {
    let mut world = World::with(LONG, 2, PerVersion::new(2, 2, 0));
    world.until(Status::Degraded, 620);
    assert!(world.state.reason.contains("nothing was changed: canary has no ready backend"));
    assert_eq!(world.weights(Version::Canary), [0; 2]);

    let mut world = waiting("", 2);
    world.agent(1).health(Version::Canary, false);
    world.until(Status::Degraded, 3);
    assert!(world.state.reason.contains("lost its last ready backend on edge-01"));

    // The stable version is gone: nobody is led there, and the agent is named.
    let mut world = waiting("", 2);
    world.agent(0).health(Version::Blue, false);
    world.command(Verb::Abort);
    world.until(Status::Degraded, 20);
    assert_eq!(world.weights(Version::Canary), [10, 0]);
    assert_eq!(world.state.unanswered.len(), 1);
    world.agent(0).health(Version::Blue, true);
    world.run(2);
    assert_eq!(world.weights(Version::Canary), [0; 2]);
}

#[test]
fn without_a_store_weights_hold_and_abort_works() {
    let lease = "agents: { lease: { ttl: 60s } }\n";
    let mut world = waiting(lease, 2);
    world.store_ok = false;
    world.verdict = fail();
    world.command(Verb::Promote { full: true });
    let before = world.state.clone();
    for agent in world.agents.values_mut() {
        agent.view.lease = Some(LeaseView { left_ms: 30_000 });
    }
    world.run(5);
    assert_eq!((world.weights(Version::Canary), &world.state), (vec![10; 2], &before));
    assert!(world.agents.values().all(|agent| agent.view.lease.unwrap().left_ms == 60_000));
    world.leading = false;
    world.command(Verb::Abort);
    world.run(1);
    assert_eq!(world.weights(Version::Canary), [0; 2]);
    world.until(Status::Degraded, 15);
}

#[test]
fn who_does_not_lead_does_nothing() {
    let mut world = waiting("", 2);
    world.leading = false;
    world.verdict = fail();
    world.run(30);
    assert!(world.asked.is_empty());
    assert_eq!(world.weights(Version::Canary), [10; 2]);
}

#[test]
fn leases_are_renewed_when_a_third_is_gone_and_end_with_the_bake() {
    let lease = "agents: { lease: { ttl: 60s, onExpiry: revert } }\nbake: 10s\ndrain: { idle: 5s, timeout: 1m }\n";
    let mut world = waiting(lease, 2);
    for agent in world.agents.values_mut() {
        agent.view.lease = Some(LeaseView { left_ms: 40_001 });
    }
    world.run(1);
    assert!(!world.asked.iter().any(|effect| matches!(effect, Effect::RenewLease { .. })));
    world.agent(0).view.lease = Some(LeaseView { left_ms: 40_000 });
    world.run(1);
    let renewed = |effect: &&Effect| matches!(effect, Effect::RenewLease { .. });
    assert_eq!(world.asked.iter().filter(renewed).count(), 1);
    world.command(Verb::Promote { full: false });
    world.until(Status::Healthy, 40);
    assert!(world.agents.values().all(|agent| agent.view.lease.is_none()));
    assert_eq!(world.weights(Version::Canary), [100; 2]);
}

#[test]
fn gates_and_pauses_end_by_their_deadlines() {
    for (gate, status) in [("abort", Status::Degraded), ("proceed", Status::Baking)] {
        let lines = format!(
            "strategy: {{ canary: {{ steps: [setWeight: 10%, gate: {{ type: manual, timeout: 1m, \
             onTimeout: {gate} }}] }} }}\n"
        );
        let mut world = World::new(&lines, 1);
        world.until_step(1, 10);
        world.run(70);
        assert_eq!(world.state.status(), status, "{}", world.state.reason);
    }
    let mut world = waiting("paused: { timeout: 1m }\n", 1);
    world.until(Status::Degraded, 70);
    let mut world = waiting("paused: { timeout: 1m, onTimeout: proceed }\n", 1);
    world.until(Status::Baking, 70);
}

#[test]
fn hooks_hold_it_and_fail_it() {
    let hooks = "
hooks:
  - { stage: preRollout, url: \"http://127.0.0.1:9/\" }
  - { stage: preWeight, url: \"http://127.0.0.1:9/\", timeout: 30s }
  - { stage: postRollback, command: [tell, everybody] }
";
    let mut world = World::new(&format!("{LONG}{hooks}"), 2);
    world.answers = vec![
        HookAnswer::InProgress,
        HookAnswer::Succeeded,
        HookAnswer::InProgress,
        HookAnswer::Failed("the database is not migrated".to_owned()),
    ];
    world.until(Status::Degraded, 30);
    assert_eq!(world.weights(Version::Canary), [0; 2]);
    assert!(world.state.reason.contains("the database is not migrated"), "{}", world.state.reason);
    assert_eq!(world.calls.len(), 3, "each is called once: {:?}", world.calls);

    let mut world = World::new(&format!("{LONG}{hooks}"), 2);
    world.answers = std::iter::once(HookAnswer::Succeeded)
        .chain(std::iter::repeat_n(HookAnswer::InProgress, 100))
        .collect();
    world.run(20);
    assert_eq!(world.state.status(), Status::Progressing);
    world.run(15);
    assert!(world.state.is_going_back(), "too late: {}", world.state.reason);
}

#[test]
fn a_clock_that_jumps_ends_nothing_early_and_keeps_nothing_waiting() {
    let lines = "
strategy: { canary: { steps: [setWeight: 10%, pause: { duration: 10m }] } }
";
    let mut world = World::new(lines, 1);
    world.until_step(1, 5);
    world.now = Timestamp(world.now.0 + 3_600_000);
    world.run(1);
    assert_eq!(world.weights(Version::Canary), [10], "an hour forward is ten seconds");
    world.now = Timestamp(500);
    world.run(600);
    assert_eq!(world.weights(Version::Canary), [100], "back to 1970, and it goes on counting");
}

#[test]
fn guards_of_others_and_weights_at_rest_are_left_alone() {
    let mut world = World::new(
        "strategy: { preset: AllAtOnce }\nbake: 1s\ndrain: { idle: 1s, timeout: 5s }\n",
        1,
    );
    world.until(Status::Healthy, 30);
    set_weights(&mut world.agent(0).view, Weights::all_to(Version::Blue));
    world.run(5);
    assert_eq!(world.agent(0).view.weights[Version::Blue], Weight::FULL, "it is the operator's");
}
