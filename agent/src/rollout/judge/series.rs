//! One metric's tests.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::config::{Config, Metric};
use super::counts::Counts;
use super::guards::breadth;
use super::proportions::Proportions;
use super::quantiles::{Line, Past};
use super::ratio::Ratio;
use super::stratum::{Stratum, Told};
use super::tick::Tick;

/// Everything that is known of one metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Series {
    metric: Metric,
    enforcing: bool,
    test: Test,
    ratio: Ratio,
    /// All that was compared, for people: no test is made of sums.
    sum: Stratum,
    /// The logarithm of the most evidence against the candidate that there has been: it may fade again,
    /// but what has been shown has been shown.
    most: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Test {
    Counts { worse: Counts, better: Counts },
    Proportions(Proportions),
}

impl Series {
    pub(super) fn new(metric: Metric, enforcing: bool, config: &Config) -> Self {
        let test = if metric.quantile().is_some() {
            Test::Proportions(Proportions::default())
        } else {
            let (worse, better) = (config.fail_above, config.max_ratio);
            Test::Counts { worse: Counts::worse(worse), better: Counts::better(better) }
        };
        let (ratio, sum) = (Ratio::default(), Stratum::default());
        Self { metric, enforcing, test, ratio, sum, most: 0.0 }
    }

    /// Takes one tick of all agents. `past` holds the handshakes of the ticks before.
    pub(super) fn observe(
        &mut self,
        ticks: &[&Tick],
        past: &BTreeMap<String, Past>,
        config: &Config,
    ) {
        let metric = self.metric;
        let strata: Vec<Stratum> = match &mut self.test {
            Test::Counts { worse, better } => {
                let told: Vec<Told> =
                    ticks.iter().map(|tick| breadth::tell(metric, tick)).collect();
                worse.observe(&told);
                better.observe(&told);
                told.iter().map(|told| told[0]).collect()
            }
            Test::Proportions(test) => {
                let line = |tick: &Tick| {
                    let past = past.get(&tick.agent)?;
                    Line::draw(past, metric.quantile()?, config.max_slower, config.slack)
                };
                let split = |tick: &&Tick| line(tick).map(|line| line.split(tick));
                let strata: Vec<Stratum> = ticks.iter().filter_map(split).collect();
                test.observe(&strata);
                strata
            }
        };
        for one in strata {
            self.ratio.add(&one);
            self.sum.add(&one);
        }
        self.most = self.most.max(self.log_worse());
    }

    /// What it is of.
    #[must_use]
    pub const fn metric(&self) -> Metric {
        self.metric
    }

    /// Whether it decides.
    #[must_use]
    pub const fn is_enforcing(&self) -> bool {
        self.enforcing
    }

    /// All that was compared.
    #[must_use]
    pub const fn sum(&self) -> &Stratum {
        &self.sum
    }

    /// How many times worse the candidate is.
    #[must_use]
    pub const fn ratio(&self) -> &Ratio {
        &self.ratio
    }

    /// The samples of the version that has fewer.
    #[must_use]
    pub const fn samples(&self) -> f64 {
        self.sum.candidate.min(self.sum.baseline)
    }

    /// The logarithm of the evidence that the candidate is worse.
    #[must_use]
    pub fn log_worse(&self) -> f64 {
        match &self.test {
            Test::Counts { worse, .. } => worse.log_evidence(),
            Test::Proportions(test) => test.log_worse(),
        }
    }

    /// The most of it that there has been.
    #[must_use]
    pub const fn most_log_worse(&self) -> f64 {
        self.most
    }

    /// The logarithm of the evidence that the candidate is not worse than is borne.
    #[must_use]
    pub fn log_better(&self) -> f64 {
        match &self.test {
            Test::Counts { better, .. } => better.log_evidence(),
            Test::Proportions(test) => test.log_better(),
        }
    }
}
