//! How many slots a shift moves, as a multiple of the least that any layout would have to.

use anyhow::Result;
use serde::Serialize;
use weir::model::Version;
use weir::node::messages::Change;

use crate::bench::caller::Caller;
use crate::bench::crowd::Crowd;
use crate::random::Random;

/// Moved slots over the least possible.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Moves {
    /// Shifts.
    pub shifts: u32,
    /// Slots that moved, by those that had to.
    pub mean: f64,
    /// Of the worst shift.
    pub most: f64,
}

/// What is measured: shifts between two versions, and any.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct MoveReport {
    /// Between blue and one other, as rollouts make them.
    pub between_two: Moves,
    /// Of all three at random.
    pub of_three: Moves,
}

/// Makes so many random shifts of each kind.
pub(super) fn measure(caller: &mut Caller, crowd: Crowd, shifts: u32) -> Result<MoveReport> {
    let mut random = Random(7);
    let mut below = |limit: u64| u16::try_from(random.word() % limit).unwrap_or(0);
    let mut weights = |three: bool| {
        let canary = below(10_001);
        let green = if three { below(u64::from(10_001 - canary)) } else { 0 };
        [10_000 - canary - green, green, canary]
    };
    let names = crowd.names()?;
    let mut slots = [0; 3];
    let mut walk = |three| -> Result<Moves> {
        let mut all = Vec::new();
        for turn in 0..=shifts {
            let changed = caller.shift(&names[..1], weights(three))?;
            let [change] = changed.changes.as_slice() else { continue };
            let after = Version::ALL.map(|version| change.versions[version].table.slots);
            // The first only tells where the walk begins.
            if turn > 0 {
                all.push((moved(change), least(slots, after)));
            }
            slots = after;
        }
        Ok(summary(&all))
    };
    Ok(MoveReport { between_two: walk(false)?, of_three: walk(true)? })
}

fn moved(change: &Change) -> u32 {
    change.moves.iter().map(|one| one.slots).sum()
}

/// Slots that versions gain: each of them must come from another version.
fn least(before: [u32; 3], after: [u32; 3]) -> u32 {
    before.iter().zip(after).map(|(before, after)| after.saturating_sub(*before)).sum()
}

fn summary(all: &[(u32, u32)]) -> Moves {
    let ratios = all.iter().filter(|(_, least)| *least > 0);
    let most = ratios.clone().map(|(moved, least)| f64::from(*moved) / f64::from(*least));
    let (moved, least) = ratios.fold((0.0, 0.0), |(moved, least), one| {
        (moved + f64::from(one.0), least + f64::from(one.1))
    });
    Moves {
        shifts: u32::try_from(all.len()).unwrap_or(u32::MAX),
        mean: moved / least,
        most: most.fold(0.0, f64::max),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_is_what_versions_gain() {
        assert_eq!(least([100, 0, 0], [60, 10, 30]), 40);
        assert_eq!(least([60, 10, 30], [60, 30, 10]), 20);
        let summary = summary(&[(40, 40), (60, 20), (0, 0)]);
        assert_eq!((summary.shifts, summary.mean, summary.most), (3, 100.0 / 60.0, 3.0));
    }
}
