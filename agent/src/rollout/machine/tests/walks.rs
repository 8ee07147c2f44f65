//! Whole walks of each strategy.

use super::super::*;
use super::world::*;
use crate::model::Version;
use crate::rollout::judge::OnInsufficient;

const CANARY: &str = "
strategy:
  canary:
    steps:
      - setMatchRoute: { sources: [10.9.0.0/16] }
      - setWeight: 1%
      - analysis: { minDuration: 20s, maxDuration: 2m, advanceEarly: true }
      - setWave: { agents: 25% }
      - setWeight: 25%
      - pause: { duration: 30s }
      - gate: { type: manual, timeout: 1h, onTimeout: abort }
bake: 20s
drain: { idle: 10s, timeout: 1m }
";

#[test]
fn a_canary_goes_all_its_way() {
    let mut world = World::new(CANARY, 8);
    world.run(1);
    assert_eq!(world.state.steps.len(), 10);
    world.until_step(2, 10);
    assert_eq!(world.weights(Version::Canary), [1; 8]);
    let steered = |world: &World| {
        world.agents.values().filter(|agent| !agent.view.steering.is_empty()).count()
    };
    assert_eq!(steered(&world), 8);
    world.verdict = pass(true);
    world.run(18);
    assert_eq!(world.state.status(), Status::Progressing);
    assert!(
        matches!(world.state.phase, Phase::Progressing(Position { step: 2, .. })),
        "minDuration"
    );
    world.until_step(5, 30);
    assert_eq!(world.weights(Version::Canary), [25, 25, 1, 1, 1, 1, 1, 1], "two of eight agents");
    world.verdict = undecided();
    world.until_step(6, 31);
    world.run(60);
    world.command(Verb::Promote { full: false });
    world.until(Status::Baking, 10);
    assert_eq!(world.weights(Version::Canary), [100; 8]);
    assert_eq!(steered(&world), 0, "the rules go when the candidate has everything");
    world.until(Status::Draining, 21);
    assert_eq!(world.judging, None, "after the bake nothing is judged");
    world.until(Status::Healthy, 12);
    assert_eq!(
        world.statuses()[..],
        [
            Status::Preflight,
            Status::Progressing,
            Status::Promoting,
            Status::Baking,
            Status::Draining,
            Status::Healthy
        ],
        "{:#?}",
        world.trace()
    );
    assert_eq!(world.state.kept.len(), 2);
    assert!(world.state.unanswered.is_empty());
}

/// Where each preset is at the seconds named: the candidate's share in percent.
fn shares(preset: &str, at: &[u64]) -> Vec<u32> {
    let lines = format!("strategy: {{ preset: {preset} }}\nbake: 10s\n");
    let mut world = World::new(&lines, 3);
    let mut seen = Vec::new();
    let mut now = 0;
    for second in at {
        world.run(second - now);
        now = *second;
        let weights = world.weights(Version::Canary);
        assert!(weights.iter().all(|weight| *weight == weights[0]));
        seen.push(weights[0]);
    }
    seen
}

#[test]
fn presets_take_the_time_that_their_names_say() {
    assert_eq!(shares("AllAtOnce", &[2]), [100]);
    assert_eq!(shares("Canary10Percent5Minutes", &[3, 290, 320]), [10, 10, 100]);
    assert_eq!(
        shares("Linear10PercentEvery1Minute", &[5, 70, 135, 200, 265, 330, 395, 460, 525, 590]),
        [10, 20, 30, 40, 50, 60, 70, 80, 90, 100]
    );
    assert_eq!(shares("Linear40PercentEvery2Minutes", &[5, 130, 260]), [40, 80, 100]);
}

#[test]
fn presets_end_healthy() {
    for preset in ["AllAtOnce", "Canary10Percent5Minutes", "Linear10PercentEvery1Minute"] {
        let lines = format!(
            "strategy: {{ preset: {preset} }}\nbake: 10s\ndrain: {{ idle: 5s, timeout: 10s }}\n"
        );
        let mut world = World::new(&lines, 3);
        world.until(Status::Healthy, 700);
        assert_eq!(world.weights(Version::Canary), [100; 3]);
    }
}

const BLUE_GREEN: &str = "
strategy:
  blueGreen:
    preview: listener
    prePromotionAnalysis: { minDuration: 10s, maxDuration: 30s, advanceEarly: true }
    autoPromotion: { after: 20s }
    scaleDownDelay: 1m
