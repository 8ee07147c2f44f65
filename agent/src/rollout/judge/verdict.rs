//! The answer.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::explain::Finding;

/// What the evidence says, with its numbers and one sentence for people.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "is")]
pub enum Verdict {
    /// Nothing yet: it is too early, or one metric is neither good nor bad enough.
    Undecided {
        /// The metric with the most evidence against the candidate.
        metric: Option<String>,
        /// For people.
        reason: String,
    },
    /// Each enforcing metric has enough samples, and nothing speaks against the candidate.
    Pass {
        /// Sooner than `minDuration`, because each metric was shown to be within what is borne.
        early: bool,
        /// For people.
        reason: String,
    },
    /// The candidate is worse.
    Fail {
        /// By which metric, or by which series of others.
        metric: String,
        /// The metric's numbers; nothing for a series of others.
        finding: Option<Box<Finding>>,
        /// For people.
        reason: String,
    },
    /// There is too little to judge by. That is neither good nor bad.
    Insufficient {
        /// Of which metric, or of which series of others.
        metric: String,
        /// Samples so far, of the version that has fewer.
        samples: u64,
        /// How many it takes.
        needed: u64,
        /// For people.
        reason: String,
    },
    /// Both versions got worse together.
    Incident {
        /// The candidate's share of failures in the last seconds.
        candidate: f64,
        /// The baseline's.
        baseline: f64,
        /// The baseline's before.
        before: f64,
        /// For people.
        reason: String,
    },
    /// One backend has most of its version's failures. Without it, begin with a new judge.
    BadBackend {
        /// Which.
        backend: SocketAddr,
        /// Of which version.
        role: Role,
        /// Its failures.
        failures: u64,
        /// Those of its version.
        of: u64,
        /// For people.
        reason: String,
    },
    /// Connections are not shared as the table says, so they cannot be compared.
    Mismatch {
        /// On which agent.
        agent: String,
        /// The candidate's part of the slots of both.
        asked: f64,
        /// Its part of the connections of both.
        observed: f64,
        /// Connections of both.
        connections: u64,
        /// For people.
        reason: String,
    },
}

/// What a version is in a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// It is judged.
    Candidate,
    /// It is what the candidate is compared with.
    Baseline,
}

impl Role {
    /// As it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Candidate => "candidate",
            Self::Baseline => "baseline",
        }
    }
}

impl Verdict {
    /// One word.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Undecided { .. } => "undecided",
            Self::Pass { .. } => "pass",
            Self::Fail { .. } => "fail",
            Self::Insufficient { .. } => "insufficient",
            Self::Incident { .. } => "incident",
            Self::BadBackend { .. } => "badBackend",
            Self::Mismatch { .. } => "mismatch",
        }
    }

    /// One sentence for people.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            Self::Undecided { reason, .. }
            | Self::Pass { reason, .. }
            | Self::Fail { reason, .. }
            | Self::Insufficient { reason, .. }
            | Self::Incident { reason, .. }
            | Self::BadBackend { reason, .. }
            | Self::Mismatch { reason, .. } => reason,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name(), self.reason())
    }
}
