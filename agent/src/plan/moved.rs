//! When the slots of a service moved last, and which may settle by that.
//!
//! Each slot of the version table has a time of its own, so that a shift every few minutes keeps in
//! transition only what it moves. A backend table has one for all its slots: what moves these is a
//! change of backends, which is rare and concerns most of them. Where a service has steering
//! entries, version slots and entries have one time for all, as [`super::steering`] says.

use std::ops::Range;

use weir_ebpf::abi::{VERSION_SLOTS, VERSIONS, VersionSlot};

use super::settle::{SlotRef, settle};
use super::steering::Steering;
use super::tables::ServiceTables;
use super::transition::Moves;

/// A time for each slot, by runs of slots that have the same: shifts move edges, so there are few.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Runs(Vec<Run>);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Run {
    /// The first slot behind it.
    end: usize,
    time: u32,
}

impl Runs {
    fn all(slots: usize, time: u32) -> Self {
        Self(vec![Run { end: slots, time }])
    }

    fn at(&self, slot: usize) -> u32 {
        let before = self.0.partition_point(|run| run.end <= slot);
        self.0.get(before).map_or(0, |run| run.time)
    }

    fn set(&mut self, range: &Range<usize>, time: u32) {
        let (mut runs, mut start) = (Self::default(), 0);
        for run in &self.0 {
            runs.push(start..run.end.min(range.start), run.time);
            runs.push(start.max(range.start)..run.end.min(range.end), time);
            runs.push(start.max(range.end)..run.end, run.time);
            start = run.end;
        }
        *self = runs;
    }

    fn push(&mut self, range: Range<usize>, time: u32) {
        match self.0.last_mut() {
            _ if range.is_empty() => {}
            Some(last) if last.time == time => last.end = range.end,
            _ => self.0.push(Run { end: range.end, time }),
        }
    }
}

/// The slots whose new flows go elsewhere.
fn ranges(before: &[VersionSlot], after: &[VersionSlot]) -> Vec<Range<usize>> {
    /// So many are looked at together.
    const PIECE: usize = 128;
    let mut ranges: Vec<Range<usize>> = Vec::new();
    let mut add = |range: Range<usize>| match ranges.last_mut() {
        Some(last) if last.end == range.start => last.end = range.end,
        _ => ranges.push(range),
    };
    let stays = |(old, new): (&VersionSlot, &VersionSlot)| old.cur() == new.cur();
    for (piece, (old, new)) in before.chunks(PIECE).zip(after.chunks(PIECE)).enumerate() {
        let pairs = || old.iter().zip(new);
        let start = piece * PIECE;
        if pairs().fold(true, |all, pair| all & stays(pair)) {
            continue;
        }
        if pairs().fold(true, |all, pair| all & !stays(pair)) {
            add(start..start + old.len());
            continue;
        }
        pairs().zip(start..).filter(|(pair, _)| !stays(*pair)).for_each(|(_, at)| add(at..at + 1));
    }
    ranges
}

/// When slots moved last, by a clock of the caller's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Moved {
    versions: Runs,
    backends: [u32; VERSIONS],
    /// Any version slot or steering entry.
    last: u32,
    steering: u32,
}

impl Moved {
    /// As if everything had moved now.
    #[must_use]
    pub fn all(now: u32) -> Self {
        Self {
            versions: Runs::all(VERSION_SLOTS as usize, now),
            backends: [now; VERSIONS],
            last: now,
            steering: now,
        }
    }

    /// Takes note of a transition.
    pub fn note(&mut self, before: &ServiceTables, after: &ServiceTables, moves: &Moves, now: u32) {
        if moves.versions.iter().flatten().any(|moved| *moved > 0) {
            for range in ranges(before.versions(), after.versions()) {
                self.versions.set(&range, now);
            }
            self.last = now;
        }
        for (at, within) in self.backends.iter_mut().zip(&moves.backends) {
            if within.moved > 0 {
                *at = now;
            }
        }
        if moves.steered > 0 {
            (self.steering, self.last) = (now, now);
        }
    }

    /// What a slot waits for before it settles: the last move that counts for it. `steering` are
    /// the entries of its service.
    #[must_use]
    pub fn since(&self, steering: &Steering, slot: SlotRef) -> u32 {
        match slot {
            SlotRef::Version(_) if !steering.entries().is_empty() => self.last,
            // Entries that went not long ago had a say in where flows of any slot began.
            SlotRef::Version(slot) => self.versions.at(slot).max(self.steering),
            SlotRef::Backend { version, .. } => self.backends[version],
        }
    }

    /// What steering entries wait for.
    #[must_use]
    pub fn since_steering(&self) -> u32 {
        self.last
    }

    /// The last move of all.
    #[must_use]
    pub fn newest(&self) -> u32 {
        self.backends.iter().fold(self.last, |newest, at| newest.max(*at))
    }

    /// The first half of the end of a transition, for all that has not moved for as long as
    /// `quiet` says. Says whether anything changed.
    pub fn settle(
        &self,
        tables: &mut ServiceTables,
        steering: &mut Steering,
        quiet: &dyn Fn(u32) -> bool,
    ) -> bool {
        let slots = settle(tables, &|slot| quiet(self.since(steering, slot)));
        slots | (quiet(self.last) && steering.settle())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SLOTS: usize = VERSION_SLOTS as usize;

    proptest! {
        #[test]
        fn runs_say_what_a_time_for_each_slot_says(
            sets in prop::collection::vec((0..=SLOTS, 0..=SLOTS, 1..5_u32), 0..20),
        ) {
            let (mut runs, mut model) = (Runs::all(SLOTS, 0), vec![0; SLOTS]);
            for (one, other, time) in sets {
                let range = one.min(other)..one.max(other);
                runs.set(&range, time);
                model[range].fill(time);
            }
            let said: Vec<u32> = (0..SLOTS).map(|slot| runs.at(slot)).collect();
            prop_assert_eq!(said, model);
            prop_assert!(runs.0.windows(2).all(|two| two[0].time != two[1].time));
        }

        #[test]
        fn ranges_are_the_slots_that_moved(
            edges in prop::collection::vec((0..=SLOTS, 0..=SLOTS, 0..3_u8), 0..6),
            tracked in any::<bool>(),
        ) {
            let before = vec![VersionSlot::new(0, 0, false); SLOTS];
            let mut after = before.clone();
            for (one, other, version) in edges {
                let range = one.min(other)..one.max(other);
                after[range].fill(VersionSlot::new(version, 0, tracked));
            }
            let mut moved = vec![false; SLOTS];
            let mut end = None;
            for range in ranges(&before, &after) {
                prop_assert!(end.is_none_or(|end| end < range.start) && !range.is_empty());
                end = Some(range.end);
                moved[range].fill(true);
            }
            let model: Vec<bool> = after.iter().map(|slot| slot.cur() != 0).collect();
            prop_assert_eq!(moved, model);
        }
    }
}
