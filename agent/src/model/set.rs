//! The rules between the services of one node: no packet, and no answer, may belong to two of them.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, SocketAddr},
};

use super::{
    Backend, Forwarding, Protocol, Service, ServiceName, Version, Violation, Violations,
    service::MAX_SERVICES, steering::MAX_RULES,
};

/// Checks a request's services against each other and against those the node has.
///
/// Of `existing`, the services that the request replaces are left aside. Each violation names a field of the
/// request; its message names the service it conflicts with.
pub fn validate_set(request: &[Service], existing: &[&Service]) -> Result<(), Vec<Violation>> {
    let mut violations = Violations::default();
    compare(request.iter().enumerate(), existing, &mut violations);
    violations.into_result()
}

/// What [`validate_set`] does; a service comes with its index in the request.
pub(super) fn compare<'a>(
    request: impl Iterator<Item = (usize, &'a Service)> + Clone,
    existing: &[&'a Service],
    violations: &mut Violations,
) {
    let mut names = HashSet::new();
    for (index, service) in request.clone() {
        if !names.insert(&service.name) {
            violations.push(
                format!("services[{index}].name"),
                format!("{:?} is named twice", service.name.as_str()),
            );
        }
    }
    let existing: Vec<&Service> =
        existing.iter().copied().filter(|service| !names.contains(&service.name)).collect();
    let total = names.len() + existing.len();
    if total > MAX_SERVICES {
        violations.push(
            "services",
            format!("would make {total} on this node; it takes at most {MAX_SERVICES}"),
        );
    }

    let mut rules: usize = existing.iter().map(|service| service.steering.len()).sum();
    for (index, service) in request.clone() {
        rules += service.steering.len();
        if rules > MAX_RULES && !service.steering.is_empty() {
            violations.push(
                format!("services[{index}].steering"),
                format!("would make {rules} rules on this node; it takes at most {MAX_RULES}"),
            );
        }
    }

    let mut claims = Claims::default();
    for service in &existing {
        claims.listeners_of(service, |_, _| ());
        claims.backends_of(service, |_, _, _| ());
    }
    for (index, service) in request.clone() {
        claims.listeners_of(service, |listener, message| {
            violations.push(format!("services[{index}].listeners[{listener}]"), message);
        });
    }
    for (index, service) in request {
        claims.backends_of(service, |version, backend, message| {
            violations
                .push(format!("services[{index}].versions.{version}.backends[{backend}]"), message);
        });
    }
}

type Endpoint = (IpAddr, u16, Protocol);

/// Who an endpoint belongs to.
#[derive(Default)]
struct Claims<'a> {
    listeners: HashMap<Endpoint, &'a ServiceName>,
    /// Any listener of an address.
    addresses: HashMap<IpAddr, &'a ServiceName>,
    /// Backends whose answers are turned back; port 0 is every port.
    backends: HashMap<Endpoint, (&'a ServiceName, Version)>,
    /// Any such backend of an address.
    hosts: HashMap<(IpAddr, Protocol), (&'a ServiceName, Version)>,
    /// Backends whose answers go elsewhere.
    direct: HashSet<(&'a ServiceName, IpAddr)>,
}

impl<'a> Claims<'a> {
    /// Claims a service's listeners; tells `refused` the index of each that is taken, and why.
    fn listeners_of(&mut self, service: &'a Service, mut refused: impl FnMut(usize, String)) {
        for (index, listener) in service.listeners.iter().enumerate() {
            let endpoint = (listener.address, listener.port, listener.protocol);
            if let Some(owner) = self.listeners.get(&endpoint) {
                refused(
                    index,
                    format!("{listener} is already a listener of service {:?}", owner.as_str()),
                );
            } else if let Some((owner, version)) = self.backends.get(&endpoint) {
                refused(
                    index,
                    format!("{listener} is a backend of {version} of service {:?}", owner.as_str()),
                );
            } else {
                self.listeners.insert(endpoint, &service.name);
                self.addresses.insert(listener.address, &service.name);
            }
        }
    }

    /// Claims a service's backends, for each protocol it listens for.
    fn backends_of(
        &mut self,
        service: &'a Service,
        mut refused: impl FnMut(Version, usize, String),
    ) {
        for (version, group) in service.versions.iter() {
            for (index, backend) in group.backends.iter().enumerate() {
                if let Some(why) = self.backend(service, version, backend) {
                    refused(version, index, why);
                }
            }
        }
    }

    /// Claims one backend, or says why it cannot.
    fn backend(
        &mut self,
        service: &'a Service,
        version: Version,
        backend: &Backend,
    ) -> Option<String> {
        if service.forwarding != Forwarding::Nat {
            return self.direct_backend(service, backend);
        }
        for listener in &service.listeners {
            let endpoint = (backend.address, backend.port, listener.protocol);
            let name =
                format!("{}/{}", SocketAddr::new(backend.address, backend.port), listener.protocol);
            if let Some(owner) = self.listeners.get(&endpoint) {
                return Some(format!(
                    "{name} is a listener of service {:?}: packets would loop",
                    owner.as_str()
                ));
            }
            let (host, any) =
                ((backend.address, listener.protocol), (backend.address, 0, listener.protocol));
            // A backend for every port overlaps with all others at its address.
            let taken = self.backends.get(&endpoint).or_else(|| match backend.port {
                0 => self.hosts.get(&host),
                _ => self.backends.get(&any),
            });
            match taken {
                Some((owner, other)) if *owner == &service.name && *other == version => {
                    return Some(format!("{name} is listed twice in {version}"));
                }
                Some((owner, other)) => {
                    return Some(format!(
                        "{name} already serves {other} of service {:?}: an answer from it could belong to either",
                        owner.as_str()
                    ));
                }
                None => {
                    self.backends.insert(endpoint, (&service.name, version));
                    self.hosts.insert(host, (&service.name, version));
                }
            }
        }
        None
    }

    /// Claims a backend that answers clients directly. It may serve several services, because
    /// nothing of it comes back; within one, its address is all that tells it from others.
    fn direct_backend(&mut self, service: &'a Service, backend: &Backend) -> Option<String> {
        if let Some(owner) = self.addresses.get(&backend.address) {
            return Some(format!(
                "{} is the address of a listener of service {:?}: packets would loop",
                backend.address,
                owner.as_str()
            ));
        }
        if !self.direct.insert((&service.name, backend.address)) {
            return Some(format!(
                "{} is listed twice in this service; with {} a backend is its address alone",
                backend.address, service.forwarding
            ));
        }
        None
    }
}
