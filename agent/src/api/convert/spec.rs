//! A service's spec, to and from the wire.

use weir_proto::v1;

use super::{health, on_timeout, on_timeout_number, protocol, version, version_number};
use crate::model::{
    Affinity, Forwarding, OnTimeout, Protocol, ServiceSpec, Signals, Udp, Version, Violations,
    service::DEFAULT_BACKEND_WEIGHT,
    spec::{BackendSpec, DrainSpec, ListenerSpec, QuicSpec, RuleSpec, VersionSpec, VersionsSpec},
};

/// For the wire.
#[must_use]
pub fn to_proto(spec: &ServiceSpec) -> v1::ServiceSpec {
    let version_spec = |spec: &VersionSpec| v1::VersionSpec {
        release: spec.release.clone(),
        weight_bp: spec.weight,
        backends: spec
            .backends
            .iter()
            .map(|backend| v1::Backend {
                address: backend.address.clone(),
                port: backend.port,
                weight: Some(backend.weight),
                server_id: backend.server_id.clone().unwrap_or_default(),
            })
            .collect(),
    };
    let listener = |listener: &ListenerSpec| v1::Listener {
        address: listener.address.clone(),
        port: listener.port,
        protocol: match listener.protocol {
            Protocol::Tcp => v1::Protocol::Tcp,
            Protocol::Udp => v1::Protocol::Udp,
        }
        .into(),
        version: listener.version.map(version_number).unwrap_or_default(),
    };
    v1::ServiceSpec {
        name: spec.name.clone(),
        listeners: spec.listeners.iter().map(listener).collect(),
        forwarding: match spec.forwarding {
            Forwarding::Nat => v1::Forwarding::Nat,
            Forwarding::DsrL2 => v1::Forwarding::DsrL2,
            Forwarding::DsrIpip => v1::Forwarding::DsrIpip,
            Forwarding::DsrGue => v1::Forwarding::DsrGue,
        }
        .into(),
        gue_port: spec.gue_port,
        udp: match spec.udp {
            Udp::Tracked => v1::Udp::Tracked,
            Udp::Stateless => v1::Udp::Stateless,
            Udp::Quic => v1::Udp::Quic,
        }
        .into(),
        udp_idle: spec.udp_idle.clone().unwrap_or_default(),
        quic: spec
            .quic
            .map(|quic| v1::Quic { config: quic.config, server_id_length: quic.server_id_length }),
        signals: match spec.signals {
            Signals::Off => v1::Signals::Off,
            Signals::Basic => v1::Signals::Basic,
            Signals::Full => v1::Signals::Full,
        }
        .into(),
        drain: spec.drain.as_ref().map(drain_to_proto),
        health: spec.health.as_ref().map(health::to_proto),
        affinity: match spec.affinity {
            Affinity::Connection => v1::Affinity::Connection,
            Affinity::Client => v1::Affinity::Client,
            Affinity::ClientBackend => v1::Affinity::ClientBackend,
        }
        .into(),
        seed: spec.seed.clone().unwrap_or_default(),
        steering: spec.steering.iter().map(rule_to_proto).collect(),
        versions: Some(v1::Versions {
            blue: spec.versions.blue.as_ref().map(version_spec),
            green: spec.versions.green.as_ref().map(version_spec),
            canary: spec.versions.canary.as_ref().map(version_spec),
        }),
    }
}

