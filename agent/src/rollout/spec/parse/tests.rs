//! Documents: what is read, and what is refused with which words at which place.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use super::super::{
    AutoPromotion, CanaryStep, Comparison, Count, GateKind, InFlightKind, OnFailure, OnNewRevision,
    OnTimeout, Problem, Rollout, Source, Stage, Strategy, Target, UnreachableAction, VerifyAction,
};
use super::parse;
use crate::model::{self, Weight};
use crate::rollout::judge::{Metric, OnInsufficient};
use crate::rollout::time::Seconds;

const HEAD: &str = "kind: Rollout\nservice: shop\nrevision: v1.42\n";

fn read(lines: &str) -> Rollout {
    parse(&format!("{HEAD}{lines}")).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

fn refused(lines: &str) -> Vec<Problem> {
    parse(&format!("{HEAD}{lines}")).unwrap_err()
}

/// Each problem as people see it.
fn lines_of(problems: &[Problem]) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}

const WHOLE: &str = r#"
strategy:
  canary:
    steps:
      - setMatchRoute: { sources: [10.9.0.0/16], to: canary }
      - setWeight: 1%
      - analysis: { minDuration: 2m, maxDuration: 30m, advanceEarly: true }
      - setWave: { agents: 25% }
      - setWeight: 25%
      - pause: { duration: 10m }
      - gate: { type: manual, timeout: 24h, onTimeout: abort }
      - setWeight: 100%
analysis: { alpha: 1%, metrics: [connectSuccess, earlyReset, handshakeP50, handshakeP99], onInsufficientData: extend }
guard: { connectSuccess: ">= 50%", minConnections: 20, window: 5s }
bake: 10m
drain: { idle: 15m, timeout: 30m, onTimeout: keep }
verify: { timeout: 10s, quorum: 100%, onFail: pause }
agents: { unreachable: { maxPercent: 5, action: pause }, lease: { ttl: 60s, onExpiry: hold } }
progressDeadline: 10m
onFailure: rollback
rollback: { mode: immediate, inFlight: keep }
onNewRevision: queue
hooks: [{ stage: preWeight, url: "http://hooks.example/pre", contract: "SUCCEEDED | FAILED | IN_PROGRESS" }]
"#;

#[test]
fn the_whole_document_is_read() {
    let rollout = read(WHOLE);
    let Strategy::Canary(canary) = &rollout.strategy else { panic!("{:?}", rollout.strategy) };
    assert_eq!(canary.steps.len(), 8);
    assert_eq!(canary.steps[1], CanaryStep::SetWeight(Weight::from_bp(100).unwrap()));
    let CanaryStep::Gate(gate) = &canary.steps[6] else { panic!("{:?}", canary.steps[6]) };
    assert_eq!((&gate.kind, gate.timeout), (&GateKind::Manual, Seconds::hours(24)));
    assert!((rollout.analysis.alpha - 0.01).abs() < 1e-12);
    assert_eq!(rollout.analysis.metrics, Metric::DEFAULT);
    assert_eq!(rollout.analysis.on_insufficient_data, OnInsufficient::Extend);
    let guard = rollout.guard.unwrap();
    assert_eq!((guard.connect_success.bp(), guard.min_connections), (5_000, 20));
    assert_eq!(rollout.drain.on_timeout, model::OnTimeout::Keep);
    assert_eq!(rollout.verify.on_fail, VerifyAction::Pause);
    assert_eq!(rollout.agents.unreachable.max_percent.bp(), 500);
    assert_eq!(rollout.agents.lease.unwrap().ttl.seconds(), 60);
    assert_eq!(rollout.hooks[0].stage, Stage::PreWeight);
    let json = serde_json::to_string(&rollout).unwrap();
    assert_eq!(serde_json::from_str::<Rollout>(&json).unwrap(), rollout, "it survives the ledger");
}

#[test]
fn what_is_left_out_has_a_default() {
    let rollout = read("strategy: { preset: AllAtOnce }\n");
    assert_eq!((rollout.candidate, rollout.stable, rollout.guard), (None, None, None));
    assert_eq!((rollout.bake, rollout.progress_deadline), (super::BAKE, super::PROGRESS_DEADLINE));
    assert_eq!(rollout.agents.unreachable.action, UnreachableAction::Pause);
    assert_eq!(rollout.agents.unreachable.max_percent, Weight::ZERO);
    assert_eq!(rollout.on_failure, OnFailure::Rollback);
    assert_eq!(rollout.on_new_revision, OnNewRevision::Queue);
    assert_eq!(rollout.rollback_in_flight, InFlightKind::Keep);
    assert_eq!(rollout.paused.on_timeout, OnTimeout::Abort);
    assert_eq!(rollout.paused.timeout, Seconds::hours(168));
}

