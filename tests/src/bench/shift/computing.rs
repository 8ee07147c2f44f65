//! What the machine itself adds: how long computing takes that nobody asks for, waits for or sends,
//! on the agent's processor. A virtual machine's processor is taken away now and then.

use std::hint::black_box;
use std::time::{Duration, Instant};

/// Steps of one run of those by which the speed is found, and how many there are.
const STEPS: u32 = 20_000;
const RUNS: u32 = 200;

/// Computing, at the speed of this processor.
pub(super) struct Computing {
    /// Of [`STEPS`] steps, undisturbed: the least of many.
    least: Duration,
}

impl Computing {
    /// Finds the speed of the processor that this thread is on.
    pub(super) fn here() -> Self {
        let least = (0..RUNS).map(|_| took(STEPS)).min().unwrap_or_default();
        Self { least: least.max(Duration::from_nanos(1)) }
    }

    /// How long computing takes that takes so long where nothing disturbs it.
    pub(super) fn takes(&self, undisturbed: Duration) -> Duration {
        let steps = undisturbed.as_nanos() * u128::from(STEPS) / self.least.as_nanos();
        took(u32::try_from(steps).unwrap_or(u32::MAX))
    }
}

/// The time of so many multiplications, each of what the one before has given.
fn took(steps: u32) -> Duration {
    let began = Instant::now();
    black_box((0..steps).fold(black_box(1_u64), |x, step| {
        black_box(x.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(u64::from(step)))
    }));
    began.elapsed()
}
