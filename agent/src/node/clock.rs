//! The clock by which the program stamps flows, and the one that outlives the host's boot.

use std::cell::Cell;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

thread_local! {
    /// How far this thread's clock is ahead, in seconds.
    static AHEAD: Cell<u32> = const { Cell::new(0) };
}

/// Seconds since boot, without time asleep (`CLOCK_MONOTONIC`). Wraps after 136 years.
#[must_use]
pub fn seconds() -> u32 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |now| now.tv_sec());
    u32::try_from(now).unwrap_or(u32::MAX).saturating_add(AHEAD.get())
}

/// Sets how far this thread's clock is ahead of the host's: for tests, in which hours pass.
pub fn set_ahead(seconds: u32) {
    AHEAD.set(seconds);
}

/// Milliseconds since 1970, as the host's clock has it.
pub(super) fn unix_milliseconds() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let ahead = u64::from(AHEAD.get()) * 1_000;
    u64::try_from(now.as_millis()).map_or(u64::MAX, |now| now.saturating_add(ahead))
}

/// Seconds since 1970, likewise.
pub(super) fn wall() -> u64 {
    unix_milliseconds() / 1_000
}