bake: 10s
drain: { idle: 5s, timeout: 30s }
hooks:
  - { stage: prePromotion, url: \"http://127.0.0.1:9/before\" }
  - { stage: postDrain, command: [free, blue] }
";

#[test]
fn what_is_to_be_tried_by_a_preview_needs_one() {
    let mut world = World::new(BLUE_GREEN, 3);
    world.agent(1).view.previews = crate::model::PerVersion::default();
    world.run(5);
    assert_eq!(world.state.status(), Status::Preflight);
    let reason = &world.state.reason;
    assert!(reason.contains("no listener previews green on edge-01"), "{reason}");
    world.agent(1).view.previews = world.agent(0).view.previews;
    world.run(2);
    assert_eq!(world.state.status(), Status::Progressing);
}

#[test]
fn green_is_tried_aside_then_gets_everything() {
    let mut world = World::new(BLUE_GREEN, 3);
    world.run(2);
    assert_eq!(world.weights(Version::Green), [0; 3]);
    world.verdict = pass(true);
    world.until(Status::Promoting, 45);
    world.until(Status::Baking, 5);
    assert_eq!(world.weights(Version::Green), [100; 3]);
    assert_eq!(world.calls.len(), 1);
    world.until(Status::Draining, 12);
    world.run(55);
    assert_eq!(world.state.status(), Status::Draining, "scaleDownDelay is longer than the drain");
    world.until(Status::Healthy, 10);
    assert_eq!(world.calls.len(), 2);
    assert_eq!(world.calls[1].0.stage, Some(crate::rollout::spec::Stage::PostDrain));
}

#[test]
fn green_returns_at_once() {
    let mut world = World::new(BLUE_GREEN, 3);
    world.verdict = pass(true);
    world.until(Status::Baking, 60);
    world.verdict = fail();
    world.run(1);
    assert_eq!(world.weights(Version::Blue), [100; 3], "in the very tick of the verdict");
    world.until(Status::Degraded, 3);
    assert!(world.state.unanswered.is_empty());
}

#[test]
fn after_green_blue_is_next() {
    let mut world = World::new(BLUE_GREEN, 2);
    world.verdict = pass(true);
    world.until(Status::Healthy, 200);
    let mut next = rollout(BLUE_GREEN);
    next.revision = "v3".to_owned();
    world.command(Verb::Run(Box::new(next)));
    world.run(1);
    world.until(Status::Healthy, 200);
    assert_eq!(world.weights(Version::Blue), [100; 2]);
    let kept: Vec<&str> = world.state.kept.iter().map(|kept| kept.revision.as_str()).collect();
    assert_eq!(kept, ["v2", "v3"], "what was on blue before is no more");
}

#[test]
fn without_early_advance_an_analysis_lasts_its_time() {
    let lines = "
strategy: { canary: { steps: [setWeight: 10%, analysis: { minDuration: 5s, maxDuration: 1m }] } }
";
    let mut world = World::new(lines, 1);
    world.verdict = pass(true);
    world.until_step(1, 5);
    world.run(58);
    assert_eq!(world.weights(Version::Canary), [10]);
    world.run(4);
    assert_eq!(world.weights(Version::Canary), [100]);
}

#[test]
fn without_data_nothing_is_a_success_or_a_failure() {
    let lines = |action: &str| {
        format!(
            "
strategy: {{ canary: {{ steps: [setWeight: 10%, analysis: {{ minDuration: 5s, maxDuration: 1m }}] }} }}
analysis: {{ onInsufficientData: {action} }}
"
        )
    };
    for (action, after, status) in [
        (OnInsufficient::Extend, 70, Status::Progressing),
        (OnInsufficient::Pause, 70, Status::Paused),
        (OnInsufficient::Proceed, 65, Status::Baking),
        (OnInsufficient::Abort, 70, Status::Degraded),
    ] {
        let named = serde_json::to_string(&action).unwrap().trim_matches('"').to_owned();
        let mut world = World::new(&lines(&named), 2);
        world.verdict = insufficient();
        world.until_step(1, 5);
        world.run(after);
        assert_eq!(world.state.status(), status, "{named}: {}", world.state.reason);
    }
    let mut idle = World::new(&lines("extend"), 2);
    idle.verdict = insufficient();
    idle.until(Status::Paused, 400);
    idle.run(3_600);
    assert_eq!(idle.state.status(), Status::Paused, "an idle service is never rolled back");
    assert_eq!(idle.weights(Version::Canary), [10; 2]);
    idle.verdict = pass(false);
    idle.command(Verb::Resume);
    idle.run(70);
    assert_eq!(idle.weights(Version::Canary), [100; 2]);
}

#[test]
fn an_agent_that_joins_comes_last_and_is_a_transition() {
    let mut world = World::new(CANARY, 8);
    world.verdict = pass(true);
    world.until_step(5, 60);
    assert_eq!(world.weights(Version::Canary), [25, 25, 1, 1, 1, 1, 1, 1]);
    let before = world.state.transition;
    world.agents.insert(name(8), Agent::joining(world.now));
    world.run(2);
    assert!(world.state.transition > before, "its weights are persisted before they are asked for");
    assert!(world.has_event(EventKind::Transition, "edge-08 joined"));
    assert_eq!(
        world.weights(Version::Canary),
        [25, 25, 25, 1, 1, 1, 1, 1, 1],
        "a quarter of nine is three"
    );
}
