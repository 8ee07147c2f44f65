//! The address plan of a lab, in one place.
//!
//! ```text
//! clients namespace            lb namespace (the balancer host)      one namespace a version
//! eth0 10.50.0.2  fd50::2  --- cli0    10.50.0.1  fd50::1
//!      10.50.1.1 ...           blue0   10.61.0.1  fd61::1       ---  eth0 10.61.0.2 ...  fd61::2 ...
//!      fd50:0:0:1::1 ...       green0  10.62.0.1  fd62::1       ---  eth0 10.62.0.2 ...  fd62::2 ...
//!                              canary0 10.63.0.1  fd63::1       ---  eth0 10.63.0.2 ...  fd63::2 ...
//! ```
//!
//! The services' addresses (10.40.0.0/24 and `fd40::/64`) are on no interface. The clients route
//! them to the balancer host, which has no route for them: without weir they are unreachable.
//!
//! The client addresses sit behind one next hop, as real clients sit behind a router. The kernel's
//! limit on neighbours is one for the whole machine, and hundreds of clients on the link of each
//! of several labs would reach it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::identity::Version;

/// The balancer host's interface toward the clients.
pub const CLIENT_SIDE: &str = "cli0";

/// The only interface of the clients' and of each backends' namespace.
pub const FAR_END: &str = "eth0";

/// The most client addresses in each family.
pub const MAX_CLIENTS: u16 = 10_000;

/// The most backends in each version.
pub const MAX_BACKENDS: u8 = 200;

/// How many of the services' addresses of each family backends have that answer directly.
pub const DIRECT_VIPS: u8 = 2;

/// The port of the HTTP server on each backend.
pub const HTTP_PORT: u16 = 80;

/// The port of the TCP and of the UDP echo server on each backend.
pub const ECHO_PORT: u16 = 7;

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both families.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The family of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// The prefix length of a link between two namespaces.
    #[must_use]
    pub fn link_prefix(self) -> u8 {
        match self {
            Self::V4 => 24,
            Self::V6 => 64,
        }
    }

    /// The prefix length of a single host.
    #[must_use]
    pub fn host_prefix(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }

    /// The network of all client addresses, with its prefix length.
    #[must_use]
    pub fn clients(self) -> &'static str {
        match self {
            Self::V4 => "10.50.0.0/16",
            Self::V6 => "fd50::/48",
        }
    }

    /// The network of the services' addresses, with its prefix length.
    #[must_use]
    pub fn vips(self) -> &'static str {
        match self {
            Self::V4 => "10.40.0.0/24",
            Self::V6 => "fd40::/64",
        }
    }
}

/// The balancer host's interface toward the backends of `version`.
#[must_use]
pub fn version_side(version: Version) -> &'static str {
    match version {
        Version::Blue => "blue0",
        Version::Green => "green0",
        Version::Canary => "canary0",
    }
}

/// The balancer host's address on the link to the clients.
#[must_use]
pub fn lb_for_clients(family: Family) -> IpAddr {
    on_link(family, 50, 1)
}

/// The next hop behind which all client addresses are.
#[must_use]
pub fn client_router(family: Family) -> IpAddr {
    on_link(family, 50, 2)
}

/// The address of the client number `index`, below [`MAX_CLIENTS`].
#[must_use]
pub fn client(family: Family, index: u16) -> IpAddr {
    match family {
        Family::V4 => {
            let [high, low] = [1 + index / 250, 1 + index % 250]
                .map(|byte| u8::try_from(byte).unwrap_or(u8::MAX));
            IpAddr::V4(Ipv4Addr::new(10, 50, high, low))
        }
        Family::V6 => IpAddr::V6(Ipv6Addr::new(0xfd50, 0, 0, 1, 0, 0, 0, index + 1)),
    }
}

/// The address of the service number `index`: 10.40.0.100, `fd40::100` and following.
#[must_use]
pub fn vip(family: Family, index: u8) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::new(10, 40, 0, 100 + index)),
        Family::V6 => IpAddr::V6(Ipv6Addr::new(0xfd40, 0, 0, 0, 0, 0, 0, 0x100 + u16::from(index))),
    }
}

/// The balancer host's address on the link to the backends of `version`.
#[must_use]
pub fn lb_for_backends(family: Family, version: Version) -> IpAddr {
    on_link(family, version_network(version), 1)
}

/// The address of the backend number `index`, below [`MAX_BACKENDS`], of `version`.
#[must_use]
pub fn backend(family: Family, version: Version, index: u8) -> IpAddr {
    on_link(family, version_network(version), index + 2)
}

fn version_network(version: Version) -> u8 {
    match version {
        Version::Blue => 61,
        Version::Green => 62,
        Version::Canary => 63,
    }
}

/// 10.NETWORK.0.HOST or `fdNETWORK::HOST`, where the digits of NETWORK read the same in both.
fn on_link(family: Family, network: u8, host: u8) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::new(10, network, 0, host)),
        Family::V6 => {
            let digits = u16::from(network / 10) << 4 | u16::from(network % 10);
            IpAddr::V6(Ipv6Addr::new(0xfd00 | digits, 0, 0, 0, 0, 0, 0, u16::from(host)))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_plan_reads_as_drawn() {
        let text = |address: IpAddr| address.to_string();
        assert_eq!(text(client(Family::V4, 0)), "10.50.1.1");
        assert_eq!(text(client(Family::V4, 499)), "10.50.2.250");
        assert_eq!(text(client(Family::V6, 499)), "fd50:0:0:1::1f4");
        assert_eq!(text(vip(Family::V4, 0)), "10.40.0.100");
        assert_eq!(text(vip(Family::V6, 1)), "fd40::101");
        assert_eq!(text(backend(Family::V4, Version::Green, 0)), "10.62.0.2");
        assert_eq!(text(backend(Family::V6, Version::Canary, 1)), "fd63::3");
        assert_eq!(text(lb_for_clients(Family::V6)), "fd50::1");
    }

    #[test]
    fn every_client_has_an_address_of_its_own() {
        for family in Family::ALL {
            let all: BTreeSet<_> = (0..MAX_CLIENTS).map(|index| client(family, index)).collect();
            assert_eq!(all.len(), usize::from(MAX_CLIENTS));
            assert!(!all.contains(&client_router(family)));
        }
    }
}
