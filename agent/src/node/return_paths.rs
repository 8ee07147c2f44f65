//! Return paths of backends that drain: answers that come from one endpoint must belong to one
//! service. Pure.
//!
//! The model sees to the backends that specs list. It knows nothing of those that were taken out
//! and keep their flows.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use super::error::Error;
use super::state::{Entry, State};
use crate::model::{Backend, Forwarding, Protocol, Service, ServiceName, Violations};

/// Where answers come from.
type Source = (IpAddr, u16, Protocol);

/// Refuses a state that `request` has led to, if answers could belong to two services.
pub(super) fn check(state: &State, request: &[Service]) -> Result<(), Error> {
    let mut owners: HashMap<Source, &ServiceName> = HashMap::new();
    let mut violations = Violations::default();
    let answered = |entry: &Entry| entry.service.forwarding() == Forwarding::Nat;
    for (name, entry) in state.services.iter().filter(|(_, entry)| answered(entry)) {
        for listener in entry.service.listeners() {
            for (key, _) in state.directory.of(name) {
                let source = (key.address, key.port, listener.protocol);
                let owner = *owners.entry(source).or_insert(name);
                if owner != name {
                    let (field, message) = conflict(source, [owner, name], request);
                    violations.push(field, message);
                }
            }
        }
    }
    violations.into_result().map_err(Error::Invalid)
}

/// Field and message of a conflict between two services, at least one of which is in the request.
fn conflict(
    source: Source,
    [one, other]: [&ServiceName; 2],
    request: &[Service],
) -> (String, String) {
    let (address, port, protocol) = source;
    let at = format!("{}/{protocol}", SocketAddr::new(address, port));
    let pairs = [(one, other), (other, one)];
    let listed = |(name, rival)| Some((listed(source, name, request)?, rival));
    if let Some((field, rival)) = pairs.into_iter().find_map(listed) {
        let message = format!(
            "{at} drains from service {:?}, whose answers come back from there; wait until it \
             has drained, or delete that service",
            rival.as_str()
        );
        return (field, message);
    }
    // It drains from a service of the request that has got another protocol.
    let listens = |(name, rival)| Some((listens(protocol, name, request)?, rival));
    let (field, rival) = pairs.into_iter().find_map(listens).unwrap_or((String::new(), other));
    let message = format!(
        "{at} drains from this service, but its answers belong to service {:?}; leave the \
         listener out, or wait until it has drained",
        rival.as_str()
    );
    (field, message)
}

/// The field of the request that makes a backend one of the service.
fn listed((address, port, _): Source, name: &ServiceName, request: &[Service]) -> Option<String> {
    let s = request.iter().position(|service| service.name() == name)?;
    request[s].versions().iter().find_map(|(version, group)| {
        let is_it = |b: &Backend| (b.address, b.port) == (address, port);
        let b = group.backends.iter().position(is_it)?;
        Some(format!("services[{s}].versions.{version}.backends[{b}]"))
    })
}

/// The field of the request that makes the service listen for a protocol.
fn listens(protocol: Protocol, name: &ServiceName, request: &[Service]) -> Option<String> {
    let s = request.iter().position(|service| service.name() == name)?;
    let l = request[s].listeners().iter().position(|l| l.protocol == protocol)?;
    Some(format!("services[{s}].listeners[{l}]"))
}
