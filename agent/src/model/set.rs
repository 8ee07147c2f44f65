//! The rules between the services of one node: no packet, and no answer, may belong to two of them.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, SocketAddr},
};

use super::{
    Backend, Protocol, Service, ServiceName, Version, Violation, Violations, service::MAX_SERVICES,
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
    backends: HashMap<Endpoint, (&'a ServiceName, Version)>,
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
            match self.backends.get(&endpoint) {
                Some((owner, other)) if *owner == &service.name && *other == version => {
                    return Some(format!("{name} is listed twice in {version}"));
                }
                Some((owner, other)) => {
                    return Some(format!(
                        "{name} already serves {other} of service {:?}: an answer from it could belong to either",
                        owner.as_str()
                    ));
                }
                None => self.backends.insert(endpoint, (&service.name, version)),
            };
        }
        None
    }
}
