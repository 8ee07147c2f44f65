//! What holds whatever is counted, and each verdict once.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::time::Duration;

use proptest::prelude::*;
use weir_ebpf::latency::BUCKETS;

use super::*;
use crate::model::{Handshakes, TableShare, Traffic};

const SECOND: Duration = Duration::from_secs(1);
const SLOTS: u32 = 16_384;

/// So many connections, of which so many are refused, each by a client of its own.
fn traffic(connections: u64, refused: u64) -> Traffic {
    let established = connections - refused;
    Traffic { connections, established, refused, failing_clients: refused, ..Traffic::default() }
}

/// A version with one backend, whose handshakes took about 4 ms, or `slow` as many about 30 ms.
fn arm(share: u32, connections: u64, refused: u64, slow: u64) -> Arm {
    let traffic = traffic(connections, refused);
    let mut buckets = vec![0; BUCKETS];
    buckets[88] = (connections - refused).saturating_sub(slow);
    buckets[112] = slow;
    Arm {
        traffic,
        handshakes: Handshakes::new(buckets, Duration::ZERO),
        backends: vec![backend(u8::try_from(share % 251).unwrap(), traffic)],
        asked: TableShare { slots: share, total: SLOTS },
    }
}

fn backend(last: u8, traffic: Traffic) -> BackendArm {
    BackendArm { address: [10, 0, 0, last].into(), port: 80, traffic }
}

/// A second at 2 000 connections, of which 100 are the candidate's.
fn tick(candidate: (u64, u64), baseline: (u64, u64)) -> Tick {
    Tick {
        agent: "edge-1".to_owned(),
        length: SECOND,
        candidate: arm(820, 100, candidate.0, candidate.1),
        baseline: arm(SLOTS - 820, 1_900, baseline.0, baseline.1),
    }
}

fn after(config: Config, ticks: impl IntoIterator<Item = Tick>) -> Judge {
    let mut judge = Judge::new(config);
    ticks.into_iter().for_each(|tick| judge.observe(&[tick]));
    judge
}

fn seconds(count: usize, candidate: (u64, u64), baseline: (u64, u64)) -> Vec<Tick> {
    vec![tick(candidate, baseline); count]
}

#[test]
fn a_good_candidate_passes_after_its_time() {
    let config = Config { min_duration: 20 * SECOND, ..Config::default() };
    let judge = after(config.clone(), seconds(19, (0, 1), (4, 19)));
    let early = judge.verdict();
    assert!(matches!(early, Verdict::Undecided { .. }), "{early}");
    assert!(early.reason().starts_with("judged for 19s of at least 20s"), "{early}");
    let passed = after(config, seconds(20, (0, 1), (4, 19))).verdict();
    assert!(matches!(passed, Verdict::Pass { early: false, .. }), "{passed}");
}

/// Sooner, if that was asked for, and never without failures to compare.
#[test]
fn it_may_pass_early() {
    let config = Config { min_duration: 3_600 * SECOND, advance_early: true, ..Config::default() };
    let connect = Config { metrics: vec![Metric::ConnectSuccess], ..config };
    let good = || (0..600).map(|second| tick((u64::from(second % 5 == 0), 0), (4, 0)));
    let judge = after(connect.clone(), good());
    assert!(matches!(judge.verdict(), Verdict::Pass { early: true, .. }), "{}", judge.verdict());
    let not_asked = Config { advance_early: false, ..connect.clone() };
    assert!(matches!(after(not_asked, good()).verdict(), Verdict::Undecided { .. }));
    let perfect = after(connect, seconds(600, (0, 0), (0, 0))).verdict();
    assert!(matches!(perfect, Verdict::Undecided { .. }), "{perfect}");
}

#[test]
fn failures_fail_it_and_are_explained() {
    let judge = after(Config::default(), seconds(10, (3, 1), (4, 19)));
    let Verdict::Fail { metric, finding: Some(finding), reason } = judge.verdict() else {
        panic!("{}", judge.verdict());
    };
    assert_eq!((metric.as_str(), finding.metric), ("connectSuccess", Metric::ConnectSuccess));
    assert_eq!(finding.candidate, explain::Counted { failed: 30, of: 1_000 });
    assert_eq!(finding.baseline, explain::Counted { failed: 40, of: 19_000 });
    assert!((finding.ratio.unwrap() - 14.25).abs() < 0.01);
    let (low, high) = finding.interval.unwrap();
    assert!(low > 5.0 && low < 14.0 && high > 15.0, "{low} {high}");
    assert!(finding.evidence > finding.bound && (finding.bound - 400_f64.log10()).abs() < 1e-9);
    assert!(
        reason.starts_with(
            "connectSuccess: 30 of 1000 (3.00%) failed, of the baseline 40 of 19000 (0.21%): 14 \
             times as many ("
        ),
        "{reason}"
    );
    let explanation = judge.explain();
    assert_eq!((explanation.findings.len(), explanation.judged_s), (4, 10));
    assert_eq!(explanation.verdict, judge.verdict());
}

