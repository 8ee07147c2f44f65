//! How long handshakes took.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use weir_ebpf::latency::{self, BUCKETS};

/// How long the handshakes of a version or a backend took, in the buckets of
/// [`weir_ebpf::latency`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Handshakes {
    /// By bucket; those after the last one that is not zero are left out.
    buckets: Vec<u64>,
    /// The sum of all times.
    sum: Duration,
}

impl Handshakes {
    /// From the kernel's counts. Buckets beyond those that there are count as the last one.
    #[must_use]
    pub fn new(mut buckets: Vec<u64>, sum: Duration) -> Self {
        let beyond = buckets.drain(BUCKETS.min(buckets.len())..).fold(0, u64::saturating_add);
        if let Some(last) = buckets.last_mut() {
            *last = last.saturating_add(beyond);
        }
        while buckets.last() == Some(&0) {
            buckets.pop();
        }
        Self { buckets, sum }
    }

    /// By bucket; those after the last one that is not zero are left out.
    #[must_use]
    pub fn buckets(&self) -> &[u64] {
        &self.buckets
    }

    /// How many handshakes.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The sum of all times.
    #[must_use]
    pub const fn sum(&self) -> Duration {
        self.sum
    }

    /// Adds those of another.
    pub fn add(&mut self, other: &Self) {
        if self.buckets.len() < other.buckets.len() {
            self.buckets.resize(other.buckets.len(), 0);
        }
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
        self.sum += other.sum;
    }

    /// Those since `earlier`; never less than nothing.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let before = earlier.buckets.iter().chain(std::iter::repeat(&0));
        let buckets = self.buckets.iter().zip(before).map(|(now, was)| now.saturating_sub(*was));
        Self::new(buckets.collect(), self.sum.saturating_sub(earlier.sum))
    }

    /// The time that a share `q` of the handshakes did not exceed, from 0 to 1; nothing if there are
    /// none. It is the middle of a bucket: within 6.25 % of the true one, or half a microsecond.
    #[must_use]
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "counts stay below 2^53, and the product between 0 and the count"
    )]
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = ((count as f64 * q.clamp(0.0, 1.0)).ceil() as u64).clamp(1, count);
        let mut seen = 0;
        let at = self.buckets.iter().position(|bucket| {
            seen += bucket;
            seen >= rank
        })?;
        let (low, high) = (latency::lower_bound(at), latency::lower_bound(at + 1));
        Some(Duration::from_nanos(low.midpoint(high)))
    }
}

impl Serialize for Handshakes {
    /// Count, sum, the usual quantiles, and the buckets themselves.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Form<'a> {
            count: u64,
            sum_us: u128,
            #[serde(skip_serializing_if = "Option::is_none")]
            p50_us: Option<u128>,
            #[serde(skip_serializing_if = "Option::is_none")]
            p90_us: Option<u128>,
            #[serde(skip_serializing_if = "Option::is_none")]
            p99_us: Option<u128>,
            buckets: &'a [u64],
        }
        let at = |q| self.quantile(q).map(|time| time.as_micros());
        Form {
            count: self.count(),
            sum_us: self.sum.as_micros(),
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            buckets: &self.buckets,
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Handshakes {
    /// From the sum and the buckets; the rest follows from them.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Form {
            #[serde(default)]
            sum_us: u64,
            buckets: Vec<u64>,
        }
        let form = Form::deserialize(deserializer)?;
        Ok(Self::new(form.buckets, Duration::from_micros(form.sum_us)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(times: &[u64]) -> Handshakes {
        let mut buckets = vec![0; BUCKETS];
        for time in times {
            buckets[latency::bucket(*time)] += 1;
        }
        Handshakes::new(buckets, Duration::from_nanos(times.iter().sum()))
    }

    #[test]
    fn quantiles_are_within_a_sixteenth() {
        let times: Vec<u64> = (1..=1_000).map(|i| i * 100_000).collect();
        let all = of(&times);
        assert_eq!(all.count(), 1_000);
        for (q, exact) in [(0.5, 50_000_000_f64), (0.9, 90_000_000.0), (0.99, 99_000_000.0)] {
            let found = all.quantile(q).unwrap_or_default().as_secs_f64() * 1e9;
            assert!((found / exact - 1.0).abs() <= 0.0625, "{q}: {found}");
        }
        assert_eq!(Handshakes::default().quantile(0.5), None);
    }

    #[test]
    fn sums_and_differences() {
        let (first, more) = (of(&[5_000, 70_000]), of(&[5_000, 9_000_000]));
        let mut sum = first.clone();
        sum.add(&more);
        assert_eq!((sum.count(), sum.since(&first)), (4, more));
        assert_eq!(first.since(&sum), Handshakes::default());
    }

    #[test]
    fn what_was_written_is_read() {
        let some = of(&[5_000, 70_000]);
        let text = serde_json::to_string(&some).unwrap_or_default();
        assert_eq!(serde_json::from_str::<Handshakes>(&text).ok(), Some(some));
    }

    #[test]
    fn buckets_that_there_are_not_count_as_the_last() {
        let mut buckets = vec![0; BUCKETS + 3];
        buckets[BUCKETS + 2] = 2;
        let all = Handshakes::new(buckets, Duration::ZERO);
        assert_eq!((all.buckets().len(), all.count()), (BUCKETS, 2));
    }
}
