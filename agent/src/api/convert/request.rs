//! Requests: from the wire with every field checked, and for the wire.

use std::collections::HashSet;

use weir_proto::v1;

use super::{drain, lease, spec, version, version_number};
use crate::{
    model::{
        Fence, Rule, ServiceName, ServiceSpec, Version, Violations, Weight, parse_services,
        service::MAX_SERVICES,
        steering::{MAX_RULES, prefix},
        weight::above_full,
    },
    node::{
        Error,
        messages::{Apply, ChangeOptions, Delete, RequestId, ServiceShift, Shift, Steer},
    },
};

/// The most versions that a shift may name; naming one twice is the model's to refuse.
const MAX_NAMED: usize = 8;

/// From the wire: services to create or replace.
pub fn apply(request: v1::ApplyRequest) -> Result<Apply, Error> {
    let mut violations = Violations::default();
    let options = options(
        &request.request_id,
        request.dry_run,
        request.force,
        request.fence.as_ref(),
        &mut violations,
    );
    if request.services.len() > MAX_SERVICES {
        too_many("services", request.services.len(), &mut violations);
    }
    let specs = request.services.into_iter().take(MAX_SERVICES).enumerate();
    let specs: Vec<ServiceSpec> = specs
        .map(|(index, service)| {
            spec::from_proto(service, &format!("services[{index}]"), &mut violations)
        })
        .collect();
    let services = parse_services(&specs, options.force);
    // What the wire alone can get wrong comes first, then what the model finds.
    for violation in services.as_ref().err().into_iter().flatten() {
        violations.push(&violation.field, &violation.message);
    }
    violations.into_result().map_err(Error::Invalid)?;
    Ok(Apply { services: services.map_err(Error::Invalid)?, options })
}

/// From the wire: services to remove.
pub fn delete(request: &v1::DeleteRequest) -> Result<Delete, Error> {
    let mut violations = Violations::default();
    let request_id = request_id(&request.request_id, &mut violations);
    if request.services.is_empty() {
        violations.push("services", "is empty; name at least one service");
    }
    let services = collect_names(&request.services, &mut violations);
    let fence = fence(request.fence.as_ref(), &mut violations);
    violations.into_result().map_err(Error::Invalid)?;
    Ok(Delete { services, request_id, fence })
}

/// From the wire: names of services, each once; may be none.
pub fn names(names: &[String]) -> Result<Vec<ServiceName>, Error> {
    let mut violations = Violations::default();
    let names = collect_names(names, &mut violations);
    violations.into_result().map_err(Error::Invalid)?;
    Ok(names)
}

/// From the wire: the name of one service.
pub fn name(request: &v1::GetRequest) -> Result<ServiceName, Error> {
    let mut violations = Violations::default();
    let name =
        ServiceName::new(&request.service).map_err(|message| violations.push("service", message));
    violations.into_result().map_err(Error::Invalid)?;
    name.map_err(|()| Error::Invalid(Vec::new()))
}

/// From the wire: changes of weights.
pub fn shift(request: &v1::ShiftWeightsRequest) -> Result<Shift, Error> {
    let mut violations = Violations::default();
    let options = options(
        &request.request_id,
        request.dry_run,
        request.force,
        request.fence.as_ref(),
        &mut violations,
    );
    if request.shifts.is_empty() {
        violations.push("shifts", "is empty; name at least one service");
    }
    if request.shifts.len() > MAX_SERVICES {
        too_many("shifts", request.shifts.len(), &mut violations);
    }
    let mut seen = HashSet::new();
    let mut shifts = Vec::new();
    for (index, shift) in request.shifts.iter().take(MAX_SERVICES).enumerate() {
        if !seen.insert(&shift.service) {
            violations.push(
                format!("shifts[{index}].service"),
                format!("{:?} is named twice", shift.service),
            );
        }
        shifts.extend(service_shift(shift, &format!("shifts[{index}]"), &mut violations));
    }
    let in_flight = drain::in_flight(request.in_flight.as_ref(), &mut violations);
    let lease = lease::terms(request, &mut violations);
    violations.into_result().map_err(Error::Invalid)?;
    Ok(Shift { shifts, in_flight, lease, options })
}

