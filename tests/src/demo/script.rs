//! What the demo walks through.

use crate::identity::Version;

/// One step: the weights, and what they mean to whoever looks on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    /// In two words.
    pub(super) title: &'static str,
    /// What happens, in a sentence.
    pub(super) meaning: &'static str,
    /// The weights of blue, green and canary, in basis points.
    pub(super) weights: [u16; 3],
    /// How many quarters of the long-lived connections begin in this step.
    pub(super) opens: u32,
}

/// The walk. Long-lived connections begin on every version, so that each change, the rollback
/// included, is met by some that began on the version that loses weight.
pub(super) const STEPS: [Step; 6] = [
    Step {
        title: "blue 100%",
        meaning: "blue serves everything; the first long-lived connections begin",
        weights: [10_000, 0, 0],
        opens: 2,
    },
    Step {
        title: "canary 5%",
        meaning: "canary gets 5% of new connections; existing ones stay where they are",
        weights: [9_500, 0, 500],
        opens: 0,
    },
    Step {
        title: "canary 25%",
        meaning: "canary gets 25% of new connections; more long-lived ones begin, some on it",
        weights: [7_500, 0, 2_500],
        opens: 1,
    },
    Step {
        title: "roll back",
        meaning: "no new connection goes to canary; those that began there go on",
        weights: [10_000, 0, 0],
        opens: 0,
    },
    Step {
        title: "green 100%",
        meaning: "blue-green: every new connection goes to green; blue and canary keep theirs",
        weights: [0, 10_000, 0],
        opens: 1,
    },
    Step {
        title: "blue 100%",
        meaning: "and back: every new connection goes to blue; green keeps what it has",
        weights: [10_000, 0, 0],
        opens: 0,
    },
];

/// How many long-lived connections begin in each step, `total` in all.
pub(super) fn openings(total: u32) -> [u32; STEPS.len()] {
    let mut quarters = 0;
    STEPS.map(|step| {
        let before = total * quarters / 4;
        quarters += step.opens;
        total * quarters / 4 - before
    })
}

/// The changes that `weir shift` is to make: blue gives or takes the rest.
pub(super) fn changes(from: [u16; 3], to: [u16; 3]) -> Vec<String> {
    let named = Version::ALL.into_iter().zip(from.into_iter().zip(to)).skip(1);
    named
        .filter(|(_, (from, to))| from != to)
        .map(|(version, (_, to))| format!("{version}={}", percent(to)))
        .collect()
}

/// A weight in percent, with as many decimals as it needs: `5%`, `33.34%`.
pub(super) fn percent(basis_points: u16) -> String {
    let (whole, rest) = (basis_points / 100, basis_points % 100);
    match rest {
        0 => format!("{whole}%"),
        _ if rest % 10 == 0 => format!("{whole}.{}%", rest / 10),
        _ => format!("{whole}.{rest:02}%"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_add_up_and_all_connections_begin() {
        for step in STEPS {
            assert_eq!(step.weights.iter().sum::<u16>(), 10_000, "{step:?}");
        }
        for total in [1, 2, 3, 4, 199, 200, 10_000] {
            assert_eq!(openings(total).iter().sum::<u32>(), total);
        }
        assert_eq!(openings(200), [100, 0, 50, 0, 50, 0]);
    }

    #[test]
    fn a_shift_names_what_changes() {
        assert_eq!(changes([10_000, 0, 0], [9_500, 0, 500]), ["canary=5%"]);
        assert_eq!(changes([7_500, 0, 2_500], [10_000, 0, 0]), ["canary=0%"]);
        assert_eq!(changes([6_666, 0, 3_334], [0, 9_950, 50]), ["green=99.5%", "canary=0.5%"]);
    }
}
