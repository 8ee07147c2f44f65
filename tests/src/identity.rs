//! Which version and backend answered: what every server of the lab says about itself.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use anyhow::{Context, anyhow};

/// One of weir's three versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// The version that holds the remainder of the weights.
    Blue,
    /// The other side of a blue-green release.
    Green,
    /// The version on trial.
    Canary,
}

impl Version {
    /// All versions, in the order of every table and report.
    pub const ALL: [Self; 3] = [Self::Blue, Self::Green, Self::Canary];

    /// The version's name, as in spec files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Blue => "blue",
            Self::Green => "green",
            Self::Canary => "canary",
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(self.name())
    }
}

impl FromStr for Version {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|version| version.name() == text)
            .ok_or_else(|| anyhow!("\"{text}\" is no version: expected blue, green or canary"))
    }
}

/// A backend as it names itself on the wire: `blue 10.61.0.2`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// The version the backend belongs to.
    pub version: Version,
    /// The backend's own address, not the one the client connected to.
    pub address: IpAddr,
}

impl fmt::Display for Identity {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}", self.version, self.address)
    }
}

impl FromStr for Identity {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (version, address) = text
            .split_once(' ')
            .with_context(|| format!("\"{text}\" is no identity: expected \"VERSION ADDRESS\""))?;
        Ok(Self {
            version: version.parse()?,
            address: address.parse().with_context(|| format!("\"{address}\" is no address"))?,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use super::*;

    #[test]
    fn identities_survive_the_wire() {
        for text in ["blue 10.61.0.2", "canary fd63::2"] {
            assert_eq!(text.parse::<Identity>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn other_text_is_no_identity() {
        for text in ["", "blue", "red 10.61.0.2", "blue 10.61.0", "blue 10.61.0.2 x"] {
            assert!(text.parse::<Identity>().is_err(), "{text:?} was accepted");
        }
    }
}
