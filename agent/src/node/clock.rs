//! The clock by which the program stamps flows, and the one that outlives the host's boot.

use std::cell::Cell;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

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

/// The host's clock when this process first looked at it, and the time since boot then.
static FIRST: LazyLock<(SystemTime, Duration)> =
    LazyLock::new(|| (SystemTime::now(), since_boot()));

/// Time since boot, also what the host has slept. It never jumps.
fn since_boot() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}

/// The host's clock as this process first saw it, and what has passed since: whoever sets the clock
/// meanwhile neither ends a lease or a drain nor makes it last.
pub(super) fn steady() -> SystemTime {
    let (first, boot) = *FIRST;
    first + since_boot().saturating_sub(boot)
}

/// Milliseconds since 1970, by [`steady`].
pub(super) fn unix_milliseconds() -> u64 {
    let now = steady().duration_since(UNIX_EPOCH).unwrap_or_default();
    let ahead = u64::from(AHEAD.get()) * 1_000;
    u64::try_from(now.as_millis()).map_or(u64::MAX, |now| now.saturating_add(ahead))
}

/// Seconds since 1970, likewise.
pub(super) fn wall() -> u64 {
    unix_milliseconds() / 1_000
}
