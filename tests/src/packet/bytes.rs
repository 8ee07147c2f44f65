//! From layers to bytes. Headers and checksums are `etherparse`'s, so that expectations are not
//! reckoned by weir's own code.

use std::net::IpAddr;

use etherparse::checksum::Sum16BitWords;
use etherparse::{
    EtherType, Ethernet2Header, Icmpv4Header, Icmpv4Type, Icmpv6Header, Icmpv6Type, IpDscp, IpEcn,
    IpFragOffset, IpNumber, Ipv4Header, Ipv6Header, Ipv6RawExtHeader, SingleVlanHeader, TcpHeader,
    UdpHeader, VlanId, VlanPcp,
};

use super::{
    ACK, Body, CWR, ECE, FIN, Icmp, Ip, Net, PSH, Packet, Payload, RST, SYN, Tcp, URG, Udp,
};

impl Packet {
    /// The frame as it stands on the wire.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let (ether_type, body) = match &self.net {
            Net::Ip(ip) if ip.source.is_ipv4() => (EtherType::IPV4.0, ip.bytes()),
            Net::Ip(ip) => (EtherType::IPV6.0, ip.bytes()),
            Net::Other(ether_type, bytes) => (*ether_type, bytes.clone()),
        };
        let [destination, source] = self.macs;
        let protocols = self.tags.iter().map(|(protocol, _)| *protocol);
        let mut types = protocols.chain([ether_type]).map(EtherType);
        let ether_type = types.next().unwrap();
        let mut frame = Ethernet2Header { source, destination, ether_type }.to_bytes().to_vec();
        for ((_, tag), ether_type) in self.tags.iter().zip(types) {
            let tag = SingleVlanHeader {
                pcp: VlanPcp::try_new((tag >> 13).to_be_bytes()[1]).unwrap(),
                drop_eligible_indicator: tag & 0x1000 != 0,
                vlan_id: VlanId::try_new(tag & 0xfff).unwrap(),
                ether_type,
            };
            frame.extend(tag.to_bytes());
        }
        frame.extend(body);
        frame.extend(&self.padding);
        frame.truncate(self.cut.unwrap_or(usize::MAX));
        frame
    }
}

impl Ip {
    /// The packet from its header on.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let (protocol, body) = self.body_bytes();
        let mut bytes = self.header(protocol, body.len());
        let is_v4 = self.source.is_ipv4();
        if let Some(version) = self.wrong.version {
            bytes[0] = version << 4 | bytes[0] & 0x0f;
        }
        if let Some(words) = self.wrong.words {
            bytes[0] = bytes[0] & 0xf0 | words;
        }
        if let Some(length) = self.wrong.length {
            put(&mut bytes, if is_v4 { 2 } else { 4 }, length);
        }
        if is_v4 {
            // Whatever else is wrong: the checksum is not, unless it is to be.
            put(&mut bytes, 10, 0);
            let sum = Sum16BitWords::new().add_slice(&bytes).ones_complement().to_be();
            put(&mut bytes, 10, add(sum, self.wrong.checksum));
        }
        bytes.extend(body);
        bytes
    }

    /// Length of the header, extensions included.
    #[must_use]
    pub fn header_length(&self) -> usize {
        match self.source {
            IpAddr::V4(_) => 20 + self.options.len(),
            IpAddr::V6(_) => {
                40 + self.extensions.iter().map(|(_, body)| 2 + body.len()).sum::<usize>()
            }
        }
    }

    fn header(&self, protocol: u8, body: usize) -> Vec<u8> {
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let number = IpNumber(protocol);
                let mut ip =
                    Ipv4Header::new(0, self.ttl, number, source.octets(), destination.octets())
                        .unwrap();
                ip.dscp = IpDscp::try_new(self.tos >> 2).unwrap();
                ip.ecn = IpEcn::try_new(self.tos & 3).unwrap();
                ip.identification = self.id;
                ip.dont_fragment = self.fragment & 0x4000 != 0;
                ip.more_fragments = self.fragment & 0x2000 != 0;
                ip.fragment_offset = IpFragOffset::try_new(self.fragment & 0x1fff).unwrap();
                ip.options = self.options.as_slice().try_into().unwrap();
                ip.set_payload_len(body).unwrap();
                ip.to_bytes().to_vec()
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let numbers = self.extensions.iter().map(|(number, _)| *number);
                let mut next = numbers.chain([protocol]).map(IpNumber);
                let mut ip = Ipv6Header {
                    traffic_class: self.tos,
                    flow_label: self.flow_label.try_into().unwrap(),
                    hop_limit: self.ttl,
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
                ip.set_payload_length(extensions.len() + body).unwrap();
                [ip.to_bytes().to_vec(), extensions].concat()
            }
            (a, b) => panic!("{a} and {b} are of two families"),
        }
    }

    /// The protocol number and the bytes of what the packet carries.
    pub(super) fn body_bytes(&self) -> (u8, Vec<u8>) {
        let ends = (self.source, self.destination);
        match &self.body {
            Body::Tcp(tcp) => (6, tcp.bytes(ends)),
            Body::Udp(udp) => (17, udp.bytes(ends)),
            Body::Icmp(icmp) => (if self.source.is_ipv4() { 1 } else { 58 }, icmp.bytes(ends)),
            Body::Ip(inner) => (if inner.source.is_ipv4() { 4 } else { 41 }, inner.bytes()),
            Body::Raw(protocol, bytes) => (*protocol, bytes.clone()),
        }
    }
}

