//! When a guard trips, and where the weight goes then. Pure.

use std::collections::VecDeque;

use crate::model::guard::Guard;
use crate::model::{PerVersion, Signals, Traffic, Version, Weight, Weights, weight::FULL};

/// Looks that a window is made of; so much of it may be looked back too far.
const LOOKS: u64 = 64;

/// What was counted of a version, since whenever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counts {
    /// Handshakes that a server accepted.
    established: u64,
    /// Those that were refused or had no answer.
    failed: u64,
    /// Clients that failed, each once a second; nothing, where they are not counted.
    clients: Option<u64>,
}

impl Counts {
    pub(super) fn new(traffic: &Traffic, signals: Signals) -> Self {
        Self {
            established: traffic.established,
            failed: traffic.refused + traffic.unanswered,
            clients: (signals == Signals::Full).then_some(traffic.failing_clients),
        }
    }

    /// What was counted since `earlier`; nothing, if counting has begun anew.
    fn since(&self, earlier: &Self) -> Option<Seen> {
        let established = self.established.checked_sub(earlier.established)?;
        let failed = self.failed.checked_sub(earlier.failed)?;
        let failures = match (self.clients, earlier.clients) {
            // A client that tries again and again is one failure.
            (Some(now), Some(before)) => failed.min(now.checked_sub(before)?),
            _ => failed,
        };
        Some(Seen { connections: established + failures, failures })
    }
}

/// What is within a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Seen {
    pub(super) connections: u64,
    pub(super) failures: u64,
}

impl Seen {
    /// Whether that breaks a guard. Too little says nothing.
    fn breaks(self, guard: &Guard) -> bool {
        let well = u128::from(self.connections - self.failures) * 10_000;
        self.connections >= u64::from(guard.min_connections)
            && well < u128::from(self.connections) * u128::from(guard.least.bp())
    }
}

/// The last looks at a version that has a guard, the newest last.
#[derive(Debug, Clone, Default)]
pub(super) struct Window {
    looks: VecDeque<(u64, Counts)>,
    seen: Seen,
}

impl Window {
    /// What was within it at the last look.
    pub(super) fn seen(&self) -> Seen {
        self.seen
    }

    /// A look, at a time in milliseconds since whenever. Gives what is within the window if that
    /// breaks the guard.
    pub(super) fn look(&mut self, now: u64, counts: Counts, guard: &Guard) -> Option<Seen> {
        let length = guard.window.milliseconds();
        let begins = now.saturating_sub(length);
        // The one before the window stays: what was counted since then is within it.
        while self.looks.get(1).is_some_and(|(time, _)| *time <= begins) {
            self.looks.pop_front();
        }
        let seen = match self.looks.front() {
            Some((_, first)) => counts.since(first),
            None => Some(Seen::default()),
        };
        if seen.is_none() {
            self.looks.clear();
        }
        if self.looks.back().is_none_or(|(time, _)| now.saturating_sub(*time) >= length / LOOKS) {
            self.looks.push_back((now, counts));
        }
        self.seen = seen.unwrap_or_default();
        self.seen.breaks(guard).then_some(self.seen)
    }
}

