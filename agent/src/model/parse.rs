//! From spec to [`Service`]: each rule about the fields of one service.

use std::net::IpAddr;

use super::{
    Backend, Family, Forwarding, Listener, PerVersion, Quic, Seed, Service, ServiceName,
    ServiceSpec, Version, VersionGroup, Violation, Violations, Weight, Weights, drain, health,
    service::{
        DEFAULT_GUE_PORT, MAX_BACKEND_WEIGHT, MAX_BACKENDS, MAX_LISTENERS, MAX_RELEASE,
        MAX_SERVICES,
    },
    set,
    spec::{BackendSpec, ListenerSpec, VersionSpec},
    steering, udp,
    weight::{SumIsOff, above_full, percent},
};

/// The services of one request, or everything that is wrong with it.
///
/// The rules between services hold within the result; against the services a node has already,
/// [`super::validate_set`] checks them. `force` allows weight for a version that nothing serves.
pub fn parse_services(specs: &[ServiceSpec], force: bool) -> Result<Vec<Service>, Vec<Violation>> {
    let mut violations = Violations::default();
    if specs.is_empty() {
        violations.push("services", "is empty; name at least one service");
    }
    if specs.len() > MAX_SERVICES {
        violations.push(
            "services",
            format!("holds {}; a node takes at most {MAX_SERVICES}", specs.len()),
        );
        return Err(violations.into_result().err().unwrap_or_default());
    }
    let parsed: Vec<(usize, Service)> = specs
        .iter()
        .enumerate()
        .filter_map(|(index, spec)| {
            service(spec, &format!("services[{index}]"), force, &mut violations)
                .map(|service| (index, service))
        })
        .collect();
    // Services that are whole are compared even if another is not, to name as much as possible at once.
    set::compare(parsed.iter().map(|(index, service)| (*index, service)), &[], &mut violations);
    violations.into_result()?;
    Ok(parsed.into_iter().map(|(_, service)| service).collect())
}

/// One service; `None` after noting at least one violation.
fn service(
    spec: &ServiceSpec,
    path: &str,
    force: bool,
    violations: &mut Violations,
) -> Option<Service> {
    let mut own = Noted { violations, any: false };
    let name = own.note(format!("{path}.name"), ServiceName::new(&spec.name));
    let seed = spec.seed.as_deref().map(|text| {
        let seed =
            Seed::from_hex(text).ok_or_else(|| format!("{text:?} is not 32 hexadecimal digits"));
        own.note(format!("{path}.seed"), seed)
    });
    let listeners = listeners(spec, path, &mut own);
    let gue_port = own.note(format!("{path}.gue_port"), gue_port(spec));
    let idle = own.note(format!("{path}.udp_idle"), udp::idle(spec, &listeners));
    let quic = own.note(format!("{path}.quic"), udp::quic(spec)).flatten();
    let drain = drain::parse(spec.drain.as_ref(), |field, message| {
        own.push(format!("{path}.drain.{field}"), message);
    });
    own.note(format!("{path}.udp"), udp::check(spec.udp, &listeners));
    if Version::ALL.iter().all(|version| spec.versions.get(*version).is_none()) {
        own.push(
            format!("{path}.versions"),
            "names no version; name at least one of blue, green and canary",
        );
        return None;
    }
    let weights = weights(spec, path, &mut own);
    let versions = PerVersion::from_fn(|version| match spec.versions.get(version) {
        Some(group_spec) => {
            let path = format!("{path}.versions.{version}");
            group(group_spec, (spec.forwarding, quic), &listeners, &path, &mut own)
        }
        None => VersionGroup::default(),
    });
    udp::compare_ids(&versions, path, |field, message| own.push(field, message));
    let health = spec.health.as_ref().and_then(|spec| {
        let note = |field: &str, message| own.push(format!("{path}.health.{field}"), message);
        health::health(spec, &listeners, &versions, note)
    });
    let family = listeners.first().map(|listener| Family::of(listener.address));
    let steering =
        steering::rules(&spec.steering, family, path, |field, message| own.push(field, message));
    if own.any {
        return None;
    }
    let service = Service {
        name: name?,
        listeners,
        forwarding: spec.forwarding,
        gue_port: gue_port?,
        affinity: spec.affinity,
        udp: spec.udp,
        udp_idle: idle?,
        quic,
        signals: spec.signals,
        drain,
        health,
        seed: seed.flatten(),
        weights: weights?,
        steering,
        versions,
    };
    if !force {
        for version in service.unserved() {
            let weight = service.weights.get(version);
            let message = if service.versions[version].backends.is_empty() {
                format!("is empty, but {version} has weight {weight}; give it a backend, or force")
            } else {
                format!(
                    "all have weight 0, but {version} has weight {weight}; give one a weight, or force"
                )
            };
            own.push(format!("{path}.versions.{version}.backends"), message);
        }
        for (index, listener) in service.listeners.iter().enumerate() {
            if let Some(version) = listener.version
                && !service.versions[version].is_served()
            {
                own.push(
                    format!("{path}.listeners[{index}].version"),
                    format!(
                        "{listener} goes to {version}, which has no backend that takes connections; \
                         give it one, or force"
                    ),
                );
            }
        }
        if let Some(rule) = service.misled() {
            let (source, version) = (rule.source, rule.version);
            own.push(
                format!("{path}.steering"),
                format!(
                    "{source} goes to {version}, which has no backend that takes connections; give \
                     it one, or force"
                ),
            );
        }
    }
    (!own.any).then_some(service)
}

