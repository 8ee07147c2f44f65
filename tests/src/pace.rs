//! How fast this machine is. An emulated one does in a second what others do in a fraction of it;
//! there loads are lighter, and waits longer. What a test demands stays the same.

use std::env;
use std::sync::LazyLock;
use std::time::Duration;

/// The variable that says how many times slower this machine is.
const VARIABLE: &str = "WEIR_SLOW";

static SLOWER: LazyLock<u32> = LazyLock::new(|| {
    let said = env::var(VARIABLE).ok().and_then(|text| text.parse().ok());
    said.filter(|factor| (1..=100).contains(factor)).unwrap_or(1)
});

/// A wait, or a limit on one, as long as it takes here.
#[must_use]
pub fn wait(time: Duration) -> Duration {
    time * *SLOWER
}

/// A rate that this machine can keep up with; never 0.
#[must_use]
pub fn rate(a_second: u32) -> u32 {
    a_second.div_ceil(*SLOWER)
}
