//! Frames in tunnels, wrapped by `etherparse`, independently of the programs that wrap and strip.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "only tests use it"
)]

use std::net::IpAddr;

use etherparse::{EtherType, IpNumber, Ipv4Header, Ipv6FlowLabel, Ipv6Header, UdpHeader};

use crate::frames::ETHERNET;

/// The port that IANA has assigned to GUE.
pub const GUE_PORT: u16 = 6080;

/// What stands between the outer header and the inner packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wrap {
    /// Nothing: IP protocol 4 or 41.
    Ip,
    /// UDP (GUE of variant 1).
    Gue {
        /// UDP source port.
        source_port: u16,
    },
    /// UDP and the four bytes of GUE of variant 0.
    GueHeader,
}

/// An outer header. Hop limit 64; in IPv4 DF is set and the id is zero; the UDP checksum is zero.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outer {
    /// The tunnel's beginning.
    pub from: IpAddr,
    /// Its end, of the same family.
    pub to: IpAddr,
    /// How the packet is wrapped.
    pub wrap: Wrap,
    /// DSCP and ECN in one byte, as TOS or traffic class.
    pub class: u8,
    /// IPv6 flow label, 20 bits.
    pub flow_label: u32,
    /// IPv4 options, a multiple of four bytes.
    pub options: Vec<u8>,
}

impl Outer {
    /// A header without anything special.
    #[must_use]
    pub fn new(from: IpAddr, to: IpAddr, wrap: Wrap) -> Self {
        Self { from, to, wrap, class: 0, flow_label: 0, options: Vec::new() }
    }
}

/// Wraps the IP packet of an Ethernet frame without tags. The MAC addresses stay.
#[must_use]
pub fn encapsulate(frame: &[u8], outer: &Outer) -> Vec<u8> {
    let (ethernet, inner) = frame.split_at(ETHERNET);
    let inner_is_v4 = ethernet[12..] == [0x08, 0x00];
    let ip_in_ip = if inner_is_v4 { IpNumber::IPV4 } else { IpNumber::IPV6 };
    let mut payload = Vec::new();
    if outer.wrap != Wrap::Ip {
        let header: &[u8] = match outer.wrap {
            Wrap::GueHeader => &[0, ip_in_ip.0, 0, 0],
            _ => &[],
        };
        let source_port = match outer.wrap {
            Wrap::Gue { source_port } => source_port,
            _ => 49_152,
        };
        let length = u16::try_from(UdpHeader::LEN + header.len() + inner.len()).unwrap();
        let udp = UdpHeader { source_port, destination_port: GUE_PORT, length, checksum: 0 };
        payload.extend(udp.to_bytes());
        payload.extend(header);
    }
    payload.extend(inner);
    let protocol = if outer.wrap == Wrap::Ip { ip_in_ip } else { IpNumber::UDP };

    let mut wrapped = ethernet[..12].to_vec();
    match (outer.from, outer.to) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let (source, destination) = (source.octets(), destination.octets());
            let mut ip = Ipv4Header::new(0, 64, protocol, source, destination).unwrap();
            ip.dscp = (outer.class >> 2).try_into().unwrap();
            ip.ecn = (outer.class & 3).try_into().unwrap();
            ip.dont_fragment = true;
            ip.options = outer.options.as_slice().try_into().unwrap();
            ip.set_payload_len(payload.len()).unwrap();
            ip.header_checksum = ip.calc_header_checksum();
            wrapped.extend(EtherType::IPV4.0.to_be_bytes());
            wrapped.extend(ip.to_bytes());
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let mut ip = Ipv6Header {
                traffic_class: outer.class,
                flow_label: Ipv6FlowLabel::try_new(outer.flow_label).unwrap(),
                next_header: protocol,
                hop_limit: 64,
                source: source.octets(),
                destination: destination.octets(),
                ..Ipv6Header::default()
            };
            ip.set_payload_length(payload.len()).unwrap();
            wrapped.extend(EtherType::IPV6.0.to_be_bytes());
            wrapped.extend(ip.to_bytes());
        }
        (a, b) => panic!("{a} and {b} are of two families"),
    }
    wrapped.extend(payload);
    wrapped
}

/// Puts VLAN tags into a frame, outermost first: type (0x8100 or 0x88a8) and control information.
#[must_use]
pub fn tagged(frame: &[u8], tags: &[(u16, u16)]) -> Vec<u8> {
    let (macs, rest) = frame.split_at(12);
    let tags = tags.iter().flat_map(|(kind, tci)| [kind.to_be_bytes(), tci.to_be_bytes()]);
    [macs, tags.flatten().collect::<Vec<u8>>().as_slice(), rest].concat()
}
