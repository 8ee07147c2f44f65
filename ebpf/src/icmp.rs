//! ICMP (RFC 792) and ICMPv6 (RFC 4443), as far as a balancer takes part: which messages matter,
//! whose packet an error quotes, what must change in a quote, and the errors of its own.

use crate::abi::{Address, Complaint, FlowKey, TCP, UDP};
use crate::checksum::{Delta, apply_udp, fold};
use crate::packet::{Frame, MAX_OFFSET, Network, TCP_CHECKSUM, UDP_CHECKSUM};

/// IP protocol number of ICMP.
pub const ICMP: u8 = 1;
/// IP protocol number of ICMPv6.
pub const ICMPV6: u8 = 58;
/// Bytes of the header that every message has.
pub const HEADER: u32 = 8;
/// Offset of the checksum in a message.
pub const CHECKSUM: u32 = 2;
/// Hop limit of every message that the node itself makes.
pub const HOP_LIMIT: u8 = 64;

/// The beginning of every message. Type and code are looked at as one half word.
mod message {
    pub(super) const LEN: usize = 8;
    pub(super) const TYPE: usize = 0;
    pub(super) const TYPE_CODE: i16 = 0;
    pub(super) const CHECKSUM: i16 = 2;
}

/// What the first bytes of an IPv4 header say, for a quote.
mod ipv4 {
    pub(super) const LEN: usize = 20;
    pub(super) const VERSION_IHL: usize = 0;
    pub(super) const FRAGMENT: i16 = 6;
    pub(super) const PROTOCOL: usize = 9;
    pub(super) const CHECKSUM: i16 = 10;
    pub(super) const SOURCE: i16 = 12;
    pub(super) const DESTINATION: i16 = 16;
}

/// An IPv6 header, for a quote.
mod ipv6 {
    pub(super) const LEN: usize = 40;
    pub(super) const VERSION: usize = 0;
    pub(super) const NEXT_HEADER: usize = 6;
    pub(super) const SOURCE: i16 = 8;
}

/// What a quote has of a transport header at the least: the ports, and all of UDP.
mod transport {
    pub(super) const LEN: usize = 8;
    pub(super) const SOURCE_PORT: i16 = 0;
    pub(super) const DESTINATION_PORT: i16 = 2;
    pub(super) const UDP_CHECKSUM: i16 = 6;
}

/// A message, by what is done with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message {
    /// What it is.
    pub kind: Kind,
    /// Type and code, as they lie in the message.
    pub type_code: u16,
    /// Its checksum.
    pub checksum: u16,
}

/// The kinds of messages that matter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Wants an answer.
    EchoRequest,
    /// Quotes a packet that went no further.
    Error,
    /// Anything else.
    Other,
}

/// Reads the header of a message. Nothing where it is none, or is cut short.
#[inline(always)]
#[must_use]
pub fn message<F: Frame + ?Sized>(frame: &F, network: &Network) -> Option<Message> {
    if network.l4 + HEADER > network.end {
        return None;
    }
    let header = frame.header::<{ message::LEN }>(network.l4)?;
    let kind = match (network.protocol, header.byte::<{ message::TYPE }>()) {
        (ICMP, 8) | (ICMPV6, 128) => Kind::EchoRequest,
        // Unreachable (fragmentation needed is one of these), time exceeded, parameter problem.
        // Unreachable, too big, time exceeded, parameter problem.
        (ICMP, 3 | 11 | 12) | (ICMPV6, 1..=4) => Kind::Error,
        _ => Kind::Other,
    };
    let mixed = (network.protocol == ICMP) != network.source.is_v4();
    Some(Message {
        kind: if mixed { Kind::Other } else { kind },
        type_code: header.half::<{ message::TYPE_CODE }>(),
        checksum: header.half::<{ message::CHECKSUM }>(),
    })
}

/// Type and code of the answer to an echo request, as they lie in the message.
#[inline(always)]
#[must_use]
pub const fn echo_reply(protocol: u8) -> u16 {
    u16::from_ne_bytes([if protocol == ICMP { 0 } else { 129 }, 0])
}

/// The packet that an error quotes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quote {
    /// Its flow, from its sender to its receiver.
    pub key: FlowKey,
    /// Offset of its IP header in the frame.
    pub l3: u32,
    /// Offset of its TCP or UDP header in the frame.
    pub l4: u32,
    /// Checksum of its IPv4 header; zero for IPv6.
    ip_checksum: u16,
    /// Whether the checksum of its TCP or UDP header is quoted,
    pub summed: bool,
    /// and what it is.
    l4_checksum: u16,
}

