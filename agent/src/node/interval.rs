//! What was counted between two looks: differences, rates and quantiles. Pure.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::messages::{BackendCounters, Counters, ServiceCounters, VersionCounters};
use crate::model::{Handshakes, PerVersion, ServiceName, Traffic};

/// From one look at the counters to a later one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Interval {
    /// By the node's clock; nothing with a gap.
    #[serde(rename = "seconds", serialize_with = "seconds")]
    pub length: Duration,
    /// The two cannot be compared: the counters began anew, or the clock was set back.
    pub gap: bool,
    /// By service, ordered by name; none with a gap.
    pub services: Vec<ServiceInterval>,
}

/// The same for a service.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ServiceInterval {
    /// The service.
    pub service: ServiceName,
    /// By version.
    pub versions: PerVersion<VersionInterval>,
}

/// The same for a version.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct VersionInterval {
    /// Of the version as a whole.
    #[serde(flatten)]
    pub delta: Delta,
    /// By backend.
    pub backends: Vec<BackendInterval>,
}

/// The same for a backend.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BackendInterval {
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// What was counted.
    #[serde(flatten)]
    pub delta: Delta,
}

/// What was counted within an interval.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Delta {
    /// The counters.
    pub traffic: Traffic,
    /// How long handshakes took that ended within it.
    pub handshakes: Handshakes,
    /// New connections for each second.
    pub connections_per_s: f64,
    /// Share of the handshakes that were established, of those that ended; nothing if none did.
    pub success: Option<f64>,
}

impl Interval {
    /// From `earlier` to `later`. A service or backend that is new began with nothing; one that has
    /// counted less than before began anew in between.
    #[must_use]
    pub fn between(earlier: &Counters, later: &Counters) -> Self {
        let length = later.time.duration_since(earlier.time).unwrap_or_default();
        if earlier.epoch != later.epoch || length.is_zero() {
            return Self { length: Duration::ZERO, gap: true, services: Vec::new() };
        }
        let service = |now: &ServiceCounters| {
            // Both are ordered by name.
            let was = earlier.services.binary_search_by(|was| was.service.cmp(&now.service));
            let was = was.ok().map(|at| &earlier.services[at]);
            ServiceInterval {
                service: now.service.clone(),
                versions: PerVersion::from_fn(|version| {
                    let was = was.map(|was| &was.versions[version]);
                    of_version(was, &now.versions[version], length)
                }),
            }
        };
        Self { length, gap: false, services: later.services.iter().map(service).collect() }
    }
}

impl Interval {
    /// What was counted of a service.
    #[must_use]
    pub fn of(&self, service: &ServiceName) -> Option<&ServiceInterval> {
        self.services.iter().find(|one| one.service == *service)
    }
}

fn of_version(
    was: Option<&VersionCounters>,
    now: &VersionCounters,
    length: Duration,
) -> VersionInterval {
    let backend = |now: &BackendCounters| {
        let same = |was: &&BackendCounters| (was.address, was.port) == (now.address, now.port);
        let was = was.and_then(|was| was.backends.iter().find(same));
        BackendInterval {
            address: now.address,
            port: now.port,
            delta: Delta::between(
                was.map(|was| (&was.traffic, &was.handshakes)),
                (&now.traffic, &now.handshakes),
                length,
            ),
        }
    };
    VersionInterval {
        delta: Delta::between(
            was.map(|was| (&was.traffic, &was.handshakes)),
            (&now.traffic, &now.handshakes),
            length,
        ),
        backends: now.backends.iter().map(backend).collect(),
    }
}

impl Delta {
    fn between(
        was: Option<(&Traffic, &Handshakes)>,
        now: (&Traffic, &Handshakes),
        length: Duration,
    ) -> Self {
        let went_on = |was: &(&Traffic, &Handshakes)| {
            was.0.values().iter().zip(now.0.values()).all(|(was, now)| *was <= now)
        };
        match was.filter(went_on) {
            Some(was) => Self::new(now.0.since(was.0), now.1.since(was.1), length),
            None => Self::new(*now.0, now.1.clone(), length),
        }
    }