#[test]
fn blue_green_rolling_and_series_of_others_are_read() {
    let rollout = read(
        r#"
strategy:
  blueGreen: { preview: listener, prePromotionAnalysis: { maxDuration: 5m }, autoPromotion: { after: 2m }, scaleDownDelay: 1h }
analysis:
  slack: 500us
  external:
    - name: errors
      prometheus: { address: "http://prometheus:9090", query: "rate(errors[1m])" }
      successCondition: "< 5%"
      failureLimit: 2
    - { name: orders, webhook: { url: "http://orders/" }, failureCondition: ">= 3" }
"#,
    );
    let Strategy::BlueGreen(blue_green) = rollout.strategy else { panic!() };
    assert!(blue_green.preview);
    assert_eq!(blue_green.auto_promotion, AutoPromotion::After(Seconds::minutes(2)));
    assert_eq!(rollout.external.len(), 2);
    let success = rollout.external[0].success.unwrap();
    assert_eq!(success.comparison, Comparison::Less);
    assert!(success.holds(0.049) && !success.holds(0.05) && !success.holds(f64::NAN));
    assert!(matches!(rollout.external[1].source, Source::Webhook { .. }));
    let judged = &rollout.analysis.external;
    assert_eq!(
        (judged[0].name.as_str(), judged[0].failure_limit, judged[1].count),
        ("errors", 2, 1)
    );

    let rollout = read(
        "
strategy: { rolling: { maxUnavailable: 25%, minReadySeconds: 10, partition: 2 } }
hooks: [{ stage: replace, command: [./replace.sh, now], timeout: 2m }]
",
    );
    let Strategy::Rolling(rolling) = rollout.strategy else { panic!() };
    assert_eq!(rolling.max_unavailable.of(6), 2);
    assert_eq!((Count::Number(9).of(4), Count::Number(1).of(0)), (4, 1));
    assert_eq!(rolling.min_ready_seconds, Seconds::new(10));
    let words = vec!["./replace.sh".to_owned(), "now".to_owned()];
    assert_eq!(rollout.hooks[0].target, Target::Command(words));
}

#[test]
fn every_problem_is_told_at_once_with_its_place() {
    let problems = refused(
        "strategy:
  canary:
    steps:
      - setWeight: 25
      - setWieght: 30%
      - pause: { duraton: 10m }
      - gate: { type: manual }
      - analysis: { minDuration: soon }
bakes: 10m
drain: { idle: 1h, timeout: 30m }
verify: { quorum: 120% }
onFailure: explode
hooks: [{ stage: preWait, url: example.com }]
",
    );
    let expected = [
        "line 7, column 20: strategy.canary.steps[0].setWeight: \"25\" has no unit; write 25% or 25bp",
        "line 8, column 9: strategy.canary.steps[1]: names not exactly one of setWeight, setWave, \
         setMatchRoute, analysis, pause and gate",
        "line 8, column 9: strategy.canary.steps[1].setWieght: is no key here; there are setWeight, \
         setWave, setMatchRoute, analysis, pause, gate",
        "line 9, column 18: strategy.canary.steps[2].pause.duraton: is no key here; there are duration",
        "line 10, column 15: strategy.canary.steps[3].gate.timeout: is missing",
        "line 10, column 15: strategy.canary.steps[3].gate.onTimeout: is missing",
        "line 11, column 34: strategy.canary.steps[4].analysis.minDuration: \"soon\" is not a time; \
         write it as 30s, 10m or 1h 30m",
        "line 12, column 1: bakes: is no key here; there are kind, service, revision, candidate, \
         stable, strategy, analysis, guard, bake, drain, verify, agents, progressDeadline, paused, \
         onFailure, rollback, onNewRevision, hooks",
        "line 13, column 16: drain.idle: 1h is longer than drain.timeout, 30m",
        "line 14, column 19: verify.quorum: 120% is more than 100%",
        "line 15, column 12: onFailure: \"explode\" is not one of rollback, freeze, notify",
        "line 16, column 18: hooks[0].stage: \"preWait\" is not one of preRollout, preWeight, \
         postWeight, prePromotion, postPromotion, replace, postRollback, postDrain, event",
        "line 16, column 32: hooks[0].url: \"example.com\" is not an address; write it as \
         http://host:port/path",
    ];
    assert_eq!(lines_of(&problems), expected);
}

