//! Many services with many backends, for a balancer that nobody's packets reach: what counts is how
//! many there are.
//!
//! All listeners have one address, each a port of its own. Backends are behind one router, as in a
//! fabric: thousands of them on a link would be thousands of neighbours to ask for.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::Result;
use serde::Serialize;
use weir::model::{ServiceName, Version};

use crate::lab::Lab;
use crate::lab::addresses::{self, Family};

/// The port of the first listener.
const FIRST_PORT: u16 = 10_000;
/// The second byte of the addresses of the first version's backends.
const NETWORK: u8 = 96;

/// So many services, all alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Crowd {
    /// Services.
    pub services: u16,
    /// Backends of each, of blue, green and canary.
    pub backends: [u16; 3],
}

impl Crowd {
    /// So many services with so many backends altogether, at least three each.
    #[must_use]
    pub fn of(services: u16, backends: u16) -> Self {
        let each = (backends / services).max(3);
        let of = |version| (each + 2 - version) / 3;
        Self { services, backends: [of(0), of(1), of(2)] }
    }

    /// Backends of all services.
    #[must_use]
    pub fn all_backends(self) -> u32 {
        u32::from(self.services) * self.backends.map(u32::from).iter().sum::<u32>()
    }

    /// Where clients of a service connect to.
    #[must_use]
    pub fn listener(self, service: u16) -> SocketAddr {
        (addresses::vip(Family::V4, 0), FIRST_PORT + service).into()
    }

    /// The addresses of a version's backends of a service.
    pub fn addresses(self, service: u16, version: Version) -> impl Iterator<Item = Ipv4Addr> {
        let network = Ipv4Addr::new(10, network(version), 0, 0);
        // The same with one backend more.
        let room = u32::from(u16::MAX / self.services);
        let first = u32::from(network) + 1 + u32::from(service) * room;
        (first..first + u32::from(self.backends[version.index()])).map(Ipv4Addr::from)
    }

    /// The same with another backend in each version of each service.
    #[must_use]
    pub fn grown(self) -> Self {
        Self { backends: self.backends.map(|count| count + 1), ..self }
    }

    /// A service's name.
    #[must_use]
    pub fn name(service: u16) -> String {
        format!("service-{service:03}")
    }

    /// All names, as the API takes them.
    ///
    /// # Errors
    ///
    /// None.
    pub fn names(self) -> Result<Vec<ServiceName>> {
        let name = |service| ServiceName::new(&Self::name(service));
        (0..self.services).map(|service| name(service).map_err(anyhow::Error::msg)).collect()
    }

    /// The spec file; everything goes to blue.
    #[must_use]
    pub fn yaml(self) -> String {
        let mut text = String::from("services:\n");
        let mut line = |line: String| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{line}");
        };
        for service in 0..self.services {
            let at = self.listener(service);
            line(format!("  - name: {}", Self::name(service)));
            line(format!(
                "    listeners: [{{ address: {}, port: {}, protocol: tcp }}]",
                at.ip(),
                at.port()
            ));
            line("    versions:".to_owned());
            for version in Version::ALL {
                let weight = if version == Version::Blue { 100 } else { 0 };
                line(format!("      {version}:\n        weight: {weight}%\n        backends:"));
                for address in self.addresses(service, version) {
                    line(format!("          - {{ address: {address}, port: 80 }}"));
                }
            }
        }
        text
    }

    /// Gives the lab's balancer host its routes to all backends.
    ///
    /// # Errors
    ///
    /// `ip` fails.
    pub fn route(lab: &Lab) -> Result<()> {
        let routes = crate::identity::Version::ALL.map(|version| {
            let network = Self::network(version.into());
            format!("route replace {network} via {}", lab.backends(Family::V4, version)[0])
        });
        lab.lb().ip(&routes)
    }

    /// The network of a version's backends.
    #[must_use]
    pub fn network(version: Version) -> String {
        format!("10.{}.0.0/16", network(version))
    }

    /// The version that a backend's address belongs to.
    #[must_use]
    pub fn version_of(address: IpAddr) -> Option<Version> {
        let IpAddr::V4(address) = address else { return None };
        let [10, network, ..] = address.octets() else { return None };
        Version::ALL.into_iter().find(|version| self::network(*version) == network)
    }
}

fn network(version: Version) -> u8 {
    (NETWORK..).zip(Version::ALL).find(|(_, one)| *one == version).map_or(0, |(network, _)| network)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::collections::BTreeSet;

    use weir::model::{SpecFile, parse_services};

    use super::*;

    #[test]
    fn a_crowd_is_as_large_as_asked_and_valid() {
        for (services, backends) in [(1, 3), (1, 4_096), (100, 4_096), (512, 12_288)] {
            let crowd = Crowd::of(services, backends);
            let services = parse_services(&SpecFile::parse(&crowd.yaml()).unwrap().services, false);
            let services = services.unwrap();
            assert_eq!(services.len(), usize::from(crowd.services));
            let all: BTreeSet<Ipv4Addr> = (0..crowd.services)
                .flat_map(|service| {
                    Version::ALL.into_iter().flat_map(move |v| crowd.addresses(service, v))
                })
                .collect();
            assert_eq!(all.len(), crowd.all_backends() as usize);
            assert!(crowd.all_backends().abs_diff(u32::from(backends)) < 100, "{crowd:?}");
        }
    }

    #[test]
    fn an_address_tells_its_version() {
        let crowd = Crowd::of(512, 12_288);
        for version in Version::ALL {
            let last = crowd.addresses(511, version).last().unwrap();
            assert_eq!(Crowd::version_of(last.into()), Some(version));
        }
        assert_eq!(Crowd::version_of("10.61.0.2".parse().unwrap()), None);
    }
}
