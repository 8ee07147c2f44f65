//! Drains, backend states by hand, and settling: requests and answers.

use std::net::SocketAddr;

use weir_proto::v1;

use super::{
    Malformed, answer, on_timeout, on_timeout_number, read,
    request::{fence, fence_to_proto, id_text, options, service},
    version, version_number,
};
use crate::{
    model::{BackendState, Violations, drain::seconds},
    node::{
        Error,
        messages::{DrainStatus, InFlight, MayStop, SetBackend, Settle, Settled},
    },
};

/// From the wire: what a backend shall be.
pub fn set_backend(request: &v1::SetBackendStateRequest) -> Result<SetBackend, Error> {
    let mut violations = Violations::default();
    let options = options(
        &request.request_id,
        request.dry_run,
        request.force,
        request.fence.as_ref(),
        &mut violations,
    );
    let service = service(&request.service, &mut violations);
    let address = request.address.parse().ok();
    if address.is_none() {
        violations.push("address", format!("{:?} is not an IP address", request.address));
    }
    let port = u16::try_from(request.port).ok();
    if port.is_none() {
        violations.push("port", format!("{} is not a port; a port is 1 to 65535", request.port));
    }
    let state = read::state(request.state);
    if state.is_none() {
        violations.push("state", "must be ACTIVE, DRAINING or DOWN");
    }
    violations.into_result().map_err(Error::Invalid)?;
    let all = service.zip(address).zip(port.zip(state));
    let ((service, address), (port, state)) = all.ok_or_else(|| Error::Invalid(Vec::new()))?;
    Ok(SetBackend { service, address, port, state, options })
}

/// From the wire: the end of a transition.
pub fn settle(request: &v1::SettleRequest) -> Result<Settle, Error> {
    let mut violations = Violations::default();
    let service = service(&request.service, &mut violations);
    let fence = fence(request.fence.as_ref(), &mut violations);
    violations.into_result().map_err(Error::Invalid)?;
    let service = service.ok_or_else(|| Error::Invalid(Vec::new()))?;
    Ok(Settle { service, dry_run: request.dry_run, fence })
}

/// For the wire: the same.
#[must_use]
pub fn settle_to_proto(settle: &Settle) -> v1::SettleRequest {
    v1::SettleRequest {
        service: settle.service.to_string(),
        dry_run: settle.dry_run,
        fence: fence_to_proto(settle.fence.as_ref()),
    }
}

/// From the wire: what becomes of connections that a change leaves behind.
pub fn in_flight(in_flight: Option<&v1::InFlight>, violations: &mut Violations) -> InFlight {
    let Some(asked) = in_flight else { return InFlight::BySpec };
    let drains = match v1::InFlightAction::try_from(asked.action) {
        Ok(v1::InFlightAction::Unspecified | v1::InFlightAction::Drain) => None,
        Ok(v1::InFlightAction::Keep) => Some(InFlight::Keep),
        Ok(v1::InFlightAction::Reset) => Some(InFlight::Reset),
        Err(_) => {
            violations.push("in_flight.action", "must be KEEP, DRAIN or RESET");
            return InFlight::default();
        }
    };
    if let Some(other) = drains {
        if !asked.timeout.is_empty() {
            violations.push("in_flight.timeout", "has no meaning without DRAIN; leave it out");
        }
        if asked.on_timeout != 0 {
            violations.push("in_flight.on_timeout", "has no meaning without DRAIN; leave it out");
        }
        return other;
    }
    let timeout = Some(&asked.timeout).filter(|text| !text.is_empty()).and_then(|text| {
        seconds(text).map_err(|message| violations.push("in_flight.timeout", message)).ok()
    });
    let on_timeout = match asked.on_timeout {
        0 => None,
        number => on_timeout(number).or_else(|| {
            violations.push("in_flight.on_timeout", "must be KEEP or RESET");
            None
        }),
    };
    InFlight::Drain { timeout, on_timeout }
}

