//! From a frame to the flow it belongs to.
//!
//! Each header's length is checked once, then its fields are read; every offset is bounded by the
//! headers before it. What is looked at: Ethernet, IPv4 with options, IPv6 with up to
//! [`MAX_EXTENSIONS`] extension headers, TCP and UDP. What is ignored on purpose: header and
//! payload checksums (they are updated, not verified, so a broken packet stays broken) and the
//! contents of options.

use core::marker::PhantomData;

use crate::abi::{Address, Endpoint, FlowKey, Reason, TCP, UDP};
use crate::unaligned::{load16, load32};

/// Bytes of an Ethernet header.
pub const ETHERNET_LEN: u32 = 14;
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

/// IPv4 without options, RFC 791.
mod ipv4 {
    pub(super) const LEN: usize = 20;
    /// Version in the high half, header length in words in the low half.
    pub(super) const VERSION_IHL: usize = 0;
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
    /// Version in the high half.
    pub(super) const VERSION: usize = 0;
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
pub const IPV4_FRAGMENT: u16 = 0x3fff_u16.to_be();
/// Offset of the checksum in a TCP header.
pub const TCP_CHECKSUM: u32 = 16;
/// Offset of the checksum in a UDP header.
pub const UDP_CHECKSUM: u32 = 6;

/// `LEN` bytes of a frame whose presence was checked once. Fields are read one by one, so that
/// each goes straight into a register; that they lie within the header is checked at compile time.
#[derive(Clone, Copy)]
pub struct Header<'a, const LEN: usize> {
    start: *const u8,
    frame: PhantomData<&'a [u8]>,
}

/// Whether `width` bytes at the offset `at` lie within a header of `LEN` bytes.
const fn within<const LEN: usize>(at: i16, width: usize) -> bool {
    at >= 0 && at.unsigned_abs() as usize + width <= LEN
}

impl<const LEN: usize> Header<'_, LEN> {
    /// A header that begins at `start`.
    ///
    /// # Safety
    ///
    /// `LEN` bytes from `start` can be read for as long as the header lives.
    #[inline(always)]
    #[must_use]
    pub const unsafe fn new(start: *const u8) -> Self {
        Self { start, frame: PhantomData }
    }

    #[inline(always)]
    pub(crate) fn byte<const AT: usize>(self) -> u8 {
        const { assert!(AT < LEN) };
        // SAFETY: within the header by the line above, readable by the contract of `new`.
        unsafe { self.start.add(AT).read() }
    }

    /// Two bytes, as they lie in memory.
    #[inline(always)]
    pub(crate) fn half<const AT: i16>(self) -> u16 {
        const { assert!(within::<LEN>(AT, 2)) };
        // SAFETY: as in `byte`.
        unsafe { load16::<AT>(self.start) }
    }

    /// Four bytes, as they lie in memory.
    #[inline(always)]
    pub(crate) fn word<const AT: i16>(self) -> u32 {
        const { assert!(within::<LEN>(AT, 4)) };
        // SAFETY: as in `byte`.
        unsafe { load32::<AT>(self.start) }
    }

    /// The IPv6 source address and the destination address behind it.
    #[inline(always)]
    pub(crate) fn addresses<const AT: i16>(self) -> (Address, Address) {
        const { assert!(within::<LEN>(AT, 32)) };
        // SAFETY: as in `byte`.
        unsafe {
            let both = self.start.offset(AT as isize);
            let source =
                [load32::<0>(both), load32::<4>(both), load32::<8>(both), load32::<12>(both)];
            let destination =
                [load32::<16>(both), load32::<20>(both), load32::<24>(both), load32::<28>(both)];
            (Address(source), Address(destination))
        }
    }
}

/// A frame that can be read.
pub trait Frame {
    /// The `LEN` bytes at `offset`, or nothing when the frame ends before they do.
    fn header<const LEN: usize>(&self, offset: u32) -> Option<Header<'_, LEN>>;
    /// Length of the whole frame in bytes, though not all of it may be readable.
    fn length(&self) -> u32;
}

