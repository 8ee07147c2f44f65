//! Health checks, and what they find, to and from the wire.

use weir_proto::v1;

use super::Malformed;
use crate::health::Counts;

use crate::model::{
    OnDown, OnEmpty, Violations,
    spec::{CheckType, HealthSpec},
};
use crate::node::messages::BackendHealth;

/// For the wire.
pub(super) fn to_proto(spec: &HealthSpec) -> v1::Health {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    v1::Health {
        r#type: match spec.kind {
            CheckType::Tcp => v1::CheckType::Tcp,
            CheckType::Http => v1::CheckType::Http,
            CheckType::Grpc => v1::CheckType::Grpc,
        }
        .into(),
        port: spec.port,
        path: text(&spec.path),
        host: text(&spec.host),
        status: text(&spec.status),
        service: text(&spec.service),
        interval: text(&spec.interval),
        timeout: text(&spec.timeout),
        rise: spec.rise,
        fall: spec.fall,
        on_down: match spec.on_down {
            OnDown::Keep => v1::OnDown::Keep,
            OnDown::Reset => v1::OnDown::Reset,
        }
        .into(),
        on_empty: match spec.on_empty {
            OnEmpty::Failover => v1::OnEmpty::Failover,
            OnEmpty::Hold => v1::OnEmpty::Hold,
        }
        .into(),
    }
}

/// From the wire; `None` after noting that it is no check at all.
pub(super) fn from_proto(
    health: v1::Health,
    path: &str,
    violations: &mut Violations,
) -> Option<HealthSpec> {
    let text = |text: String| Some(text).filter(|text| !text.is_empty());
    let on_down = match v1::OnDown::try_from(health.on_down) {
        Ok(v1::OnDown::Unspecified | v1::OnDown::Keep) => OnDown::Keep,
        Ok(v1::OnDown::Reset) => OnDown::Reset,
        Err(_) => {
            violations.push(format!("{path}.on_down"), "must be KEEP or RESET");
            OnDown::default()
        }
    };
    let on_empty = match v1::OnEmpty::try_from(health.on_empty) {
        Ok(v1::OnEmpty::Unspecified | v1::OnEmpty::Failover) => OnEmpty::Failover,
        Ok(v1::OnEmpty::Hold) => OnEmpty::Hold,
        Err(_) => {
            violations.push(format!("{path}.on_empty"), "must be FAILOVER or HOLD");
            OnEmpty::default()
        }
    };
    let kind = match v1::CheckType::try_from(health.r#type) {
        Ok(v1::CheckType::Tcp) => CheckType::Tcp,
        Ok(v1::CheckType::Http) => CheckType::Http,
        Ok(v1::CheckType::Grpc) => CheckType::Grpc,
        Ok(v1::CheckType::Unspecified) | Err(_) => {
            violations.push(format!("{path}.type"), "must be TCP, HTTP or GRPC");
            return None;
        }
    };
    Some(HealthSpec {
        kind,
        port: health.port,
        path: text(health.path),
        host: text(health.host),
        status: text(health.status),
        service: text(health.service),
        interval: text(health.interval),
        timeout: text(health.timeout),
        rise: health.rise,
        fall: health.fall,
        on_down,
        on_empty,
    })
}

/// For the wire: what the check of a backend says.
pub(super) fn backend_to_proto(health: BackendHealth) -> v1::BackendHealth {
    v1::BackendHealth {
        failing: health.failing,
        since: Some(health.since.into()),
        error: health.error.unwrap_or_default(),
        against: health.against,
        needed: health.needed,
        next_check_ms: health.next_check_ms,
    }
}

/// From the wire: what the check of a backend says.
pub(super) fn read_backend(health: v1::BackendHealth) -> Result<BackendHealth, Malformed> {
    let since = health.since.and_then(|since| since.try_into().ok());
    Ok(BackendHealth {
        failing: health.failing,
        since: since.ok_or(Malformed("since"))?,
        error: Some(health.error).filter(|error| !error.is_empty()),
        against: health.against,
        needed: health.needed,
        next_check_ms: health.next_check_ms,
    })
}

/// For the wire: what the checks come to.
pub(super) fn counts_to_proto(counts: Counts) -> v1::HealthCounts {
    let Counts { backends, failing, in_flight, waiting, made, waited } = counts;
    v1::HealthCounts { backends, failing, in_flight, waiting, made, waited }
}

/// From the wire: what the checks come to.
pub(super) fn read_counts(counts: v1::HealthCounts) -> Counts {
    let v1::HealthCounts { backends, failing, in_flight, waiting, made, waited } = counts;
    Counts { backends, failing, in_flight, waiting, made, waited }
}