/// What has been shown stays, though the evidence may fade.
#[test]
fn a_failure_stays() {
    let bad_then_good =
        seconds(10, (3, 0), (4, 0)).into_iter().chain(seconds(3_000, (0, 0), (4, 0)));
    let judge = after(Config::default(), bad_then_good);
    let finding = &judge.explain().findings[0];
    assert!(finding.evidence < finding.bound && finding.most_evidence > finding.bound);
    assert!(matches!(judge.verdict(), Verdict::Fail { .. }));
}

#[test]
fn slow_handshakes_fail_it() {
    let judge = after(Config::default(), seconds(30, (0, 60), (0, 19)));
    let Verdict::Fail { metric, .. } = judge.verdict() else { panic!("{}", judge.verdict()) };
    assert!(metric == "handshakeP99" || metric == "handshakeP50", "{metric}");
}

#[test]
fn what_is_watched_decides_nothing() {
    let config = Config {
        metrics: vec![Metric::EarlyReset],
        watch: vec![Metric::ConnectSuccess],
        ..Config::default()
    };
    let judge = after(config, seconds(10, (30, 0), (4, 0)));
    assert!(matches!(judge.verdict(), Verdict::Pass { .. }), "{}", judge.verdict());
    let watched = &judge.explain().findings[1];
    assert!(!watched.enforcing && watched.evidence > watched.bound);
}

#[test]
fn no_data_is_neither_good_nor_bad() {
    let nothing = Tick { agent: "edge-1".to_owned(), length: SECOND, ..Tick::default() };
    for judge in [
        Judge::new(Config::default()),
        after(Config::default(), vec![nothing; 10_000]),
        after(Config::default(), seconds(0, (0, 0), (0, 0))),
    ] {
        let verdict = judge.verdict();
        let Verdict::Insufficient { samples, needed, .. } = verdict else { panic!("{verdict}") };
        assert_eq!((samples, needed), (0, 100));
    }
    // One version alone is nothing to compare.
    let mut alone = seconds(100, (0, 0), (0, 0));
    for tick in &mut alone {
        tick.baseline = Arm::default();
    }
    let verdict = after(Config::default(), alone).verdict();
    assert!(matches!(verdict, Verdict::Insufficient { .. }), "{verdict}");
}

#[test]
fn an_incident_is_not_blamed() {
    let calm = seconds(60, (0, 1), (4, 19));
    let judge = after(Config::default(), calm.into_iter().chain(seconds(60, (30, 1), (570, 19))));
    let Verdict::Incident { candidate, baseline, before, .. } = judge.verdict() else {
        panic!("{}", judge.verdict());
    };
    assert!((candidate - baseline).abs() < 0.01 && before < 0.01);
}

#[test]
fn one_bad_backend_is_named() {
    let mut ticks = seconds(10, (20, 1), (4, 19));
    for tick in &mut ticks {
        tick.candidate.backends = vec![backend(1, traffic(50, 0)), backend(2, traffic(50, 20))];
    }
    let Verdict::BadBackend { backend, role, failures, of, .. } =
        after(Config::default(), ticks).verdict()
    else {
        panic!("no bad backend");
    };
    assert_eq!((backend.to_string().as_str(), role), ("10.0.0.2:80", Role::Candidate));
    assert_eq!((failures, of), (200, 200));
}

#[test]
fn connections_shared_otherwise_are_not_compared() {
    let mut ticks = seconds(20, (20, 1), (4, 19));
    for tick in &mut ticks {
        tick.candidate.asked.slots = 8_192;
        tick.baseline.asked.slots = 8_192;
    }
    let verdict = after(Config::default(), ticks.clone()).verdict();
    assert!(matches!(verdict, Verdict::Mismatch { .. }), "{verdict}");
    let kept_together = Config { sample_ratio: false, ..Config::default() };
    let verdict = after(kept_together, ticks).verdict();
    assert!(matches!(verdict, Verdict::Fail { .. }), "{verdict}");
}

#[test]
fn others_may_fail_it_too() {
    let errors = External { name: "errors".to_owned(), count: 2, failure_limit: 0 };
    let config = Config { external: vec![errors], ..Config::default() };
    let mut judge = after(config, seconds(10, (0, 1), (4, 19)));
    assert!(!judge.external("unknown", Outcome::Fail));
    for _ in 0..9 {
        assert!(judge.external("errors", Outcome::NoData));
    }
    let verdict = judge.verdict();
    assert!(matches!(&verdict, Verdict::Insufficient { metric, .. } if metric == "errors"));
    judge.external("errors", Outcome::Pass);
    judge.external("errors", Outcome::Pass);
    assert!(matches!(judge.verdict(), Verdict::Pass { .. }));
    judge.external("errors", Outcome::Fail);
    let verdict = judge.verdict();
    assert!(matches!(&verdict, Verdict::Fail { metric, .. } if metric == "errors"), "{verdict}");
}

