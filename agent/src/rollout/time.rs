//! Moments and spans of rollouts.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The longest span that a document may ask for: 90 days.
pub const MAX_SECONDS: u32 = 90 * 86_400;

/// A moment by the wall clock of whoever leads: milliseconds since 1970. Clocks jump and differ, so
/// nothing is measured by the difference of two of them but within [`Clock`](super::machine::Clock).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// So much later.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How long after `earlier`, in milliseconds; nothing if it is not after.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// A span in whole seconds: 0 to [`MAX_SECONDS`]. Written as `30s`, `10m` or `1h 30m`; in JSON it is
/// the number.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(try_from = "u32")]
pub struct Seconds(u32);

impl Seconds {
    /// No time.
    pub const ZERO: Self = Self(0);

    /// So many seconds, at most [`MAX_SECONDS`]: more is cut.
    #[must_use]
    pub const fn new(seconds: u32) -> Self {
        Self(if seconds > MAX_SECONDS { MAX_SECONDS } else { seconds })
    }

    /// So many minutes, likewise.
    #[must_use]
    pub const fn minutes(minutes: u32) -> Self {
        Self::new(minutes.saturating_mul(60))
    }

    /// So many hours, likewise.
    #[must_use]
    pub const fn hours(hours: u32) -> Self {
        Self::new(hours.saturating_mul(3_600))
    }

    /// In seconds.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// In milliseconds.
    #[must_use]
    pub const fn millis(self) -> u64 {
        self.0 as u64 * 1_000
    }

    /// As a duration.
    #[must_use]
    pub const fn duration(self) -> Duration {
        Duration::from_secs(self.0 as u64)
    }

    /// Both together, at most [`MAX_SECONDS`].
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self::new(self.0.saturating_add(other.0))
    }
}

impl std::iter::Sum for Seconds {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::ZERO, Self::plus)
    }
}

impl TryFrom<u32> for Seconds {
    type Error = String;

    fn try_from(seconds: u32) -> Result<Self, Self::Error> {
        if seconds > MAX_SECONDS {
            Err(format!("{seconds} s is more than 90 days"))
        } else {
            Ok(Self(seconds))
        }
    }
}

impl FromStr for Seconds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let time = humantime::parse_duration(text)
            .map_err(|_| format!("{text:?} is not a time; write it as 30s, 10m or 1h 30m"))?;
        u32::try_from(time.as_secs())
            .ok()
            .filter(|seconds| time.subsec_nanos() == 0 && *seconds <= MAX_SECONDS)
            .map(Self)
            .ok_or_else(|| format!("{text} is not a whole number of seconds up to 90 days"))
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&humantime::format_duration(self.duration()).to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_whole_seconds() {
        let read = |text: &str| text.parse::<Seconds>().map(Seconds::get);
        assert_eq!([read("0s"), read("10m"), read("1h 30m")], [Ok(0), Ok(600), Ok(5_400)]);
        for bad in ["", "10", "soon", "-1s", "1500ms", "91d"] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert_eq!(Seconds::new(90).to_string(), "1m 30s");
        assert!(serde_json::from_str::<Seconds>("7776001").is_err());
    }

    #[test]
    fn nothing_is_negative() {
        assert_eq!(Timestamp(5).since(Timestamp(9)), 0);
        assert_eq!(Timestamp(u64::MAX).after(Duration::from_secs(1)), Timestamp(u64::MAX));
    }
}
