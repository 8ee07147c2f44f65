//! `decide` against the slow, obvious model: each flow stays where it began, unless that backend
//! was given up. Random histories of shifts, backend changes, given-up and recovered backends,
//! settles, sweeps, floods and full flow tables; without and with steering rules.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::ops::Range;

use weir_tests::history::{self, Setting, Tally};

fn histories(count: u64, room: usize) {
    of_histories(0..count / 2, room, false);
    of_histories(count / 2..count, room, true);
}

fn of_histories(seeds: Range<u64>, room: usize, steered: bool) {
    let count = seeds.end - seeds.start;
    let mut total = Tally::default();
    for seed in seeds {
        let ipv6 = seed % 4 == 3;
        total += history::run(Setting { seed, room, floods: true, ipv6, steered }, ());
    }
    println!("room for {room}: {count} histories, {total:?}");
    assert!(total.packets > 1_000 && total.reused > 0 && total.retransmitted > 0);
    assert!(total.abandoned > 0 && total.looked > total.packets / 10);
    assert!(total.settled > 0 && total.untracked > 0 && total.void > 0 && total.fallback > 0);
    assert_eq!(total.remembered > 0, room > 0);
    assert_eq!(total.steered > 0, steered);
}

#[test]
fn flows_stay_with_room_for_all() {
    histories(60, usize::MAX);
}

#[test]
fn flows_stay_with_room_for_fifty() {
    histories(60, 50);
}

#[test]
fn flows_stay_with_room_for_five() {
    histories(60, 5);
}

#[test]
fn flows_stay_with_no_room() {
    histories(60, 0);
}

#[test]
fn udp_flows_stay_while_there_is_room() {
    for steered in [false, true] {
        let setting = Setting { seed: 7, room: usize::MAX, floods: false, ipv6: false, steered };
        assert!(history::run_udp(setting, ()) > 500);
    }
}