/// One impossible plan each: what is added to a document that is right, and what is said of it.
#[test]
fn impossible_plans_are_refused_with_the_reason() {
    let steps = |steps: &str| format!("strategy: {{ canary: {{ steps: [{steps}] }} }}\n");
    let fine = "strategy: { preset: AllAtOnce }\n";
    let add = |lines: &str| format!("{fine}{lines}\n");
    let roll = "hooks: [{ stage: replace, command: [x] }]\n";
    let cases = [
        (steps("setWeight: 20%, setWeight: 10%"), "10% is not more than the 20% before it"),
        (steps("setWeight: 20%, setWeight: 20%"), "weights only rise"),
        (steps("setWeight: 0%"), "0% is not more than the 0% before it"),
        (steps("setWeight: 120%"), "120% is more than 100%"),
        (steps("analysis: {}, setWeight: 20%"), "comes before the candidate has any weight"),
        (steps("setWeight: 1%, analysis: {}, analysis: {}"), "make one of both"),
        (
            steps("setWeight: 1%, analysis: { minDuration: 9m, maxDuration: 3m }"),
            "9m is longer than maxDuration, 3m",
        ),
        (
            steps("setWeight: 1%, analysis: { maxDuration: 0s, minDuration: 0s }"),
            "no evidence comes in no time",
        ),
        (steps("setWave: { agents: 120% }, setWeight: 1%"), "120% is more than 100%"),
        (steps("setWave: { agents: 0% }, setWeight: 1%"), "is nothing; write more than 0%"),
        (steps("setWeight: 1%, setWave: { agents: 10% }"), "is the last step"),
        (steps("setMatchRoute: { sources: [] }, pause: {}"), "names no prefix"),
        (steps("setMatchRoute: { sources: [10.9.0.1/16] }, pause: {}"), "write 10.9.0.0/16"),
        (
            steps("setMatchRoute: { sources: [10.0.0.0/8], to: blue }, pause: {}"),
            "blue is not the candidate, canary",
        ),
        (steps("setWeight: 1%, gate: { type: manual, timeout: 1h }"), "onTimeout: is missing"),
        (
            steps("setWeight: 1%, gate: { type: webhook, timeout: 1h, onTimeout: abort }"),
            "exactly one of url and command",
        ),
        (
            steps(
                "setWeight: 1%, gate: { type: manual, url: \"http://x/\", timeout: 1h, onTimeout: abort }",
            ),
            "waits for a person",
        ),
        (
            steps("setWeight: 1%, gate: { type: manual, timeout: 0s, onTimeout: abort }"),
            "before anybody can answer",
        ),
        (steps("setWeight: 1%, pause: { duration: 0s }"), "leave the step out"),
        ("strategy: { preset: Canary10Percent }\n".to_owned(), "is not a preset"),
        ("strategy: { preset: AllAtOnce, rolling: {} }\n".to_owned(), "not exactly one of canary"),
        ("strategy: {}\n".to_owned(), "not exactly one of canary"),
        (String::new(), "strategy: is missing"),
        (add("candidate: green\nstable: green"), "green would be both candidate and stable"),
        (add("stable: canary"), "canary would be both candidate and stable"),
        (add("candidate: purple"), "is not a version"),
        (add("bake: 11m"), "11m is longer than progressDeadline, 10m"),
        (add("bake: 1000000h"), "not a whole number of seconds up to 90 days"),
        (add("progressDeadline: 0s"), "everything would be late"),
        (add("verify: { timeout: 11m }"), "11m is longer than progressDeadline"),
        (add("verify: { timeout: 0s }"), "no agent answers in no time"),
        (add("paused: { timeout: 0s }"), "no person answers in no time"),
        (add("analysis: { alpha: 80% }"), "is no chance to be wrong"),
        (add("analysis: { metrics: [] }"), "nothing is judged"),
        (add("analysis: { metrics: [speed] }"), "\"speed\" is not one of connectSuccess"),
        (
            add("analysis: { external: [{ name: x, webhook: { url: \"http://x/\" } }] }"),
            "successCondition or a failureCondition",
        ),
        (add("analysis: { external: [{ name: x }] }"), "exactly one of prometheus and webhook"),
        (add("guard: { connectSuccess: \"< 50%\" }"), "write it as \">= 50%\""),
        (add("guard: { connectSuccess: \">= 50%\", window: 10m }"), "is not within 1s and 5m"),
        (add("agents: { unreachable: { maxPercent: 101 } }"), "101% is more than 100%"),
        (add("agents: { lease: { ttl: 25h } }"), "from 1s to 24h"),
        (add("rollback: { mode: slow }"), "\"slow\" is not one of immediate"),
        (add("hooks: [{ stage: preWeight, command: [] }]"), "names no program"),
        (
            add("hooks: [{ stage: preWeight, command: [x], timeout: 0s }]"),
            "no hook answers in no time",
        ),
        (add("hooks: [{ stage: replace, command: [x] }]"), "for the strategy rolling alone"),
        (
            add("hooks: [{ stage: preWeight, command: [x], contract: OK }]"),
            "SUCCEEDED | FAILED | IN_PROGRESS",
        ),
        ("strategy: { rolling: {} }\n".to_owned(), "exactly one hook of the stage replace"),
        (
            format!("strategy: {{ rolling: {{}} }}\ncandidate: green\n{roll}"),
            "has no meaning with rolling",
        ),
        (
            format!(
                "strategy: {{ rolling: {{}} }}\nguard: {{ connectSuccess: \">= 5%\" }}\n{roll}"
            ),
            "no other version to fall back to",
        ),
        (
            format!("strategy: {{ rolling: {{ minReadySeconds: 10m }} }}\n{roll}"),
            "no backend could be ready in time",
        ),
        (
            format!("strategy: {{ rolling: {{ maxUnavailable: 0 }} }}\n{roll}"),
            "is not within 1 and 4096",
        ),
        (
            "strategy: { blueGreen: { prePromotionAnalysis: {} } }\n".to_owned(),
            "has nothing to judge",
        ),
        (
            "strategy: { blueGreen: { autoPromotion: { after: 8d } } }\n".to_owned(),
            "longer than anything waits unattended",
        ),
        ("strategy: { blueGreen: { preview: yes please } }\n".to_owned(), "is not one of listener"),
    ];
    for (lines, part) in cases {
        let said = lines_of(&refused(&lines));
        assert!(
            said.iter().any(|line| line.contains(part)),
            "{lines}: {part:?} is not in {said:#?}"
        );
        assert!(said.len() <= 3, "{lines} is blamed for too much: {said:#?}");
    }
}

