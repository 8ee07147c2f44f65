//! What is judged, and how strictly.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The most series of others.
pub const MAX_EXTERNAL: usize = 64;

/// How to judge. In JSON times are in milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Config {
    /// The chance to fail a good release, of all enforcing metrics together: above 0, at most 0.5.
    pub alpha: f64,
    /// What decides. Each has its part of `alpha`.
    pub metrics: Vec<Metric>,
    /// What is judged and shown, and decides nothing.
    pub watch: Vec<Metric>,
    /// What others measure. It has no part of `alpha`.
    pub external: Vec<External>,
    /// Before a pass each enforcing metric must have so many samples, of either version.
    pub min_samples: u64,
    /// What happens where there are too few; for who asks the judge.
    pub on_insufficient_data: OnInsufficient,
    /// A pass takes so much judged time.
    #[serde(with = "millis")]
    pub min_duration: Duration,
    /// A pass may come sooner, once each metric is shown to be within `max_ratio` and `max_slower`.
    pub advance_early: bool,
    /// Up to so many times the baseline's failures are no reason to fail: 1 to 100.
    pub fail_above: f64,
    /// For an early pass it must be shown that the candidate has less than so many times the
    /// baseline's failures: above `fail_above`, at most 100.
    pub max_ratio: f64,
    /// Handshakes that take up to so many times as long as the baseline's are not slower: 1 to 100.
    pub max_slower: f64,
    /// Nor are those that take so much longer. Nobody feels it, and hosts differ.
    #[serde(with = "millis")]
    pub slack: Duration,
    /// Whether connections are expected to be shared as the table says. Not where clients are kept
    /// together (affinity).
    pub sample_ratio: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            alpha: 0.01,
            metrics: Metric::DEFAULT.to_vec(),
            watch: Vec::new(),
            external: Vec::new(),
            min_samples: 100,
            on_insufficient_data: OnInsufficient::default(),
            min_duration: Duration::ZERO,
            advance_early: false,
            fail_above: 1.0,
            max_ratio: 2.0,
            max_slower: 1.25,
            slack: Duration::from_millis(1),
            sample_ratio: true,
        }
    }
}

impl Config {
    /// What is wrong with it: the field, and what would be right. [`Judge::new`](super::Judge::new)
    /// takes what is wrong for the default.
    #[must_use]
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        let mut check = |good: bool, field, message: String| {
            if !good {
                problems.push((field, message));
            }
        };
        let Self { alpha, fail_above, max_ratio, max_slower, .. } = *self;
        let within = |value: f64, low: f64| (low..=100.0).contains(&value);
        check(
            (MIN_ALPHA..=0.5).contains(&alpha),
            "alpha",
            format!("{alpha} is no chance to be wrong; write one from 0.0001% to 50%"),
        );
        check(
            within(fail_above, 1.0),
            "failAbove",
            format!("{fail_above} is not a factor from 1 to 100"),
        );
        check(
            within(max_ratio, 1.0) && max_ratio > fail_above,
            "maxRatio",
            format!("{max_ratio} is not a factor above failAbove, up to 100"),
        );
        check(
            within(max_slower, 1.0),
            "maxSlower",
            format!("{max_slower} is not a factor from 1 to 100"),
        );
        check(
            !self.metrics.is_empty() || !self.external.is_empty(),
            "metrics",
            "nothing is judged; name a metric".to_owned(),
        );
        let mut seen = BTreeSet::new();
        for metric in self.metrics.iter().chain(&self.watch) {
            check(seen.insert(metric.name()), "metrics", format!("{metric} is named twice"));
        }
        check(
            self.external.len() <= MAX_EXTERNAL,
            "external",
            format!("has {} series; at most {MAX_EXTERNAL} are allowed", self.external.len()),
        );
        for one in &self.external {
            check(seen.insert(&one.name), "external", format!("{} is named twice", one.name));
        }
        problems
    }

    /// The same with each field that is wrong at its default, and each name once.
    #[must_use]
    pub(super) fn sound(mut self) -> Self {
        let sound = Self::default();
        let wrong: BTreeSet<_> = self.problems().into_iter().map(|(field, _)| field).collect();
        if wrong.contains("alpha") {
            self.alpha = sound.alpha;
        }
        if wrong.contains("maxSlower") {
            self.max_slower = sound.max_slower;
        }
        if wrong.contains("failAbove") || wrong.contains("maxRatio") {
            (self.fail_above, self.max_ratio) = (sound.fail_above, sound.max_ratio);
        }
        let mut seen = BTreeSet::new();
        self.metrics.retain(|metric| seen.insert(metric.name().to_owned()));
        self.watch.retain(|metric| seen.insert(metric.name().to_owned()));
        self.external.truncate(MAX_EXTERNAL);
        self.external.retain(|one| seen.insert(one.name.clone()));
        self
    }

    /// The evidence at which one enforcing metric fails a release: `alpha` is shared out evenly.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "there are few metrics")]
    pub fn bound(&self) -> f64 {
        self.metrics.len().max(1) as f64 / self.alpha
    }
}

