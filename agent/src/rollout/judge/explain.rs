//! Each metric in numbers and in one sentence.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::config::{Config, Metric};
use super::external::Tally;
use super::series::Series;
use super::state::Judge;
use super::verdict::Verdict;

/// Everything that led to a verdict.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The verdict.
    pub verdict: Verdict,
    /// For how many seconds there were ticks.
    pub judged_s: u64,
    /// The chance to fail a good release.
    pub alpha: f64,
    /// By metric; those that decide first.
    pub findings: Vec<Finding>,
    /// What others measured.
    pub external: Vec<ExternalFinding>,
}

/// What is known of one metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// Which.
    pub metric: Metric,
    /// Whether it decides.
    pub enforcing: bool,
    /// What was counted of the candidate.
    pub candidate: Counted,
    /// What was counted of the baseline.
    pub baseline: Counted,
    /// How many times as often the candidate fails as the baseline, by ticks and agents; nothing as
    /// long as the baseline has not failed.
    pub ratio: Option<f64>,
    /// In what interval that is, with 99 % at all looks together.
    pub interval: Option<(f64, f64)>,
    /// The evidence that the candidate is worse, as a power of ten: 0 says nothing.
    pub evidence: f64,
    /// The most of it that there has been.
    pub most_evidence: f64,
    /// The evidence at which the release fails, likewise.
    pub bound: f64,
    /// The evidence that the candidate is within what is borne, likewise.
    pub evidence_for: f64,
    /// The evidence at which that is shown, likewise.
    pub bound_for: f64,
    /// For people.
    pub reason: String,
}

/// Samples of one version.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Counted {
    /// How many of `of` failed; of handshakes, how many were slow.
    pub failed: u64,
    /// How many there were.
    pub of: u64,
}

impl Counted {
    fn new(failed: f64, of: f64) -> Self {
        Self { failed: whole(failed), of: whole(of) }
    }

    /// The share that failed; nothing of none.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "a share needs no more than 53 bits")]
    pub fn share(self) -> Option<f64> {
        (self.of > 0).then(|| self.failed as f64 / self.of as f64)
    }
}

/// What is known of a series of others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExternalFinding {
    /// What it is called.
    pub name: String,
    /// The measurements so far.
    #[serde(flatten)]
    pub tally: Tally,
    /// So many failures are borne.
    pub failure_limit: u32,
    /// So many successes are enough.
    pub count: u32,
}

impl Judge {
    /// Everything that led to the verdict.
    #[must_use]
    pub fn explain(&self) -> Explanation {
        let external = |rule: &super::External| ExternalFinding {
            name: rule.name.clone(),
            tally: self.external.get(&rule.name).copied().unwrap_or_default(),
            failure_limit: rule.failure_limit,
            count: rule.count,
        };
        Explanation {
            verdict: self.verdict(),
            judged_s: self.judged.as_secs(),
            alpha: self.config.alpha,
            findings: self.series.iter().map(|one| Finding::new(one, &self.config)).collect(),
            external: self.config.external.iter().map(external).collect(),
        }
    }
}

impl Finding {
    pub(super) fn new(series: &Series, config: &Config) -> Self {
        let sum = series.sum();
        let power = |log: f64| log / std::f64::consts::LN_10;
        let mut finding = Self {
            metric: series.metric(),
            enforcing: series.is_enforcing(),
            candidate: Counted::new(sum.candidate_failed, sum.candidate),
            baseline: Counted::new(sum.baseline_failed, sum.baseline),
            ratio: series.ratio().estimate(),
            interval: series.ratio().interval(),
            evidence: power(series.log_worse()),
            most_evidence: power(series.most_log_worse()),
            bound: config.bound().log10(),
            evidence_for: power(series.log_better()),
            bound_for: -config.alpha.log10(),
            reason: String::new(),
        };
        finding.reason = finding.sentence();
        finding
    }

    /// `connectSuccess: 61 of 5003 (1.22%) failed, of the baseline's 187 of 95011 (0.20%): 6.2 times
    /// as often (3.4 to 11); evidence 4100, bound 400`.
    fn sentence(&self) -> String {
        let metric = self.metric;
        if self.candidate.of == 0 || self.baseline.of == 0 {
            return format!("{metric}: {}", self.nothing());
        }
        let what = match metric {
            Metric::Retransmissions => "sent their SYN again",
            Metric::EarlyReset => "were reset at once",
            Metric::HandshakeP50 => "took longer than the baseline's median",
            Metric::HandshakeP99 => "took longer than the baseline's 99th percentile",
            Metric::ConnectSuccess => "failed",
        };
        let times = match (self.ratio, self.interval) {
            (Some(ratio), Some((low, high))) => {
                format!(": {} times as many ({} to {})", short(ratio), short(low), short(high))
            }
            (Some(ratio), None) => format!(": {} times as many", short(ratio)),
            (None, _) => String::new(),
        };
        let (evidence, bound) = (as_factor(self.most_evidence), as_factor(self.bound));
        let (candidate, baseline) = (part(self.candidate), part(self.baseline));
        format!(
            "{metric}: {candidate} {what}, of the baseline {baseline}{times}; evidence {evidence}, \
             bound {bound}"
        )
    }

    /// Why there is nothing to compare.
    fn nothing(&self) -> &'static str {
        match (self.metric.quantile(), self.candidate.of, self.baseline.of) {
            (Some(_), _, 0) => {
                "no baseline to compare with yet: it takes some handshakes, and signals: full"
            }
            (_, 0, 0) => "no connections yet",
            (_, 0, _) => "no connections of the candidate yet",
            _ => "no connections of the baseline to compare with",
        }
    }
}

/// `61 of 5003 (1.22%)`.
fn part(counted: Counted) -> String {
    let share = counted.share().unwrap_or_default() * 100.0;
    format!("{} of {} ({share:.2}%)", counted.failed, counted.of)
}

/// A power of ten as a number, as long as that can be read.
pub(super) fn as_factor(power: f64) -> String {
    if power < 6.0 { short(10_f64.powf(power)) } else { format!("10^{power:.0}") }
}

/// Two digits that count.
pub(super) fn short(value: f64) -> String {
    match value {
        value if value < 0.01 => "below 0.01".to_owned(),
        value if value < 1.0 => format!("{value:.2}"),
        value if value < 10.0 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    }
}

/// A time as people write it, in seconds.
pub(super) fn seconds(time: Duration) -> String {
    humantime::format_duration(Duration::from_secs(time.as_secs())).to_string()
}

/// The whole number next to it.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates")]
pub(super) fn whole(value: f64) -> u64 {
    value.round() as u64
}
