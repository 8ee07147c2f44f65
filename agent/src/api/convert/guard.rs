//! Guards, both ways.

use std::time::SystemTime;

use weir_proto::v1;

use super::{Malformed, lease, request, version, version_number};
use crate::{
    model::{
        Guard, PerVersion, Violations, Weight, Weights,
        guard::{MAX_CONNECTIONS, Metric},
        weight::above_full,
    },
    node::{
        Error,
        messages::{ClearGuard, GuardStatus, SetGuard, TrippedStatus},
    },
};

/// From the wire: a limit that the agent shall enforce.
pub fn set(request: &v1::SetGuardRequest) -> Result<SetGuard, Error> {
    let mut violations = Violations::default();
    let service = request::service(&request.service, &mut violations);
    let fence = request::fence(request.fence.as_ref(), &mut violations);
    if request.guard.is_none() {
        violations.push("guard", "is missing");
    }
    let guard = request.guard.as_ref().and_then(|asked| guard(asked, &mut violations));
    violations.into_result().map_err(Error::Invalid)?;
    let (service, guard) = service.zip(guard).ok_or_else(|| Error::Invalid(Vec::new()))?;
    Ok(SetGuard { service, guard, fence })
}

/// From the wire: the end of a guard.
pub fn clear(request: &v1::ClearGuardRequest) -> Result<ClearGuard, Error> {
    let mut violations = Violations::default();
    let service = request::service(&request.service, &mut violations);
    let fence = request::fence(request.fence.as_ref(), &mut violations);
    violations.into_result().map_err(Error::Invalid)?;
    let service = service.ok_or_else(|| Error::Invalid(Vec::new()))?;
    Ok(ClearGuard { service, fence })
}

fn guard(asked: &v1::Guard, violations: &mut Violations) -> Option<Guard> {
    let version = version(asked.version);
    if version.is_none() {
        violations.push("guard.version", "must be blue, green or canary");
    }
    let metric = metric(asked.metric);
    if metric.is_none() {
        violations.push("guard.metric", "must be connect_success");
    }
    let least = Weight::from_bp(asked.least_bp).filter(|least| *least > Weight::ZERO);
    if least.is_none() {
        let message = match asked.least_bp {
            0 => "is 0%, which nothing can break".to_owned(),
            more => above_full(more),
        };
        violations.push("guard.least_bp", message);
    }
    let min_connections = asked.min_connections;
    if !(1..=MAX_CONNECTIONS).contains(&min_connections) {
        let message = format!("{min_connections} is not within 1 and {MAX_CONNECTIONS}");
        violations.push("guard.min_connections", message);
    }
    let window = asked.window.parse();
    let window = window.map_err(|message: String| violations.push("guard.window", message)).ok();
    let fallback = match fallback(&asked.fallback) {
        Ok(weights) => weights,
        Err(message) => {
            violations.push("guard.fallback", message);
            None
        }
    };
    let (version, metric) = (version?, metric?);
    Some(Guard { version, metric, least: least?, min_connections, window: window?, fallback })
}

fn fallback(named: &[v1::VersionWeight]) -> Result<Option<Weights>, String> {
    if named.is_empty() {
        return Ok(None);
    }
    let mut weights = PerVersion::from_fn(|_| None);
    // One more than there are versions is one twice.
    for one in named.iter().take(4) {
        let version = version(one.version).ok_or("must name blue, green or canary")?;
        let weight = Weight::from_bp(one.weight_bp).ok_or_else(|| above_full(one.weight_bp))?;
        if weights[version].replace(weight).is_some() {
            return Err(format!("names {version} twice"));
        }
    }
    let weights = Weights::new(weights.map(Option::unwrap_or_default));
    weights.map(Some).map_err(|error| error.to_string())
}

fn metric(number: i32) -> Option<Metric> {
    match v1::GuardMetric::try_from(number).ok()? {
        v1::GuardMetric::Unspecified => None,
        v1::GuardMetric::ConnectSuccess => Some(Metric::ConnectSuccess),
    }
}

/// For the wire: a limit that the agent shall enforce.
#[must_use]
pub fn set_to_proto(set: &SetGuard) -> v1::SetGuardRequest {
    v1::SetGuardRequest {
        service: set.service.to_string(),
        guard: Some(guard_to_proto(&set.guard)),
        fence: request::fence_to_proto(set.fence.as_ref()),
    }
}

/// For the wire: the end of a guard.
#[must_use]
pub fn clear_to_proto(clear: &ClearGuard) -> v1::ClearGuardRequest {
    let fence = request::fence_to_proto(clear.fence.as_ref());
    v1::ClearGuardRequest { service: clear.service.to_string(), fence }
}

fn guard_to_proto(guard: &Guard) -> v1::Guard {
    v1::Guard {
        version: version_number(guard.version),
        metric: match guard.metric {
            Metric::ConnectSuccess => v1::GuardMetric::ConnectSuccess.into(),
        },
        least_bp: guard.least.bp(),
        min_connections: guard.min_connections,
        window: guard.window.to_string(),
        fallback: guard.fallback.map(lease::weights).unwrap_or_default(),
    }
}

/// For the wire: a guard that is set.
#[must_use]
pub fn status(status: &GuardStatus) -> v1::GuardStatus {
    let tripped = |tripped: TrippedStatus| v1::GuardTripped {
        since: Some(tripped.since.into()),
        connections: tripped.connections,
        failures: tripped.failures,
        before: lease::weights(tripped.before),
        after: lease::weights(tripped.after),
    };
    v1::GuardStatus {
        guard: Some(guard_to_proto(&status.guard)),
        connections: status.connections,
        failures: status.failures,
        tripped: status.tripped.map(tripped),
    }
}

/// As the client reads it from the wire.
pub fn read_status(status: v1::GuardStatus) -> Result<GuardStatus, Malformed> {
    let asked = status.guard.ok_or(Malformed("guard"))?;
    let guard = guard(&asked, &mut Violations::default()).ok_or(Malformed("guard"))?;
    let tripped = |tripped: v1::GuardTripped| {
        let since = tripped.since.ok_or(Malformed("since"))?;
        Ok(TrippedStatus {
            since: SystemTime::try_from(since).map_err(|_| Malformed("since"))?,
            connections: tripped.connections,
            failures: tripped.failures,
            before: lease::read_weights(tripped.before)?,
            after: lease::read_weights(tripped.after)?,
        })
    };
    let v1::GuardStatus { connections, failures, .. } = status;
    let tripped = status.tripped.map(tripped).transpose()?;
    Ok(GuardStatus { guard, connections, failures, tripped })
}
