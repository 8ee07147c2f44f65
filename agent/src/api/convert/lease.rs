//! Leases and rollbacks, both ways.

use std::time::Duration;

use weir_proto::v1;

use super::{Malformed, drain, read, request, version_number};
use crate::{
    model::{LeaseLength, LeaseTerms, OnExpiry, PerVersion, Violations, Weights},
    node::{
        Error,
        messages::{LeaseStatus, RenewLease, RollBack},
    },
};

/// From the wire: a request to restore the last settled weights.
pub fn roll_back(request: &v1::RollBackRequest) -> Result<RollBack, Error> {
    let mut violations = Violations::default();
    let v1::RollBackRequest { request_id, dry_run, force, .. } = request;
    let in_flight = drain::in_flight(request.in_flight.as_ref(), &mut violations);
    let options =
        request::options(request_id, *dry_run, *force, request.fence.as_ref(), &mut violations);
    let service = request::service(&request.service, &mut violations);
    violations.into_result().map_err(Error::Invalid)?;
    let service = service.ok_or_else(|| Error::Invalid(Vec::new()))?;
    let expected_generation = request.expected_generation;
    Ok(RollBack { service, in_flight, expected_generation, options })
}

/// For the wire: a request to restore the last settled weights.
#[must_use]
pub fn roll_back_to_proto(roll_back: &RollBack) -> v1::RollBackRequest {
    v1::RollBackRequest {
        service: roll_back.service.to_string(),
        expected_generation: roll_back.expected_generation,
        request_id: request::id_text(roll_back.options.request_id.as_ref()),
        dry_run: roll_back.options.dry_run,
        force: roll_back.options.force,
        in_flight: drain::in_flight_to_proto(roll_back.in_flight),
        fence: request::fence_to_proto(roll_back.options.fence.as_ref()),
    }
}

/// From the wire: a request to renew a lease.
pub fn renew(request: &v1::RenewLeaseRequest) -> Result<RenewLease, Error> {
    let mut violations = Violations::default();
    let service = request::service(&request.service, &mut violations);
    let length = length(&request.lease, &mut violations);
    let fence = request::fence(request.fence.as_ref(), &mut violations);
    violations.into_result().map_err(Error::Invalid)?;
    let service = service.ok_or_else(|| Error::Invalid(Vec::new()))?;
    let expected_generation = request.expected_generation;
    Ok(RenewLease { service, expected_generation, length, fence })
}

/// For the wire: a request to renew a lease.
#[must_use]
pub fn renew_to_proto(renew: &RenewLease) -> v1::RenewLeaseRequest {
    v1::RenewLeaseRequest {
        service: renew.service.to_string(),
        expected_generation: renew.expected_generation,
        lease: renew.length.map(|length| length.to_string()).unwrap_or_default(),
        fence: request::fence_to_proto(renew.fence.as_ref()),
    }
}

/// From the wire: the lease that a shift asks for, if it does.
pub(super) fn terms(
    request: &v1::ShiftWeightsRequest,
    violations: &mut Violations,
) -> Option<LeaseTerms> {
    let on_expiry = if request.on_expiry == 0 {
        Some(OnExpiry::default())
    } else if request.lease.is_empty() {
        violations.push("on_expiry", "has no meaning without lease; leave it out");
        None
    } else {
        let known = on_expiry(request.on_expiry);
        if known.is_none() {
            violations.push("on_expiry", "must be hold or revert");
        }
        known
    };
    Some(LeaseTerms { length: length(&request.lease, violations)?, on_expiry: on_expiry? })
}

/// For the wire: length and end of the lease that a shift asks for.
pub(super) fn terms_to_proto(terms: Option<LeaseTerms>) -> (String, i32) {
    let text = |terms: LeaseTerms| (terms.length.to_string(), number(terms.on_expiry));
    terms.map(text).unwrap_or_default()
}

fn length(text: &str, violations: &mut Violations) -> Option<LeaseLength> {
    if text.is_empty() {
        return None;
    }
    text.parse().map_err(|message: String| violations.push("lease", message)).ok()
}

/// What shall happen, unless it is unspecified or unknown.
fn on_expiry(number: i32) -> Option<OnExpiry> {
    match v1::OnExpiry::try_from(number).ok()? {
        v1::OnExpiry::Unspecified => None,
        v1::OnExpiry::Hold => Some(OnExpiry::Hold),
        v1::OnExpiry::Revert => Some(OnExpiry::Revert),
    }
}

fn number(on_expiry: OnExpiry) -> i32 {
    match on_expiry {
        OnExpiry::Hold => v1::OnExpiry::Hold,
        OnExpiry::Revert => v1::OnExpiry::Revert,
    }
    .into()
}

/// For the wire: a lease that runs.
#[must_use]
pub fn lease(lease: LeaseStatus) -> v1::Lease {
    v1::Lease {
        left_ms: u64::try_from(lease.left.as_millis()).unwrap_or(u64::MAX),
        deadline: Some(lease.deadline.into()),
        length: lease.length.to_string(),
        on_expiry: number(lease.on_expiry),
        revert_to: weights(lease.revert_to),
    }
}

/// As the client reads it from the wire.
pub fn read_lease(lease: v1::Lease) -> Result<LeaseStatus, Malformed> {
    let deadline = lease.deadline.and_then(|deadline| deadline.try_into().ok());
    Ok(LeaseStatus {
        left: Duration::from_millis(lease.left_ms),
        deadline: deadline.ok_or(Malformed("deadline"))?,
        length: lease.length.parse().map_err(|_| Malformed("length"))?,
        on_expiry: on_expiry(lease.on_expiry).ok_or(Malformed("on_expiry"))?,
        revert_to: read_weights(lease.revert_to)?,
    })
}

/// For the wire: the weights of all versions.
pub(super) fn weights(weights: Weights) -> Vec<v1::VersionWeight> {
    let one = |(version, weight): (_, crate::model::Weight)| v1::VersionWeight {
        version: version_number(version),
        weight_bp: weight.bp(),
    };
    weights.iter().map(one).collect()
}

/// As the client reads them from the wire.
pub(super) fn read_weights(weights: Vec<v1::VersionWeight>) -> Result<Weights, Malformed> {
    let weights: PerVersion<_> =
        read::by_version(weights, |one| one.version, |one| read::weight(one.weight_bp))?;
    Weights::new(weights).map_err(|_| Malformed("weights"))
}
