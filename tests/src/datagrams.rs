//! IP packets that are neither TCP nor UDP, and packets in fragments, as they stand on the wire.
//! Built by `etherparse`, like [`frames`](crate::frames).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "only tests use it"
)]

use std::net::IpAddr;

use etherparse::{
    EtherType, Ethernet2Header, Icmpv4Header, Icmpv4Type, Icmpv6Header, Icmpv6Type, IpDscp, IpEcn,
    IpFragOffset, IpNumber, Ipv4Header, Ipv6FragmentHeader, Ipv6Header,
};

use crate::frames::ETHERNET;

/// An IP packet with any payload. [`Datagram::bytes`] gives it a correct length and checksum.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Datagram {
    /// Destination and source MAC.
    pub macs: [[u8; 6]; 2],
    /// The sender.
    pub from: IpAddr,
    /// The receiver, of the same family.
    pub to: IpAddr,
    /// TOS of IPv4, traffic class of IPv6.
    pub traffic_class: u8,
    /// Hops left.
    pub hop_limit: u8,
    /// Identification of IPv4.
    pub id: u16,
    /// Number of what it carries.
    pub protocol: u8,
    /// What it carries.
    pub payload: Vec<u8>,
}

impl Datagram {
    /// A packet as hosts send it.
    #[must_use]
    pub fn new(from: IpAddr, to: IpAddr, protocol: u8, payload: Vec<u8>) -> Self {
        let macs = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];
        Self { macs, from, to, traffic_class: 0, hop_limit: 64, id: 0x4321, protocol, payload }
    }

    /// The frame.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let ether_type = if self.from.is_ipv4() { EtherType::IPV4 } else { EtherType::IPV6 };
        let [destination, source] = self.macs;
        let mut frame = Ethernet2Header { source, destination, ether_type }.to_bytes().to_vec();
        match (self.from, self.to) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let (source, destination) = (source.octets(), destination.octets());
                let number = IpNumber(self.protocol);
                let mut ip =
                    Ipv4Header::new(0, self.hop_limit, number, source, destination).unwrap();
                ip.dscp = IpDscp::try_new(self.traffic_class >> 2).unwrap();
                ip.ecn = IpEcn::try_new(self.traffic_class & 3).unwrap();
                ip.identification = self.id;
                ip.set_payload_len(self.payload.len()).unwrap();
                ip.header_checksum = ip.calc_header_checksum();
                frame.extend(ip.to_bytes());
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let mut ip = Ipv6Header {
                    hop_limit: self.hop_limit,
                    next_header: IpNumber(self.protocol),
                    source: source.octets(),
                    destination: destination.octets(),
                    ..Ipv6Header::default()
                };
                ip.traffic_class = self.traffic_class;
                ip.set_payload_length(self.payload.len()).unwrap();
                frame.extend(ip.to_bytes());
            }
            _ => panic!("{} and {} are of two families", self.from, self.to),
        }
        frame.extend(&self.payload);
        frame
    }
}

/// An ICMP or ICMPv6 message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// Type and code.
    pub kind: (u8, u8),
    /// The second word of the header.
    pub rest: [u8; 4],
    /// What follows.
    pub body: Vec<u8>,
}

impl Message {
    /// The message in a packet, its checksum reckoned from nothing.
    #[must_use]
    pub fn between(&self, from: IpAddr, to: IpAddr) -> Datagram {
        let ((type_u8, code_u8), bytes5to8) = (self.kind, self.rest);
        let (protocol, mut payload) = match (from, to) {
            (IpAddr::V4(_), IpAddr::V4(_)) => {
                let kind = Icmpv4Type::Unknown { type_u8, code_u8, bytes5to8 };
                (1, Icmpv4Header::with_checksum(kind, &self.body).to_bytes().to_vec())
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let kind = Icmpv6Type::Unknown { type_u8, code_u8, bytes5to8 };
                let (source, destination) = (source.octets(), destination.octets());
                let header = Icmpv6Header::with_checksum(kind, source, destination, &self.body);
                (58, header.unwrap().to_bytes().to_vec())
            }
            _ => panic!("{from} and {to} are of two families"),
        };
        payload.extend(&self.body);
        Datagram::new(from, to, protocol, payload)
    }
}

/// The packet of a frame in fragments, which end after so many bytes of what IP carries, each a
/// multiple of eight, and at the end.
#[must_use]
pub fn fragments(frame: &[u8], id: u32, ends: &[usize]) -> Vec<Vec<u8>> {
    let (ethernet, packet) = frame.split_at(ETHERNET);
    let header = if packet[0] >> 4 == 4 { usize::from(packet[0] & 15) * 4 } else { 40 };
    let (header, payload) = packet.split_at(header);
    let starts = [0].into_iter().chain(ends.iter().copied());
    let ends = ends.iter().copied().chain([payload.len()]);
    let piece = |(start, end): (usize, usize)| {
        let (piece, more) = (&payload[start..end], end < payload.len());
        [ethernet, &fragment(header, id, start / 8, more, piece.len()), piece].concat()
    };
    starts.zip(ends).map(piece).collect()
}

/// The IP header of a fragment, with the fragment header of IPv6.
fn fragment(header: &[u8], id: u32, offset: usize, more: bool, length: usize) -> Vec<u8> {
    let offset = IpFragOffset::try_new(offset.try_into().unwrap()).unwrap();
    if header[0] >> 4 == 4 {
        let mut ip = Ipv4Header::from_slice(header).unwrap().0;
        ip.identification = id.try_into().unwrap();
        ip.dont_fragment = false;
        (ip.fragment_offset, ip.more_fragments) = (offset, more);
        ip.set_payload_len(length).unwrap();
        ip.header_checksum = ip.calc_header_checksum();
        return ip.to_bytes().to_vec();
    }
    let mut ip = Ipv6Header::from_slice(header).unwrap().0;
    let piece = Ipv6FragmentHeader::new(ip.next_header, offset, more, id);
    ip.next_header = IpNumber::IPV6_FRAGMENTATION_HEADER;
    ip.set_payload_length(length + 8).unwrap();
    [&ip.to_bytes()[..], &piece.to_bytes()].concat()
}
