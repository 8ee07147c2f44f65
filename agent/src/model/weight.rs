//! Weights: shares of new connections, in basis points (1/100 of a percent).

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize, Serializer};

use super::{PerVersion, Version};

/// What the weights of a service add up to, in basis points.
pub const FULL: u32 = 10_000;

/// Share of new connections: 0 to 10 000 basis points.
///
/// Written as `5%`, `33.34%` or `500bp`. A bare number is refused by [`FromStr`], as it could mean either.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Weight(u16);

impl Weight {
    /// No share.
    pub const ZERO: Self = Self(0);
    /// All of it.
    pub const FULL: Self = Self(10_000);

    /// The weight of so many basis points, unless they are more than 10 000.
    #[must_use]
    pub fn from_bp(basis_points: u32) -> Option<Self> {
        u16::try_from(basis_points).ok().filter(|_| basis_points <= FULL).map(Self)
    }

    /// In basis points, 0 to 10 000.
    #[must_use]
    pub const fn bp(self) -> u32 {
        self.0 as u32
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&percent(self.bp()))
    }
}

impl Serialize for Weight {
    /// As a number of basis points.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.bp())
    }
}

impl<'de> Deserialize<'de> for Weight {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let basis_points = u32::deserialize(deserializer)?;
        Self::from_bp(basis_points)
            .ok_or_else(|| serde::de::Error::custom(above_full(basis_points)))
    }
}

impl FromStr for Weight {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let basis_points = parse_bp(text)?;
        Self::from_bp(basis_points).ok_or_else(|| above_full(basis_points))
    }
}

/// The message for a weight above 100 %.
#[must_use]
pub fn above_full(basis_points: u32) -> String {
    format!("{} is more than 100%", percent(basis_points))
}

/// Basis points as percent, with as many decimals as are needed: `5%`, `33.34%`.
#[must_use]
pub fn percent(basis_points: u32) -> String {
    let (whole, part) = (basis_points / 100, basis_points % 100);
    match part {
        0 => format!("{whole}%"),
        part if part % 10 == 0 => format!("{whole}.{}%", part / 10),
        part => format!("{whole}.{part:02}%"),
    }
}

/// Reads `5%`, `33.34%` or `500bp` as basis points, of any size that fits.
pub fn parse_bp(text: &str) -> Result<u32, String> {
    let wrong =
        || format!("{text:?} is not a weight; write percent (5%, 33.34%) or basis points (500bp)");
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if let Some(number) = text.strip_suffix("bp") {
        return if digits(number) { number.parse().map_err(|_| wrong()) } else { Err(wrong()) };
    }
    let number = text.strip_suffix('%').ok_or_else(|| {
        if digits(text) {
            format!("{text:?} has no unit; write {text}% or {text}bp")
        } else {
            wrong()
        }
    })?;
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    if !digits(whole) || !digits(part) {
        return Err(wrong());
    }
    if part.len() > 2 {
        return Err(format!("{text:?} has more than two decimals; the finest weight is 0.01%"));
    }
    let hundredths: u32 = format!("{part:0<2}").parse().map_err(|_| wrong())?;
    let whole: u32 = whole.parse().map_err(|_| wrong())?;
    whole.checked_mul(100).and_then(|whole| whole.checked_add(hundredths)).ok_or_else(wrong)
}

/// The weights of a service: one for each version, 10 000 together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Weights(PerVersion<Weight>);

impl<'de> Deserialize<'de> for Weights {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let weights = PerVersion::deserialize(deserializer)?;
        Self::new(weights).map_err(|SumIsOff(sum)| {
            serde::de::Error::custom(format!("weights add up to {}, not 100%", percent(sum)))
        })
    }
}

impl fmt::Display for Weights {
    /// Those that are not zero: `blue 95%, canary 5%`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (version, weight) in self.iter().filter(|(_, weight)| *weight != Weight::ZERO) {
            write!(f, "{separator}{version} {weight}")?;
            separator = ", ";
        }
        Ok(())
    }
}

/// Weights that do not add up to 10 000; holds what they add up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the weights add up to {}, not to 100%", percent(*.0))]
pub struct SumIsOff(pub u32);

impl Weights {
    /// The weights, unless they do not add up.
    pub fn new(weights: PerVersion<Weight>) -> Result<Self, SumIsOff> {
        let sum = weights.iter().map(|(_, weight)| weight.bp()).sum();
        if sum == FULL { Ok(Self(weights)) } else { Err(SumIsOff(sum)) }
    }

    /// Everything to one version.
    #[must_use]
    pub fn all_to(version: Version) -> Self {
        Self(PerVersion::from_fn(
            |other| {
                if other == version { Weight::FULL } else { Weight::ZERO }
            },
        ))
    }

    /// The weight of one version.
    #[must_use]
    pub fn get(&self, version: Version) -> Weight {
        self.0[version]
    }

    /// Versions and weights, blue first.
    pub fn iter(&self) -> impl Iterator<Item = (Version, Weight)> {
        self.0.iter().map(|(version, weight)| (version, *weight))
    }
}
