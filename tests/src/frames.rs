//! Frames as they stand on the wire, built and read by `etherparse`: eyes that are not the
//! program's own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "only tests use it"
)]

use std::net::{IpAddr, SocketAddr};

use etherparse::{
    EtherType, Ethernet2Header, IpNumber, Ipv4Header, Ipv6Header, Ipv6RawExtHeader, NetSlice,
    SlicedPacket, TcpHeader, TransportSlice, UdpHeader,
};
use weir::dataplane::next_hop::NextHop;
use weir_ebpf::abi::{Address, Endpoint, FlowKey, TCP, UDP};

/// TCP's flags, as in the header.
pub const FIN: u8 = 0x01;
/// Synchronise.
pub const SYN: u8 = 0x02;
/// Reset.
pub const RST: u8 = 0x04;
/// Push.
pub const PSH: u8 = 0x08;
/// Acknowledge.
pub const ACK: u8 = 0x10;

/// Bytes of an Ethernet header.
pub const ETHERNET: usize = 14;
/// Bytes of an IPv6 header.
pub const IPV6: usize = 40;

/// What a frame says. [`Frame::bytes`] gives it correct lengths and checksums.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    /// Destination and source MAC.
    pub macs: [[u8; 6]; 2],
    /// The sender.
    pub from: SocketAddr,
    /// The receiver, of the same family.
    pub to: SocketAddr,
    /// Hops left.
    pub hop_limit: u8,
    /// IPv4 options, a multiple of four bytes.
    pub options: Vec<u8>,
    /// IPv6 extension headers: their numbers, and the bytes after the first two (6, 14, 22 …).
    pub extensions: Vec<(u8, Vec<u8>)>,
    /// TCP or UDP.
    pub segment: Segment,
    /// What it carries.
    pub payload: Vec<u8>,
}

/// The part of a [`Frame`] that TCP and UDP differ in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Segment {
    /// TCP.
    Tcp {
        /// [`SYN`] and the like.
        flags: u8,
        /// Options, a multiple of four bytes.
        options: Vec<u8>,
    },
    /// UDP.
    Udp {
        /// Whether there is a checksum; else it is zero.
        checksum: bool,
    },
}

impl Frame {
    /// A TCP segment without payload.
    #[must_use]
    pub fn tcp(from: SocketAddr, to: SocketAddr, flags: u8) -> Self {
        Self {
            macs: [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]],
            from,
            to,
            hop_limit: 64,
            options: Vec::new(),
            extensions: Vec::new(),
            segment: Segment::Tcp { flags, options: Vec::new() },
            payload: Vec::new(),
        }
    }

    /// A UDP datagram of a few bytes.
    #[must_use]
    pub fn udp(from: SocketAddr, to: SocketAddr) -> Self {
        Self {
            segment: Segment::Udp { checksum: true },
            payload: b"hello".to_vec(),
            ..Self::tcp(from, to, 0)
        }
    }

    /// IP protocol number.
    #[must_use]
    pub fn protocol(&self) -> u8 {
        match self.segment {
            Segment::Tcp { .. } => TCP,
            Segment::Udp { .. } => UDP,
        }
    }

    /// Its flow.
    #[must_use]
    pub fn key(&self) -> FlowKey {
        FlowKey {
            source: address(self.from.ip()),
            destination: address(self.to.ip()),
            source_port: self.from.port().to_be(),
            destination_port: self.to.port().to_be(),
            protocol: self.protocol(),
            pad: [0; 3],
        }
    }

    /// The same, as it must be after it was sent to `backend`.
    #[must_use]
    pub fn forwarded(&self, backend: SocketAddr, hop: &NextHop) -> Self {
        Self {
            macs: [hop.mac, hop.interface_mac],
            to: backend,
            hop_limit: self.hop_limit - 1,
            ..self.clone()
        }
    }

    /// The frame, checksums reckoned from nothing.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let segment = self.segment();
        let ether_type = if self.from.is_ipv4() { EtherType::IPV4 } else { EtherType::IPV6 };
        let [destination, source] = self.macs;
        let mut frame = Ethernet2Header { source, destination, ether_type }.to_bytes().to_vec();
        match (self.from.ip(), self.to.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let (source, destination) = (source.octets(), destination.octets());
                let number = IpNumber(self.protocol());
                let mut ip =
                    Ipv4Header::new(0, self.hop_limit, number, source, destination).unwrap();
                ip.identification = 0x1234;
                ip.options = self.options.as_slice().try_into().unwrap();
                ip.set_payload_len(segment.len()).unwrap();
                ip.header_checksum = ip.calc_header_checksum();
                frame.extend(ip.to_bytes());
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let numbers = self.extensions.iter().map(|(number, _)| *number);
                let mut next = numbers.chain([self.protocol()]).map(IpNumber);
                let mut ip = Ipv6Header {
                    hop_limit: self.hop_limit,
                    next_header: next.next().unwrap(),
                    source: source.octets(),
                    destination: destination.octets(),
                    ..Ipv6Header::default()
                };
                let extensions: Vec<u8> = self.extensions.iter().fold(Vec::new(), |mut all, e| {
                    let header = Ipv6RawExtHeader::new_raw(next.next().unwrap(), &e.1).unwrap();
                    all.extend(header.to_bytes());
                    all
                });
                ip.set_payload_length(extensions.len() + segment.len()).unwrap();
                frame.extend(ip.to_bytes());
                frame.extend(extensions);
            }
            _ => panic!("{} and {} are of two families", self.from, self.to),
        }
        frame.extend(segment);
        frame
    }

    /// The TCP or UDP header and the payload.
    fn segment(&self) -> Vec<u8> {
        let (from, to) = (self.from.port(), self.to.port());
        let ends = (self.from.ip(), self.to.ip());
        let mut bytes = match &self.segment {
            Segment::Tcp { flags, options } => {
                let mut tcp = TcpHeader::new(from, to, 0x0102_0304, 0xfff0);
                let has = |flag| flags & flag != 0;
                (tcp.fin, tcp.syn, tcp.rst) = (has(FIN), has(SYN), has(RST));
                (tcp.psh, tcp.ack) = (has(PSH), has(ACK));
                tcp.set_options_raw(options).unwrap();
                tcp.checksum = match ends {
                    (IpAddr::V4(s), IpAddr::V4(d)) => {
                        tcp.calc_checksum_ipv4_raw(s.octets(), d.octets(), &self.payload)
                    }
                    (IpAddr::V6(s), IpAddr::V6(d)) => {
                        tcp.calc_checksum_ipv6_raw(s.octets(), d.octets(), &self.payload)
                    }
                    _ => panic!("{} and {} are of two families", self.from, self.to),
                }
                .unwrap();
                tcp.to_bytes().to_vec()
            }
            Segment::Udp { checksum } => {
                let length = u16::try_from(8 + self.payload.len()).unwrap();
                let mut udp =
                    UdpHeader { source_port: from, destination_port: to, length, checksum: 0 };
                if *checksum {
                    udp.checksum = udp_checksum(&udp, ends, &self.payload);
                }
                udp.to_bytes().to_vec()
            }
        };
        bytes.extend(&self.payload);
        bytes
    }
}

