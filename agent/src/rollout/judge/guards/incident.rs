//! What both versions suffer from is nobody's fault.
//!
//! The tests themselves do not mind: an incident that both share cancels out. But no step should be
//! taken in the midst of one. So the baseline's failures of the last seconds are held against those of
//! the minutes before. While it lasts, its failures do not count as "before", until it has lasted so
//! long that this is how the service is.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::stratum::Stratum;

/// The last seconds: what is older fades.
const NOW: Duration = Duration::from_secs(10);
/// The minutes before, likewise.
const BEFORE: Duration = Duration::from_secs(600);
/// What lasts longer is how the service is.
const LONGEST: Duration = Duration::from_secs(600);
/// So many times the failures of before.
const TIMES: f64 = 3.0;
/// And at least such a share of the connections,
const SHARE: f64 = 0.02;
/// by so many failures.
const FAILURES: f64 = 10.0;
/// What is known of a service at first: one failure in a hundred of a thousand connections.
const FIRST: Window = Window { all: 1_000.0, failed: 10.0 };
/// With fewer failures to expect of the candidate nothing says that it is spared.
const EXPECTED: f64 = 3.0;

/// Connections and failures that fade.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
struct Window {
    all: f64,
    failed: f64,
}

impl Window {
    fn fade(&mut self, length: Duration, over: Duration) {
        let left = (-length.as_secs_f64() / over.as_secs_f64()).exp();
        self.all *= left;
        self.failed *= left;
    }

    fn add(&mut self, all: f64, failed: f64) {
        self.all += all;
        self.failed += failed;
    }

    fn share(self) -> f64 {
        if self.all > 0.0 { self.failed / self.all } else { 0.0 }
    }
}

/// How both versions do now, and how the baseline did before.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Weather {
    candidate: Window,
    baseline: Window,
    before: Window,
    /// For how long there has been an incident.
    lasted: Duration,
}

/// An incident, in shares of connections that failed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Incident {
    /// The candidate's in the last seconds.
    pub candidate: f64,
    /// The baseline's.
    pub baseline: f64,
    /// The baseline's before.
    pub before: f64,
}

impl Weather {
    /// Takes the connections of a tick, of all agents.
    pub fn observe(&mut self, length: Duration, strata: impl IntoIterator<Item = Stratum>) {
        self.candidate.fade(length, NOW);
        self.baseline.fade(length, NOW);
        let (mut all, mut failed) = (0.0, 0.0);
        for one in strata {
            self.candidate.add(one.candidate, one.candidate_failed);
            all += one.baseline;
            failed += one.baseline_failed;
        }
        self.baseline.add(all, failed);
        let worse = self.is_worse();
        self.lasted = if worse { self.lasted.saturating_add(length) } else { Duration::ZERO };
        if !worse || self.lasted > LONGEST {
            self.before.fade(length, BEFORE);
            self.before.add(all, failed);
        }
    }

    /// The incident that there is, if there is one.
    #[must_use]
    pub fn incident(&self) -> Option<Incident> {
        let (candidate, baseline) = (self.candidate.share(), self.baseline.share());
        let spared = candidate < baseline / 2.0 && self.candidate.all * baseline >= EXPECTED;
        let is = self.is_worse() && !spared && self.lasted <= LONGEST;
        is.then(|| Incident { candidate, baseline, before: self.known().share() })
    }

    /// Whether the baseline fails much more than before.
    fn is_worse(&self) -> bool {
        let now = self.baseline.share();
        self.baseline.failed >= FAILURES && now >= SHARE && now >= TIMES * self.known().share()
    }

    fn known(&self) -> Window {
        Window { all: self.before.all + FIRST.all, failed: self.before.failed + FIRST.failed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// So many seconds in which these shares failed, of 100 connections and of 1 900.
    fn weather(
        weather: &mut Weather,
        seconds: u32,
        candidate: f64,
        baseline: f64,
    ) -> Option<Incident> {
        for _ in 0..seconds {
            let one = Stratum {
                candidate: 100.0,
                candidate_failed: 100.0 * candidate,
                baseline: 1_900.0,
                baseline_failed: 1_900.0 * baseline,
            };
            weather.observe(SECOND, [one]);
        }
        weather.incident()
    }

    #[test]
    fn both_getting_worse_is_an_incident_until_it_ends() {
        let mut sky = Weather::default();
        assert_eq!(weather(&mut sky, 60, 0.002, 0.002), None);
        let incident = weather(&mut sky, 2, 0.3, 0.3);
        assert!(incident.is_some_and(|incident| incident.before < 0.01), "{incident:?}");
        assert!(weather(&mut sky, 120, 0.3, 0.3).is_some());
        assert_eq!(weather(&mut sky, 60, 0.002, 0.002), None);
    }

    #[test]
    fn one_alone_is_none() {
        let mut sky = Weather::default();
        assert_eq!(weather(&mut sky, 60, 0.002, 0.002), None);
        assert_eq!(weather(&mut sky, 10, 1.0, 0.002), None, "the candidate");
        let mut sky = Weather::default();
        assert_eq!(weather(&mut sky, 10, 0.002, 0.3), None, "the baseline");
    }

    #[test]
    fn what_lasts_is_how_the_service_is() {
        let mut sky = Weather::default();
        assert!(weather(&mut sky, 300, 0.3, 0.3).is_some());
        assert_eq!(weather(&mut sky, 900, 0.3, 0.3), None);
    }

    #[test]
    fn nothing_is_no_incident() {
        let mut sky = Weather::default();
        sky.observe(Duration::MAX, []);
        sky.observe(Duration::ZERO, []);
        assert_eq!(sky.incident(), None);
        assert!(sky.known().share().is_finite());
    }
}
