//! Guards: a limit that an agent enforces on its own, whatever becomes of whoever leads a rollout.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize, Serializer};

use super::time;
use super::weight::percent;
use super::{Version, Weight, Weights};

/// The longest window, in seconds: ten minutes.
pub const MAX_WINDOW: u32 = 600;
/// The most connections that a guard can wait for.
pub const MAX_CONNECTIONS: u32 = 1_000_000;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Handshakes that a server accepted, of all that ended. Failures are those that were refused or
    /// had no answer within 3 s, at most as many as clients that failed.
    ConnectSuccess,
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConnectSuccess => f.pad("connect_success"),
        }
    }
}

impl FromStr for Metric {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "connect_success" | "connectSuccess" => Ok(Self::ConnectSuccess),
            other => Err(format!("{other:?} is no metric of a guard; there is connect_success")),
        }
    }
}

/// How long a guard looks back: whole seconds, 1 s to 10 min. Written as `5s` or `1m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "u32")]
pub struct WindowLength(u32);

impl WindowLength {
    /// In milliseconds.
    #[must_use]
    pub fn milliseconds(self) -> u64 {
        u64::from(self.0) * 1_000
    }
}

impl TryFrom<u32> for WindowLength {
    type Error = String;

    fn try_from(seconds: u32) -> Result<Self, String> {
        if (1..=MAX_WINDOW).contains(&seconds) {
            Ok(Self(seconds))
        } else {
            Err(format!("{seconds} s is not within 1s and 10m"))
        }
    }
}

impl FromStr for WindowLength {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        time::whole_seconds(text, (MAX_WINDOW, "10m"), "5s or 1m").map(Self)
    }
}

impl fmt::Display for WindowLength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        time::text(self.0).fmt(f)
    }
}

impl Serialize for WindowLength {
    /// As a number of seconds.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.0)
    }
}

/// The least share that is well. Written as `>= 50%`.
pub fn parse_condition(text: &str) -> Result<Weight, String> {
    let least = text.trim().strip_prefix(">=").map(str::trim);
    least
        .and_then(|least| least.parse().ok())
        .filter(|least: &Weight| least.bp() > 0)
        .ok_or_else(|| format!("{text:?} is not a condition; write it as '>= 50%'"))
}

/// A limit on a version: when it is broken, the agent itself takes the version's weight away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Guard {
    /// The version that is watched.
    pub version: Version,
    /// What is measured.
    pub metric: Metric,
    /// The least share that is well, in basis points.
    #[serde(rename = "least_bp")]
    pub least: Weight,
    /// With fewer connections than these nothing is said.
    pub min_connections: u32,
    /// How long it looks back.
    #[serde(rename = "window_s")]
    pub window: WindowLength,
    /// The weights to go back to; nothing: those that settled last.
    #[serde(rename = "fallback_bp", default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Weights>,
}

impl fmt::Display for Guard {
    /// `canary: connect_success >= 50% of at least 20 connections within 5s`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, metric, least, min_connections, window, fallback } = self;
        let least = percent(least.bp());
        write!(
            f,
            "{version}: {metric} >= {least} of at least {min_connections} connections within {window}"
        )?;
        match fallback {
            Some(weights) => write!(f, ", else back to {weights}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn conditions_and_windows_are_read() {
        assert_eq!(parse_condition(">= 50%").unwrap().bp(), 5_000);
        assert_eq!(parse_condition(" >=99.5% ").unwrap().bp(), 9_950);
        for wrong in ["50%", "> 50%", "<= 50%", ">= 0%", ">= 101%", ">= x", ""] {
            assert!(parse_condition(wrong).is_err(), "{wrong}");
        }
        assert_eq!("5s".parse::<WindowLength>().unwrap().milliseconds(), 5_000);
        assert!("0s".parse::<WindowLength>().is_err() && "11m".parse::<WindowLength>().is_err());
    }

    #[test]
    fn what_is_stored_is_read_again() {
        let guard = Guard {
            version: Version::Canary,
            metric: Metric::ConnectSuccess,
            least: Weight::from_bp(5_000).unwrap(),
            min_connections: 20,
            window: WindowLength(5),
            fallback: Some(Weights::all_to(Version::Green)),
        };
        let json = serde_json::to_string(&guard).unwrap();
        assert_eq!(serde_json::from_str::<Guard>(&json).unwrap(), guard);
        assert!(serde_json::from_str::<Guard>(&json.replace("_s\":5", "_s\":0")).is_err());
        assert_eq!(
            guard.to_string(),
            "canary: connect_success >= 50% of at least 20 connections within 5s, else back to \
             green 100%"
        );
    }
}
