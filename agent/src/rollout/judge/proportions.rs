//! The test for what is not rare: two proportions.
//!
//! The e-variable for two-by-two tables of Turner, Ly and Grünwald. Before a tick each version's
//! proportion is estimated from the ticks before (`θ_c`, `θ_b`, under a Beta(0.18, 0.18) prior).
//! Then the tick's counts are asked how much likelier they are with these two than with the one
//! proportion that both would share, the mean of the two by the tick's connections. Under "the
//! candidate's proportion is no larger" the expectation of that is at most one, whatever the
//! proportions are and however they drift. An estimate that is off costs evidence, and no truth.
//!
//! Where the estimates say that the candidate's is larger, the tick bets on worse, else on better.

use serde::{Deserialize, Serialize};

use super::reserve::Reserve;
use super::stratum::Stratum;
use crate::model::logs::log_sum_exp;

/// What Turner, Ly and Grünwald found best: half of a connection of each kind, about.
const PRIOR: f64 = 0.18;
/// No proportion is estimated to be nearer to zero or one.
const SMALLEST: f64 = 1e-9;
/// Estimates forget: with so many of the candidate, all are halved.
const MOST: f64 = 10_000.0;
/// When so many of the candidate have been seen, half of the reserve is left.
const HALF: f64 = 2_000.0;

/// A proportion as estimated.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
struct Estimate {
    yes: f64,
    all: f64,
}

impl Estimate {
    /// Never zero, never one.
    fn proportion(self) -> f64 {
        let proportion = (self.yes + PRIOR) / (self.all + 2.0 * PRIOR);
        proportion.clamp(SMALLEST, 1.0 - SMALLEST)
    }

    fn add(&mut self, yes: f64, all: f64) {
        self.yes += yes;
        self.all += all;
    }

    fn halve(&mut self) {
        self.yes /= 2.0;
        self.all /= 2.0;
    }
}

/// Bets on two proportions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Proportions {
    candidate: Estimate,
    baseline: Estimate,
    /// Won by betting on worse, beside what is in reserve, as a logarithm.
    worse: f64,
    reserve: Reserve,
    /// Won by betting on better, as a logarithm.
    better: f64,
}

impl Default for Proportions {
    fn default() -> Self {
        Self {
            candidate: Estimate::default(),
            baseline: Estimate::default(),
            worse: Reserve::stake().ln(),
            reserve: Reserve::new(HALF),
            better: 0.0,
        }
    }
}

impl Proportions {
    /// Takes one tick of all agents.
    pub fn observe(&mut self, strata: &[Stratum]) {
        let strata: Vec<&Stratum> = strata.iter().filter(|one| one.compares()).collect();
        if strata.is_empty() {
            return;
        }
        let (candidate, baseline) = (self.candidate.proportion(), self.baseline.proportion());
        let won: f64 = strata.iter().map(|one| log_ratio(one, candidate, baseline)).sum();
        let with_fresh = log_sum_exp(&[self.worse, self.reserve.release().ln()]);
        if candidate > baseline {
            self.worse = with_fresh + won;
        } else {
            self.worse = with_fresh;
            self.better += won;
        }
        for one in strata {
            self.candidate.add(one.candidate_failed, one.candidate);
            self.baseline.add(one.baseline_failed, one.baseline);
            self.reserve.see(one.candidate);
        }
        while self.candidate.all > MOST {
            self.candidate.halve();
            self.baseline.halve();
        }
    }

    /// The logarithm of the evidence that the candidate's is larger.
    #[must_use]
    pub fn log_worse(&self) -> f64 {
        log_sum_exp(&[self.worse, self.reserve.left().ln()])
    }

    /// The logarithm of the evidence that the candidate's is smaller.
    #[must_use]
    pub const fn log_better(&self) -> f64 {
        self.better
    }
}

/// How much likelier the counts are with two proportions than with one, as a logarithm.
fn log_ratio(one: &Stratum, candidate: f64, baseline: f64) -> f64 {
    let share = one.candidate / (one.candidate + one.baseline);
    let both = baseline + share * (candidate - baseline);
    let likelier = |yes: f64, all: f64, own: f64| {
        yes * (own / both).ln() + (all - yes).max(0.0) * ((1.0 - own) / (1.0 - both)).ln()
    };
    likelier(one.candidate_failed, one.candidate, candidate)
        + likelier(one.baseline_failed, one.baseline, baseline)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::judge::stratum::stratum;

    #[test]
    fn the_first_tick_only_teaches() {
        let mut test = Proportions::default();
        test.observe(&[stratum(10.0, 9.0, 10.0, 1.0)]);
        assert!(test.log_worse().abs() < 1e-12 && test.log_better().abs() < 1e-12);
        // By hand: (9.18/10.36)^9 (1.18/10.36)^1, twice for symmetry, against one half each time.
        test.observe(&[stratum(10.0, 9.0, 10.0, 1.0)]);
        let (high, low) = (9.18_f64 / 10.36, 1.18_f64 / 10.36);
        let won = 2.0 * (9.0 * (high / 0.5).ln() + (low / 0.5).ln());
        let stake = 0.8 + 0.2 - 0.2 / (1.0 + 10.0 / 2_000.0);
        let kept = 1.0 - stake;
        assert!((test.log_worse() - (stake * won.exp() + kept).ln()).abs() < 1e-9);
        assert!(test.log_better().abs() < 1e-12);
    }

    /// The expectation over all that can happen in a tick is at most one where the null is true.
    #[test]
    fn nothing_is_won_on_average_where_the_null_is_true() {
        let choose = |n: i32, k: i32| (0..k).map(|i| f64::from(n - i) / f64::from(i + 1)).product();
        let chance = |n: i32, k: i32, p: f64| -> f64 {
            let ways: f64 = choose(n, k);
            ways * p.powi(k) * (1.0 - p).powi(n - k)
        };
        for (p_c, p_b) in [(0.5, 0.5), (0.02, 0.02), (0.97, 0.97), (0.2, 0.6)] {
            let mut mean = 0.0;
            for (k_c, k_b) in (0..=6).flat_map(|c| (0..=9).map(move |b| (c, b))) {
                let one = stratum(6.0, k_c.into(), 9.0, k_b.into());
                let won = log_ratio(&one, 0.7, 0.4).exp();
                mean += chance(6, k_c, p_c) * chance(9, k_b, p_b) * won;
            }
            assert!(mean <= 1.0 + 1e-9, "{p_c} {p_b}: {mean}");
        }
    }

    #[test]
    fn both_directions_are_found() {
        let (mut worse, mut better) = (Proportions::default(), Proportions::default());
        for _ in 0..20 {
            worse.observe(&[stratum(100.0, 80.0, 1_900.0, 950.0)]);
            better.observe(&[stratum(100.0, 20.0, 1_900.0, 950.0)]);
        }
        assert!(worse.log_worse() > 100.0 && worse.log_better() <= 0.0);
        assert!(better.log_better() > 100.0 && better.log_worse() <= 0.0);
    }

    #[test]
    fn numbers_of_any_size_stay_numbers() {
        let most = 1.9e19;
        let mut test = Proportions::default();
        for one in [
            stratum(most, most, 1.0, 0.0),
            stratum(1.0, 0.0, most, most),
            stratum(most, 0.0, most, most),
            stratum(1.0, most, 1.0, most),
        ] {
            for _ in 0..500 {
                test.observe(&[one]);
                assert!(test.log_worse().is_finite() && test.log_better().is_finite());
            }
        }
    }
}