/// Violations of one service.
struct Noted<'a> {
    violations: &'a mut Violations,
    any: bool,
}

impl Noted<'_> {
    fn push(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.any = true;
        self.violations.push(field, message);
    }

    /// The value, or `None` after noting why there is none.
    fn note<T>(&mut self, field: String, parsed: Result<T, String>) -> Option<T> {
        parsed.map_err(|message| self.push(field, message)).ok()
    }
}

/// The listeners that are right by themselves.
fn listeners(service: &ServiceSpec, path: &str, own: &mut Noted<'_>) -> Vec<Listener> {
    let specs: &[ListenerSpec] = &service.listeners;
    let path = format!("{path}.listeners");
    if specs.is_empty() {
        own.push(&path, "is empty; name at least one");
    }
    if specs.len() > MAX_LISTENERS {
        own.push(&path, format!("holds {}; a service takes at most {MAX_LISTENERS}", specs.len()));
        return Vec::new();
    }
    let mut listeners: Vec<Listener> = Vec::new();
    for (index, spec) in specs.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let address = own.note(format!("{path}.address"), address(&spec.address));
        let port = own.note(format!("{path}.port"), port(spec.port));
        let (Some(address), Some(port)) = (address, port) else {
            continue;
        };
        let (protocol, version) = (spec.protocol, spec.version);
        let listener = Listener { address, port, protocol, version };
        let (family, first) =
            (Family::of(address), listeners.first().map(|first| Family::of(first.address)));
        if first.is_some_and(|first| first != family) {
            own.push(
                format!("{path}.address"),
                format!(
                    "{address} is {family}, but other listeners are not; a service has one family"
                ),
            );
        }
        let same =
            |one: &Listener| (one.address, one.port, one.protocol) == (address, port, protocol);
        if listeners.iter().any(same) {
            own.push(&path, format!("{listener} is listed twice"));
        } else if let Some(other) = listeners
            .iter()
            .find(|other| other.protocol == listener.protocol)
            .filter(|_| service.forwarding == Forwarding::Nat)
        {
            own.push(
                &path,
                format!(
                    "{listener} is a second {} listener beside {other}: with nat a backend's answer could belong to \
                     either; make it a service with backends of its own",
                    listener.protocol
                ),
            );
        }
        listeners.push(listener);
    }
    listeners
}

/// The weights, if each is right and they add up.
fn weights(spec: &ServiceSpec, path: &str, own: &mut Noted<'_>) -> Option<Weights> {
    let asked =
        PerVersion::from_fn(|version| spec.versions.get(version).map_or(0, |spec| spec.weight));
    let parsed = asked.map(Weight::from_bp);
    for (version, weight) in parsed.iter() {
        if weight.is_none() {
            own.push(format!("{path}.versions.{version}.weight"), above_full(asked[version]));
        }
    }
    let weights =
        PerVersion::new(parsed[Version::Blue]?, parsed[Version::Green]?, parsed[Version::Canary]?);
    let sum = |sum: SumIsOff| {
        let named = weights.iter().filter(|(_, weight)| **weight != Weight::ZERO);
        let parts: Vec<String> =
            named.map(|(version, weight)| format!("{version} {weight}")).collect();
        match parts.len() {
            0 => "no version has a weight; they must add up to 100%".to_owned(),
            _ => format!("weights add up to {}, not 100% ({})", percent(sum.0), parts.join(", ")),
        }
    };
    own.note(format!("{path}.versions"), Weights::new(weights).map_err(sum))
}

