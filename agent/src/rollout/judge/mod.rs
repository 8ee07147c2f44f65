//! What counters say of a candidate. (The shape only; the statistics are to come.)

pub mod config;

pub use config::{Config, External, Metric, OnInsufficient};
use serde::{Deserialize, Serialize};

/// What the evidence says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "is")]
pub enum Verdict {
    /// Nothing yet.
    Undecided {
        /// For people.
        reason: String,
    },
    /// Each metric has enough, and none is worse.
    Pass {
        /// Sooner than `minDuration`.
        early: bool,
        /// For people.
        reason: String,
    },
    /// The candidate is worse.
    Fail {
        /// By which metric.
        metric: String,
        /// For people.
        reason: String,
    },
    /// Too little to judge by.
    Insufficient {
        /// For people.
        reason: String,
    },
    /// Both versions got worse together.
    Incident {
        /// For people.
        reason: String,
    },
    /// One backend has most of the failures.
    BadBackend {
        /// Which.
        backend: std::net::SocketAddr,
        /// Of which version.
        role: Role,
        /// For people.
        reason: String,
    },
    /// Connections are not shared as the table says.
    Mismatch {
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

impl Verdict {
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