fn service_shift(
    shift: &v1::Shift,
    path: &str,
    violations: &mut Violations,
) -> Option<ServiceShift> {
    let service = ServiceName::new(&shift.service)
        .map_err(|message| violations.push(format!("{path}.service"), message))
        .ok();
    if shift.set.is_empty() {
        violations.push(format!("{path}.set"), "is empty; name at least one version");
    }
    if shift.set.len() > MAX_NAMED {
        violations.push(
            format!("{path}.set"),
            format!("holds {}; there are three versions", shift.set.len()),
        );
        return None;
    }
    let mut set = Vec::new();
    for (index, entry) in shift.set.iter().enumerate() {
        let version = version(entry.version);
        if version.is_none() {
            violations
                .push(format!("{path}.set[{index}].version"), "must be blue, green or canary");
        }
        let weight = Weight::from_bp(entry.weight_bp);
        if weight.is_none() {
            violations.push(format!("{path}.set[{index}].weight_bp"), above_full(entry.weight_bp));
        }
        set.extend(version.zip(weight));
    }
    let remainder = match shift.remainder {
        0 => Some(Version::Blue),
        number => version(number),
    };
    if remainder.is_none() {
        violations.push(format!("{path}.remainder"), "must be blue, green or canary");
    }
    Some(ServiceShift {
        service: service?,
        set,
        remainder: remainder?,
        expected_generation: shift.expected_generation,
    })
}

/// From the wire: a change of steering rules.
pub fn steer(request: &v1::SteerRequest) -> Result<Steer, Error> {
    let mut violations = Violations::default();
    let options = options(
        &request.request_id,
        request.dry_run,
        request.force,
        request.fence.as_ref(),
        &mut violations,
    );
    let service = service(&request.service, &mut violations);
    for (field, named) in [("add", request.add.len()), ("remove", request.remove.len())] {
        if named > MAX_RULES {
            let message = format!("holds {named}; a service has at most {MAX_RULES} rules");
            violations.push(field, message);
        }
    }
    let mut add = Vec::new();
    for (index, rule) in request.add.iter().take(MAX_RULES).enumerate() {
        let source = prefix(&rule.source)
            .map_err(|message| violations.push(format!("add[{index}].source"), message));
        let version = version(rule.version);
        if version.is_none() {
            violations.push(format!("add[{index}].version"), "must be blue, green or canary");
        }
        add.extend(source.ok().zip(version).map(|(source, version)| Rule { source, version }));
    }
    let mut remove = Vec::new();
    for (index, source) in request.remove.iter().take(MAX_RULES).enumerate() {
        let source =
            prefix(source).map_err(|message| violations.push(format!("remove[{index}]"), message));
        remove.extend(source);
    }
    violations.into_result().map_err(Error::Invalid)?;
    let service = service.ok_or_else(|| Error::Invalid(Vec::new()))?;
    let expected_generation = request.expected_generation;
    Ok(Steer { service, add, remove, expected_generation, options })
}

/// From the wire: the service that a request names.
pub(super) fn service(name: &str, violations: &mut Violations) -> Option<ServiceName> {
    ServiceName::new(name).map_err(|message| violations.push("service", message)).ok()
}

pub(super) fn options(
    id: &str,
    dry_run: bool,
    force: bool,
    fence: Option<&v1::Fence>,
    violations: &mut Violations,
) -> ChangeOptions {
    let fence = self::fence(fence, violations);
    ChangeOptions { request_id: request_id(id, violations), dry_run, force, fence }
}

/// From the wire: whose change it is.
pub(super) fn fence(fence: Option<&v1::Fence>, violations: &mut Violations) -> Option<Fence> {
    let fence = fence?;
    Fence::new(&fence.holder, fence.number)
        .map_err(|message| violations.push("fence", message))
        .ok()
}

