//! How many times worse, with its interval.
//!
//! The estimate of Mantel and Haenszel: in each tick of each agent what one version failed is set
//! against the share of the other, so that neither a ramp of the weights nor an incident biases it.
//! The interval holds at all looks together, for large counts (the normal mixture of Robbins around
//! the estimate's logarithm). It is for people; the tests decide without it.

use serde::{Deserialize, Serialize};

use super::stratum::Stratum;

/// The interval holds with a chance of all but so much.
const MISS: f64 = 0.01;
/// How much the interval is tuned to: it is narrowest when the estimate is about three-fold sure.
const TUNED: f64 = 1.0;

/// Sums over strata.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Ratio {
    /// Failures of the candidate, by the share of the baseline's connections.
    candidate: f64,
    /// The reverse.
    baseline: f64,
    /// The variance of their difference.
    variance: f64,
}

impl Ratio {
    /// Takes what one agent counted in one tick.
    pub fn add(&mut self, one: &Stratum) {
        let all = one.candidate + one.baseline;
        if !one.compares() {
            return;
        }
        let (of_candidate, of_baseline) = (one.candidate / all, one.baseline / all);
        self.candidate += one.candidate_failed * of_baseline;
        self.baseline += one.baseline_failed * of_candidate;
        self.variance += one.failed() * of_candidate * of_baseline;
    }

    /// How many times as often the candidate fails as the baseline; nothing as long as the baseline
    /// has not failed.
    #[must_use]
    pub fn estimate(&self) -> Option<f64> {
        let estimate = self.candidate / self.baseline;
        (self.baseline > 0.0 && estimate.is_finite()).then_some(estimate)
    }

    /// In what interval it is; nothing as long as one of them has not failed.
    #[must_use]
    pub fn interval(&self) -> Option<(f64, f64)> {
        let estimate = self.estimate().filter(|estimate| *estimate > 0.0)?;
        let known = self.candidate / self.variance * self.baseline;
        let wide = (known + TUNED) / known / known;
        let half = (wide * ((known + TUNED) / (TUNED * MISS * MISS)).ln()).sqrt();
        let (low, high) = (estimate * (-half).exp(), estimate * half.exp());
        (low.is_finite() && high.is_finite()).then_some((low, high))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;
    use crate::rollout::judge::stratum::stratum;

    /// A ramp during an incident: sums would say that the candidate is worse, or better.
    #[test]
    fn neither_a_ramp_nor_an_incident_biases_it() {
        let mut ratio = Ratio::default();
        ratio.add(&stratum(100.0, 1.0, 9_900.0, 99.0));
        ratio.add(&stratum(5_000.0, 1_500.0, 5_000.0, 1_500.0));
        assert!((ratio.estimate().unwrap() - 1.0).abs() < 1e-12);
        let (low, high) = ratio.interval().unwrap();
        assert!(low > 0.8 && high < 1.25, "{low} {high}");
    }

    #[test]
    fn it_finds_the_ratio() {
        let mut ratio = Ratio::default();
        for _ in 0..100 {
            ratio.add(&stratum(1_000.0, 10.0, 19_000.0, 38.0));
        }
        assert!((ratio.estimate().unwrap() - 5.0).abs() < 1e-9);
        let (low, high) = ratio.interval().unwrap();
        assert!(low > 4.0 && low < 5.0 && high > 5.0 && high < 6.5, "{low} {high}");
    }

    #[test]
    fn nothing_is_known_of_nothing() {
        let mut ratio = Ratio::default();
        assert_eq!((ratio.estimate(), ratio.interval()), (None, None));
        ratio.add(&stratum(100.0, 3.0, 100.0, 0.0));
        assert_eq!((ratio.estimate(), ratio.interval()), (None, None));
        ratio.add(&stratum(1.9e19, 1.9e19, 1.9e19, 1.9e19));
        assert!(ratio.interval().is_some_and(|(low, high)| low <= high && high.is_finite()));
    }
}