/// The addresses that a checksum covers.
type Ends = (IpAddr, IpAddr);

impl Tcp {
    fn bytes(&self, ends: Ends) -> Vec<u8> {
        let [from, to] = self.ports;
        let mut tcp = TcpHeader::new(from, to, 0x0102_0304, 0xfff0);
        let has = |flag| self.flags & flag != 0;
        (tcp.fin, tcp.syn, tcp.rst, tcp.psh) = (has(FIN), has(SYN), has(RST), has(PSH));
        (tcp.ack, tcp.urg, tcp.ece, tcp.cwr) = (has(ACK), has(URG), has(ECE), has(CWR));
        tcp.set_options_raw(&self.options).unwrap();
        let sum = match ends {
            (IpAddr::V4(s), IpAddr::V4(d)) => {
                tcp.calc_checksum_ipv4_raw(s.octets(), d.octets(), &self.payload)
            }
            (IpAddr::V6(s), IpAddr::V6(d)) => {
                tcp.calc_checksum_ipv6_raw(s.octets(), d.octets(), &self.payload)
            }
            (a, b) => panic!("{a} and {b} are of two families"),
        };
        tcp.checksum = add(sum.unwrap(), self.wrong.checksum);
        let mut bytes = tcp.to_bytes().to_vec();
        if let Some(words) = self.wrong.words {
            bytes[12] = words << 4 | bytes[12] & 0x0f;
        }
        bytes.extend(&self.payload);
        bytes
    }
}

impl Udp {
    fn bytes(&self, ends: Ends) -> Vec<u8> {
        let payload = self.payload.bytes();
        let [source_port, destination_port] = self.ports;
        let length = u16::try_from(8 + payload.len()).unwrap();
        let mut udp = UdpHeader { source_port, destination_port, length, checksum: 0 };
        if self.checksum {
            let sum = match ends {
                (IpAddr::V4(s), IpAddr::V4(d)) => {
                    udp.calc_checksum_ipv4_raw(s.octets(), d.octets(), &payload)
                }
                (IpAddr::V6(s), IpAddr::V6(d)) => {
                    udp.calc_checksum_ipv6_raw(s.octets(), d.octets(), &payload)
                }
                (a, b) => panic!("{a} and {b} are of two families"),
            };
            udp.checksum = add(sum.unwrap(), self.wrong.checksum);
        }
        udp.length = self.wrong.length.unwrap_or(length);
        let mut bytes = udp.to_bytes().to_vec();
        bytes.extend(payload);
        bytes
    }
}

impl Icmp {
    fn bytes(&self, ends: Ends) -> Vec<u8> {
        let payload = self.payload.bytes();
        let (type_u8, code_u8, bytes5to8) = (self.kind, self.code, self.rest);
        let mut bytes = if let (IpAddr::V6(s), IpAddr::V6(d)) = ends {
            let kind = Icmpv6Type::Unknown { type_u8, code_u8, bytes5to8 };
            let header = Icmpv6Header::with_checksum(kind, s.octets(), d.octets(), &payload);
            header.unwrap().to_bytes().to_vec()
        } else {
            let kind = Icmpv4Type::Unknown { type_u8, code_u8, bytes5to8 };
            Icmpv4Header::with_checksum(kind, &payload).to_bytes().to_vec()
        };
        let sum = u16::from_be_bytes([bytes[2], bytes[3]]);
        put(&mut bytes, 2, add(sum, self.wrong.checksum));
        bytes.extend(payload);
        bytes
    }
}

impl Payload {
    pub(super) fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Bytes(bytes) => bytes.clone(),
            Self::Ip(ip, length) => {
                let mut bytes = ip.bytes();
                bytes.truncate(*length);
                bytes
            }
        }
    }
}

fn put(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// In one's complement.
fn add(sum: u16, more: u16) -> u16 {
    let (sum, carry) = sum.overflowing_add(more);
    sum + u16::from(carry)
}
