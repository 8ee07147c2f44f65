//! From a frame to the flow it belongs to.
//!
//! Each header's length is checked once, then its fields are read; every offset is bounded by the
//! headers before it. What is looked at: Ethernet with up to [`MAX_TAGS`] VLAN tags, IPv4 with
//! options, IPv6 with up to [`MAX_EXTENSIONS`] extension headers, TCP and UDP. What is ignored on
//! purpose: header and payload checksums (they are updated, not verified, so a broken packet stays
//! broken) and the contents of options.

use crate::abi::{Address, Endpoint, FlowKey, Reason, TCP, UDP};
pub use crate::frame::{Frame, Header};
use crate::opaque::Zero;

/// Bytes of an Ethernet header without tags.
pub const ETHERNET_LEN: u32 = 14;
/// Bytes of a VLAN tag.
pub const TAG_LEN: u32 = 4;
/// VLAN tags of a frame that are understood.
pub const MAX_TAGS: u32 = 2;
/// Extension headers that are stepped over before an IPv6 packet is left to the stack.
pub const MAX_EXTENSIONS: u32 = 4;

const ETHERTYPE_IPV4: u16 = 0x0800_u16.to_be();
const ETHERTYPE_IPV6: u16 = 0x86dd_u16.to_be();
const ETHERTYPE_VLAN: u16 = 0x8100_u16.to_be();
const ETHERTYPE_QINQ: u16 = 0x88a8_u16.to_be();

/// The FIN bit of the TCP flags.
pub const FIN: u8 = 0x01;
/// The SYN bit.
pub const SYN: u8 = 0x02;
/// The RST bit.
pub const RST: u8 = 0x04;
/// The ACK bit.
pub const ACK: u8 = 0x10;

/// Named places in the headers: offset and, by the method that reads it, width. Everything is in
/// network byte order.
mod ethernet {
    pub(super) const LEN: usize = 14;
    pub(super) const TYPE: i16 = 12;
}

/// What follows an ether type that says "tag", IEEE 802.1Q.
mod tag {
    pub(super) const LEN: usize = 4;
    pub(super) const TYPE: i16 = 2;
}

/// IPv4 without options, RFC 791.
mod ipv4 {
    pub(super) const LEN: usize = 20;
    /// Version in the high half, header length in words in the low half.
    pub(super) const VERSION_IHL: usize = 0;
    pub(super) const TRAFFIC_CLASS: usize = 1;
    pub(super) const TOTAL_LENGTH: i16 = 2;
    /// Flags in the upper three bits, fragment offset below.
    pub(super) const FRAGMENT: i16 = 6;
    pub(super) const HOP_LIMIT: usize = 8;
    pub(super) const PROTOCOL: usize = 9;
    pub(super) const SOURCE: i16 = 12;
    pub(super) const DESTINATION: i16 = 16;
}

/// IPv6, RFC 8200.
mod ipv6 {
    pub(super) const LEN: usize = 40;
    /// Version in the first four bits, traffic class in the next eight.
    pub(super) const VERSION_CLASS: i16 = 0;
    pub(super) const PAYLOAD_LENGTH: i16 = 4;
    pub(super) const NEXT_HEADER: usize = 6;
    pub(super) const HOP_LIMIT: usize = 7;
    /// The destination follows.
    pub(super) const SOURCE: i16 = 8;
}

/// The beginning of most IPv6 extension headers, RFC 6564.
mod extension {
    pub(super) const LEN: usize = 2;
    pub(super) const NEXT_HEADER: usize = 0;
    /// In units of eight bytes, less one.
    pub(super) const LENGTH: usize = 1;
}

/// TCP without options, RFC 9293.
mod tcp {
    pub(super) const LEN: usize = 20;
    pub(super) const SOURCE_PORT: i16 = 0;
    pub(super) const DESTINATION_PORT: i16 = 2;
    pub(super) const SEQUENCE: i16 = 4;
    /// Header length in words in the high half.
    pub(super) const OFFSET: usize = 12;
    pub(super) const FLAGS: usize = 13;
}

/// UDP, RFC 768.
mod udp {
    pub(super) const LEN: usize = 8;
    pub(super) const SOURCE_PORT: i16 = 0;
    pub(super) const DESTINATION_PORT: i16 = 2;
    pub(super) const LENGTH: i16 = 4;
}

