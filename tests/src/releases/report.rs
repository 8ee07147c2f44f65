//! How often a rule rolls back a good release, and how soon it finds a bad one.

use std::fmt;

use super::rules::{Make, RULES, Rule, Settings};
use super::scenarios::{self, WATCHED};
use super::world::{Fault, Release, chance};

/// The faults of the table, and the load in connections a second.
pub const FAULTS: [(&str, f64, Fault); 8] = [
    ("refusing", 2_000.0, Fault::Refusing),
    ("silent", 2_000.0, Fault::Silent),
    ("5 times", 2_000.0, Fault::Failing(5.0)),
    ("2 times", 2_000.0, Fault::Failing(2.0)),
    ("resets x5", 2_000.0, Fault::Resetting(5.0)),
    ("3% slow", 2_000.0, Fault::Slow(0.03)),
    ("5x, 20/s", 20.0, Fault::Failing(5.0)),
    ("all, 20/s", 20.0, Fault::Refusing),
];

/// What is measured, and how much of it.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Good releases.
    pub good: u64,
    /// Seconds in a tick of a good release; those with a fault are looked at each second.
    pub tick: f64,
    /// Bad releases of each kind.
    pub bad: u64,
}

/// One rule.
#[derive(Debug, Clone)]
pub struct Row {
    /// Which.
    pub rule: &'static str,
    /// Good releases that it rolled back.
    pub false_rollbacks: u64,
    /// Of each fault: the seconds until it was found, by release, in order; infinite if it was not.
    pub found: Vec<Vec<f64>>,
}

/// All rules.
#[derive(Debug, Clone)]
pub struct Report {
    /// What was measured.
    pub plan: Plan,
    /// By rule.
    pub rows: Vec<Row>,
}

/// The second at which a rule rolls a release back, if it does within the time that is watched.
pub fn rolled_back(release: &Release, rule: &mut dyn Rule, seed: u64) -> Option<f64> {
    let mut chance = chance(seed);
    let mut second = 0.0;
    while second < release.fault_from + WATCHED {
        let ticks = release.ticks(second, &mut chance);
        second += release.tick;
        if rule.rolls_back(&ticks) {
            return Some(second);
        }
    }
    None
}

/// When a rule rolls back each of so many releases with the same fault, in order; infinite where it
/// does not.
pub fn times(release: &Release, count: u64, rule: Make) -> Vec<f64> {
    let settings = Settings { tick: release.tick, by_client: release.by_client };
    let time = |seed| {
        let found = rolled_back(release, rule(&settings).as_mut(), seed);
        found.map_or(f64::INFINITY, |second| second - release.fault_from)
    };
    let mut times: Vec<f64> = (0..count).map(time).collect();
    times.sort_by(f64::total_cmp);
    times
}

/// The time by which a share `q` was found.
#[must_use]
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "some hundred releases"
)]
pub fn quantile(times: &[f64], q: f64) -> f64 {
    let at = (times.len() as f64 * q).ceil() as usize;
    times.get(at.saturating_sub(1)).copied().unwrap_or(f64::INFINITY)
}

/// How many good releases a rule rolls back.
pub fn false_rollbacks(plan: &Plan, rule: Make) -> u64 {
    let rolled = |number: &u64| {
        let release = scenarios::good(*number, plan.tick);
        let settings = Settings { tick: plan.tick, by_client: release.by_client };
        rolled_back(&release, rule(&settings).as_mut(), *number).is_some()
    };
    (0..plan.good).filter(rolled).map(|_| 1).sum()
}

/// Measures all rules, and tells of each as it is done.
pub fn measure(plan: Plan, progress: &dyn Fn(&str)) -> Report {
    let rows = RULES.map(|(name, rule)| {
        let false_rollbacks = false_rollbacks(&plan, rule);
        progress(&format!("{name}: {false_rollbacks} of {} good releases rolled back", plan.good));
        let found = FAULTS.map(|(fault, rate, what)| {
            let times = times(&scenarios::faulty(rate, what), plan.bad, rule);
            progress(&format!("{name}: {fault} found after {}", seconds(&times)));
            times
        });
        Row { rule: name, false_rollbacks, found: found.to_vec() }
    });
    Report { plan, rows: rows.to_vec() }
}

/// The median, and what share was found if it was not nearly all.
fn seconds(times: &[f64]) -> String {
    let found = times.iter().filter(|time| time.is_finite()).count();
    let median = quantile(times, 0.5);
    let text = if median.is_finite() { format!("{median:.0} s") } else { "-".to_owned() };
    if found * 100 >= times.len() * 99 {
        text
    } else {
        format!("{text} ({}%)", found * 100 / times.len())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = RULES.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
        write!(f, "{:first$}  {:>14}", "", "good, undone")?;
        for (fault, ..) in FAULTS {
            write!(f, "  {fault:>11}")?;
        }
        for row in &self.rows {
            let of_good = format!("{} of {}", row.false_rollbacks, self.plan.good);
            write!(f, "\n{:first$}  {of_good:>14}", row.rule)?;
            for times in &row.found {
                write!(f, "  {:>11}", seconds(times))?;
            }
        }
        writeln!(f)
    }
}