/// What takes the place of fields of a quote, when one of its ends is another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mended {
    /// Checksum of the quoted IPv4 header.
    pub ip_checksum: u16,
    /// Checksum of the quoted TCP or UDP header, if there is one.
    pub l4_checksum: u16,
    /// Checksum of the error itself, whose `outer` address changes too.
    pub checksum: u16,
}

/// Reads the quote of an error. Nothing unless it is of the same family as the error, has no IPv6
/// extension header, is no later fragment, and goes on for eight bytes of TCP or UDP.
#[inline(always)]
#[must_use]
pub fn quote<F: Frame + ?Sized>(frame: &F, network: &Network) -> Option<Quote> {
    let l3 = network.l4 + HEADER;
    let (source, destination, protocol, l4, ip_checksum) = if network.source.is_v4() {
        let ip = frame.header::<{ ipv4::LEN }>(l3)?;
        let version_ihl = ip.byte::<{ ipv4::VERSION_IHL }>();
        let length = u32::from(version_ihl & 0x0f) * 4;
        let later = ip.half::<{ ipv4::FRAGMENT }>() & 0x1fff_u16.to_be() != 0;
        if version_ihl >> 4 != 4 || length < 20 || later {
            return None;
        }
        (
            Address::v4(ip.word::<{ ipv4::SOURCE }>()),
            Address::v4(ip.word::<{ ipv4::DESTINATION }>()),
            ip.byte::<{ ipv4::PROTOCOL }>(),
            l3 + length,
            ip.half::<{ ipv4::CHECKSUM }>(),
        )
    } else {
        let ip = frame.header::<{ ipv6::LEN }>(l3)?;
        let (source, destination) = ip.addresses::<{ ipv6::SOURCE }>();
        if ip.byte::<{ ipv6::VERSION }>() >> 4 != 6 || source.is_v4() || destination.is_v4() {
            return None;
        }
        let protocol = ip.byte::<{ ipv6::NEXT_HEADER }>();
        (source, destination, protocol, l3 + ipv6::LEN as u32, 0)
    };
    if (protocol != TCP && protocol != UDP) || l4 + transport::LEN as u32 > network.end {
        return None;
    }
    let zero = network.zero;
    let (l3, l4) = (zero.hide::<MAX_OFFSET>(l3), zero.hide::<MAX_OFFSET>(l4));
    let header = frame.header::<{ transport::LEN }>(l4)?;
    let (summed, l4_checksum) = if protocol == UDP {
        (true, header.half::<{ transport::UDP_CHECKSUM }>())
    } else if l4 + TCP_CHECKSUM + 2 > network.end {
        (false, 0)
    } else {
        (true, frame.header::<2>(l4 + TCP_CHECKSUM)?.half::<0>())
    };
    let key = FlowKey {
        source,
        destination,
        source_port: header.half::<{ transport::SOURCE_PORT }>(),
        destination_port: header.half::<{ transport::DESTINATION_PORT }>(),
        protocol: zero.hide_byte(protocol),
        pad: [0; 3],
    };
    Some(Quote { key, l3, l4, ip_checksum, summed, l4_checksum })
}

impl Quote {
    /// Offset of the checksum of its TCP or UDP header in that.
    #[inline(always)]
    #[must_use]
    pub fn l4_checksum_at(&self) -> u32 {
        if self.key.protocol == UDP { UDP_CHECKSUM } else { TCP_CHECKSUM }
    }

    /// The checksums, when the end `old` of the quoted packet is `new` instead, and the address
    /// `outer.0` of the error itself is `outer.1`. `checksum` is the error's own.
    #[inline(always)]
    #[must_use]
    pub fn mended(
        &self,
        old: (Address, u16),
        new: (Address, u16),
        outer: (Address, Address),
        checksum: u16,
    ) -> Mended {
        let v4 = self.key.source.is_v4();
        let address = Delta::default().address(old.0, new.0);
        let both = address.half(old.1, new.1);
        let ip_checksum = if v4 { address.apply(self.ip_checksum) } else { 0 };
        let l4_checksum = match self.key.protocol {
            UDP => apply_udp(both, self.l4_checksum),
            _ if self.summed => both.apply(self.l4_checksum),
            _ => self.l4_checksum,
        };
        let all = both.half(self.ip_checksum, ip_checksum).half(self.l4_checksum, l4_checksum);
        // Only ICMPv6 sums the addresses that carry it.
        let all = if v4 { all } else { all.address(outer.0, outer.1) };
        Mended { ip_checksum, l4_checksum, checksum: all.apply(checksum) }
    }
}

