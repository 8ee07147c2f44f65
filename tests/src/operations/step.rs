//! What happens to a node and its clients, as data.

use crate::random::Random;

/// One thing that happens. Backends are named by their number, which goes on from case to case:
/// the number is taken modulo how many there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// So many flows begin.
    Open(u16),
    /// So many flows speak, those that were silent for longest first.
    Speak(u16),
    /// So many flows end: by FIN, by RST, or without a word.
    End(u16),
    /// So many seconds pass, and the agent goes its rounds.
    Wait(u32),
    /// The weights of blue, green and canary, in basis points.
    Shift([u16; 3]),
    /// The same, and the connections of versions that are left without weight are given up.
    Abandon([u16; 3]),
    /// A backend is made active (0), draining (1) or down (2) by hand, whatever that leaves.
    ByHand(u16, u8),
    /// The checks find a backend dead.
    Die(u16),
    /// The checks find that a backend is well.
    Return(u16),
    /// Every flow speaks, and the transition is ended by hand.
    Settle,
    /// Back to the weights that settled last.
    RollBack,
    /// Clients of this /24 (/120), by number, go to a version; or by the table again.
    Steer(u8, Option<u8>),
    /// A version gets another backend, with this weight.
    Add(u8, u16),
    /// A backend is taken out of the spec.
    Remove(u16),
    /// A backend gets another weight in the spec.
    Reweigh(u16, u16),
    /// The agent stops and starts again, on the same maps.
    Restart,
}

/// A case of so many steps.
#[must_use]
pub fn case(seed: u64, steps: usize) -> Vec<Step> {
    let mut random = Random(seed);
    let mut case = vec![Step::Open(200)];
    while case.len() < steps {
        case.push(any(&mut random));
        // Traffic between any two things that happen.
        case.push(match random.below(4) {
            0 => Step::End(small(&mut random)),
            1 => Step::Open(small(&mut random)),
            _ => Step::Speak(small(&mut random) * 2),
        });
    }
    // At the end every flow speaks.
    case.push(Step::Speak(u16::MAX));
    case
}

fn small(random: &mut Random) -> u16 {
    1 + random.half() % 60
}

fn any(random: &mut Random) -> Step {
    let version = u8::try_from(random.below(3)).unwrap();
    let backend = random.half();
    match random.below(31) {
        0..6 => Step::Shift(weights(random)),
        6..8 => {
            let to = [Some(0), Some(1), Some(2), None][random.below(4)];
            Step::Steer(u8::try_from(random.below(4)).unwrap(), to)
        }
        8..10 => Step::Add(version, [1, 100, 100, 1_000][random.below(4)]),
        10..12 => Step::Remove(backend),
        12 => Step::Reweigh(backend, [0, 1, 100, 1_000][random.below(4)]),
        13..16 => Step::Wait([1, 5, 11, 31, 200, 895, 905][random.below(7)]),
        16 => Step::Restart,
        17 => Step::RollBack,
        18 => Step::Abandon(weights(random)),
        19..23 => Step::ByHand(backend, [0, 0, 1, 2][random.below(4)]),
        23..26 => Step::Die(backend),
        26..29 => Step::Return(backend),
        29 => Step::Settle,
        _ => Step::Open(small(random) * 4),
    }
}

fn weights(random: &mut Random) -> [u16; 3] {
    let mut weights = match random.below(3) {
        0 => [10_000, 0, 0],
        1 => [9_500, 500, 0],
        _ => {
            let a = random.half() % 10_001;
            let b = random.half() % (10_001 - a);
            [10_000 - a - b, a, b]
        }
    };
    weights.rotate_left(random.below(3));
    weights
}
