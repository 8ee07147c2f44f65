//! Resolving a shift: the named versions change, one more gives or takes the rest.

use super::{
    Version, Weight, Weights,
    weight::{FULL, percent},
};

/// Why a shift cannot be resolved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShiftError {
    /// The shift changes nothing.
    #[error("names no version; name at least one, such as canary=5%")]
    NothingNamed,
    /// Which of the two weights is meant?
    #[error("names {0} twice")]
    NamedTwice(Version),
    /// The others leave less than nothing to the version with the rest.
    #[error("{}: more than 100%, {remainder} cannot give that much", add_up(.weights))]
    TooMuch {
        /// The version that should give the rest.
        remainder: Version,
        /// The weights of the others.
        weights: Vec<(Version, Weight)>,
    },
    /// The version that should hold the rest was given a weight, and they do not fit.
    #[error("{}, not 100%; leave {remainder} out to give it the rest", add_up(.weights))]
    SumIsOff {
        /// The version that would hold the rest.
        remainder: Version,
        /// All weights.
        weights: Vec<(Version, Weight)>,
    },
}

/// The weights after `set` is laid over `current`.
///
/// Versions not named keep their weight, except `remainder`: it gets what is left. If `remainder` is
/// named too, everything must add up by itself.
pub fn resolve(
    current: &Weights,
    set: &[(Version, Weight)],
    remainder: Version,
) -> Result<Weights, ShiftError> {
    if set.is_empty() {
        return Err(ShiftError::NothingNamed);
    }
    let mut weights = super::PerVersion::from_fn(|version| current.get(version));
    let mut named = super::PerVersion::<bool>::default();
    for (version, weight) in set {
        if std::mem::replace(&mut named[*version], true) {
            return Err(ShiftError::NamedTwice(*version));
        }
        weights[*version] = *weight;
    }
    if !named[remainder] {
        let others: u32 =
            weights.iter().filter(|(version, _)| *version != remainder).map(|(_, w)| w.bp()).sum();
        weights[remainder] =
            FULL.checked_sub(others).and_then(Weight::from_bp).ok_or_else(|| {
                ShiftError::TooMuch {
                    remainder,
                    weights: weights
                        .into_iter()
                        .filter(|(version, _)| *version != remainder)
                        .collect(),
                }
            })?;
    }
    Weights::new(weights)
        .map_err(|_| ShiftError::SumIsOff { remainder, weights: weights.into_iter().collect() })
}

/// `green 60% and canary 50% add up to 110%`.
fn add_up(weights: &[(Version, Weight)]) -> String {
    let sum = weights.iter().map(|(_, weight)| weight.bp()).sum();
    let parts: Vec<String> =
        weights.iter().map(|(version, weight)| format!("{version} {weight}")).collect();
    format!("{} add up to {}", parts.join(" and "), percent(sum))
}