/// From the wire. What no spec can hold (an unknown number for a word) is noted; the rest is for the model.
pub fn from_proto(spec: v1::ServiceSpec, path: &str, violations: &mut Violations) -> ServiceSpec {
    let forwarding = match v1::Forwarding::try_from(spec.forwarding) {
        Ok(v1::Forwarding::Unspecified | v1::Forwarding::Nat) => Forwarding::Nat,
        Ok(v1::Forwarding::DsrL2) => Forwarding::DsrL2,
        Ok(v1::Forwarding::DsrIpip) => Forwarding::DsrIpip,
        Ok(v1::Forwarding::DsrGue) => Forwarding::DsrGue,
        Err(_) => {
            violations.push(
                format!("{path}.forwarding"),
                format!("{} is no forwarding mode", spec.forwarding),
            );
            Forwarding::default()
        }
    };
    let affinity = match v1::Affinity::try_from(spec.affinity) {
        Ok(v1::Affinity::Unspecified | v1::Affinity::Connection) => Affinity::Connection,
        Ok(v1::Affinity::Client) => Affinity::Client,
        Ok(v1::Affinity::ClientBackend) => Affinity::ClientBackend,
        Err(_) => {
            violations
                .push(format!("{path}.affinity"), format!("{} is no affinity", spec.affinity));
            Affinity::default()
        }
    };
    let udp = match v1::Udp::try_from(spec.udp) {
        Ok(v1::Udp::Unspecified | v1::Udp::Tracked) => Udp::Tracked,
        Ok(v1::Udp::Stateless) => Udp::Stateless,
        Ok(v1::Udp::Quic) => Udp::Quic,
        Err(_) => {
            violations.push(format!("{path}.udp"), format!("{} is no way to treat UDP", spec.udp));
            Udp::default()
        }
    };
    let signals = match v1::Signals::try_from(spec.signals) {
        Ok(v1::Signals::Unspecified | v1::Signals::Full) => Signals::Full,
        Ok(v1::Signals::Basic) => Signals::Basic,
        Ok(v1::Signals::Off) => Signals::Off,
        Err(_) => {
            let message = format!("{} is no level of signals", spec.signals);
            violations.push(format!("{path}.signals"), message);
            Signals::default()
        }
    };
    let drain = spec.drain.map(|drain| drain_from_proto(drain, path, violations));
    let listeners = spec.listeners.into_iter().enumerate().map(|(index, listener)| ListenerSpec {
        address: listener.address,
        port: listener.port,
        protocol: protocol(listener.protocol).unwrap_or_else(|| {
            violations.push(format!("{path}.listeners[{index}].protocol"), "must be TCP or UDP");
            Protocol::Tcp
        }),
        version: match listener.version {
            0 => None,
            number => version(number).or_else(|| {
                let field = format!("{path}.listeners[{index}].version");
                violations.push(field, "must be blue, green or canary, or left out");
                None
            }),
        },
    });
    let listeners = listeners.collect();
    let steering = spec.steering.into_iter().enumerate().map(|(index, rule)| RuleSpec {
        source: rule.source,
        version: version(rule.version).unwrap_or_else(|| {
            let field = format!("{path}.steering[{index}].version");
            violations.push(field, "must be blue, green or canary");
            Version::Blue
        }),
    });
    let steering = steering.collect();
    let health = spec
        .health
        .and_then(|check| health::from_proto(check, &format!("{path}.health"), violations));
    let versions = spec.versions.unwrap_or_default();
    ServiceSpec {
        name: spec.name,
        listeners,
        forwarding,
        gue_port: spec.gue_port,
        affinity,
        udp,
        udp_idle: Some(spec.udp_idle).filter(|idle| !idle.is_empty()),
        quic: spec
            .quic
            .map(|quic| QuicSpec { config: quic.config, server_id_length: quic.server_id_length }),
        signals,
        drain,
        health,
        seed: Some(spec.seed).filter(|seed| !seed.is_empty()),
        steering,
        versions: VersionsSpec {
            blue: versions.blue.map(version_spec),
            green: versions.green.map(version_spec),
            canary: versions.canary.map(version_spec),
        },
    }
}

fn drain_to_proto(drain: &DrainSpec) -> v1::Drain {
    v1::Drain {
        idle: drain.idle.clone().unwrap_or_default(),
        timeout: drain.timeout.clone().unwrap_or_default(),
        on_timeout: on_timeout_number(drain.on_timeout),
    }
}

fn drain_from_proto(drain: v1::Drain, path: &str, violations: &mut Violations) -> DrainSpec {
    let on_timeout = on_timeout(drain.on_timeout).unwrap_or_else(|| {
        violations.push(format!("{path}.drain.on_timeout"), "must be KEEP or RESET");
        OnTimeout::default()
    });
    let text = |text: String| Some(text).filter(|text| !text.is_empty());
    DrainSpec { idle: text(drain.idle), timeout: text(drain.timeout), on_timeout }
}

fn rule_to_proto(rule: &RuleSpec) -> v1::SteeringRule {
    v1::SteeringRule { source: rule.source.clone(), version: version_number(rule.version) }
}

fn version_spec(spec: v1::VersionSpec) -> VersionSpec {
    let backends = spec.backends.into_iter().map(|backend| BackendSpec {
        address: backend.address,
        port: backend.port,
        weight: backend.weight.unwrap_or(DEFAULT_BACKEND_WEIGHT.into()),
        server_id: Some(backend.server_id).filter(|id| !id.is_empty()),
    });
    VersionSpec { release: spec.release, weight: spec.weight_bp, backends: backends.collect() }
}
