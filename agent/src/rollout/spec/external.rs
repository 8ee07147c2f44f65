//! Metrics of other systems.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::super::time::Seconds;

/// A number of another system, judged by thresholds. How many successes it needs and how many failures
/// are borne stands beside its name in `judge::Config::external`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ExternalMetric {
    /// What it is called; no other metric has the name.
    pub name: String,
    /// Where it comes from.
    pub source: Source,
    /// How often it is asked for.
    pub interval: Seconds,
    /// A measurement that meets this is a success.
    pub success: Option<Condition>,
    /// One that meets this is a failure. At least one of the two is given; with one alone the other
    /// is what it leaves. What meets neither says nothing.
    pub failure: Option<Condition>,
}

/// Where a number comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub enum Source {
    /// A query to Prometheus that answers one number.
    Prometheus {
        /// Its address: `http://host:9090`.
        address: String,
        /// In `PromQL`.
        query: String,
    },
    /// An HTTP address that answers `{"value": NUMBER}`, by GET.
    Webhook {
        /// The address.
        url: String,
    },
}

/// What a number is held against: `>= 0.95`, `< 500`, `<= 5%`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Condition {
    /// How.
    pub comparison: Comparison,
    /// Against what; finite.
    pub threshold: f64,
}

impl Condition {
    /// Whether a number meets it. What is no number meets nothing.
    #[must_use]
    pub fn holds(self, value: f64) -> bool {
        match self.comparison {
            Comparison::Less => value < self.threshold,
            Comparison::AtMost => value <= self.threshold,
            Comparison::More => value > self.threshold,
            Comparison::AtLeast => value >= self.threshold,
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.comparison.sign(), self.threshold)
    }
}

/// How a number is held against a threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Comparison {
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `>`
    More,
    /// `>=`
    AtLeast,
}

impl Comparison {
    /// The sign as in documents.
    #[must_use]
    pub const fn sign(self) -> &'static str {
        match self {
            Self::Less => "<",
            Self::AtMost => "<=",
            Self::More => ">",
            Self::AtLeast => ">=",
        }
    }
}