/// What serves one version: the backends that are right.
fn group(
    spec: &VersionSpec,
    (forwarding, quic): (Forwarding, Option<Quic>),
    listeners: &[Listener],
    path: &str,
    own: &mut Noted<'_>,
) -> VersionGroup {
    let length = spec.release.chars().count();
    if length > MAX_RELEASE {
        own.push(
            format!("{path}.release"),
            format!("has {length} characters; at most {MAX_RELEASE} are allowed"),
        );
    } else if spec.release.chars().any(char::is_control) {
        own.push(format!("{path}.release"), "holds a control character");
    }
    if spec.backends.len() > MAX_BACKENDS {
        let message =
            format!("holds {}; a version takes at most {MAX_BACKENDS}", spec.backends.len());
        own.push(format!("{path}.backends"), message);
        return VersionGroup::default();
    }
    let backends = spec.backends.iter().enumerate();
    let backends = backends.filter_map(|(index, spec)| {
        let path = format!("{path}.backends[{index}]");
        let id = own.note(format!("{path}.server_id"), udp::server_id(spec, quic));
        let backend = backend(spec, forwarding, listeners, &path, own)?;
        Some(Backend { server_id: id.flatten(), ..backend })
    });
    VersionGroup { backends: backends.collect(), release: spec.release.clone() }
}

fn backend(
    spec: &BackendSpec,
    forwarding: Forwarding,
    listeners: &[Listener],
    path: &str,
    own: &mut Noted<'_>,
) -> Option<Backend> {
    let address = own.note(format!("{path}.address"), address(&spec.address));
    let port = own.note(format!("{path}.port"), backend_port(spec.port, forwarding, listeners));
    let weight = u16::try_from(spec.weight).ok().filter(|weight| *weight <= MAX_BACKEND_WEIGHT);
    let too_much = || format!("{} is more than {MAX_BACKEND_WEIGHT}", spec.weight);
    let weight = own.note(format!("{path}.weight"), weight.ok_or_else(too_much));
    let (address, port, weight) = (address?, port?, weight?);
    let family = listeners.first().map(|listener| Family::of(listener.address));
    let carried = |family| forwarding.carries(family, Family::of(address));
    if let Some(family) = family.filter(|family| !carried(*family)) {
        let advice = match forwarding {
            Forwarding::DsrIpip => "; dsr-ipip does not carry IPv6 there, dsr-gue does",
            _ => "",
        };
        own.push(
            format!("{path}.address"),
            format!(
                "{address} is {}, but the service's listeners are {family}{advice}",
                Family::of(address)
            ),
        );
    }
    Some(Backend { address, port, weight, server_id: None })
}

/// A port, or 0 for every port.
fn port(port: u32) -> Result<u16, String> {
    u16::try_from(port).map_err(|_| format!("{port} is not a port; a port is 1 to 65535"))
}

/// The port that a backend's packets get: 0 where they keep their own.
fn backend_port(asked: u32, forwarding: Forwarding, listeners: &[Listener]) -> Result<u16, String> {
    let asked = port(asked)?;
    if forwarding == Forwarding::Nat {
        let any = listeners.iter().any(|listener| listener.port == 0);
        return match (any, asked) {
            (false, 0) => Err("0 is not a port here; with nat it is 1 to 65535".to_owned()),
            (true, 1..) => Err(format!(
                "{asked} cannot stand behind a listener for every port: leave the port out, and each \
                 packet keeps its own"
            )),
            _ => Ok(asked),
        };
    }
    match listeners.iter().find(|listener| asked != 0 && listener.port != asked) {
        Some(listener) => Err(format!(
            "{forwarding} does not rewrite ports, so packets for {listener} cannot arrive at port \
             {asked}: leave the port out"
        )),
        None => Ok(0),
    }
}

/// The UDP port of a service's tunnels.
fn gue_port(spec: &ServiceSpec) -> Result<u16, String> {
    match spec.gue_port {
        None => Ok(DEFAULT_GUE_PORT),
        Some(_) if spec.forwarding != Forwarding::DsrGue => {
            Err("has no meaning without forwarding: dsr-gue; leave it out".to_owned())
        }
        Some(0) => Err("0 is not a port; a port is 1 to 65535".to_owned()),
        Some(asked) => port(asked),
    }
}

/// An address that one host can have and that packets can be sent to.
fn address(text: &str) -> Result<IpAddr, String> {
    let address: IpAddr = text.parse().map_err(|_| format!("{text:?} is not an IP address"))?;
    let kind = match address {
        address if address.is_unspecified() => "the unspecified address",
        address if address.is_loopback() => "a loopback address",
        address if address.is_multicast() => "a multicast address",
        IpAddr::V4(v4) if v4.is_broadcast() => "the broadcast address",
        IpAddr::V4(v4) if v4.octets()[0] == 0 => "an address of \"this network\"",
        IpAddr::V6(v6) if v6.is_unicast_link_local() => "a link-local address",
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => return Err(format!("{v6} is an IPv4-mapped address; write {v4}")),
            None => return Ok(address),
        },
        IpAddr::V4(_) => return Ok(address),
    };
    Err(format!("{address} is {kind}; it must be a global or private unicast address"))
}