fn udp_checksum(udp: &UdpHeader, ends: (IpAddr, IpAddr), payload: &[u8]) -> u16 {
    match ends {
        (IpAddr::V4(s), IpAddr::V4(d)) => {
            udp.calc_checksum_ipv4_raw(s.octets(), d.octets(), payload).unwrap()
        }
        (IpAddr::V6(s), IpAddr::V6(d)) => {
            udp.calc_checksum_ipv6_raw(s.octets(), d.octets(), payload).unwrap()
        }
        (a, b) => panic!("{a} and {b} are of two families"),
    }
}

/// An address as the program knows it.
#[must_use]
pub fn address(ip: IpAddr) -> Address {
    match ip {
        IpAddr::V4(ip) => Address::from_v4(ip.octets()),
        IpAddr::V6(ip) => Address::from_v6(ip.octets()),
    }
}

/// An address as people know it.
#[must_use]
pub fn ip(address: Address) -> IpAddr {
    let [a, b, c, d] = address.0.map(u32::to_ne_bytes);
    if address.is_v4() {
        return IpAddr::from(d);
    }
    let mut octets = [0; 16];
    for (to, from) in octets.iter_mut().zip([a, b, c, d].concat()) {
        *to = from;
    }
    IpAddr::from(octets)
}

/// A key of `LISTENERS` or `RETURNS`.
#[must_use]
pub fn endpoint(at: SocketAddr, protocol: u8) -> Endpoint {
    Endpoint { address: address(at.ip()), port: at.port().to_be(), protocol, pad: 0 }
}

/// What a frame says, read back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seen {
    /// The sender.
    pub from: SocketAddr,
    /// The receiver.
    pub to: SocketAddr,
    /// Hops left.
    pub hop_limit: u8,
}

/// Reads a TCP or UDP frame.
///
/// # Errors
///
/// It is none, or a checksum or a length is wrong.
pub fn read(frame: &[u8]) -> Result<Seen, String> {
    let packet = SlicedPacket::from_ethernet(frame).map_err(|error| error.to_string())?;
    let (source, destination, hop_limit): (IpAddr, IpAddr, u8) = match packet.net {
        Some(NetSlice::Ipv4(ip)) => {
            let ip = ip.header();
            let (is, should) = (ip.header_checksum(), ip.to_header().calc_header_checksum());
            if is != should {
                return Err(format!("the IPv4 checksum is {is:#06x}, not {should:#06x}"));
            }
            (ip.source_addr().into(), ip.destination_addr().into(), ip.ttl())
        }
        Some(NetSlice::Ipv6(ip)) => {
            let ip = ip.header();
            (ip.source_addr().into(), ip.destination_addr().into(), ip.hop_limit())
        }
        _ => return Err("no IP".to_owned()),
    };
    let (from, to, is, should) = match packet.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            let should = match (source, destination) {
                (IpAddr::V4(s), IpAddr::V4(d)) => tcp.calc_checksum_ipv4(s.octets(), d.octets()),
                (IpAddr::V6(s), IpAddr::V6(d)) => tcp.calc_checksum_ipv6(s.octets(), d.octets()),
                _ => return Err("two families".to_owned()),
            };
            let should = should.map_err(|error| error.to_string())?;
            (tcp.source_port(), tcp.destination_port(), tcp.checksum(), should)
        }
        Some(TransportSlice::Udp(udp)) => {
            let is = udp.checksum();
            let should = match is {
                0 => 0,
                _ => udp_checksum(&udp.to_header(), (source, destination), udp.payload()),
            };
            (udp.source_port(), udp.destination_port(), is, should)
        }
        _ => return Err("neither TCP nor UDP".to_owned()),
    };
    if is != should {
        return Err(format!("the checksum is {is:#06x}, not {should:#06x}"));
    }
    Ok(Seen { from: (source, from).into(), to: (destination, to).into(), hop_limit })
}
