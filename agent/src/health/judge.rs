//! From the results of checks to up and down. Pure: time is what the caller says.
//!
//! So many bad results in a row (`fall`) make a backend that is up down, so many good ones (`rise`) bring
//! it back. A backend that flaps must stay well for longer: with the third fall within [`MEMORY`],
//! `rise` doubles, and so with each further one, up to [`MOST`] times. Going down is never delayed.

use std::collections::VecDeque;
use std::time::Duration;

/// For how long a change is held against a backend.
pub const MEMORY: Duration = Duration::from_secs(600);
/// Changes within [`MEMORY`] that do not yet count as flapping.
pub const FREE: usize = 3;
/// The most times that a backend must be well for longer.
pub const MOST: u32 = 32;

/// Changes that are worth to be known: more make no difference.
const KNOWN: usize = FREE + 2 * MOST.trailing_zeros() as usize;

/// Up or down, and what speaks against it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judge {
    up: bool,
    /// Results in a row that speak against it.
    against: u32,
    /// When it changed last, the latest at the end.
    changes: VecDeque<Duration>,
}

impl Judge {
    /// Begins with a backend that is up, or down.
    #[must_use]
    pub fn new(up: bool) -> Self {
        Self { up, against: 0, changes: VecDeque::new() }
    }

    /// Whether the backend is up.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.up
    }

    /// Results in a row that speak against what it is.
    #[must_use]
    pub fn against(&self) -> u32 {
        self.against
    }

    /// How many results in a row it takes now until it is no longer what it is.
    #[must_use]
    pub fn needed(&self, now: Duration, rise: u8, fall: u8) -> u32 {
        if self.up { u32::from(fall) } else { u32::from(rise) * self.times(now) }
    }

    /// Takes a result, and says whether the backend has changed. `now` never goes back.
    pub fn hear(&mut self, well: bool, now: Duration, rise: u8, fall: u8) -> bool {
        if well == self.up {
            self.against = 0;
            return false;
        }
        self.against += 1;
        if self.against < self.needed(now, rise, fall) {
            return false;
        }
        self.up = well;
        self.against = 0;
        if self.changes.len() == KNOWN {
            self.changes.pop_front();
        }
        self.changes.push_back(now);
        true
    }

    /// Begins to count anew, for what is asked of the backend is something else now.
    pub fn restart(&mut self) {
        self.against = 0;
    }

    /// By how much longer it must be well.
    fn times(&self, now: Duration) -> u32 {
        let lately = |at: &&Duration| now.saturating_sub(**at) < MEMORY;
        let changes = self.changes.iter().filter(lately).count();
        // A fall and a rise are one flap. While it is down, the last change was a fall.
        let flaps = changes.saturating_sub(FREE).div_ceil(2).min(MOST.trailing_zeros() as usize);
        1 << flaps
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The rules, written down as slowly as they read: all results so far, from the first.
    fn slow(results: &[(Duration, bool)], rise: usize, fall: usize) -> bool {
        let mut up = true;
        let mut changes: Vec<Duration> = Vec::new();
        let mut since = 0;
        for i in 0..results.len() {
            let now = results[i].0;
            let row = results[since..=i].iter().rev().take_while(|(_, well)| *well != up).count();
            let lately = changes.iter().filter(|at| now < **at + MEMORY).count();
            let times = match lately {
                0..=3 => 1,
                4 | 5 => 2,
                6 | 7 => 4,
                8 | 9 => 8,
                10 | 11 => 16,
                _ => 32,
            };
            let needed = if up { fall } else { rise * times };
            if row >= needed {
                up = !up;
                changes.push(now);
                since = i + 1;
            }
        }
        up
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn it_judges_as_the_slow_model(
            runs in prop::collection::vec((any::<bool>(), 1..80_usize, 1..40_u64), 1..60),
            rise in 1..=4_u8,
            fall in 1..=4_u8,
        ) {
            let mut judge = Judge::new(true);
            let mut results = Vec::new();
            let mut now = Duration::ZERO;
            for (well, times, pause) in runs {
                for _ in 0..times {
                    now += Duration::from_secs(pause);
                    results.push((now, well));
                    let before = judge.is_up();
                    let changed = judge.hear(well, now, rise, fall);
                    prop_assert_eq!(changed, judge.is_up() != before);
                }
                prop_assert_eq!(judge.is_up(), slow(&results, rise.into(), fall.into()));
            }
        }

        /// Whatever was before: so many bad results in a row, and it is down.
        #[test]
        fn going_down_is_never_damped(
            results in prop::collection::vec(any::<bool>(), 0..400),
            fall in 1..=5_u8,
        ) {
            let mut judge = Judge::new(true);
            let mut now = Duration::ZERO;
            for well in results.into_iter().chain(vec![false; fall.into()]) {
                now += Duration::from_secs(2);
                judge.hear(well, now, 1, fall);
            }
            prop_assert!(!judge.is_up());
        }

        /// Whatever was before: it comes back in bounded time.
        #[test]
        fn coming_back_takes_bounded_time(
            results in prop::collection::vec(any::<bool>(), 0..400),
            rise in 1..=5_u8,
        ) {
            let mut judge = Judge::new(true);
            let mut now = Duration::ZERO;
            let well = vec![true; usize::from(rise) * MOST as usize];
            for well in results.into_iter().chain(well) {
                now += Duration::from_millis(500);
                judge.hear(well, now, rise, 1);
            }
            prop_assert!(judge.is_up());
        }
    }

    /// How many good results each return takes of a backend that dies at once after each.
    fn returns(number: usize, interval: u64) -> Vec<u32> {
        let mut judge = Judge::new(true);
        let mut now = Duration::ZERO;
        let mut next = || {
            now += Duration::from_secs(interval);
            now
        };
        (0..number)
            .map(|_| {
                while !judge.hear(false, next(), 2, 3) {}
                let mut taken = 1;
                while !judge.hear(true, next(), 2, 3) {
                    taken += 1;
                }
                taken
            })
            .collect()
    }

    #[test]
    fn one_that_flaps_must_stay_well_for_longer_each_time() {
        assert_eq!(returns(8, 1), [2, 2, 4, 8, 16, 32, 64, 64]);
        assert_eq!(returns(8, 300), [2; 8], "what is slow does not flap");
    }

    #[test]
    fn it_is_forgiven_in_time() {
        let mut judge = Judge::new(false);
        judge.changes = (0..9).map(Duration::from_secs).collect();
        assert_eq!(judge.needed(Duration::from_secs(10), 2, 3), 16);
        assert_eq!(judge.needed(Duration::from_secs(606), 2, 3), 2);
    }
}