/// Counts of any size, now and then of nothing.
fn count() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0..50_u64, 2 => 0..100_000_u64, 1 => Just(0), 1 => any::<u64>()]
}

fn any_arm() -> impl Strategy<Value = Arm> {
    let counts = prop::collection::vec(count(), 8);
    let buckets = prop::collection::vec(count(), 0..BUCKETS);
    (counts, buckets, any::<u8>(), 0..=SLOTS).prop_map(|(counts, buckets, last, slots)| {
        let traffic = Traffic {
            connections: counts[0],
            retransmissions: counts[1],
            established: counts[2],
            refused: counts[3],
            unanswered: counts[4],
            early_resets: counts[5],
            failing_clients: counts[6],
            steered: counts[7],
            ..Traffic::default()
        };
        Arm {
            traffic,
            handshakes: Handshakes::new(buckets, Duration::ZERO),
            backends: vec![backend(last, traffic)],
            asked: TableShare { slots, total: SLOTS },
        }
    })
}

/// A tick of up to three agents, in any order.
fn any_ticks() -> impl Strategy<Value = Vec<Tick>> {
    let tick = (any_arm(), any_arm(), 0..100_000_u64);
    let agents = Just(vec!["a", "b", "c"]).prop_shuffle();
    (prop::collection::vec(tick, 0..=3), agents).prop_map(|(ticks, agents)| {
        let named = agents.into_iter().zip(ticks);
        named
            .map(|(agent, (candidate, baseline, length))| Tick {
                agent: agent.to_owned(),
                length: Duration::from_millis(length),
                candidate,
                baseline,
            })
            .collect()
    })
}

fn all_metrics() -> Config {
    Config { metrics: Metric::ALL.to_vec(), advance_early: true, ..Config::default() }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64, failure_persistence: None, ..ProptestConfig::default()
    })]

    /// Whatever is counted: no panic, and each number is one, so that all of it can be saved.
    #[test]
    fn nothing_breaks_it(ticks in prop::collection::vec(any_ticks(), 1..12)) {
        let mut judge = Judge::new(all_metrics());
        for ticks in &ticks {
            judge.observe(ticks);
            let explanation = judge.explain();
            for finding in &explanation.findings {
                prop_assert!(finding.evidence.is_finite() && finding.evidence_for.is_finite());
            }
            // JSON has no word for what is not a number.
            let text = serde_json::to_string(&(&judge, &explanation)).unwrap();
            prop_assert!(serde_json::from_str::<(Judge, Explanation)>(&text).is_ok(), "{text}");
        }
    }

    #[test]
    fn saved_and_taken_up_again_it_is_the_same(
        before in prop::collection::vec(any_ticks(), 0..8),
        after in prop::collection::vec(any_ticks(), 0..8),
    ) {
        let mut judge = Judge::new(all_metrics());
        for ticks in &before {
            judge.observe(ticks);
        }
        let mut resumed: Judge =
            serde_json::from_str(&serde_json::to_string(&judge).unwrap()).unwrap();
        prop_assert_eq!(&judge, &resumed);
        for ticks in &after {
            judge.observe(ticks);
            resumed.observe(ticks);
        }
        prop_assert_eq!(judge, resumed);
    }

    #[test]
    fn the_order_of_agents_makes_no_difference(
        ticks in prop::collection::vec(any_ticks(), 1..8),
    ) {
        let (mut one, mut other) = (Judge::new(all_metrics()), Judge::new(all_metrics()));
        for ticks in ticks {
            one.observe(&ticks);
            other.observe(&ticks.into_iter().rev().collect::<Vec<_>>());
        }
        prop_assert_eq!(one, other);
    }

    /// Seconds without connections take time, and change no evidence.
    #[test]
    fn what_is_idle_says_nothing(
        ticks in prop::collection::vec(any_ticks(), 1..8),
        idle in 1..20_usize,
    ) {
        let (mut busy, mut slow) = (Judge::new(all_metrics()), Judge::new(all_metrics()));
        for ticks in &ticks {
            busy.observe(ticks);
            slow.observe(ticks);
            let nothing = Tick { agent: "a".to_owned(), length: SECOND, ..Tick::default() };
            (0..idle).for_each(|_| slow.observe(std::slice::from_ref(&nothing)));
        }
        prop_assert_eq!(busy.explain().findings, slow.explain().findings);
    }
}