/// For the wire: the same.
pub(super) fn fence_to_proto(fence: Option<&Fence>) -> Option<v1::Fence> {
    let fence = fence?;
    Some(v1::Fence { holder: fence.holder().to_owned(), number: fence.number() })
}

fn request_id(id: &str, violations: &mut Violations) -> Option<RequestId> {
    if id.is_empty() {
        return None;
    }
    RequestId::new(id).map_err(|message| violations.push("request_id", message)).ok()
}

fn collect_names(names: &[String], violations: &mut Violations) -> Vec<ServiceName> {
    if names.len() > MAX_SERVICES {
        too_many("services", names.len(), violations);
    }
    let mut seen = HashSet::new();
    let mut good = Vec::new();
    for (index, name) in names.iter().take(MAX_SERVICES).enumerate() {
        match ServiceName::new(name) {
            Ok(_) if !seen.insert(name) => {
                violations.push(format!("services[{index}]"), format!("{name:?} is named twice"));
            }
            Ok(name) => good.push(name),
            Err(message) => violations.push(format!("services[{index}]"), message),
        }
    }
    good
}

fn too_many(field: &str, number: usize, violations: &mut Violations) {
    violations.push(field, format!("holds {number}; a node takes at most {MAX_SERVICES}"));
}

/// For the wire: services to create or replace.
#[must_use]
pub fn apply_to_proto(services: &[ServiceSpec], options: &ChangeOptions) -> v1::ApplyRequest {
    v1::ApplyRequest {
        services: services.iter().map(spec::to_proto).collect(),
        request_id: id_text(options.request_id.as_ref()),
        dry_run: options.dry_run,
        force: options.force,
        fence: fence_to_proto(options.fence.as_ref()),
    }
}

/// For the wire: services to remove.
#[must_use]
pub fn delete_to_proto(delete: &Delete) -> v1::DeleteRequest {
    v1::DeleteRequest {
        services: delete.services.iter().map(ToString::to_string).collect(),
        request_id: id_text(delete.request_id.as_ref()),
        fence: fence_to_proto(delete.fence.as_ref()),
    }
}

/// For the wire: changes of weights.
#[must_use]
pub fn shift_to_proto(shift: &Shift) -> v1::ShiftWeightsRequest {
    let one = |shift: &ServiceShift| v1::Shift {
        service: shift.service.to_string(),
        set: shift
            .set
            .iter()
            .map(|(version, weight)| v1::VersionWeight {
                version: version_number(*version),
                weight_bp: weight.bp(),
            })
            .collect(),
        remainder: version_number(shift.remainder),
        expected_generation: shift.expected_generation,
    };
    let (lease, on_expiry) = lease::terms_to_proto(shift.lease);
    v1::ShiftWeightsRequest {
        shifts: shift.shifts.iter().map(one).collect(),
        lease,
        on_expiry,
        request_id: id_text(shift.options.request_id.as_ref()),
        dry_run: shift.options.dry_run,
        force: shift.options.force,
        in_flight: drain::in_flight_to_proto(shift.in_flight),
        fence: fence_to_proto(shift.options.fence.as_ref()),
    }
}

/// For the wire: a change of steering rules.
#[must_use]
pub fn steer_to_proto(steer: &Steer) -> v1::SteerRequest {
    let rule = |rule: &Rule| v1::SteeringRule {
        source: rule.source.to_string(),
        version: version_number(rule.version),
    };
    v1::SteerRequest {
        service: steer.service.to_string(),
        add: steer.add.iter().map(rule).collect(),
        remove: steer.remove.iter().map(ToString::to_string).collect(),
        expected_generation: steer.expected_generation,
        request_id: id_text(steer.options.request_id.as_ref()),
        dry_run: steer.options.dry_run,
        force: steer.options.force,
        fence: fence_to_proto(steer.options.fence.as_ref()),
    }
}

pub(super) fn id_text(id: Option<&RequestId>) -> String {
    id.map(|id| id.as_str().to_owned()).unwrap_or_default()
}