/// Offset of the ether type in a frame without tags.
pub const ETHER_TYPE: u32 = 12;
/// Offset of the destination address in an IPv4 header; the source's is four less.
pub const IPV4_DESTINATION: u32 = 16;
/// Offset of the destination address in an IPv6 header; the source's is sixteen less.
pub const IPV6_DESTINATION: u32 = 24;
/// Offset of the hop limit in an IPv4 header; the protocol follows.
pub const IPV4_HOP_LIMIT: u32 = 8;
/// Offset of the checksum in an IPv4 header.
pub const IPV4_CHECKSUM: u32 = 10;
/// Offset of the hop limit in an IPv6 header.
pub const IPV6_HOP_LIMIT: u32 = 7;
/// What a fragment has in the half word of flags and offset in an IPv4 header, network byte order:
/// "more" and the offset in units of eight bytes.
const IPV4_FRAGMENT: u16 = 0x3fff_u16.to_be();
/// Offset of the checksum in a TCP header.
pub const TCP_CHECKSUM: u32 = 16;
/// Offset of the checksum in a UDP header.
pub const UDP_CHECKSUM: u32 = 6;

/// The ether type of IPv4 or IPv6, network byte order.
#[inline(always)]
#[must_use]
pub const fn ether_type(is_v4: bool) -> u16 {
    if is_v4 { ETHERTYPE_IPV4 } else { ETHERTYPE_IPV6 }
}

/// What the program needs to know of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Packet {
    /// The flow, from sender to receiver.
    pub key: FlowKey,
    /// Offset of the IP header: 14, and four for each tag in the frame.
    pub l3: u32,
    /// Offset of the TCP or UDP header.
    pub l4: u32,
    /// Offset of what TCP or UDP carries.
    pub payload: u32,
    /// Length of the IP packet in bytes. Behind it, the frame may have padding.
    pub length: u32,
    /// TCP's sequence number as in the header, zero for UDP.
    pub sequence: u32,
    /// DSCP and ECN: IPv4's type of service, or IPv6's traffic class.
    pub traffic_class: u8,
    /// Hops left.
    pub hop_limit: u8,
    /// TCP flags, zero for UDP.
    pub flags: u8,
}

impl Packet {
    /// Whether the addresses are IPv4.
    #[inline(always)]
    #[must_use]
    pub fn is_v4(&self) -> bool {
        self.key.source.is_v4()
    }

    /// Whether it is TCP; else it is UDP.
    #[inline(always)]
    #[must_use]
    pub fn is_tcp(&self) -> bool {
        self.key.protocol == TCP
    }

    /// Whether it is a TCP packet that begins a connection: SYN and nothing that answers or ends.
    #[inline(always)]
    #[must_use]
    pub fn opens(&self) -> bool {
        self.flags & (SYN | ACK | RST | FIN) == SYN
    }

    /// Offset behind the packet's last byte.
    #[inline(always)]
    #[must_use]
    pub fn end(&self) -> u32 {
        self.l3 + self.length
    }

    /// Offset of the TCP or UDP checksum in the frame.
    #[inline(always)]
    #[must_use]
    pub fn l4_checksum(&self) -> u32 {
        self.l4 + if self.is_tcp() { TCP_CHECKSUM } else { UDP_CHECKSUM }
    }

    /// Whom it is for.
    #[inline(always)]
    #[must_use]
    pub fn destination(&self) -> Endpoint {
        Endpoint {
            address: self.key.destination,
            port: self.key.destination_port,
            protocol: self.key.protocol,
            pad: 0,
        }
    }

    /// Whom it is from.
    #[inline(always)]
    #[must_use]
    pub fn source(&self) -> Endpoint {
        Endpoint {
            address: self.key.source,
            port: self.key.source_port,
            protocol: self.key.protocol,
            pad: 0,
        }
    }
}