/// For the wire: the same.
#[must_use]
pub fn in_flight_to_proto(in_flight: InFlight) -> Option<v1::InFlight> {
    let of =
        |action: v1::InFlightAction| v1::InFlight { action: action.into(), ..Default::default() };
    match in_flight {
        InFlight::BySpec => None,
        InFlight::Keep => Some(of(v1::InFlightAction::Keep)),
        InFlight::Reset => Some(of(v1::InFlightAction::Reset)),
        InFlight::Drain { timeout, on_timeout } => Some(v1::InFlight {
            timeout: timeout.map(crate::model::drain::text).unwrap_or_default(),
            on_timeout: on_timeout.map_or(0, on_timeout_number),
            ..of(v1::InFlightAction::Drain)
        }),
    }
}

/// For the wire: what a backend shall be.
#[must_use]
pub fn set_backend_to_proto(set: &SetBackend) -> v1::SetBackendStateRequest {
    let state: BackendState = set.state;
    v1::SetBackendStateRequest {
        service: set.service.to_string(),
        address: set.address.to_string(),
        port: set.port.into(),
        state: answer::state_number(state),
        request_id: id_text(set.options.request_id.as_ref()),
        dry_run: set.options.dry_run,
        force: set.options.force,
        fence: fence_to_proto(set.options.fence.as_ref()),
    }
}

/// For the wire: what was settled.
#[must_use]
pub fn settled_to_proto(settled: Settled) -> v1::SettleResponse {
    v1::SettleResponse {
        commit: Some(answer::commit(settled.commit)),
        slots: settled.slots.into_iter().map(answer::slots_moved).collect(),
        backend_slots: settled.backend_slots,
        prefixes: settled.prefixes,
        by_itself_s: settled.by_itself_s,
    }
}

/// From the wire: the same.
pub fn settled(answer: v1::SettleResponse) -> Result<Settled, Malformed> {
    Ok(Settled {
        commit: read::commit(answer.commit)?,
        slots: read::all(answer.slots, read::slots_moved)?,
        backend_slots: answer.backend_slots,
        prefixes: answer.prefixes,
        by_itself_s: answer.by_itself_s,
    })
}

/// For the wire: something that drains.
#[must_use]
pub fn status_to_proto(status: DrainStatus) -> v1::DrainStatus {
    v1::DrainStatus {
        service: status.service.to_string(),
        version: version_number(status.version),
        address: status.backend.map(|at| at.ip().to_string()).unwrap_or_default(),
        port: status.backend.map_or(0, |at| at.port().into()),
        why: status.why,
        age_s: status.age_s,
        flows: status.flows,
        longest_silence_s: status.longest_silence_s,
        last_packet_s: status.last_packet_s,
        packets: status.packets,
        window_s: status.window_s,
        settles_in_s: status.settles_in_s,
        deadline_in_s: status.deadline_in_s,
        on_timeout: on_timeout_number(status.on_timeout),
        may_stop: match status.may_stop {
            MayStop::Yes => v1::MayStop::Yes,
            MayStop::No => v1::MayStop::No,
            MayStop::Unknown => v1::MayStop::Unknown,
        }
        .into(),
        reason: status.reason,
    }
}

/// From the wire: the same.
pub fn status(status: v1::DrainStatus) -> Result<DrainStatus, Malformed> {
    let backend = match status.address.as_str() {
        "" => None,
        text => {
            let address = text.parse().map_err(|_| Malformed("address"))?;
            Some(SocketAddr::new(address, read::small(status.port, "port")?))
        }
    };
    Ok(DrainStatus {
        service: read::service_name(&status.service)?,
        version: version(status.version).ok_or(Malformed("version"))?,
        backend,
        why: status.why,
        age_s: status.age_s,
        flows: status.flows,
        longest_silence_s: status.longest_silence_s,
        last_packet_s: status.last_packet_s,
        packets: status.packets,
        window_s: status.window_s,
        settles_in_s: status.settles_in_s,
        deadline_in_s: status.deadline_in_s,
        on_timeout: on_timeout(status.on_timeout).ok_or(Malformed("on_timeout"))?,
        may_stop: match v1::MayStop::try_from(status.may_stop) {
            Ok(v1::MayStop::Yes) => MayStop::Yes,
            Ok(v1::MayStop::No) => MayStop::No,
            Ok(v1::MayStop::Unknown) => MayStop::Unknown,
            Ok(v1::MayStop::Unspecified) | Err(_) => return Err(Malformed("may_stop")),
        },
        reason: status.reason,
    })
}