#[test]
fn what_is_no_document_is_refused_with_its_place() {
    for (text, part) in [
        ("", "is missing"),
        ("- 1", "is a list; write a map"),
        ("kind: Rollout\nservice: [", "line 2"),
        ("kind: Rollout\nkind: Rollout\n", "line 2"),
        (
            "kind: Deployment\nservice: shop\nrevision: v1\nstrategy: { preset: AllAtOnce }",
            "is not one of Rollout",
        ),
        (
            "kind: Rollout\nservice: Shop\nrevision: 1.10\nstrategy: { preset: AllAtOnce }",
            "put it in quotes",
        ),
    ] {
        let said = lines_of(&parse(text).unwrap_err());
        assert!(said.iter().any(|line| line.contains(part)), "{text:?}: {said:#?}");
    }
    let long = "x".repeat(super::super::tree::MAX_DOCUMENT + 1);
    assert!(parse(&long).unwrap_err()[0].message.contains("larger than 1024 KiB"));
    let deep = "[".repeat(100_000);
    assert_eq!(parse(&deep).unwrap_err().len(), 1);
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config { cases: 300, failure_persistence: None, ..Default::default() })]

    /// Whatever is cut out of a document or written over it, it is read or refused, and nothing else.
    #[test]
    fn nothing_panics_on_a_broken_document(at in 0..2_000_usize, length in 0..40_usize, put in "[ -~\n]{0,12}") {
        let mut text: Vec<char> = format!("{HEAD}{WHOLE}").chars().collect();
        let start = at.min(text.len());
        let end = (start + length).min(text.len());
        text.splice(start..end, put.chars());
        let text: String = text.into_iter().collect();
        if let Err(problems) = parse(&text) {
            proptest::prop_assert!(!problems.is_empty());
            for problem in problems {
                proptest::prop_assert!(problem.line > 0 && problem.column > 0, "{problem}");
            }
        }
    }
}
