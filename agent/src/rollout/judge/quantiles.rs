//! Handshake times as proportions.
//!
//! A handshake is slow if it takes longer than the quantile that the baseline had in the *previous*
//! ticks; for the candidate the same time is stretched by what is no reason to fail (`maxSlower` and
//! `slack`). The line is drawn before the handshakes are counted, so where it lies decides how much is
//! seen, and never whether what is seen is true.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use weir_ebpf::latency::{self, BUCKETS};

use super::stratum::Stratum;
use super::tick::{Arm, Tick, number};
use crate::model::Handshakes;

/// With so many handshakes, all are halved: what is old counts less.
const MOST: f64 = 20_000.0;
/// So many of them must lie above the quantile.
const ABOVE: f64 = 10.0;

/// The handshakes of an agent's baseline so far.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Past {
    /// By bucket; those without any are left out.
    buckets: BTreeMap<u16, f64>,
}

impl Past {
    /// Adds the handshakes of a tick.
    pub fn add(&mut self, handshakes: &Handshakes) {
        for (bucket, count) in (0..).zip(handshakes.buckets()) {
            if *count > 0 {
                *self.buckets.entry(bucket).or_default() += number(*count);
            }
        }
        let total: f64 = self.buckets.values().sum();
        if total > MOST {
            let scale = 0.5 * MOST / total;
            self.buckets.values_mut().for_each(|count| *count *= scale);
            self.buckets.retain(|_, count| *count >= 0.01);
        }
    }

    /// The time that a share `q` of them did not reach: the end of a bucket. Nothing as long as there
    /// are too few.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        let total: f64 = self.buckets.values().sum();
        if total * (1.0 - q) < ABOVE {
            return None;
        }
        let mut seen = 0.0;
        let at = self.buckets.iter().find(|(_, count)| {
            seen += **count;
            seen >= total * q
        });
        at.map(|(bucket, _)| Duration::from_nanos(latency::lower_bound(usize::from(*bucket) + 1)))
    }
}

/// From when on a handshake is slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// Of the baseline.
    pub baseline: Duration,
    /// Of the candidate.
    pub candidate: Duration,
}

impl Line {
    /// The line at the quantile `q`, stretched for the candidate; nothing as long as the baseline had
    /// too few handshakes.
    #[must_use]
    pub fn draw(past: &Past, q: f64, max_slower: f64, slack: Duration) -> Option<Self> {
        let baseline = past.quantile(q)?;
        let stretched = Duration::try_from_secs_f64(baseline.as_secs_f64() * max_slower);
        let candidate = stretched.ok()?.max(baseline.saturating_add(slack));
        Some(Self { baseline, candidate })
    }

    /// The handshakes of a tick, and the slow ones.
    #[must_use]
    pub fn split(&self, tick: &Tick) -> Stratum {
        let (candidate, candidate_failed) = above(&tick.candidate, self.candidate);
        let (baseline, baseline_failed) = above(&tick.baseline, self.baseline);
        Stratum { candidate, candidate_failed, baseline, baseline_failed }
    }
}

/// All handshakes, and those that are in buckets that begin at or after `line`.
fn above(arm: &Arm, line: Duration) -> (f64, f64) {
    let line = u64::try_from(line.as_nanos()).unwrap_or(u64::MAX);
    // What takes longer than all buckets is in the last one.
    let first = (0..BUCKETS).position(|bucket| latency::lower_bound(bucket) >= line);
    let sum = |counts: &[u64]| counts.iter().copied().map(number).sum::<f64>();
    let buckets = arm.handshakes.buckets();
    let slow = first.and_then(|first| buckets.get(first..)).map_or(0.0, sum);
    (sum(buckets), slow)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;

    const NO_SLACK: Duration = Duration::ZERO;

    /// Handshakes that took so many milliseconds, `count` of each.
    fn of(times: &[u64], count: u64) -> Handshakes {
        let mut buckets = vec![0; BUCKETS];
        for time in times {
            buckets[latency::bucket(time * 1_000_000)] += count;
        }
        Handshakes::new(buckets, Duration::ZERO)
    }

    fn past(handshakes: &Handshakes) -> Past {
        let mut past = Past::default();
        past.add(handshakes);
        past
    }

    #[test]
    fn the_line_lies_at_the_quantile() {
        let past = past(&of(&(1..=100).collect::<Vec<_>>(), 20));
        let median = past.quantile(0.5).unwrap();
        assert!((50..60).contains(&median.as_millis()), "{median:?}");
        let line = Line::draw(&past, 0.5, 1.0, NO_SLACK).unwrap();
        assert_eq!(line.baseline, line.candidate);
        let line = Line::draw(&past, 0.5, 2.0, NO_SLACK).unwrap();
        assert_eq!(line.candidate, line.baseline * 2);
        let line = Line::draw(&past, 0.5, 1.0, Duration::from_millis(7)).unwrap();
        assert_eq!(line.candidate, line.baseline + Duration::from_millis(7));
    }

    #[test]
    fn too_few_draw_no_line() {
        assert_eq!(Past::default().quantile(0.5), None);
        let few = past(&of(&[1, 2, 3, 4], 100));
        assert!(few.quantile(0.5).is_some() && few.quantile(0.99).is_none());
    }

    #[test]
    fn slow_ones_are_those_beyond_the_line() {
        let line = Line::draw(&past(&of(&[1, 9], 500)), 0.5, 1.25, NO_SLACK).unwrap();
        let arm = |times: &[u64]| Arm { handshakes: of(times, 10), ..Arm::default() };
        let tick = Tick { candidate: arm(&[1, 2, 9]), baseline: arm(&[1, 9]), ..Tick::default() };
        let stratum = line.split(&tick);
        assert_eq!((stratum.candidate, stratum.candidate_failed), (30.0, 20.0));
        assert_eq!((stratum.baseline, stratum.baseline_failed), (20.0, 10.0));
    }

    #[test]
    fn what_is_old_is_forgotten() {
        let mut past = past(&of(&[1], 1_000_000));
        for _ in 0..30 {
            past.add(&of(&[40], 10_000));
        }
        assert!(past.quantile(0.5).unwrap() > Duration::from_millis(39));
        let total: f64 = past.buckets.values().sum();
        assert!(total <= MOST);
    }

    #[test]
    fn buckets_of_any_size_stay_numbers() {
        let huge = Handshakes::new(vec![u64::MAX; BUCKETS], Duration::MAX);
        let past = past(&huge);
        let line = Line::draw(&past, 0.99, 100.0, Duration::MAX).unwrap();
        let arm = Arm { handshakes: huge, ..Arm::default() };
        let split = line.split(&Tick { candidate: arm.clone(), baseline: arm, ..Tick::default() });
        assert!(split.candidate.is_finite() && split.candidate_failed <= split.candidate);
    }
}
