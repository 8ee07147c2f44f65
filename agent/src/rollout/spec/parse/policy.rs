//! What holds on the whole way.

use super::super::external::{Comparison, Condition};
use super::super::reader::{Field, real};
use super::super::{
    Agents, Drain, Guard, InFlightKind, Lease, OnTimeout, Unattended, Unreachable,
    UnreachableAction, Verify, VerifyAction,
};
use super::strategy::share;
use crate::model::{self, LeaseLength, OnExpiry, Weight};
use crate::rollout::time::Seconds;

pub(super) fn guard(field: &Field<'_>) -> Option<Guard> {
    let mut map = field.map()?;
    let connect_success = map.need("connectSuccess").and_then(|field| least(&field));
    let min_connections = map.or("minConnections", 20, |field| field.number(1, 1_000_000));
    let window = map.or("window", Seconds::new(5), Field::time);
    Some(Guard { connect_success: connect_success?, min_connections, window })
}

/// `>= 50%`: a floor for a share.
fn least(field: &Field<'_>) -> Option<Weight> {
    let condition = condition(field)?;
    let basis_points = (condition.threshold * 10_000.0).round();
    let within = (1.0..=10_000.0).contains(&basis_points);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is within")]
    let weight = if within { Weight::from_bp(basis_points as u32) } else { None };
    if condition.comparison != Comparison::AtLeast || weight.is_none() {
        field.wrong("is not a floor for a share; write it as \">= 50%\"");
        return None;
    }
    weight
}

/// `>= 0.95`, `< 500`, `<= 5%`.
pub(super) fn condition(field: &Field<'_>) -> Option<Condition> {
    let text = field.text()?;
    let signs = [Comparison::AtMost, Comparison::AtLeast, Comparison::Less, Comparison::More];
    let parsed = signs.into_iter().find_map(|comparison| {
        let number = text.trim().strip_prefix(comparison.sign())?;
        Some(Condition { comparison, threshold: real(number)? })
    });
    if parsed.is_none() {
        field.wrong(format!("{text:?} is not a condition; write it as \">= 0.95\" or \"< 5%\""));
    }
    parsed
}

pub(super) fn drain(field: &Field<'_>) -> Option<Drain> {
    let mut map = field.map()?;
    let default = Drain::default();
    let idle = map.get("idle").and_then(|field| field.time());
    let timeout = map.get("timeout").and_then(|field| field.time());
    let on_timeout = map.or("onTimeout", default.on_timeout, |field| {
        field.word(&[("keep", model::OnTimeout::Keep), ("reset", model::OnTimeout::Reset)])
    });
    // One of both alone draws the other along, so that it is not refused for what nobody wrote.
    let timeout = timeout.unwrap_or(idle.map_or(default.timeout, |idle| idle.max(default.timeout)));
    Some(Drain { idle: idle.unwrap_or(default.idle.min(timeout)), timeout, on_timeout })
}

pub(super) fn verify(field: &Field<'_>) -> Option<Verify> {
    let mut map = field.map()?;
    let default = Verify::default();
    Some(Verify {
        timeout: map.or("timeout", default.timeout, Field::time),
        quorum: map.or("quorum", default.quorum, share),
        on_fail: map.or("onFail", default.on_fail, |field| {
            field.word(&[("pause", VerifyAction::Pause), ("abort", VerifyAction::Abort)])
        }),
    })
}

pub(super) fn agents(field: &Field<'_>) -> Option<Agents> {
    let mut map = field.map()?;
    let unreachable = map.or("unreachable", Unreachable::default(), unreachable);
    Some(Agents { unreachable, lease: map.get("lease").and_then(|field| lease(&field)) })
}

fn unreachable(field: &Field<'_>) -> Option<Unreachable> {
    let mut map = field.map()?;
    let default = Unreachable::default();
    Some(Unreachable {
        max_percent: map.or("maxPercent", default.max_percent, Field::percent),
        action: map.or("action", default.action, |field| {
            field.word(&[
                ("pause", UnreachableAction::Pause),
                ("abort", UnreachableAction::Abort),
                ("proceed", UnreachableAction::Proceed),
            ])
        }),
    })
}

fn lease(field: &Field<'_>) -> Option<Lease> {
    let mut map = field.map()?;
    let ttl = map.need("ttl").and_then(|field| field.read::<LeaseLength>());
    let on_expiry = map.or("onExpiry", OnExpiry::default(), Field::read);
    Some(Lease { ttl: ttl?, on_expiry })
}

pub(super) fn unattended(field: &Field<'_>) -> Option<Unattended> {
    let mut map = field.map()?;
    let default = Unattended::default();
    Some(Unattended {
        timeout: map.or("timeout", default.timeout, Field::time),
        on_timeout: map.or("onTimeout", default.on_timeout, on_timeout),
    })
}

pub(super) fn on_timeout(field: &Field<'_>) -> Option<OnTimeout> {
    field.word(&[("abort", OnTimeout::Abort), ("proceed", OnTimeout::Proceed)])
}

pub(super) fn rollback(field: &Field<'_>) -> Option<InFlightKind> {
    let mut map = field.map()?;
    // There is one way back, in one write; the key is there so that documents can say so.
    if let Some(mode) = map.get("mode") {
        mode.word(&[("immediate", ())])?;
    }
    Some(map.or("inFlight", InFlightKind::default(), |field| {
        field.word(&[
            ("keep", InFlightKind::Keep),
            ("drain", InFlightKind::Drain),
            ("reset", InFlightKind::Reset),
        ])
    }))
}
