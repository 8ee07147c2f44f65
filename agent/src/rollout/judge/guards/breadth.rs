//! One client that fails a thousand times is no thousand failures.
//!
//! The kernel counts failures, and also the clients that fail: one address at one version within a
//! second once. Which of both is right depends on what the tests cannot see. Where each connection
//! is led by its own hash, all failures count: a client that fails everywhere fails in proportion,
//! while its address would count once for either version and so blame the smaller one. Where a
//! client's connections stay together, only its address counts. So a tick is told both ways, and the
//! test takes the smaller bet of the two.

use super::super::config::Metric;
use super::super::stratum::{Stratum, Told};
use super::super::tick::{Arm, Tick, number};
use crate::model::Traffic;

/// How often one connection may send its SYN again while it is waited for: so many are one failure.
const SYNS: f64 = 3.0;

/// What a tick tells of a metric of counts, in both ways.
#[must_use]
pub fn tell(metric: Metric, tick: &Tick) -> Told {
    let by_client = counts_clients(tick);
    [false, true].map(|narrow| {
        let (candidate, candidate_failed) =
            arm(metric, &tick.candidate.traffic, narrow && by_client);
        let (baseline, baseline_failed) = arm(metric, &tick.baseline.traffic, narrow && by_client);
        Stratum { candidate, candidate_failed, baseline, baseline_failed }
    })
}

/// Connections of a version, and failures among them: as counted, or by client.
fn arm(metric: Metric, traffic: &Traffic, by_client: bool) -> (f64, f64) {
    let established = number(traffic.established);
    let clients = number(traffic.failing_clients);
    let at_most = |failed: f64| if by_client { failed.min(clients) } else { failed };
    match metric {
        Metric::Retransmissions => {
            (number(traffic.connections), number(traffic.retransmissions) / SYNS)
        }
        Metric::EarlyReset => (established, at_most(number(traffic.early_resets))),
        // What is left out as a failure is left out as a connection.
        _ => {
            let failed = at_most(number(traffic.refused) + number(traffic.unanswered));
            (established + failed, failed)
        }
    }
}

/// Failures of a backend, those of one client as one.
#[must_use]
pub fn failures(traffic: &Traffic, by_client: bool) -> f64 {
    let all = number(traffic.refused) + number(traffic.unanswered) + number(traffic.early_resets);
    if by_client { all.min(number(traffic.failing_clients)) } else { all }
}

/// Whether failing clients are counted at all: they are with `signals: full`, as handshakes are timed.
#[must_use]
pub fn counts_clients(tick: &Tick) -> bool {
    let arms = [&tick.candidate, &tick.baseline];
    let any = |has: fn(&Arm) -> bool| arms.iter().any(|arm| has(arm));
    any(|arm| arm.traffic.failing_clients > 0 || !arm.handshakes.buckets().is_empty())
        || !any(|arm| arm.traffic.established > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Handshakes;
    use std::time::Duration;

    fn tick(candidate: Traffic, baseline: Traffic) -> Tick {
        let handshakes = Handshakes::new(vec![1], Duration::ZERO);
        let arm = |traffic| Arm { traffic, handshakes: handshakes.clone(), ..Arm::default() };
        Tick { candidate: arm(candidate), baseline: arm(baseline), ..Tick::default() }
    }

    #[test]
    fn a_storm_is_told_as_it_was_counted_and_as_one() {
        let storm = Traffic {
            established: 99,
            refused: 600,
            unanswered: 400,
            early_resets: 7,
            failing_clients: 2,
            ..Traffic::default()
        };
        let calm = Traffic { established: 1_000, ..Traffic::default() };
        let [counted, narrow] = tell(Metric::ConnectSuccess, &tick(storm, calm));
        assert_eq!((counted.candidate, counted.candidate_failed), (1_099.0, 1_000.0));
        assert_eq!((narrow.candidate, narrow.candidate_failed), (101.0, 2.0));
        assert_eq!((counted.baseline, narrow.baseline), (1_000.0, 1_000.0));
        let [counted, narrow] = tell(Metric::EarlyReset, &tick(storm, calm));
        assert_eq!((counted.candidate_failed, narrow.candidate_failed), (7.0, 2.0));
    }

    /// With `signals: basic` no client is counted: that must not make failures none.
    #[test]
    fn where_clients_are_not_counted_failures_are() {
        let some = Traffic { established: 90, refused: 10, ..Traffic::default() };
        let mut basic = tick(some, some);
        let [_, narrow] = tell(Metric::ConnectSuccess, &basic);
        assert!(narrow.failed().abs() < 1e-12, "clients are counted, and none failed");
        basic.candidate.handshakes = Handshakes::default();
        basic.baseline.handshakes = Handshakes::default();
        let [counted, narrow] = tell(Metric::ConnectSuccess, &basic);
        assert_eq!(counted, narrow);
        assert!((narrow.candidate_failed - 10.0).abs() < 1e-12);
    }

    #[test]
    fn syns_of_one_connection_are_one_failure() {
        let some = Traffic { connections: 10, retransmissions: 6, ..Traffic::default() };
        let [counted, _] = tell(Metric::Retransmissions, &tick(some, some));
        assert_eq!((counted.candidate, counted.candidate_failed), (10.0, 2.0));
    }
}
