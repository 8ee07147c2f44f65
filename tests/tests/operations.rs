//! Random operations on a whole node, packet by packet through the program in the kernel, against
//! the model that a flow stays where it began: shifts, rules, backends that come and go, time that
//! passes, restarts, with room for all flows, for few, and when flows come too fast.
//!
//! `WEIR_CASES=10000 cargo test -p weir-tests --test operations` runs as many.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::env;

use weir_tests::operations::{Setting, Step, Tally, World, case, run};

/// Cases in all, in a run of the test suite.
const CASES: u64 = 200;
/// Steps of a case.
const STEPS: usize = 40;

fn cases() -> u64 {
    env::var("WEIR_CASES").map_or(CASES, |text| text.parse().unwrap())
}

/// Runs a quarter of the cases.
fn quarter(number: u64, setting: Setting) -> Tally {
    let mut world = World::new(setting);
    let mut total = Tally::default();
    for seed in (0..cases()).filter(|seed| seed % 4 == number) {
        let name = format!("{setting:?}, case {seed}");
        total += run(&mut world, &name, &case(seed, STEPS));
    }
    println!("{setting:?}: {total:?}");
    assert!(total.changes > 0 && total.refused > 0 && total.restarts > 0 && total.silent > 0);
    assert!(total.deaths > 0 && total.settled > 0, "{total:?}");
    assert!(total.remembered > 0 && total.rolled_back > 0 && total.given_up > 0);
    total
}

const ALL: Setting =
    Setting { room: 16_384, inserts_per_second: 1 << 30, ipv6: false, traced: false };

#[test]
fn flows_stay_with_room_for_all() {
    assert_eq!(quarter(0, ALL).fallbacks, 0);
}

#[test]
fn flows_of_ipv6_stay_with_room_for_all() {
    assert_eq!(quarter(1, Setting { ipv6: true, ..ALL }).fallbacks, 0);
}

#[test]
fn flows_stay_with_room_for_few() {
    assert!(quarter(2, Setting { room: 10, ..ALL }).fallbacks > 0);
}

#[test]
fn flows_stay_when_they_come_too_fast() {
    assert!(quarter(3, Setting { inserts_per_second: 20, ..ALL }).fallbacks > 0);
}

/// Cases that have broken something once.
#[test]
fn what_was_broken_stays_mended() {
    let steps = [Step::Open(9), Step::Shift([0, 10_000, 0]), Step::Restart, Step::Speak(9)];
    let tally = run(&mut World::new(ALL), "mended", &steps);
    assert_eq!(tally.flows, 9);
    // What begins by a rule at a version that was abandoned is not given up with what was there.
    let steps = [
        Step::Steer(2, Some(1)),
        Step::Abandon([0, 0, 10_000]),
        Step::Open(50),
        Step::Steer(2, Some(2)),
        Step::Wait(895),
    ];
    let tally = run(&mut World::new(Setting { inserts_per_second: 20, ..ALL }), "steered", &steps);
    assert_eq!(tally.flows, 50);
    let steps = [
        Step::Remove(65_209),
        Step::Steer(2, Some(0)),
        Step::Abandon([0, 10_000, 0]),
        Step::Open(36),
        Step::ByHand(24_920, 2),
        Step::Wait(895),
    ];
    let tally = run(&mut World::new(Setting { ipv6: true, ..ALL }), "by hand", &steps);
    assert_eq!(tally.flows, 36);
    // After a rollback to weights of which a part is stood in for.
    let steps = [
        Step::ByHand(37_666, 1),
        Step::Abandon([0, 9_500, 500]),
        Step::Shift([841, 6_038, 3_121]),
        Step::Remove(38_306),
        Step::Remove(27_069),
        Step::RollBack,
        Step::Open(80),
    ];
    let setting = Setting { inserts_per_second: 20, ..ALL };
    let tally = run(&mut World::new(setting), "stood in for", &steps);
    assert_eq!((tally.flows, tally.rolled_back), (80, 1));
    // And to a version whose connections were given up while another stood in for the one in its place:
    // what began there meanwhile stays there, so that new flows for which there is no room must too.
    let steps = [
        Step::Shift([0, 9_500, 500]),
        Step::Open(15),
        Step::Add(2, 1),
        Step::Die(64_269),
        Step::Remove(47_267),
        Step::Abandon([0, 9_500, 500]),
        Step::Open(40),
        Step::RollBack,
        Step::Open(30),
        Step::Speak(u16::MAX),
    ];
    let tally = run(&mut World::new(Setting { room: 10, ..ALL }), "given up", &steps);
    assert_eq!((tally.flows, tally.rolled_back, tally.fallbacks > 0), (85, 1, true));
}