/// The weights when a version has to go: those of the fallback, or else those that settled last, with
/// what they give to the version shared among the others in proportion. If they give all to the
/// version, the others' weights now count. Nothing, if nobody else has any.
pub(super) fn without(
    version: Version,
    fallback: Option<Weights>,
    settled: Weights,
    now: Weights,
) -> Option<Weights> {
    [fallback, Some(settled), Some(now)].into_iter().flatten().find_map(|weights| {
        let others = || weights.iter().filter(|(other, _)| *other != version);
        let total: u32 = others().map(|(_, weight)| weight.bp()).sum();
        // The last of those that have some takes what rounding leaves.
        let (last, _) = others().filter(|(_, weight)| weight.bp() > 0).last()?;
        let mut left = FULL;
        let mut shares = PerVersion::from_fn(|_| 0);
        for (other, weight) in others().filter(|(other, _)| *other != last) {
            shares[other] = weight.bp() * FULL / total;
            left -= shares[other];
        }
        shares[last] = left;
        Weights::new(shares.map(|bp| Weight::from_bp(bp).unwrap_or_default())).ok()
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use Version::{Blue, Canary, Green};

    use super::*;
    use crate::model::guard::Metric;

    fn guard(least: u32, min_connections: u32) -> Guard {
        Guard {
            version: Canary,
            metric: Metric::ConnectSuccess,
            least: Weight::from_bp(least).unwrap(),
            min_connections,
            window: 5.try_into().unwrap(),
            fallback: None,
        }
    }

    /// Where every failure is another client's.
    fn counts(established: u64, failed: u64) -> Counts {
        Counts { established, failed, clients: Some(failed) }
    }

    #[test]
    fn it_trips_below_the_limit_and_not_at_it_nor_on_too_little() {
        let trips = |good, bad| {
            let mut window = Window::default();
            assert_eq!(window.look(0, counts(1_000, 1_000), &guard(5_000, 20)), None);
            window.look(250, counts(1_000 + good, 1_000 + bad), &guard(5_000, 20)).is_some()
        };
        assert!(!trips(0, 0) && !trips(0, 19) && trips(0, 20));
        assert!(!trips(10, 10) && trips(10, 11) && !trips(11, 10));
        assert!(!trips(1_000_000, 0) && trips(u64::from(u32::MAX), u64::from(u32::MAX) + 1));
    }

    #[test]
    fn what_was_before_the_window_is_forgotten() {
        let (mut window, guard) = (Window::default(), guard(5_000, 20));
        // One failure a second: five within the window, however long it goes on.
        for step in 0..400 {
            let now = step * 250;
            assert_eq!(window.look(now, counts(0, now / 1_000), &guard), None, "at {now}");
            assert!(window.looks.len() <= usize::try_from(LOOKS).unwrap() + 2);
            assert!(window.seen().failures <= 6);
        }
        // Then eighteen at once.
        let seen = window.look(100_000, counts(0, 99 + 18), &guard).unwrap();
        assert!((20..=24).contains(&seen.failures), "{seen:?}");
    }

    #[test]
    fn a_client_that_tries_again_and_again_is_one_failure() {
        let (mut window, guard) = (Window::default(), guard(5_000, 20));
        let at = |failed, clients| Counts { established: 0, failed, clients };
        window.look(0, at(0, Some(0)), &guard);
        assert_eq!(window.look(1_000, at(10_000, Some(1)), &guard), None);
        assert_eq!(window.seen(), Seen { connections: 1, failures: 1 });
        // Where clients are not counted, there is nothing to go by but the failures.
        let mut window = Window::default();
        window.look(0, at(0, None), &guard);
        assert!(window.look(1_000, at(20, None), &guard).is_some());
    }

    #[test]
    fn counters_that_begin_anew_say_nothing() {
        let (mut window, guard) = (Window::default(), guard(5_000, 20));
        window.look(0, counts(500, 500), &guard);
        assert_eq!(window.look(250, counts(0, 400), &guard), None);
        assert_eq!(window.look(500, counts(0, 410), &guard), None);
        assert!(window.look(750, counts(0, 425), &guard).is_some());
    }

    fn weights(blue: u32, green: u32, canary: u32) -> Weights {
        let of = PerVersion::from_fn(|version| match version {
            Blue => blue,
            Green => green,
            Canary => canary,
        });
        Weights::new(of.map(|bp| Weight::from_bp(bp).unwrap())).unwrap()
    }

    #[test]
    fn the_weight_goes_where_the_last_settled_weights_say() {
        let (now, settled) = (weights(9_500, 0, 500), weights(10_000, 0, 0));
        assert_eq!(without(Canary, None, settled, now), Some(settled));
        let fallback = weights(0, 10_000, 0);
        assert_eq!(without(Canary, Some(fallback), settled, now), Some(fallback));
        // What they gave to the version too is shared in proportion.
        let settled = weights(6_000, 3_000, 1_000);
        assert_eq!(without(Canary, None, settled, now), Some(weights(6_666, 3_334, 0)));
        // All was the version's own: the others' weights now count, and if they have none, nothing.
        let all = weights(0, 0, 10_000);
        assert_eq!(without(Canary, None, all, now), Some(weights(10_000, 0, 0)));
        assert_eq!(without(Canary, None, all, all), None);
        assert_eq!(without(Blue, None, weights(10_000, 0, 0), now), Some(weights(0, 0, 10_000)));
    }
}
