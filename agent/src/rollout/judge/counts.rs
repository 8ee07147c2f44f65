//! The test for what is rare: failures, resets, retransmissions.
//!
//! Given `n_c` and `n_b` connections of one tick on one agent, and a candidate that fails `r` times as
//! often as the baseline, a failure is the candidate's with probability
//! `θ(r) = n_c·r / (n_c·r + n_b)`, whatever the baseline's rate is: an incident that both share
//! cancels out. Against the null `r` stand [`GRID`] alternatives `ρ`; each failure multiplies the
//! wealth of `ρ` by `θ(ρ) / θ(r)` or `(1 − θ(ρ)) / (1 − θ(r))`. The evidence is the mean of all
//! wealth, small ratios counting more, since they are the ones that take long to see: a mixture of ratios of likelihoods, as in Lindon and Malek's conditional count test. It is
//! also sound where failures are not rare: for independent failures its expectation is at most one
//! with binomial counts too.
//!
//! There are two of them: one bets on worse than `failAbove`, one on better than `maxRatio`.

use serde::{Deserialize, Serialize};

use super::reserve::Reserve;
use super::stratum::{Stratum, Told};
use crate::model::logs::log_sum_exp;

/// The number of alternatives.
pub const GRID: usize = 48;
/// The largest ratio that is bet on.
pub const HIGHEST: f64 = 200.0;
/// The smallest one.
pub const LOWEST: f64 = 0.05;
/// When so many failures have been seen, half of the reserve is left.
const HALF: f64 = 100.0;

/// Bets against one null.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    /// The ratio that is bet against.
    null: f64,
    /// By alternative, as logarithms.
    wealth: Vec<f64>,
    reserve: Option<Reserve>,
}

impl Counts {
    /// Bets on a candidate that is worse than `null` times the baseline.
    #[must_use]
    pub fn worse(null: f64) -> Self {
        Self::new(null, Reserve::stake(), Some(Reserve::new(HALF)))
    }

    /// Bets on a candidate that is better than `null` times the baseline.
    #[must_use]
    pub fn better(null: f64) -> Self {
        Self::new(null, 1.0, None)
    }

    fn new(null: f64, stake: f64, reserve: Option<Reserve>) -> Self {
        let mut counts = Self { null, wealth: Vec::new(), reserve };
        counts.wealth = counts.alternatives().map(|(_, part)| (stake * part).ln()).collect();
        counts
    }

    /// The alternatives, the one next to the null first: each as the logarithm of its ratio to the
    /// null, with its part of the stake.
    fn alternatives(&self) -> impl Iterator<Item = (f64, f64)> + use<> {
        let end = if self.reserve.is_some() { HIGHEST } else { LOWEST };
        let step = (end / self.null).ln() / index(GRID);
        let part = move |at: usize| (-(step * index(at)).abs() / 2.0).exp();
        let all: f64 = (1..=GRID).map(part).sum();
        (1..=GRID).map(move |at| (step * index(at), part(at) / all))
    }

    /// Takes one tick of all agents.
    pub fn observe(&mut self, strata: &[Told]) {
        // A tick without failures says nothing, and neither does one without a comparison.
        let speaks = |one: &&Told| one.iter().all(Stratum::compares) && one[0].failed() > 0.0;
        let strata: Vec<&Told> = strata.iter().filter(speaks).collect();
        if strata.is_empty() {
            return;
        }
        let fresh = self.reserve.as_mut().map_or(0.0, Reserve::release);
        let (null, alternatives) = (self.null, self.alternatives());
        for (wealth, (step, part)) in self.wealth.iter_mut().zip(alternatives) {
            let won: f64 = strata.iter().map(|told| smaller_bet(told, null, step)).sum();
            if fresh > 0.0 {
                *wealth = log_sum_exp(&[*wealth, (fresh * part).ln()]);
            }
            *wealth += won;
        }
        if let Some(reserve) = &mut self.reserve {
            reserve.see(strata.iter().map(|told| told[0].failed()).sum());
        }
    }

    /// The logarithm of the evidence: 0 says nothing.
    #[must_use]
    pub fn log_evidence(&self) -> f64 {
        let kept = self.reserve.map_or(0.0, |reserve| reserve.left());
        let all: Vec<f64> = self.wealth.iter().copied().chain([kept.ln()]).collect();
        log_sum_exp(&all)
    }
}

/// Of both tellings the one that wins less.
fn smaller_bet(told: &Told, null: f64, step: f64) -> f64 {
    let [counted, narrow] = told;
    let bet = log_ratio(counted, null, step);
    if narrow == counted { bet } else { bet.min(log_ratio(narrow, null, step)) }
}

/// What a stratum multiplies the wealth of the alternative `null · exp(step)` by, as a logarithm.
fn log_ratio(stratum: &Stratum, null: f64, step: f64) -> f64 {
    let Stratum { candidate, baseline, candidate_failed, .. } = *stratum;
    // θ(ρ)/θ(r) = ρ/r · m, and (1-θ(ρ))/(1-θ(r)) = m, with m = (n_c·r + n_b)/(n_c·ρ + n_b).
    let more = candidate * null * step.exp_m1() / (candidate * null + baseline);
    candidate_failed * step - stratum.failed() * more.ln_1p()
}

