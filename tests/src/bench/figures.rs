//! What many measurements come down to.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Serialize;

/// Of many times: milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Times {
    /// As many are below as above.
    pub p50: f64,
    /// One in a hundred is above.
    pub p99: f64,
    /// The longest.
    pub max: f64,
}

impl Times {
    /// Of these; nothing of none.
    #[must_use]
    pub fn of(times: &[Duration]) -> Option<Self> {
        let times: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
        Some(Self {
            p50: quantile(&times, 0.5)?,
            p99: quantile(&times, 0.99)?,
            max: quantile(&times, 1.0)?,
        })
    }
}

/// Of rounds that measured the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spread {
    /// As many are below as above.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The most.
    pub max: f64,
}

impl Spread {
    /// Of these; nothing of none.
    #[must_use]
    pub fn of(values: &[f64]) -> Option<Self> {
        let at = |share| quantile(values, share);
        Some(Self { median: at(0.5)?, min: at(0.0)?, max: at(1.0)? })
    }
}

/// The least value that at least this share of all does not exceed. Nothing of none.
#[must_use]
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "there are far fewer than 2^52 values, and a share is not negative"
)]
pub fn quantile(values: &[f64], share: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

/// Writes a report as JSON.
///
/// # Errors
///
/// The file cannot be written.
pub fn write_json(path: &Path, report: &impl Serialize) -> Result<()> {
    let mut text = serde_json::to_string_pretty(report)?;
    text.push('\n');
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        let at = |share| quantile(&values, share);
        assert_eq!([0.0, 0.5, 0.99, 1.0].map(at), [1.0, 50.0, 99.0, 100.0].map(Some));
        assert_eq!(quantile(&[], 0.5), None);
        assert_eq!(Spread::of(&[3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
    }

    #[test]
    fn times_are_in_milliseconds() {
        // What a float has exactly.
        let times = [125, 250, 500].map(Duration::from_millis);
        assert_eq!(Times::of(&times), Some(Times { p50: 250.0, p99: 500.0, max: 500.0 }));
        assert_eq!(Times::of(&[]), None);
    }
}
