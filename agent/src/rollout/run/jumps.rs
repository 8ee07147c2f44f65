//! The host's clock, and how it jumps. What a rollout waits for is to last as long as it says, whatever
//! somebody does to the clock.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::rollout::{fleet::view::timestamp, time::Timestamp};

/// What is less is no jump: clocks are led slowly to where they should be.
const LEAST: Duration = Duration::from_millis(500);

/// Compares the host's clock with one that does not jump.
#[derive(Debug)]
pub(super) struct Jumps {
    /// The last look, by both.
    last: (SystemTime, Instant),
}

impl Jumps {
    /// From now on.
    pub(super) fn new() -> Self {
        Self { last: (SystemTime::now(), Instant::now()) }
    }

    /// The time, and by how many milliseconds the clock has jumped ahead since the last look.
    pub(super) fn look(&mut self) -> (Timestamp, i64) {
        self.at(SystemTime::now(), Instant::now())
    }

    fn at(&mut self, wall: SystemTime, steady: Instant) -> (Timestamp, i64) {
        let expected = self.last.0 + steady.duration_since(self.last.1);
        self.last = (wall, steady);
        let ms = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        let jump = match wall.duration_since(expected) {
            Ok(ahead) if ahead >= LEAST => ms(ahead),
            Err(back) if back.duration() >= LEAST => -ms(back.duration()),
            _ => 0,
        };
        (timestamp(wall), jump)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_both_clocks_say_is_no_jump() {
        let hour = Duration::from_secs(3_600);
        let second = Duration::from_secs(1);
        let mut jumps = Jumps::new();
        let (wall, steady) = jumps.last;
        assert_eq!(jumps.at(wall + second, steady + second).1, 0);
        assert_eq!(jumps.at(wall + hour + second * 2, steady + second * 2).1, 3_600_000);
        assert_eq!(jumps.at(wall + hour + second * 3, steady + second * 3).1, 0);
        assert_eq!(jumps.at(wall + second * 4, steady + second * 4).1, -3_600_000);
        assert_eq!(jumps.at(wall + hour, steady + hour).1, 0, "a long sleep");
    }
}
