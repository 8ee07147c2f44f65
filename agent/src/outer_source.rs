//! Which of the node's own addresses packets in tunnels come from. Pure.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::dataplane::{OuterSource, next_hop::OwnAddress};

/// Reads an address as it is given on the command line.
///
/// # Errors
///
/// It is no address, or none that a packet can come from.
pub fn parse(text: &str) -> Result<IpAddr, String> {
    let address: IpAddr = text.parse().map_err(|_| format!("{text:?} is not an IP address"))?;
    let why = match address {
        _ if address.is_loopback() => "is a loopback address",
        _ if address.is_multicast() => "is a multicast address",
        _ if address.is_unspecified() => "is no host's address",
        IpAddr::V4(Ipv4Addr::BROADCAST) => "is the broadcast address",
        IpAddr::V6(v6) if v6.is_unicast_link_local() => "is of one link only",
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => "is an IPv4 address; give it as such",
        _ => return Ok(address),
    };
    Err(format!("{address} {why}; give an address of this host that backends can see"))
}

/// The sources that these addresses make.
///
/// # Errors
///
/// Two are of one family.
pub fn given(addresses: &[IpAddr]) -> Result<OuterSource, String> {
    Ok(OuterSource { v4: only(addresses, v4)?, v6: only(addresses, v6)? })
}

/// The source of each family: as `given`, else the first of the node's `own` that is of a network
/// rather than of a host alone, on the `attached` interfaces (in their order) before all others.
#[must_use]
pub fn choose(given: OuterSource, attached: &[u32], own: &[OwnAddress]) -> OuterSource {
    let on = |interface| own.iter().filter(move |own| own.interface == interface);
    let ordered = attached.iter().flat_map(|index| on(*index)).chain(own);
    let of_a_network =
        ordered.filter(|own| own.prefix < if own.address.is_ipv4() { 32 } else { 128 });
    let own: Vec<IpAddr> = of_a_network.map(|own| own.address).collect();
    OuterSource {
        v4: given.v4.or_else(|| own.iter().find_map(v4)),
        v6: given.v6.or_else(|| own.iter().find_map(v6)),
    }
}

/// The one address of a family that is given.
fn only<T: fmt::Display>(
    addresses: &[IpAddr],
    family: impl Fn(&IpAddr) -> Option<T>,
) -> Result<Option<T>, String> {
    let mut found = addresses.iter().filter_map(family);
    match (found.next(), found.next()) {
        (Some(one), Some(two)) => {
            Err(format!("--outer-source gives both {one} and {two}; one of each family is enough"))
        }
        (one, _) => Ok(one),
    }
}

fn v4(address: &IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(*address),
        IpAddr::V6(_) => None,
    }
}

fn v6(address: &IpAddr) -> Option<Ipv6Addr> {
    match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => Some(*address),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn own(interface: u32, address: &str, prefix: u8) -> OwnAddress {
        OwnAddress { interface, address: address.parse().unwrap(), prefix }
    }

    fn chosen(addresses: &[&str], attached: &[u32], own: &[OwnAddress]) -> Result<String, String> {
        let addresses: Vec<IpAddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
        let source = choose(given(&addresses)?, attached, own);
        let text = |address: Option<String>| address.unwrap_or_else(|| "-".to_owned());
        let (v4, v6) = (source.v4.map(|a| a.to_string()), source.v6.map(|a| a.to_string()));
        Ok(format!("{} {}", text(v4), text(v6)))
    }

    #[test]
    fn only_addresses_that_packets_can_come_from_are_taken() {
        for good in ["10.0.0.1", "192.0.2.9", "fd00::1", "2001:db8::1"] {
            assert_eq!(parse(good), Ok(good.parse().unwrap()));
        }
        for (bad, why) in [
            ("eth0", "\"eth0\" is not an IP address"),
            ("10.0.0.1/24", "\"10.0.0.1/24\" is not an IP address"),
            ("127.0.0.1", "127.0.0.1 is a loopback address"),
            ("::1", "::1 is a loopback address"),
            ("224.0.0.1", "224.0.0.1 is a multicast address"),
            ("ff02::1", "ff02::1 is a multicast address"),
            ("0.0.0.0", "0.0.0.0 is no host's address"),
            ("::", ":: is no host's address"),
            ("255.255.255.255", "255.255.255.255 is the broadcast address"),
            ("fe80::1", "fe80::1 is of one link only"),
            ("::ffff:10.0.0.1", "::ffff:10.0.0.1 is an IPv4 address"),
        ] {
            let error = parse(bad).unwrap_err();
            assert!(error.starts_with(why), "{error}");
        }
    }

    #[test]
    fn what_is_given_goes_before_what_is_found() {
        let own = [own(2, "10.0.0.1", 24), own(2, "fd00::1", 64)];
        assert_eq!(chosen(&[], &[2], &own).unwrap(), "10.0.0.1 fd00::1");
        assert_eq!(chosen(&["192.0.2.1"], &[2], &own).unwrap(), "192.0.2.1 fd00::1");
        assert_eq!(chosen(&["2001:db8::1"], &[2], &own).unwrap(), "10.0.0.1 2001:db8::1");
        assert_eq!(chosen(&["192.0.2.1"], &[], &[]).unwrap(), "192.0.2.1 -");
        let error = chosen(&["192.0.2.1", "192.0.2.2"], &[2], &own).unwrap_err();
        assert!(error.contains("192.0.2.1") && error.contains("192.0.2.2"), "{error}");
    }

    #[test]
    fn attached_interfaces_go_first_and_single_hosts_not_at_all() {
        let own = [
            own(1, "192.0.2.1", 32),
            own(2, "10.0.2.1", 24),
            own(3, "10.0.3.1", 24),
            own(3, "fd00:3::1", 128),
            own(4, "10.0.4.1", 24),
            own(4, "fd00:4::1", 64),
        ];
        assert_eq!(chosen(&[], &[4, 3], &own).unwrap(), "10.0.4.1 fd00:4::1");
        assert_eq!(chosen(&[], &[3, 4], &own).unwrap(), "10.0.3.1 fd00:4::1");
        assert_eq!(chosen(&[], &[1], &own).unwrap(), "10.0.2.1 fd00:4::1");
        assert_eq!(chosen(&[], &[], &own[..1]).unwrap(), "- -");
    }
}