/// An IP header, read: what follows it, and where.
#[derive(Clone, Copy)]
pub struct Network {
    /// Who sent it.
    pub source: Address,
    /// Whom it is for.
    pub destination: Address,
    /// Number of what follows; of an IPv6 packet with a fragment header, [`FRAGMENT`].
    pub protocol: u8,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Hops left.
    pub hop_limit: u8,
    /// Of an IPv4 packet, "more" and the offset as they lie in the header. Zero: it is whole.
    pub fragment: u16,
    /// Offset of the IP header.
    pub l3: u32,
    /// Offset of what follows.
    pub l4: u32,
    /// Offset of the packet's end.
    pub end: u32,
    /// Hides values of this packet.
    pub zero: Zero,
}

impl Network {
    /// The packet, as far as this header tells.
    #[inline(always)]
    #[must_use]
    pub fn packet(&self) -> Packet {
        Packet {
            key: FlowKey {
                source: self.source,
                destination: self.destination,
                source_port: 0,
                destination_port: 0,
                protocol: self.zero.hide_byte(self.protocol),
                pad: [0; 3],
            },
            l3: self.l3,
            l4: self.l4,
            payload: self.l4,
            length: self.end - self.l3,
            sequence: 0,
            traffic_class: self.traffic_class,
            hop_limit: self.hop_limit,
            flags: 0,
        }
    }
}

/// A TCP or UDP header, read.
struct Transport {
    source_port: u16,
    destination_port: u16,
    sequence: u32,
    flags: u8,
    /// Offset of what follows.
    payload: u32,
}

/// A power of two less one that no offset of a header exceeds: neither one behind four extension
/// headers of 2048 bytes each, nor the same within a tunnel. Tells the verifier so.
pub const MAX_OFFSET: u32 = 0x3fff;
/// The same for IP headers that are not in a tunnel.
const MAX_L3: u32 = 0x1f;

/// Reads a frame.
///
/// # Errors
///
/// Why the packet is left to the stack: [`Reason::NotIp`], [`Reason::NotTransport`],
/// [`Reason::Malformed`], [`Reason::Fragment`] or [`Reason::Vlan`].
#[inline(always)]
pub fn parse<F: Frame + ?Sized>(frame: &F) -> Result<Packet, Reason> {
    let network = network(frame)?;
    if network.fragment != 0 || network.protocol == FRAGMENT {
        return Err(Reason::Fragment); // the flow's ports may be elsewhere
    }
    transport(frame, &network, Extent::Whole)
}

/// Bytes of the headers of a packet that [`plain`] takes.
const PLAIN: usize = ethernet::LEN + ipv4::LEN + tcp::LEN;
/// Where its IP header begins, and TCP's.
const PLAIN_L3: i16 = 14;
const PLAIN_L4: i16 = 34;
const _: () = {
    assert!(PLAIN_L3 as usize == ethernet::LEN);
    assert!(PLAIN_L4 as usize == ethernet::LEN + ipv4::LEN);
};

/// Reads a frame that is as nearly all are: IPv4 without options, no tags, whole, and TCP within a
/// connection, neither opening nor ending it. Where everything is, the compiler knows. Nothing for
/// all other frames; what it gives is what [`parse`] gives.
#[inline(always)]
pub fn plain<F: Frame + ?Sized>(frame: &F) -> Option<Packet> {
    let headers = frame.header::<PLAIN>(0)?;
    let total = u32::from(u16::from_be(headers.half::<{ PLAIN_L3 + ipv4::TOTAL_LENGTH }>()));
    let flags = headers.byte::<{ PLAIN_L4 as usize + tcp::FLAGS }>();
    let options = u32::from(headers.byte::<{ PLAIN_L4 as usize + tcp::OFFSET }>() >> 4) * 4;
    let (l3, l4) = (PLAIN_L3.unsigned_abs().into(), PLAIN_L4.unsigned_abs().into());
    let (payload, end) = (l4 + options, l3 + total);
    if headers.half::<{ ethernet::TYPE }>() != ETHERTYPE_IPV4
        || headers.byte::<{ PLAIN_L3 as usize + ipv4::VERSION_IHL }>() != 0x45
        || headers.half::<{ PLAIN_L3 + ipv4::FRAGMENT }>() & IPV4_FRAGMENT != 0
        || headers.byte::<{ PLAIN_L3 as usize + ipv4::PROTOCOL }>() != TCP
        || flags & (SYN | FIN | RST) != 0
        || options < 20
        || payload > end
        || !frame.holds(end)
    {
        return None;
    }
    Some(Packet {
        key: FlowKey {
            source: Address::v4(headers.word::<{ PLAIN_L3 + ipv4::SOURCE }>()),
            destination: Address::v4(headers.word::<{ PLAIN_L3 + ipv4::DESTINATION }>()),
            source_port: headers.half::<{ PLAIN_L4 + tcp::SOURCE_PORT }>(),
            destination_port: headers.half::<{ PLAIN_L4 + tcp::DESTINATION_PORT }>(),
            protocol: TCP,
            pad: [0; 3],
        },
        l3,
        l4,
        payload,
        length: total,
        sequence: headers.word::<{ PLAIN_L4 + tcp::SEQUENCE }>(),
        traffic_class: headers.byte::<{ PLAIN_L3 as usize + ipv4::TRAFFIC_CLASS }>(),
        hop_limit: headers.byte::<{ PLAIN_L3 as usize + ipv4::HOP_LIMIT }>(),
        flags,
    })
}

