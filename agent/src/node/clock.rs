//! The clock by which the program stamps flows.

use nix::time::{ClockId, clock_gettime};

/// Seconds since boot, without time asleep (`CLOCK_MONOTONIC`). Wraps after 136 years.
pub(super) fn seconds() -> u32 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |now| now.tv_sec());
    u32::try_from(now).unwrap_or(u32::MAX)
}