#[allow(clippy::cast_precision_loss, reason = "at most the grid's size")]
const fn index(at: usize) -> f64 {
    at as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stratum(candidate: f64, candidate_failed: f64, baseline: f64, baseline_failed: f64) -> Told {
        [Stratum { candidate, candidate_failed, baseline, baseline_failed }; 2]
    }

    fn worse(strata: &[Told]) -> f64 {
        let mut counts = Counts::worse(1.0);
        for told in strata {
            counts.observe(&[*told]);
        }
        counts.log_evidence()
    }

    /// By hand: one failure of the candidate at a share of 5 %, mixed over the grid.
    #[test]
    fn one_failure_by_hand() {
        let ratios = || (1..=48).map(|i| 200_f64.powf(f64::from(i) / 48.0));
        let parts: f64 = ratios().map(|rho| 1.0 / rho.sqrt()).sum();
        let won = |rho: f64| (5.0 * rho / (5.0 * rho + 95.0)) / 0.05;
        let mixture = ratios().map(|rho| won(rho) / rho.sqrt()).sum::<f64>() / parts;
        let found = worse(&[stratum(5.0, 1.0, 95.0, 0.0)]);
        assert!((found - (0.2 + 0.8 * mixture).ln()).abs() < 1e-9, "{found}");
    }

    /// The expectation over all that can happen in a tick is one at the null, and less below it.
    #[test]
    fn nothing_is_won_on_average_where_the_null_is_true() {
        let choose = |n: i32, k: i32| (0..k).map(|i| f64::from(n - i) / f64::from(i + 1)).product();
        let chance = |n: i32, k: i32, p: f64| -> f64 {
            let ways: f64 = choose(n, k);
            ways * p.powi(k) * (1.0 - p).powi(n - k)
        };
        for (p_c, p_b) in [(0.3, 0.3), (0.9, 0.9), (0.01, 0.01), (0.1, 0.3)] {
            for make in [Counts::worse as fn(f64) -> Counts, |_| Counts::better(1.0)] {
                let mut mean = 0.0;
                for (f_c, f_b) in (0..=4).flat_map(|c| (0..=12).map(move |b| (c, b))) {
                    let mut counts = make(1.0);
                    counts.observe(&[stratum(4.0, f_c.into(), 12.0, f_b.into())]);
                    mean +=
                        chance(4, f_c, p_c) * chance(12, f_b, p_b) * counts.log_evidence().exp();
                }
                if p_c < p_b && make(1.0).reserve.is_none() {
                    assert!(mean > 1.0, "better is bet on: {mean}");
                } else {
                    assert!(mean <= 1.0 + 1e-9, "{p_c} {p_b}: {mean}");
                }
            }
        }
    }

    #[test]
    fn no_comparison_is_no_evidence() {
        let nothing = [
            stratum(0.0, 0.0, 0.0, 0.0),
            stratum(100.0, 50.0, 0.0, 0.0),
            stratum(0.0, 0.0, 100.0, 50.0),
            stratum(100.0, 0.0, 100.0, 0.0),
        ];
        let mut counts = Counts::worse(1.0);
        counts.observe(&nothing);
        assert_eq!(counts, Counts::worse(1.0));
        assert!(counts.log_evidence().abs() < 1e-12);
    }

    /// An incident that both share by their shares is evidence of nothing, at any size.
    #[test]
    fn what_both_share_speaks_for_neither() {
        for scale in [1.0, 100.0, 1e6] {
            let told = stratum(100.0 * scale, 50.0 * scale, 1_900.0 * scale, 950.0 * scale);
            assert!(worse(&[told]) < 0.0, "{scale}");
        }
    }

    /// Of two tellings the one that wins less counts.
    #[test]
    fn the_smaller_bet_counts() {
        let storm = stratum(1_100.0, 1_000.0, 1_900.0, 2.0)[0];
        let one = Stratum { candidate: 101.0, candidate_failed: 1.0, ..storm };
        let mut counts = Counts::worse(1.0);
        counts.observe(&[[storm, one]]);
        assert!(counts.log_evidence() < 2.0, "{}", counts.log_evidence());
        assert!(worse(&[[storm, storm]]) > 500.0);
    }

    #[test]
    fn alternatives_reach_to_the_ends() {
        let ends = |counts: &Counts| {
            let all: Vec<f64> =
                counts.alternatives().map(|(step, _)| counts.null * step.exp()).collect();
            assert_eq!(all.len(), GRID);
            (all[0], all[GRID - 1])
        };
        let (first, last) = ends(&Counts::worse(1.0));
        assert!(first > 1.1 && first < 1.2 && (last - HIGHEST).abs() < 1e-9);
        let (first, last) = ends(&Counts::better(2.0));
        assert!(first > 1.8 && first < 2.0 && (last - LOWEST).abs() < 1e-9);
    }

    #[test]
    fn numbers_of_any_size_stay_numbers() {
        let most = 1.9e19;
        let mut counts = Counts::worse(1.0);
        for told in [
            stratum(1.0, most, most, 0.0),
            stratum(most, 0.0, 1.0, most),
            stratum(most, most, most, most),
            stratum(1.0, 0.0, most, most),
        ] {
            for _ in 0..1_000 {
                counts.observe(&[told]);
                assert!(counts.log_evidence().is_finite());
            }
        }
    }
}
