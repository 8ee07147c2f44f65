//! Intervals between two looks at the counters, both ways.

use std::time::Duration;

use weir_proto::v1;

use super::read::{self, Read};
use super::traffic::{handshakes, read_handshakes, read_traffic, traffic};
use super::{Malformed, version_number};
use crate::model::{Handshakes, Violation};
use crate::node::Error;
use crate::node::interval::{BackendInterval, Delta, Interval, ServiceInterval, VersionInterval};
use crate::node::messages::Counters;

/// From the wire: an earlier answer, that a client measures from.
pub fn mark(since: Option<v1::Counters>) -> Result<Option<Counters>, Error> {
    let wrong = |Malformed(field)| {
        let message = format!("is not counters as this agent gives them: {field} is wrong");
        Error::Invalid(vec![Violation { field: "since".into(), message }])
    };
    since.map(|since| read::counters(Some(since)).map_err(wrong)).transpose()
}

/// An interval, for the wire.
#[must_use]
pub fn interval(interval: &Interval) -> v1::Interval {
    let backend = |one: &BackendInterval| v1::BackendInterval {
        address: one.address.to_string(),
        port: one.port.into(),
        delta: Some(delta(&one.delta)),
    };
    let service = |one: &ServiceInterval| v1::ServiceInterval {
        service: one.service.to_string(),
        versions: one
            .versions
            .iter()
            .map(|(version, one)| v1::VersionInterval {
                version: version_number(version),
                delta: Some(delta(&one.delta)),
                backends: one.backends.iter().map(backend).collect(),
            })
            .collect(),
    };
    v1::Interval {
        seconds: interval.length.as_secs_f64(),
        gap: interval.gap,
        services: interval.services.iter().map(service).collect(),
    }
}

fn delta(delta: &Delta) -> v1::Delta {
    let at = |q| nanoseconds(&delta.handshakes, q);
    v1::Delta {
        traffic: Some(traffic(&delta.traffic)),
        handshakes: Some(handshakes(&delta.handshakes)),
        connections_per_s: delta.connections_per_s,
        success: delta.success,
        p50_ns: at(0.5),
        p90_ns: at(0.9),
        p99_ns: at(0.99),
    }
}

fn nanoseconds(handshakes: &Handshakes, q: f64) -> Option<u64> {
    Some(u64::try_from(handshakes.quantile(q)?.as_nanos()).unwrap_or(u64::MAX))
}

/// An interval, as the client reads it from the wire.
pub fn read_interval(interval: v1::Interval) -> Read<Interval> {
    let length = Duration::try_from_secs_f64(interval.seconds).map_err(|_| Malformed("seconds"))?;
    let backend = |one: v1::BackendInterval| {
        Ok(BackendInterval {
            address: one.address.parse().map_err(|_| Malformed("address"))?,
            port: read::small(one.port, "port")?,
            delta: read_delta(one.delta, length),
        })
    };
    let version = |one: v1::VersionInterval| {
        Ok(VersionInterval {
            delta: read_delta(one.delta, length),
            backends: read::all(one.backends, backend)?,
        })
    };
    let services = read::all(interval.services, |one| {
        Ok(ServiceInterval {
            service: read::service_name(&one.service)?,
            versions: read::by_version(one.versions, |one| one.version, version)?,
        })
    })?;
    Ok(Interval { length, gap: interval.gap, services })
}

/// Rates and quantiles follow from the counts.
fn read_delta(delta: Option<v1::Delta>, length: Duration) -> Delta {
    let delta = delta.unwrap_or_default();
    Delta::new(read_traffic(delta.traffic), read_handshakes(delta.handshakes), length)
}