/// Reads the headers up to the one that IP carries.
///
/// # Errors
///
/// [`Reason::NotIp`], [`Reason::Malformed`] or [`Reason::Vlan`].
#[inline(always)]
pub fn network<F: Frame + ?Sized>(frame: &F) -> Result<Network, Reason> {
    let ethernet = frame.header::<{ ethernet::LEN }>(0).ok_or(Reason::Malformed)?;
    let zero = Zero::from_unknown(ethernet.word::<0>());
    let (mut ether_type, mut l3) = (ethernet.half::<{ ethernet::TYPE }>(), ETHERNET_LEN);
    for _ in 0..MAX_TAGS {
        if is_tag(ether_type) {
            let tag = frame.header::<{ tag::LEN }>(l3).ok_or(Reason::Malformed)?;
            ether_type = tag.half::<{ tag::TYPE }>();
            l3 += TAG_LEN;
        }
    }
    let l3 = zero.hide::<MAX_L3>(l3);
    let network = match ether_type {
        ETHERTYPE_IPV4 => read_ipv4(frame, l3, zero)?,
        ETHERTYPE_IPV6 => read_ipv6(frame, l3, zero)?,
        ETHERTYPE_VLAN | ETHERTYPE_QINQ => return Err(Reason::Vlan),
        _ => return Err(Reason::NotIp),
    };
    Ok(Network { l4: zero.hide::<MAX_OFFSET>(network.l4), ..network })
}

/// How much of a packet there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Extent {
    /// All of it.
    Whole,
    /// Its beginning.
    Cut,
}

/// Reads the TCP or UDP header.
///
/// # Errors
///
/// [`Reason::NotTransport`], or [`Reason::Malformed`].
#[inline(always)]
pub fn transport<F: Frame + ?Sized>(
    frame: &F,
    network: &Network,
    extent: Extent,
) -> Result<Packet, Reason> {
    let transport = match network.protocol {
        TCP => read_tcp(frame, network)?,
        UDP => read_udp(frame, network, extent)?,
        _ => return Err(Reason::NotTransport),
    };
    let mut packet = network.packet();
    packet.key.source_port = transport.source_port;
    packet.key.destination_port = transport.destination_port;
    packet.payload = transport.payload;
    packet.sequence = transport.sequence;
    packet.flags = network.zero.hide_byte(transport.flags);
    Ok(packet)
}

#[inline(always)]
fn is_tag(ether_type: u16) -> bool {
    ether_type == ETHERTYPE_VLAN || ether_type == ETHERTYPE_QINQ
}