/// Whether an error or an answer may be sent to this address: not to many, not to nobody, not to
/// the node itself (RFC 1122 §3.2.2, RFC 4443 §2.4).
#[inline(always)]
#[must_use]
pub fn may_be_told(address: &Address) -> bool {
    let [a, b, c, d] = address.0;
    if address.is_v4() {
        let [first, ..] = d.to_ne_bytes();
        return first != 0 && first != 127 && first < 224;
    }
    let [first, ..] = a.to_ne_bytes();
    let few = a == 0 && b == 0 && c == 0 && (d == 0 || d == 1_u32.to_be());
    first != 0xff && !few
}

/// The beginning of a packet that an error quotes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quoted {
    /// Bytes of it.
    pub length: u32,
    /// The sum of their half words as they lie in memory, not folded.
    pub sum: u32,
}

/// The bytes, in the order of the packet, as a word.
#[inline(always)]
const fn word(bytes: [u8; 4]) -> u32 {
    u32::from_ne_bytes(bytes)
}

#[inline(always)]
const fn sum(address: Address) -> u64 {
    let [a, b, c, d] = address.0;
    a as u64 + b as u64 + c as u64 + d as u64
}

/// The largest packet that a sender is told to send. Less than the family's smallest is never told.
#[inline(always)]
const fn told(mtu: u16, least: u16) -> [u8; 2] {
    if mtu < least { least.to_be_bytes() } else { mtu.to_be_bytes() }
}

/// The headers of an ICMP error: IPv4, with "don't fragment" because its identification is zero
/// (RFC 6864), then the error.
#[inline(always)]
#[must_use]
pub fn error_v4(source: Address, destination: Address, why: Complaint, quoted: Quoted) -> [u32; 7] {
    let [high, low] = (28 + quoted.length as u16).to_be_bytes();
    let (kind, rest) = match why {
        Complaint::Expired => ([11, 0], 0),
        Complaint::TooBig(mtu) => {
            let [high, low] = told(mtu, 68);
            ([3, 4], word([0, 0, high, low]))
        }
    };
    let first = word([0x45, 0xc0, high, low]);
    let second = word([0, 0, 0x40, 0]);
    let third = |[a, b]: [u8; 2]| word([HOP_LIMIT, ICMP, a, b]);
    let header = u64::from(first) + u64::from(second) + u64::from(third([0, 0]));
    let ip_checksum = !fold(header + sum(source) + sum(destination));
    let fourth = |[a, b]: [u8; 2]| word([kind[0], kind[1], a, b]);
    let checksum = !fold(u64::from(fourth([0, 0])) + u64::from(rest) + u64::from(quoted.sum));
    [
        first,
        second,
        third(ip_checksum.to_ne_bytes()),
        source.0[3],
        destination.0[3],
        fourth(checksum.to_ne_bytes()),
        rest,
    ]
}

/// The headers of an ICMPv6 error: IPv6, then the error.
#[inline(always)]
#[must_use]
pub fn error_v6(
    source: Address,
    destination: Address,
    why: Complaint,
    quoted: Quoted,
) -> [u32; 12] {
    let length = HEADER as u16 + quoted.length as u16;
    let [high, low] = length.to_be_bytes();
    let (kind, rest) = match why {
        Complaint::Expired => ([3, 0], 0),
        Complaint::TooBig(mtu) => {
            let [high, low] = told(mtu, 1280);
            ([2, 0], word([0, 0, high, low]))
        }
    };
    let fifth = |[a, b]: [u8; 2]| word([kind[0], kind[1], a, b]);
    let pseudo = sum(source)
        + sum(destination)
        + u64::from(word([0, 0, high, low]))
        + u64::from(word([0, 0, 0, ICMPV6]));
    let checksum =
        !fold(pseudo + u64::from(fifth([0, 0])) + u64::from(rest) + u64::from(quoted.sum));
    let (from, to) = (source.0, destination.0);
    [
        word([0x60, 0, 0, 0]),
        word([high, low, ICMPV6, HOP_LIMIT]),
        from[0],
        from[1],
        from[2],
        from[3],
        to[0],
        to[1],
        to[2],
        to[3],
        fifth(checksum.to_ne_bytes()),
        rest,
    ]
}
