//! How many connections a decision takes, and the one rule that takes no statistics.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::config::Config;
use super::tick::number;
use crate::model::Traffic;

/// The price of not knowing beforehand how much worse a candidate is, as a logarithm.
const MIXTURE: f64 = 2.0;
/// What takes longer is as good as never: a year.
const LONGEST: f64 = 365.0 * 86_400.0;

/// The load under which a decision is made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    /// New connections a second of both versions.
    pub connections_per_s: f64,
    /// The candidate's part of them, above 0 and below 1.
    pub share: f64,
    /// The part of connections that fails at the baseline.
    pub failures: f64,
}

/// What a decision takes, about.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Need {
    /// Failures of the candidate.
    pub failures: f64,
    /// Connections of both versions.
    pub connections: f64,
    /// How long it takes them to come; nothing if none come, or within a year not enough.
    pub time: Option<Duration>,
}

impl Need {
    /// To fail a candidate that fails `times` as often as the baseline. Nothing if that is borne.
    #[must_use]
    pub fn to_fail(config: &Config, load: &Load, times: f64) -> Option<Self> {
        let bound = config.bound().ln();
        decision(load, times, config.fail_above, bound).filter(|_| times > config.fail_above)
    }

    /// To show that a candidate as good as the baseline is within `maxRatio`, for an early pass.
    #[must_use]
    pub fn to_show(config: &Config, load: &Load) -> Option<Self> {
        decision(load, 1.0, config.max_ratio, -config.alpha.ln())
    }

    /// To have `minSamples` of either version.
    #[must_use]
    pub fn of_samples(config: &Config, load: &Load) -> Option<Self> {
        let smaller = load.share.min(1.0 - load.share);
        let connections = number(config.min_samples) / smaller;
        load.is_sound().then(|| Self { failures: 0.0, connections, time: load.time(connections) })
    }
}

impl Load {
    fn is_sound(&self) -> bool {
        self.share > 0.0 && self.share < 1.0 && self.connections_per_s >= 0.0
    }

    fn time(&self, connections: f64) -> Option<Duration> {
        let seconds = connections / self.connections_per_s;
        (seconds <= LONGEST).then(|| Duration::from_secs_f64(seconds))
    }
}

/// What it takes to tell a ratio of `truth` from one of `null`, by evidence of `bound` (a logarithm).
/// By Wald: each failure is worth the divergence of the two on average.
fn decision(load: &Load, truth: f64, null: f64, bound: f64) -> Option<Need> {
    let part = |ratio: f64| load.share * ratio / (load.share * ratio + 1.0 - load.share);
    let (is, not) = (part(truth), part(null));
    let divergence = is * (is / not).ln() + (1.0 - is) * ((1.0 - is) / (1.0 - not)).ln();
    let all = (bound + MIXTURE) / divergence;
    let failures = all * is;
    let rate = load.failures * truth;
    let sound = load.is_sound() && rate > 0.0 && rate <= 1.0 && failures.is_finite();
    let connections = failures / rate / load.share;
    sound.then(|| Need { failures, connections, time: load.time(connections) })
}

/// The rule that each agent enforces alone, from its own counters of a few seconds: at least so much
/// of what a version began succeeds. It is for what is plainly broken, where nobody need count.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HardRule {
    /// The smallest share of handshakes that must be established: 0 to 1.
    pub connect_success: f64,
    /// With fewer that have ended it says nothing.
    pub min_connections: u64,
}

impl HardRule {
    /// Whether what a version did within the window breaks it.
    #[must_use]
    pub fn is_broken(&self, window: &Traffic) -> bool {
        let established = number(window.established);
        let ended = established + number(window.refused) + number(window.unanswered);
        ended >= number(self.min_connections.max(1)) && established < self.connect_success * ended
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::super::Metric;
    use super::*;

    const LOAD: Load = Load { connections_per_s: 2_000.0, share: 0.05, failures: 0.002 };

    fn one_metric() -> Config {
        Config { metrics: vec![Metric::ConnectSuccess], ..Config::default() }
    }

    /// At 5 % about 36 failures for twice as many, 9 for five times as many.
    #[test]
    fn so_many_failures_tell() {
        let need = |times| Need::to_fail(&one_metric(), &LOAD, times).unwrap();
        let rounded = [2.0, 5.0].map(|times| format!("{:.0}", need(times).failures));
        assert_eq!(rounded, ["37", "9"]);
        // 36.5 failures, at 0.4 % of 100 connections a second.
        let seconds = need(2.0).time.unwrap().as_secs_f64();
        assert!((seconds - need(2.0).failures / 0.4).abs() < 1e-6, "{seconds}");
        assert_eq!(Need::to_fail(&one_metric(), &LOAD, 1.0), None);
    }

    #[test]
    fn nothing_comes_of_nothing() {
        let idle = Load { connections_per_s: 0.0, ..LOAD };
        assert_eq!(Need::to_fail(&one_metric(), &idle, 2.0).unwrap().time, None);
        assert_eq!(Need::of_samples(&one_metric(), &idle).unwrap().time, None);
        for share in [0.0, 1.0, f64::NAN] {
            let load = Load { share, ..LOAD };
            assert_eq!(Need::to_fail(&one_metric(), &load, 2.0), None);
            assert_eq!(Need::of_samples(&one_metric(), &load), None);
        }
        let never = Load { failures: 0.0, ..LOAD };
        assert_eq!(Need::to_show(&one_metric(), &never), None);
    }

    #[test]
    fn samples_come_by_the_smaller_share() {
        let need = Need::of_samples(&one_metric(), &LOAD).unwrap();
        assert_eq!((need.connections, need.time), (2_000.0, Some(Duration::from_secs(1))));
        let show = Need::to_show(&one_metric(), &LOAD).unwrap();
        assert!(show.time.is_some_and(|time| (60..300).contains(&time.as_secs())), "{show:?}");
    }

    #[test]
    fn the_hard_rule_is_about_what_is_plainly_broken() {
        let rule = HardRule { connect_success: 0.5, min_connections: 20 };
        let of = |established, refused, unanswered| Traffic {
            established,
            refused,
            unanswered,
            ..Traffic::default()
        };
        assert!(rule.is_broken(&of(9, 6, 5)));
        assert!(!rule.is_broken(&of(10, 5, 5)));
        assert!(!rule.is_broken(&of(0, 19, 0)), "too few");
        assert!(!rule.is_broken(&of(0, 0, 0)));
        assert!(rule.is_broken(&of(0, u64::MAX, u64::MAX)));
    }
}