#[inline(always)]
fn read_ipv4<F: Frame + ?Sized>(frame: &F, l3: u32, zero: Zero) -> Result<Network, Reason> {
    let ip = frame.header::<{ ipv4::LEN }>(l3).ok_or(Reason::Malformed)?;
    let version_ihl = ip.byte::<{ ipv4::VERSION_IHL }>();
    let header = u32::from(version_ihl & 0x0f) * 4;
    let total = u32::from(u16::from_be(ip.half::<{ ipv4::TOTAL_LENGTH }>()));
    let end = l3 + total;
    if version_ihl >> 4 != 4 || header < 20 || total < header || !frame.holds(end) {
        return Err(Reason::Malformed);
    }
    Ok(Network {
        source: Address::v4(ip.word::<{ ipv4::SOURCE }>()),
        destination: Address::v4(ip.word::<{ ipv4::DESTINATION }>()),
        protocol: ip.byte::<{ ipv4::PROTOCOL }>(),
        traffic_class: ip.byte::<{ ipv4::TRAFFIC_CLASS }>(),
        hop_limit: ip.byte::<{ ipv4::HOP_LIMIT }>(),
        fragment: ip.half::<{ ipv4::FRAGMENT }>() & IPV4_FRAGMENT,
        l3,
        l4: l3 + header,
        end,
        zero,
    })
}

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
/// Number of IPv6's fragment header.
pub const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

#[inline(always)]
fn read_ipv6<F: Frame + ?Sized>(frame: &F, l3: u32, zero: Zero) -> Result<Network, Reason> {
    let ip = frame.header::<{ ipv6::LEN }>(l3).ok_or(Reason::Malformed)?;
    let start = l3 + ipv6::LEN as u32;
    let end = start + u32::from(u16::from_be(ip.half::<{ ipv6::PAYLOAD_LENGTH }>()));
    let version_class = u16::from_be(ip.half::<{ ipv6::VERSION_CLASS }>());
    if version_class >> 12 != 6 || !frame.holds(end) {
        return Err(Reason::Malformed);
    }
    let (source, destination) = ip.addresses::<{ ipv6::SOURCE }>();
    if source.is_v4() || destination.is_v4() {
        return Err(Reason::Malformed); // must not appear on the wire, and would pass for IPv4 here
    }
    let (mut protocol, mut l4) = (ip.byte::<{ ipv6::NEXT_HEADER }>(), start);
    for _ in 0..MAX_EXTENSIONS {
        match protocol {
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS => {
                let next = frame.header::<{ extension::LEN }>(l4).ok_or(Reason::Malformed)?;
                protocol = next.byte::<{ extension::NEXT_HEADER }>();
                l4 += (u32::from(next.byte::<{ extension::LENGTH }>()) + 1) * 8;
            }
            _ => break,
        }
    }
    Ok(Network {
        source,
        destination,
        protocol,
        traffic_class: (version_class >> 4) as u8,
        hop_limit: ip.byte::<{ ipv6::HOP_LIMIT }>(),
        fragment: 0,
        l3,
        l4,
        end,
        zero,
    })
}

#[inline(always)]
fn read_tcp<F: Frame + ?Sized>(frame: &F, network: &Network) -> Result<Transport, Reason> {
    let tcp = frame.header::<{ tcp::LEN }>(network.l4).ok_or(Reason::Malformed)?;
    let header = u32::from(tcp.byte::<{ tcp::OFFSET }>() >> 4) * 4;
    let payload = network.l4 + header;
    if header < 20 || payload > network.end {
        return Err(Reason::Malformed);
    }
    Ok(Transport {
        source_port: tcp.half::<{ tcp::SOURCE_PORT }>(),
        destination_port: tcp.half::<{ tcp::DESTINATION_PORT }>(),
        sequence: tcp.word::<{ tcp::SEQUENCE }>(),
        flags: tcp.byte::<{ tcp::FLAGS }>(),
        payload,
    })
}

#[inline(always)]
fn read_udp<F: Frame + ?Sized>(
    frame: &F,
    network: &Network,
    extent: Extent,
) -> Result<Transport, Reason> {
    let udp = frame.header::<{ udp::LEN }>(network.l4).ok_or(Reason::Malformed)?;
    let length = u32::from(u16::from_be(udp.half::<{ udp::LENGTH }>()));
    let here = if extent == Extent::Whole { length } else { udp::LEN as u32 };
    if length < 8 || network.l4 + here > network.end {
        return Err(Reason::Malformed);
    }
    Ok(Transport {
        source_port: udp.half::<{ udp::SOURCE_PORT }>(),
        destination_port: udp.half::<{ udp::DESTINATION_PORT }>(),
        sequence: 0,
        flags: 0,
        payload: network.l4 + udp::LEN as u32,
    })
}
