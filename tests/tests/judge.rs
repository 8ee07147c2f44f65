//! The judge against simulated releases: how many good ones it rolls back, and how soon it finds bad
//! ones. `cargo xtask bench judge` prints the same as a table.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

use weir::rollout::judge::{Config, Judge, Verdict};
use weir_tests::releases::report::{Plan, false_rollbacks, quantile, times};
use weir_tests::releases::rules::{RULES, Rule, SUMS, Settings, WEIR, Weir, Z_TEST};
use weir_tests::releases::scenarios::{WATCHED, faulty, good};
use weir_tests::releases::world::{Fault, Release, chance};

/// What is asked for: at most one good release of a hundred.
const ALPHA: f64 = 0.01;

/// As it is without any word about it.
fn by_default(_: &Settings) -> Box<dyn Rule> {
    Box::new(Weir::new(Config::default()))
}

/// At most alpha of them. If the chance were twice that, so few would be seen in 1 % of all runs.
#[test]
fn good_releases_are_left_alone() {
    let plan = Plan { good: 1_000, tick: 15.0, bad: 0 };
    let rolled_back = false_rollbacks(&plan, WEIR.1);
    println!("{rolled_back} of 1000");
    assert!(rolled_back <= 10, "{rolled_back} of 1000 good releases, alpha is {ALPHA}");
}

/// The same, looked at each second: for a night, `cargo test --release -- --ignored`.
#[test]
#[ignore = "takes minutes: a larger run of the test above"]
fn good_releases_are_left_alone_at_each_second() {
    let plan = Plan { good: 5_000, tick: 1.0, bad: 0 };
    let rolled_back = false_rollbacks(&plan, WEIR.1);
    assert!(rolled_back <= 50, "{rolled_back} of 5000 good releases, alpha is {ALPHA}");
}

/// What others do instead, and what the judge does by parts only: else the test above tests nothing.
#[test]
fn what_is_left_out_would_be_missed() {
    let plan = Plan { good: 200, tick: 15.0, bad: 0 };
    for ((name, rule), least) in [(Z_TEST, 40), (SUMS, 20), (RULES[1], 5), (RULES[2], 5)] {
        let rolled_back = false_rollbacks(&plan, rule);
        println!("{name}: {rolled_back} of 200 good releases");
        assert!(rolled_back >= least, "{name}: only {rolled_back} of 200");
    }
}

/// The times that docs/statistics.md promises, and a third more: at 2 000 connections a second, 5 % of them the
/// candidate's.
#[test]
fn bad_releases_are_found_in_time() {
    for (fault, limit) in [
        (Fault::Refusing, 1.0),
        (Fault::Silent, 4.0),
        (Fault::Failing(5.0), 10.0 * 4.0 / 3.0),
        (Fault::Failing(2.0), 95.0 * 4.0 / 3.0),
    ] {
        let times = times(&faulty(2_000.0, fault), 60, by_default);
        let (median, most) = (quantile(&times, 0.5), quantile(&times, 1.0));
        println!("{fault:?}: {median} s, at most {most} s");
        assert!(median <= limit, "{fault:?}: {median} s, {limit} s are allowed");
        assert!(most <= 6.0 * limit, "{fault:?}: {most} s");
    }
}

/// A service with few connections takes its time: at 5 % there are some 18 failures in half an hour,
/// of which a dozen are needed.
#[test]
fn five_times_at_twenty_connections_a_second_are_found_in_half_an_hour() {
    for (share, most) in [(0.05, 0.75), (0.1, 1.0)] {
        let slow = Release { tick: 5.0, ..faulty(20.0, Fault::Failing(5.0)) };
        let times = times(&Release { ramp: vec![(0.0, share)], ..slow }, 40, by_default);
        println!("{share}: median {} s, {}", quantile(&times, 0.5), quantile(&times, most));
        assert!(quantile(&times, most) <= WATCHED && quantile(&times, 0.5) <= 1_000.0, "{times:?}");
    }
}

/// After an hour of good time a candidate goes bad: it is found nearly as soon.
#[test]
fn what_begins_late_is_found_too() {
    let late = |fault| Release { fault_from: 3_600.0, tick: 5.0, ..faulty(2_000.0, fault) };
    for (fault, limit) in [(Fault::Refusing, 5.0), (Fault::Failing(5.0), 60.0)] {
        let times = times(&late(fault), 8, by_default);
        println!("{fault:?}: {times:?}");
        assert!(times[0] > 0.0 && quantile(&times, 1.0) <= limit, "{fault:?}: {times:?}");
    }
}

/// No connection, or one now and then: nothing is ever failed, and nothing passes.
#[test]
fn an_idle_service_is_never_failed() {
    for (rate, seed) in [(0.0, 1), (0.001, 2), (0.02, 3)] {
        let release = Release { tick: 10.0, ..Release::calm(rate, 0.05, 0.01) };
        let (mut judge, mut chance) = (Judge::new(Config::default()), chance(seed));
        for tick in 0..8_640_u32 {
            judge.observe(&release.ticks(f64::from(tick) * 10.0, &mut chance));
            if tick % 60 == 0 {
                let verdict = judge.verdict();
                assert!(matches!(verdict, Verdict::Insufficient { .. }), "{rate}: {verdict}");
            }
        }
    }
}

/// What guards say of good releases: no bad backend, no mismatch, and an incident only where there is
/// one, or a storm.
#[test]
fn guards_leave_good_releases_alone() {
    let mut passed = 0;
    for number in 0..60 {
        let release = good(number, 15.0);
        let settings = Settings { tick: release.tick, by_client: release.by_client };
        let (mut judge, mut chance) = (Judge::new(settings.config()), chance(number));
        let mut second = 0.0;
        while second < WATCHED {
            judge.observe(&release.ticks(second, &mut chance));
            second += release.tick;
            let times = release.incidents.iter().map(|one| one.time);
            let troubled = times
                .chain(release.storms.iter().map(|one| one.time))
                .any(|(from, to)| second > from && second < to + 120.0);
            let verdict = judge.verdict();
            match verdict {
                Verdict::Incident { .. } if troubled => {}
                Verdict::Pass { .. } | Verdict::Undecided { .. } | Verdict::Insufficient { .. } => {
                }
                _ => panic!("release {number}, second {second}: {verdict}"),
            }
        }
        passed += u32::from(matches!(judge.verdict(), Verdict::Pass { .. }));
    }
    assert!(passed >= 50, "{passed} of 60 pass in the end");
}
