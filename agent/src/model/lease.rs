//! Leases: weights that hold only as long as somebody renews them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize, Serializer};

use super::time;

/// The longest lease, in seconds: a day.
pub const MAX_SECONDS: u32 = 86_400;

/// How long a lease lasts from when it was given or renewed: whole seconds, 1 s to 24 h.
///
/// Written as `60s`, `5m` or `1h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "u32")]
pub struct LeaseLength(u32);

impl LeaseLength {
    /// In seconds.
    #[must_use]
    pub const fn seconds(self) -> u32 {
        self.0
    }

    /// As a duration.
    #[must_use]
    pub const fn duration(self) -> Duration {
        Duration::from_secs(self.0 as u64)
    }
}

impl TryFrom<u32> for LeaseLength {
    type Error = String;

    fn try_from(seconds: u32) -> Result<Self, Self::Error> {
        if (1..=MAX_SECONDS).contains(&seconds) {
            Ok(Self(seconds))
        } else {
            Err(format!("{seconds} s is not within 1s and 24h"))
        }
    }
}

impl FromStr for LeaseLength {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        time::whole_seconds(text, (MAX_SECONDS, "24h"), "60s, 5m or 1h").map(Self)
    }
}

impl fmt::Display for LeaseLength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        time::text(self.0).fmt(f)
    }
}

impl Serialize for LeaseLength {
    /// As a number of seconds.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.0)
    }
}

/// What happens to the weights when a lease runs out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnExpiry {
    /// They stay.
    #[default]
    Hold,
    /// They go back to what they were before the lease, or before the first of leases that followed
    /// each other.
    Revert,
}

impl OnExpiry {
    /// The name as written on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Revert => "revert",
        }
    }
}

impl fmt::Display for OnExpiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for OnExpiry {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Hold, Self::Revert]
            .into_iter()
            .find(|one| one.name() == text)
            .ok_or_else(|| format!("{text:?} is neither hold nor revert"))
    }
}

/// A lease as it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LeaseTerms {
    /// How long it lasts.
    pub length: LeaseLength,
    /// What happens when it runs out.
    pub on_expiry: OnExpiry,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_whole_seconds_up_to_a_day() {
        let read = |text: &str| text.parse::<LeaseLength>().map(LeaseLength::seconds);
        assert_eq!([read("1s"), read("60s"), read("24h")], [Ok(1), Ok(60), Ok(86_400)]);
        assert_eq!(read("1h 30m"), Ok(5_400));
        for bad in ["0s", "24h 1s", "1500ms", "100y"] {
            let said = format!("{bad} is not a whole number of seconds from 1s to 24h");
            assert_eq!(read(bad), Err(said));
        }
        for bad in ["", "60", "soon", "-1s"] {
            let said = format!("{bad:?} is not a time; write it as 60s, 5m or 1h");
            assert_eq!(read(bad), Err(said));
        }
        assert_eq!(LeaseLength(90).to_string(), "1m 30s");
        assert_eq!(serde_json::from_str::<LeaseLength>("60").ok(), Some(LeaseLength(60)));
        assert!(serde_json::from_str::<LeaseLength>("0").is_err());
    }
}
