//! The judge, and what others use instead.

use std::collections::VecDeque;

use weir::model::Traffic;
use weir::rollout::judge::{Config, Judge, Metric, Tick};

/// Who decides, tick by tick, whether to roll back.
pub trait Rule {
    /// Takes what all agents counted in a tick, and says whether to roll back.
    fn rolls_back(&mut self, ticks: &[Tick]) -> bool;
}

/// Makes a rule for a release.
pub type Make = fn(&Settings) -> Box<dyn Rule>;

/// The judge, as it is.
pub const WEIR: (&str, Make) =
    ("weir, alpha 1%", |settings| Box::new(Weir::new(settings.config())));
/// Its test on sums over agents and ticks.
pub const SUMS: (&str, Make) =
    ("its test on sums", |settings| Box::new(Sums(Weir::new(settings.counts()), Tick::default())));
/// A test that is right for one look.
pub const Z_TEST: (&str, Make) =
    ("z-test at each look, p < 0.05", |_| Box::new(Repeated::new(1.959_964)));

/// Those that are compared, in the order of the table.
pub const RULES: [(&str, Make); 7] = [
    WEIR,
    ("its test, each failure counted", |settings| {
        Box::new(Told(Weir::new(settings.config()), |traffic| traffic.failing_clients = u64::MAX))
    }),
    ("its test, each client counted once", |settings| {
        Box::new(Told(Weir::new(settings.config()), |traffic| {
            let failed = traffic.refused + traffic.unanswered;
            (traffic.refused, traffic.unanswered) = (failed.min(traffic.failing_clients), 0);
        }))
    }),
    SUMS,
    Z_TEST,
    ("z-test at each look, p < 0.001", |_| Box::new(Repeated::new(3.290_527))),
    ("success < 99% in a minute, 5 times", |settings| Box::new(Threshold::new(settings.tick))),
];

/// What rules must know of a release.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Seconds in a tick.
    pub tick: f64,
    /// Whether a client's connections stay together.
    pub by_client: bool,
}

impl Settings {
    /// Without tolerance: whatever is worse at all is worse. A good release is then as hard to tell from
    /// a bad one as it can be.
    #[must_use]
    pub fn config(&self) -> Config {
        Config {
            max_slower: 1.0,
            slack: std::time::Duration::ZERO,
            sample_ratio: !self.by_client,
            ..Config::default()
        }
    }

    fn counts(&self) -> Config {
        Config { metrics: vec![Metric::ConnectSuccess], ..self.config() }
    }
}

/// The judge.
pub struct Weir {
    judge: Judge,
}

impl Weir {
    /// Begins without evidence.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self { judge: Judge::new(config) }
    }
}

impl Rule for Weir {
    fn rolls_back(&mut self, ticks: &[Tick]) -> bool {
        self.judge.observe(ticks);
        // By evidence alone: that a guard would have stopped it before is no merit of the test.
        let bound = self.judge.config().bound().ln();
        self.judge.strongest().is_some_and(|one| one.most_log_worse() >= bound)
    }
}

/// The judge, told of failures in one way only.
struct Told(Weir, fn(&mut Traffic));

impl Rule for Told {
    fn rolls_back(&mut self, ticks: &[Tick]) -> bool {
        let mut ticks = ticks.to_vec();
        for tick in &mut ticks {
            (self.1)(&mut tick.candidate.traffic);
            (self.1)(&mut tick.baseline.traffic);
        }
        self.0.rolls_back(&ticks)
    }
}

/// The judge, given sums over agents and ticks: no strata.
struct Sums(Weir, Tick);

impl Rule for Sums {
    fn rolls_back(&mut self, ticks: &[Tick]) -> bool {
        for tick in ticks {
            self.1.candidate.traffic.add(&tick.candidate.traffic);
            self.1.baseline.traffic.add(&tick.baseline.traffic);
        }
        let config = self.0.judge.config().clone();
        self.0 = Weir::new(config);
        self.0.rolls_back(std::slice::from_ref(&self.1))
    }
}

/// Connections that ended, and those that failed, of the candidate and of the baseline.
#[derive(Default, Clone, Copy)]
struct Sum {
    ended: [f64; 2],
    failed: [f64; 2],
}

impl Sum {
    #[allow(clippy::cast_precision_loss, reason = "counts of half an hour")]
    fn add(&mut self, ticks: &[Tick]) {
        for tick in ticks {
            for (at, arm) in [&tick.candidate, &tick.baseline].into_iter().enumerate() {
                let failed = arm.traffic.refused + arm.traffic.unanswered;
                self.failed[at] += failed as f64;
                self.ended[at] += (failed + arm.traffic.established) as f64;
            }
        }
    }
}

/// A test of two proportions that is right for one look, looked at in each tick.
struct Repeated {
    sum: Sum,
    z: f64,
}

impl Repeated {
    fn new(z: f64) -> Self {
        Self { sum: Sum::default(), z }
    }
}

impl Rule for Repeated {
    fn rolls_back(&mut self, ticks: &[Tick]) -> bool {
        self.sum.add(ticks);
        let ([n_c, n_b], [f_c, f_b]) = (self.sum.ended, self.sum.failed);
        // So many that the test itself is right.
        if f_c + f_b < 5.0 || n_c < 30.0 || n_b < 30.0 {
            return false;
        }
        let both = (f_c + f_b) / (n_c + n_b);
        let deviation = (both * (1.0 - both) * (1.0 / n_c + 1.0 / n_b)).sqrt();
        deviation > 0.0 && (f_c / n_c - f_b / n_b) / deviation > self.z
    }
}

/// A limit for the candidate alone, held against each minute; after five minutes in a row it is enough.
struct Threshold {
    minute: Sum,
    seconds: f64,
    tick: f64,
    failed: VecDeque<bool>,
}

impl Threshold {
    fn new(tick: f64) -> Self {
        Self { minute: Sum::default(), seconds: 0.0, tick, failed: VecDeque::new() }
    }
}

impl Rule for Threshold {
    fn rolls_back(&mut self, ticks: &[Tick]) -> bool {
        self.minute.add(ticks);
        self.seconds += self.tick;
        if self.seconds >= 60.0 {
            let minute = std::mem::take(&mut self.minute);
            self.seconds = 0.0;
            self.failed.push_back(minute.failed[0] > 0.01 * minute.ended[0]);
            self.failed.truncate(5);
            if self.failed.iter().filter(|failed| **failed).count() == 5 {
                return true;
            }
            if self.failed.back() == Some(&false) {
                self.failed.clear();
            }
        }
        false
    }
}
