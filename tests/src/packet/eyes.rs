//! Independent eyes: `etherparse` reads a frame strictly, and every checksum in it is verified,
//! also in the packets that tunnels carry and errors quote.

use std::net::IpAddr;

use etherparse::checksum::Sum16BitWords;
use etherparse::{IpNumber, Ipv4HeaderSlice, NetSlice, SlicedPacket, TransportSlice};

/// UDP ports of GUE in the cases: the usual one, and one that a service has chosen.
pub const GUE: [u16; 2] = [6080, 7777];

/// Reads a frame.
///
/// # Errors
///
/// What is wrong with it: a length, a checksum.
pub fn look(frame: &[u8]) -> Result<(), String> {
    let packet = SlicedPacket::from_ethernet(frame).map_err(|error| error.to_string())?;
    packet_is_sound(&packet)
}

fn packet_is_sound(packet: &SlicedPacket) -> Result<(), String> {
    let (source, destination, payload): (IpAddr, IpAddr, _) = match &packet.net {
        Some(NetSlice::Ipv4(ip)) => {
            let header = ip.header();
            let (is, should) =
                (header.header_checksum(), header.to_header().calc_header_checksum());
            compare("IPv4", is, should)?;
            (header.source_addr().into(), header.destination_addr().into(), ip.payload())
        }
        Some(NetSlice::Ipv6(ip)) => {
            let header = ip.header();
            (header.source_addr().into(), header.destination_addr().into(), ip.payload())
        }
        Some(NetSlice::Arp(_)) | None => return Ok(()),
    };
    match &packet.transport {
        // A fragment's checksum is the whole packet's.
        _ if payload.fragmented => Ok(()),
        None if matches!(payload.ip_number, IpNumber::IPV4 | IpNumber::IPV6) => {
            inside(payload.payload)
        }
        Some(TransportSlice::Tcp(tcp)) => {
            let should = match (source, destination) {
                (IpAddr::V4(s), IpAddr::V4(d)) => tcp.calc_checksum_ipv4(s.octets(), d.octets()),
                (IpAddr::V6(s), IpAddr::V6(d)) => tcp.calc_checksum_ipv6(s.octets(), d.octets()),
                _ => return Err("two families".to_owned()),
            };
            compare("TCP", tcp.checksum(), should.map_err(|error| error.to_string())?)
        }
        Some(TransportSlice::Udp(udp)) => {
            if udp.checksum() != 0 {
                let header = udp.to_header();
                let should = match (source, destination) {
                    (IpAddr::V4(s), IpAddr::V4(d)) => {
                        header.calc_checksum_ipv4_raw(s.octets(), d.octets(), udp.payload())
                    }
                    (IpAddr::V6(s), IpAddr::V6(d)) => {
                        header.calc_checksum_ipv6_raw(s.octets(), d.octets(), udp.payload())
                    }
                    _ => return Err("two families".to_owned()),
                };
                compare("UDP", udp.checksum(), should.map_err(|error| error.to_string())?)?;
            }
            if GUE.contains(&udp.destination_port()) { inside(udp.payload()) } else { Ok(()) }
        }
        Some(TransportSlice::Icmpv4(icmp)) => {
            let sum = Sum16BitWords::new().add_slice(icmp.slice()).ones_complement();
            compare("ICMP", sum, 0)?;
            // Errors are 3, 4, 5, 11 and 12.
            if matches!(icmp.type_u8(), 3..=5 | 11 | 12) { quoted(icmp.payload()) } else { Ok(()) }
        }
        Some(TransportSlice::Icmpv6(icmp)) => {
            let (IpAddr::V6(s), IpAddr::V6(d)) = (source, destination) else {
                return Err("ICMPv6 in IPv4".to_owned());
            };
            if icmp.is_checksum_valid(s.octets(), d.octets()) {
                Ok(())
            } else {
                Err(format!("the ICMPv6 checksum {:#06x} is wrong", icmp.checksum()))
            }
        }
        Some(TransportSlice::Igmp(_)) | None => Ok(()),
    }
}

/// The packet that a tunnel carries.
fn inside(bytes: &[u8]) -> Result<(), String> {
    let packet = SlicedPacket::from_ip(bytes).map_err(|error| format!("inside: {error}"))?;
    packet_is_sound(&packet).map_err(|error| format!("inside: {error}"))
}

/// The quote in an ICMP error: of what may be cut, only the header can be verified.
fn quoted(bytes: &[u8]) -> Result<(), String> {
    let header = Ipv4HeaderSlice::from_slice(bytes).map_err(|error| format!("quote: {error}"))?;
    compare("quoted IPv4", header.header_checksum(), header.to_header().calc_header_checksum())
}

fn compare(of: &str, is: u16, should: u16) -> Result<(), String> {
    if is == should {
        return Ok(());
    }
    Err(format!("the {of} checksum is {is:#06x}, not {should:#06x}"))
}
