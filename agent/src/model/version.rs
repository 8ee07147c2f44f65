//! The three versions of a service, and values kept for each of them.

use std::{
    fmt,
    ops::{Index, IndexMut},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

/// A release track of a service. The names are fixed; what runs there is a label beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Version {
    /// The version that holds the remainder by default.
    Blue,
    /// The other half of a blue-green release.
    Green,
    /// The version that is tried on a small share.
    Canary,
}

impl Version {
    /// All versions, in the order of their tables.
    pub const ALL: [Self; 3] = [Self::Blue, Self::Green, Self::Canary];

    /// The name as written in files and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Blue => "blue",
            Self::Green => "green",
            Self::Canary => "canary",
        }
    }

    /// Position in [`Version::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Blue => 0,
            Self::Green => 1,
            Self::Canary => 2,
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A word that is no version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a version; the versions are blue, green and canary")]
pub struct NotAVersion(String);

impl FromStr for Version {
    type Err = NotAVersion;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|version| version.name() == text)
            .ok_or_else(|| NotAVersion(text.to_owned()))
    }
}

/// One value for each version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(from = "Named<T>", into = "Named<T>", bound(serialize = "T: Clone + Serialize"))]
pub struct PerVersion<T>([T; 3]);

/// The form in JSON and YAML: keys `blue`, `green`, `canary`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Named<T> {
    blue: T,
    green: T,
    canary: T,
}

impl<T> From<Named<T>> for PerVersion<T> {
    fn from(named: Named<T>) -> Self {
        Self([named.blue, named.green, named.canary])
    }
}

impl<T> From<PerVersion<T>> for Named<T> {
    fn from(PerVersion([blue, green, canary]): PerVersion<T>) -> Self {
        Self { blue, green, canary }
    }
}

impl<T> PerVersion<T> {
    /// The values for blue, green and canary.
    pub const fn new(blue: T, green: T, canary: T) -> Self {
        Self([blue, green, canary])
    }

    /// Asks `make` for each version's value.
    pub fn from_fn(make: impl FnMut(Version) -> T) -> Self {
        Self(Version::ALL.map(make))
    }

    /// Versions and values, blue first.
    pub fn iter(&self) -> impl Iterator<Item = (Version, &T)> {
        Version::ALL.into_iter().zip(&self.0)
    }

    /// The same with values that can be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Version, &mut T)> {
        Version::ALL.into_iter().zip(&mut self.0)
    }

    /// Makes another value of each.
    pub fn map<U>(self, change: impl FnMut(T) -> U) -> PerVersion<U> {
        PerVersion(self.0.map(change))
    }
}

impl<T> IntoIterator for PerVersion<T> {
    type Item = (Version, T);
    type IntoIter = std::iter::Zip<std::array::IntoIter<Version, 3>, std::array::IntoIter<T, 3>>;

    fn into_iter(self) -> Self::IntoIter {
        Version::ALL.into_iter().zip(self.0)
    }
}

impl<T> Index<Version> for PerVersion<T> {
    type Output = T;

    fn index(&self, version: Version) -> &T {
        &self.0[version.index()]
    }
}

impl<T> IndexMut<Version> for PerVersion<T> {
    fn index_mut(&mut self, version: Version) -> &mut T {
        &mut self.0[version.index()]
    }
}