    /// What was counted within so much time.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "a rate needs no more than 53 bits")]
    pub fn new(traffic: Traffic, handshakes: Handshakes, length: Duration) -> Self {
        let seconds = length.as_secs_f64();
        let rate = if seconds > 0.0 { traffic.connections as f64 / seconds } else { 0.0 };
        Self { traffic, handshakes, connections_per_s: rate, success: traffic.success() }
    }
}

impl VersionInterval {
    /// What one of its backends did.
    #[must_use]
    pub fn of(&self, backend: SocketAddr) -> Option<&Delta> {
        let found =
            |one: &&BackendInterval| (one.address, one.port) == (backend.ip(), backend.port());
        self.backends.iter().find(found).map(|one| &one.delta)
    }
}

fn seconds<S: Serializer>(length: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(length.as_secs_f64())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use std::time::SystemTime;

    use super::*;
    use crate::model::Version;

    /// After so many seconds the service has counted this, in a version with one backend.
    fn counters(epoch: u64, second: u64, traffic: Traffic, buckets: &[u64]) -> Counters {
        let handshakes = Handshakes::new(buckets.to_vec(), Duration::ZERO);
        let address = [10, 61, 0, 2].into();
        let backends =
            vec![BackendCounters { address, port: 80, traffic, handshakes: handshakes.clone() }];
        let none = VersionCounters::default();
        let blue = VersionCounters { traffic, handshakes, backends };
        Counters {
            epoch,
            time: SystemTime::UNIX_EPOCH + Duration::from_secs(second),
            services: vec![ServiceCounters {
                service: ServiceName::new("shop").unwrap(),
                versions: PerVersion::new(blue, none.clone(), none),
            }],
            verdicts: Vec::new(),
        }
    }

    fn traffic(connections: u64, established: u64, refused: u64) -> Traffic {
        Traffic { connections, established, refused, ..Traffic::default() }
    }

    #[test]
    fn counts_become_differences_rates_and_quantiles() {
        let earlier = counters(1, 100, traffic(1_000, 900, 100), &[0, 900]);
        let later = counters(1, 104, traffic(1_200, 1_050, 150), &[0, 900, 0, 0, 150]);
        let interval = Interval::between(&earlier, &later);
        assert_eq!((interval.length, interval.gap), (Duration::from_secs(4), false));
        let blue = &interval.services[0].versions[Version::Blue];
        assert_eq!(blue.delta.traffic, traffic(200, 150, 50));
        assert!((blue.delta.connections_per_s - 50.0).abs() < 1e-9);
        assert_eq!(blue.delta.success, Some(0.75));
        // Only the handshakes of the interval: all in the fourth bucket.
        assert_eq!(blue.delta.handshakes.count(), 150);
        assert!(blue.delta.handshakes.quantile(0.01) > Some(Duration::from_micros(4)));
        let backend: SocketAddr = "10.61.0.2:80".parse().unwrap();
        assert_eq!(blue.of(backend), Some(&blue.delta));
        let green = &interval.services[0].versions[Version::Green];
        assert_eq!((green.delta.success, green.backends.len()), (None, 0));
    }

    #[test]
    fn another_epoch_or_a_clock_set_back_is_a_gap() {
        let earlier = counters(1, 100, traffic(1_000, 0, 0), &[]);
        for later in [
            counters(2, 104, traffic(1_200, 0, 0), &[]),
            counters(1, 100, traffic(1_200, 0, 0), &[]),
            counters(1, 99, traffic(1_200, 0, 0), &[]),
        ] {
            let gap = Interval { length: Duration::ZERO, gap: true, services: Vec::new() };
            assert_eq!(Interval::between(&earlier, &later), gap);
        }
    }

    #[test]
    fn what_is_new_or_began_anew_began_with_nothing() {
        let earlier = counters(1, 100, traffic(1_000, 900, 0), &[0, 900]);
        let anew = counters(1, 101, traffic(30, 20, 10), &[0, 20]);
        for earlier in [earlier, Counters { services: Vec::new(), ..anew.clone() }] {
            let earlier = Counters { time: SystemTime::UNIX_EPOCH, ..earlier };
            let interval = Interval::between(&earlier, &anew);
            let blue = &interval.services[0].versions[Version::Blue].delta;
            assert_eq!(blue.traffic, traffic(30, 20, 10));
            assert_eq!(blue.handshakes.count(), 20);
        }
    }
}