/// What the program needs to know of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Packet {
    /// The flow, from sender to receiver.
    pub key: FlowKey,
    /// Offset of the IP header.
    pub l3: u32,
    /// Offset of the TCP or UDP header.
    pub l4: u32,
    /// Hops left.
    pub hop_limit: u8,
    /// TCP flags, zero for UDP.
    pub flags: u8,
    /// It goes where others of its flow go: a later fragment, or an ICMP error. There is no
    /// transport header at `l4`; it opens nothing, and nothing is remembered of it.
    pub follows: bool,
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
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Network {
    /// Who sent it.
    pub source: Address,
    /// Whom it is for.
    pub destination: Address,
    /// Number of what follows; of an IPv6 packet with a fragment header, [`FRAGMENT`].
    pub protocol: u8,
    /// Hops left.
    pub hop_limit: u8,
    /// Of an IPv4 packet, the flags and offset of a fragment as they lie in the header; zero means
    /// that the packet is whole.
    pub fragment: u16,
    /// Offset of the IP header.
    pub l3: u32,
    /// Offset of what follows.
    pub l4: u32,
    /// Offset of the packet's end.
    pub end: u32,
}

impl Network {
    /// The packet with these ports and TCP flags.
    #[inline(always)]
    #[must_use]
    pub fn packet(&self, source_port: u16, destination_port: u16, flags: u8) -> Packet {
        Packet {
            key: FlowKey {
                source: self.source,
                destination: self.destination,
                source_port,
                destination_port,
                protocol: self.protocol,
                pad: [0; 3],
            },
            l3: self.l3,
            l4: self.l4,
            hop_limit: self.hop_limit,
            flags,
            follows: false,
        }
    }
}

/// Reads a frame.
///
/// # Errors
///
/// Why the packet is left to the stack: [`Reason::NotIp`], [`Reason::NotTransport`],
/// [`Reason::Malformed`], [`Reason::Fragment`] or [`Reason::Vlan`].
#[inline(always)]
pub fn parse<F: Frame>(frame: &F) -> Result<Packet, Reason> {
    let network = network(frame)?;
    if network.fragment != 0 || network.protocol == FRAGMENT {
        return Err(Reason::Fragment); // the flow's ports may be elsewhere
    }
    transport(frame, &network, Length::Whole)
}

/// Reads the headers up to the one that IP carries.
///
/// # Errors
///
/// As [`parse`].
#[inline(always)]
pub fn network<F: Frame>(frame: &F) -> Result<Network, Reason> {
    let header = frame.header::<{ ethernet::LEN }>(0).ok_or(Reason::Malformed)?;
    match header.half::<{ ethernet::TYPE }>() {
        ETHERTYPE_IPV4 => read_ipv4(frame),
        ETHERTYPE_IPV6 => read_ipv6(frame),
        ETHERTYPE_VLAN | ETHERTYPE_QINQ => Err(Reason::Vlan),
        _ => Err(Reason::NotIp),
    }
}

/// How much of a datagram is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Length {
    /// All of it.
    Whole,
    /// Its beginning.
    Cut,
}

/// Reads the TCP or UDP header.
///
/// # Errors
///
/// [`Reason::NotTransport`] or [`Reason::Malformed`].
#[inline(always)]
pub fn transport<F: Frame>(frame: &F, network: &Network, length: Length) -> Result<Packet, Reason> {
    let (source_port, destination_port, flags) = match network.protocol {
        TCP => read_tcp(frame, network)?,
        UDP => read_udp(frame, network, length)?,
        _ => return Err(Reason::NotTransport),
    };
    Ok(network.packet(source_port, destination_port, flags))
}

