//! Tunnels need an address of the node that their packets come from, one of each backend's family.
//! Pure.

use std::collections::BTreeSet;

use super::error::Error;
use crate::dataplane::OuterSource;
use crate::model::{Family, Service, Violations};

/// Refuses services whose tunnels would come from nowhere.
pub(super) fn check(request: &[Service], source: OuterSource) -> Result<(), Error> {
    let mut violations = Violations::default();
    for (s, service) in request.iter().enumerate().filter(|(_, s)| s.forwarding().is_tunnel()) {
        for (version, group) in service.versions().iter() {
            for (b, backend) in group.backends.iter().enumerate() {
                if !source.reaches(backend.address) {
                    let field = format!("services[{s}].versions.{version}.backends[{b}].address");
                    let family = Family::of(backend.address);
                    let message = format!(
                        "{} is reached by {} over {family}, and this node has no {family} address \
                         that tunnels could come from; give the agent one: --outer-source ADDRESS",
                        backend.address,
                        service.forwarding()
                    );
                    violations.push(field, message);
                }
            }
        }
    }
    violations.into_result().map_err(Error::Invalid)
}

/// What an operator should know of services that were accepted when the node had other addresses.
pub(super) fn warnings<'a>(
    services: impl Iterator<Item = &'a Service>,
    source: OuterSource,
) -> Vec<String> {
    let mut warnings = Vec::new();
    for service in services.filter(|service| service.forwarding().is_tunnel()) {
        let backends = service.versions().iter().flat_map(|(_, group)| &group.backends);
        let lost = backends.map(|backend| backend.address).filter(|one| !source.reaches(*one));
        let families: BTreeSet<String> = lost.map(|one| Family::of(one).to_string()).collect();
        for family in families {
            warnings.push(format!(
                "service {}: packets to its {family} backends are dropped, for this node has no \
                 {family} address that tunnels could come from; start the agent with \
                 --outer-source ADDRESS",
                service.name()
            ));
        }
    }
    warnings
}
