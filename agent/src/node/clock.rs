//! The clock by which the program stamps flows, and that of what is stored.

use std::time::{SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

/// Seconds since 1970.
pub(super) fn wall() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Seconds since boot, without time asleep (`CLOCK_MONOTONIC`). Wraps after 136 years.
pub(super) fn seconds() -> u32 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |now| now.tv_sec());
    u32::try_from(now).unwrap_or(u32::MAX)
}