/// The smallest `alpha`: one in a million.
const MIN_ALPHA: f64 = 1e-6;

/// What weir counts and compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Metric {
    /// Handshakes that were refused or not answered within three seconds, against those that ended.
    ConnectSuccess,
    /// SYNs that came again, against connections.
    Retransmissions,
    /// Resets of the server right after the handshake, against handshakes. Only `nat` sees them.
    EarlyReset,
    /// The median of handshake times.
    HandshakeP50,
    /// The time that one handshake in a hundred exceeds.
    HandshakeP99,
}

impl Metric {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::ConnectSuccess,
        Self::Retransmissions,
        Self::EarlyReset,
        Self::HandshakeP50,
        Self::HandshakeP99,
    ];

    /// Those that decide unless others are named.
    pub const DEFAULT: [Self; 4] =
        [Self::ConnectSuccess, Self::EarlyReset, Self::HandshakeP50, Self::HandshakeP99];

    /// The name as in files and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ConnectSuccess => "connectSuccess",
            Self::Retransmissions => "retransmissions",
            Self::EarlyReset => "earlyReset",
            Self::HandshakeP50 => "handshakeP50",
            Self::HandshakeP99 => "handshakeP99",
        }
    }

    /// The quantile that it compares, if it compares times.
    #[must_use]
    pub const fn quantile(self) -> Option<f64> {
        match self {
            Self::HandshakeP50 => Some(0.5),
            Self::HandshakeP99 => Some(0.99),
            _ => None,
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A series that somebody else measures and judges: Prometheus, a web hook. One measurement at a time
/// is told by [`Judge::external`](super::Judge::external).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct External {
    /// What it is called.
    pub name: String,
    /// So many successes are enough for a pass.
    #[serde(default = "one")]
    pub count: u32,
    /// So many failures are borne.
    #[serde(default)]
    pub failure_limit: u32,
}

const fn one() -> u32 {
    1
}

/// What happens when an analysis is over and there was too little to judge by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OnInsufficient {
    /// It goes on for as long again.
    #[default]
    Extend,
    /// It waits for a person.
    Pause,
    /// It goes on as if all were well.
    Proceed,
    /// It goes back.
    Abort,
}

/// Times as milliseconds.
mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
        u64::try_from(time.as_millis()).unwrap_or(u64::MAX).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_millis)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;

    #[test]
    fn what_is_wrong_is_named_and_mended() {
        assert_eq!(Config::default().problems(), []);
        let wrong = Config {
            alpha: f64::NAN,
            fail_above: 0.5,
            max_ratio: f64::INFINITY,
            max_slower: -1.0,
            metrics: vec![Metric::EarlyReset, Metric::EarlyReset],
            ..Config::default()
        };
        let fields: Vec<_> = wrong.problems().into_iter().map(|(field, _)| field).collect();
        assert_eq!(fields, ["alpha", "failAbove", "maxRatio", "maxSlower", "metrics"]);
        let right = wrong.sound();
        assert_eq!(right.problems(), []);
        assert_eq!(right, Config { metrics: vec![Metric::EarlyReset], ..Config::default() });
        let none = Config { metrics: Vec::new(), ..Config::default() };
        assert_eq!(none.problems()[0].0, "metrics");
    }

    #[test]
    fn it_is_written_as_in_a_rollout() {
        let text = r#"{"alpha":0.05,"metrics":["connectSuccess","handshakeP99"],"minSamples":50,
            "onInsufficientData":"pause","minDuration":120000,"advanceEarly":true,
            "external":[{"name":"errors","failureLimit":2}]}"#;
        let config: Config = serde_json::from_str(text).unwrap();
        assert_eq!(config.min_duration, Duration::from_secs(120));
        assert_eq!(config.external[0].count, 1);
        assert!((config.bound() - 40.0).abs() < 1e-12);
        let again = serde_json::from_str(&serde_json::to_string(&config).unwrap()).unwrap();
        assert_eq!(config, again);
        assert!(serde_json::from_str::<Config>(r#"{"alpa":0.1}"#).is_err());
        for metric in Metric::ALL {
            assert_eq!(serde_json::to_value(metric).unwrap(), metric.name());
        }
    }
}
