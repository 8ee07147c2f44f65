//! Shares as observed, with the interval in which the true share lies.

use serde::{Serialize, Serializer};

/// The normal quantile of a two-sided 99.9 % interval.
const Z: f64 = 3.290_526_731_491_895;

/// How many of a service's new connections one version got by the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Observed {
    /// New connections of the version, but for those that steering rules led there.
    pub connections: u64,
    /// The same of all versions together.
    pub total: u64,
    /// New connections that steering rules led to the version: no share of the table's.
    pub steered: u64,
}

impl Observed {
    /// `connections / total`, 0 if there were none.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "a share needs no more than 53 bits")]
    pub fn share(self) -> f64 {
        if self.total == 0 { 0.0 } else { self.connections as f64 / self.total as f64 }
    }

    /// The 99.9 % interval of the true share: (0, 1) if there were no connections.
    ///
    /// Wilson's score interval, which stays inside 0 to 1 and holds for rare events too.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "a share needs no more than 53 bits")]
    pub fn interval(self) -> (f64, f64) {
        if self.total == 0 {
            return (0.0, 1.0);
        }
        let (n, p) = (self.total as f64, self.share());
        let scale = 1.0 + Z * Z / n;
        let middle = (p + Z * Z / (2.0 * n)) / scale;
        let half = Z / scale * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
        // At the ends the formula gives 0 and 1, but for rounding.
        let low = if self.connections == 0 { 0.0 } else { middle - half };
        let high = if self.connections >= self.total { 1.0 } else { middle + half };
        (low, high)
    }
}

impl Serialize for Observed {
    /// With what follows from the counts: `share`, and the interval from `low` to `high`.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Form {
            connections: u64,
            total: u64,
            share: f64,
            low: f64,
            high: f64,
            steered: u64,
        }
        let (low, high) = self.interval();
        let Self { connections, total, steered } = *self;
        Form { connections, total, share: self.share(), low, high, steered }.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(value: f64, wanted: f64) {
        assert!((value - wanted).abs() < 1e-4, "{value} is not {wanted}");
    }

    #[test]
    fn interval_of_nothing_is_everything() {
        assert_eq!(Observed::default().interval(), (0.0, 1.0));
    }

    /// Checked by hand against Wilson's formula with z = 3.2905.
    #[test]
    fn interval_of_five_percent() {
        let observed = Observed { connections: 1_000, total: 20_000, steered: 0 };
        close(observed.share(), 0.05);
        let (low, high) = observed.interval();
        close(low, 0.045_17);
        close(high, 0.055_32);
    }

    #[test]
    fn interval_stays_within_bounds_at_the_ends() {
        let (low, high) = Observed { connections: 0, total: 100, steered: 0 }.interval();
        close(low, 0.0);
        close(high, 0.097_70);
        let (low, high) = Observed { connections: 100, total: 100, steered: 0 }.interval();
        close(low, 0.902_30);
        close(high, 1.0);
    }
}