#[inline(always)]
fn read_ipv4<F: Frame>(frame: &F) -> Result<Network, Reason> {
    let ip = frame.header::<{ ipv4::LEN }>(ETHERNET_LEN).ok_or(Reason::Malformed)?;
    let version_ihl = ip.byte::<{ ipv4::VERSION_IHL }>();
    let header = u32::from(version_ihl & 0x0f) * 4;
    let total = u32::from(u16::from_be(ip.half::<{ ipv4::TOTAL_LENGTH }>()));
    let end = ETHERNET_LEN + total;
    if version_ihl >> 4 != 4 || header < 20 || total < header || end > frame.length() {
        return Err(Reason::Malformed);
    }
    Ok(Network {
        source: Address::v4(ip.word::<{ ipv4::SOURCE }>()),
        destination: Address::v4(ip.word::<{ ipv4::DESTINATION }>()),
        protocol: ip.byte::<{ ipv4::PROTOCOL }>(),
        hop_limit: ip.byte::<{ ipv4::HOP_LIMIT }>(),
        fragment: ip.half::<{ ipv4::FRAGMENT }>() & IPV4_FRAGMENT,
        l3: ETHERNET_LEN,
        l4: ETHERNET_LEN + header,
        end,
    })
}

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
/// Number of the IPv6 fragment header.
pub const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

#[inline(always)]
fn read_ipv6<F: Frame>(frame: &F) -> Result<Network, Reason> {
    let ip = frame.header::<{ ipv6::LEN }>(ETHERNET_LEN).ok_or(Reason::Malformed)?;
    let start = ETHERNET_LEN + ipv6::LEN as u32;
    let end = start + u32::from(u16::from_be(ip.half::<{ ipv6::PAYLOAD_LENGTH }>()));
    if ip.byte::<{ ipv6::VERSION }>() >> 4 != 6 || end > frame.length() {
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
    let hop_limit = ip.byte::<{ ipv6::HOP_LIMIT }>();
    let l3 = ETHERNET_LEN;
    Ok(Network { source, destination, protocol, hop_limit, fragment: 0, l3, l4, end })
}

#[inline(always)]
fn read_tcp<F: Frame>(frame: &F, network: &Network) -> Result<(u16, u16, u8), Reason> {
    let tcp = frame.header::<{ tcp::LEN }>(network.l4).ok_or(Reason::Malformed)?;
    let header = u32::from(tcp.byte::<{ tcp::OFFSET }>() >> 4) * 4;
    if header < 20 || network.l4 + header > network.end {
        return Err(Reason::Malformed);
    }
    let source = tcp.half::<{ tcp::SOURCE_PORT }>();
    Ok((source, tcp.half::<{ tcp::DESTINATION_PORT }>(), tcp.byte::<{ tcp::FLAGS }>()))
}

#[inline(always)]
fn read_udp<F: Frame>(
    frame: &F,
    network: &Network,
    length: Length,
) -> Result<(u16, u16, u8), Reason> {
    let udp = frame.header::<{ udp::LEN }>(network.l4).ok_or(Reason::Malformed)?;
    let said = u32::from(u16::from_be(udp.half::<{ udp::LENGTH }>()));
    // Of a fragment the header alone must be there.
    let there = if length == Length::Whole { said } else { udp::LEN as u32 };
    if said < 8 || network.l4 + there > network.end {
        return Err(Reason::Malformed);
    }
    let source = udp.half::<{ udp::SOURCE_PORT }>();
    Ok((source, udp.half::<{ udp::DESTINATION_PORT }>(), 0))
}

/// A frame in memory, for the host.
impl Frame for [u8] {
    fn header<const LEN: usize>(&self, offset: u32) -> Option<Header<'_, LEN>> {
        let bytes = self.get(offset as usize..)?.get(..LEN)?;
        // SAFETY: the slice has LEN bytes and is borrowed for as long as the header lives.
        Some(unsafe { Header::new(bytes.as_ptr()) })
    }

    fn length(&self) -> u32 {
        self.len() as u32
    }
}
