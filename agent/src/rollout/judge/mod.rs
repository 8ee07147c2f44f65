//! What counters say of a candidate. (The shape only; the statistics are to come.)

use serde::{Deserialize, Serialize};

/// How to judge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Config {
    /// The chance to fail a good release.
    pub alpha: f64,
    /// What is compared.
    pub metrics: Vec<Metric>,
    /// Connections that each metric needs before it can pass.
    pub min_samples: u64,
    /// What happens where there are too few.
    pub on_insufficient_data: OnInsufficient,
    /// The candidate may be so many times worse.
    pub max_ratio: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            alpha: 0.01,
            metrics: vec![
                Metric::ConnectSuccess,
                Metric::EarlyReset,
                Metric::HandshakeP50,
                Metric::HandshakeP99,
            ],
            min_samples: 100,
            on_insufficient_data: OnInsufficient::default(),
            max_ratio: 1.0,
        }
    }
}

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Metric {
    /// Handshakes that completed.
    ConnectSuccess,
    /// Resets right after the handshake.
    EarlyReset,
    /// The median of handshakes.
    HandshakeP50,
    /// Their 99th percentile.
    HandshakeP99,
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
        /// For people.
        reason: String,
    },
    /// Connections are not shared as the table says.
    Mismatch {
        /// For people.
        reason: String,
    },
}
