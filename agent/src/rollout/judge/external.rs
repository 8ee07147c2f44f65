//! What others have measured: counted, as Argo counts it.
//!
//! Somebody else asks Prometheus or a web hook and holds the answer against its conditions. Here each
//! measurement is one of three outcomes. Failures beyond `failureLimit` fail the release; `count`
//! successes are enough for a pass. No data is neither.

use serde::{Deserialize, Serialize};

use super::config::External;

/// What came of one measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// The condition of success holds.
    Pass,
    /// The condition of failure holds, or that of success does not.
    Fail,
    /// There was nothing to measure, or nobody answered.
    NoData,
}

/// The measurements of one series so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tally {
    /// Successes.
    pub passed: u32,
    /// Failures.
    pub failed: u32,
    /// Measurements without data.
    pub no_data: u32,
}

impl Tally {
    /// Takes a measurement.
    pub const fn add(&mut self, outcome: Outcome) {
        let count = match outcome {
            Outcome::Pass => &mut self.passed,
            Outcome::Fail => &mut self.failed,
            Outcome::NoData => &mut self.no_data,
        };
        *count = count.saturating_add(1);
    }

    /// Whether it has failed more often than is borne.
    #[must_use]
    pub const fn fails(&self, rule: &External) -> bool {
        self.failed > rule.failure_limit
    }

    /// Whether there are enough successes.
    #[must_use]
    pub const fn is_enough(&self, rule: &External) -> bool {
        self.passed >= rule.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_data_is_neither() {
        let rule = External { name: "errors".to_owned(), count: 2, failure_limit: 1 };
        let mut tally = Tally::default();
        for _ in 0..100 {
            tally.add(Outcome::NoData);
        }
        assert!(!tally.fails(&rule) && !tally.is_enough(&rule));
        tally.add(Outcome::Pass);
        tally.add(Outcome::Fail);
        assert!(!tally.fails(&rule) && !tally.is_enough(&rule));
        tally.add(Outcome::Pass);
        assert!(tally.is_enough(&rule));
        tally.add(Outcome::Fail);
        assert!(tally.fails(&rule));
    }
}
