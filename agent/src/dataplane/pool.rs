//! Room for tables in the pool: which runs of lines are free. Pure.

use std::collections::BTreeMap;
use std::ops::Range;

/// A first-fit allocator of runs of lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    size: u32,
    /// Free runs: where each begins, and its length. No two of them touch.
    free: BTreeMap<u32, u32>,
}

impl Pool {
    /// A pool of `size` lines, all free.
    #[must_use]
    pub fn new(size: u32) -> Self {
        Self { size, free: BTreeMap::from([(0, size)]) }
    }

    /// Lines in the pool.
    #[must_use]
    pub fn size(&self) -> u32 {
        self.size
    }

    /// Lines in use.
    #[must_use]
    pub fn used(&self) -> u32 {
        self.size - self.free.values().sum::<u32>()
    }

    /// Takes a run of `length` lines, or nothing when no free run is long enough.
    pub fn take(&mut self, length: u32) -> Option<Range<u32>> {
        let (&start, &room) = self.free.iter().find(|(_, room)| **room >= length)?;
        self.free.remove(&start);
        if room > length {
            self.free.insert(start + length, room - length);
        }
        Some(start..start + length)
    }

    /// Takes just this run. Says whether all of it was free; if not, nothing is taken.
    pub fn claim(&mut self, run: &Range<u32>) -> bool {
        let Some((&start, &room)) = self.free.range(..=run.start).next_back() else { return false };
        if run.end > start + room {
            return false;
        }
        self.free.remove(&start);
        if run.start > start {
            self.free.insert(start, run.start - start);
        }
        if run.end < start + room {
            self.free.insert(run.end, start + room - run.end);
        }
        true
    }

    /// Gives a run back that [`take`](Self::take) gave out.
    pub fn give_back(&mut self, run: Range<u32>) {
        let (mut start, mut end) = (run.start, run.end);
        if let Some((&before, &length)) = self.free.range(..start).next_back()
            && before + length == start
        {
            self.free.remove(&before);
            start = before;
        }
        if let Some(length) = self.free.remove(&end) {
            end += length;
        }
        if end > start {
            self.free.insert(start, end - start);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_claim_takes_what_is_free_and_only_that() {
        let mut pool = Pool::new(100);
        assert!(pool.claim(&(10..20)));
        assert!(pool.claim(&(0..10)));
        assert!(pool.claim(&(90..100)));
        assert!(!pool.claim(&(19..21)));
        assert!(!pool.claim(&(85..91)));
        assert!(!pool.claim(&(95..101)));
        assert_eq!(pool.used(), 30);
        for run in [10..20, 0..10, 90..100] {
            pool.give_back(run);
        }
        assert_eq!(pool, Pool::new(100));
    }

    proptest! {
        /// Runs never overlap, and when all are given back the pool is whole again.
        #[test]
        fn runs_are_disjoint_and_come_back(steps in prop::collection::vec((1_u32..40, any::<bool>()), 1..200)) {
            let mut pool = Pool::new(512);
            let mut taken: Vec<Range<u32>> = Vec::new();
            for (length, give) in steps {
                if give && !taken.is_empty() {
                    let run = taken.swap_remove(length as usize % taken.len());
                    pool.give_back(run);
                } else if let Some(run) = pool.take(length) {
                    prop_assert!(run.end <= 512);
                    for other in &taken {
                        prop_assert!(run.end <= other.start || other.end <= run.start);
                    }
                    taken.push(run);
                }
                prop_assert_eq!(pool.used(), taken.iter().map(|run| run.end - run.start).sum::<u32>());
            }
            for run in taken {
                pool.give_back(run);
            }
            prop_assert_eq!(pool, Pool::new(512));
        }
    }
}
