//! What is compared: both versions, in one tick on one agent.
//!
//! Evidence is won in each of them alone, and never from sums over ticks or agents: while weights
//! change, or where agents differ, sums blame the version that was there when it was worse for both
//! (Simpson's paradox).

use serde::{Deserialize, Serialize};

/// Connections of one tick on one agent, and failures among them: or handshakes, and slow ones. All
/// are finite and not negative.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Stratum {
    /// Connections of the candidate.
    pub candidate: f64,
    /// Failures of the candidate.
    pub candidate_failed: f64,
    /// Connections of the baseline.
    pub baseline: f64,
    /// Failures of the baseline.
    pub baseline_failed: f64,
}

impl Stratum {
    /// Adds another, for people.
    pub(super) fn add(&mut self, other: &Self) {
        self.candidate += other.candidate;
        self.candidate_failed += other.candidate_failed;
        self.baseline += other.baseline;
        self.baseline_failed += other.baseline_failed;
    }

    /// Failures of both.
    #[must_use]
    pub const fn failed(&self) -> f64 {
        self.candidate_failed + self.baseline_failed
    }

    /// Whether it can say anything: both versions had connections.
    #[must_use]
    pub const fn compares(&self) -> bool {
        self.candidate > 0.0 && self.baseline > 0.0
    }
}

/// One connection may be told twice: as they were counted, and with the failures of one client taken
/// for one. One of both is right, and nobody knows which; the smaller of both bets is sound in
/// either case.
pub type Told = [Stratum; 2];

/// One of the candidate's connections and failures, and of the baseline's.
#[cfg(test)]
pub(super) fn stratum(
    candidate: f64,
    candidate_failed: f64,
    baseline: f64,
    baseline_failed: f64,
) -> Stratum {
    Stratum { candidate, candidate_failed, baseline, baseline_failed }
}
