//! `decide` against the slow, obvious model: each flow stays where it began, unless that backend
//! was given up. Random histories of shifts, backend changes, given-up and recovered backends,
//! settles, sweeps, floods and full flow tables.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use weir_tests::history::{self, Setting, Tally};

fn histories(count: u64, room: usize) {
    let mut total = Tally::default();
    for seed in 0..count {
        let ipv6 = seed % 4 == 3;
        total += history::run(Setting { seed, room, floods: true, ipv6 }, ());
    }
    println!("room for {room}: {count} histories, {total:?}");
    assert!(total.packets > 1_000 && total.reused > 0 && total.retransmitted > 0);
    assert!(total.settled > 0 && total.untracked > 0 && total.void > 0 && total.fallback > 0);
    assert_eq!(total.remembered > 0, room > 0);
}

#[test]
fn flows_stay_with_room_for_all() {
    histories(50, usize::MAX);
}

#[test]
fn flows_stay_with_room_for_fifty() {
    histories(50, 50);
}

#[test]
fn flows_stay_with_room_for_five() {
    histories(50, 5);
}

#[test]
fn flows_stay_with_no_room() {
    histories(50, 0);
}

#[test]
fn udp_flows_stay_while_there_is_room() {
    let setting = Setting { seed: 7, room: usize::MAX, floods: false, ipv6: false };
    assert!(history::run_udp(setting, ()) > 500);
}
