//! From a frame to the tunnel that it came by, for backends that have no tunnel devices: what must
//! be stripped, or why nothing is.
//!
//! The outer header is one of IPv4 (with options) or IPv6 (without extension headers), then the
//! inner packet follows: at once (IP protocol 4 or 41), or in UDP by Generic UDP Encapsulation
//! (draft-ietf-intarea-gue): variant 1, whose payload is the inner packet, or variant 0 with
//! nothing but its four bytes. The outer UDP checksum is not verified: what is inside has its own.

pub mod abi;

use crate::abi::{Address, UDP};
use crate::unaligned::{load16, load32};
use abi::{Family, Kind, Reason};

/// Bytes of an Ethernet header without tags.
pub const ETHERNET_LEN: u32 = 14;
/// Bytes of a VLAN tag.
pub const TAG_LEN: u32 = 4;
/// Offset of the checksum in an IPv4 header.
pub const IPV4_CHECKSUM: u32 = 10;
/// All headers that are looked at lie within this: Ethernet, two tags, IPv4 with all options, UDP,
/// GUE, an inner IPv6 header. (22 + 60 + 8 + 4 + 40)
pub const HEADERS: u32 = 134;

const ETHERTYPE_VLAN: u16 = 0x8100_u16.to_be();
const ETHERTYPE_QINQ: u16 = 0x88a8_u16.to_be();
const IPV4: u8 = 4;
const IPV6: u8 = 41;
const IPV6_FRAGMENT: u8 = 44;

/// A frame that can be read.
pub trait Bytes {
    /// Where the `LEN` bytes at `offset` begin, or nothing when not all of them can be read.
    /// `offset` is below 256.
    fn at<const LEN: usize>(&self, offset: u32) -> Option<*const u8>;
    /// Length of the whole frame in bytes, though not all of it may be readable.
    fn length(&self) -> u32;
}

/// A packet in a tunnel that ends here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tunnel {
    /// How it is wrapped.
    pub kind: Kind,
    /// The outer header's family.
    pub outer: Family,
    /// The inner header's family.
    pub inner: Family,
    /// VLAN tags in the frame, at most two.
    pub tags: u32,
    /// Bytes between the Ethernet header with its tags and the inner header: what to strip.
    pub strip: u32,
    /// Whether the inner packet ends where the outer's payload does.
    pub filled: bool,
    /// The first half word of the inner header, which holds the ECN bits in either family: as it
    /// is, and as it must become.
    pub first: [u16; 2],
}

impl Tunnel {
    /// Offset of the outer header.
    #[inline(always)]
    #[must_use]
    pub const fn l3(&self) -> u32 {
        ETHERNET_LEN + self.tags * TAG_LEN
    }
}

/// Why a frame is not stripped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// It is in no tunnel: nothing to count.
    Other,
    /// It is left as it is to the stack.
    Pass(Reason),
    /// It is dropped.
    Drop(Reason),
}

/// An outer header, read.
struct Outer {
    destination: Address,
    /// What follows it, or the fragment header behind it.
    protocol: u8,
    /// The lower two bits of the traffic class.
    ecn: u8,
    /// Where that begins.
    next: u32,
    /// Where the packet ends.
    end: u32,
    fragment: Fragment,
    /// Whether its lengths are possible.
    sound: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fragment {
    /// The packet is whole.
    None,
    First,
    Later,
}

/// Reads a frame. `gue_port` is in network byte order; `is_local` says whether this host has an
/// address, and is asked only for packets that look like a tunnel's.
///
/// # Errors
///
/// [`Refused`]: what becomes of it instead.
#[inline(always)]
pub fn tunnel<F: Bytes>(
    frame: &F,
    gue_port: u16,
    is_local: impl FnOnce(&Address) -> bool,
) -> Result<Tunnel, Refused> {
    let (tags, kind) = ethernet(frame).ok_or(Refused::Other)?;
    let l3 = ETHERNET_LEN + tags * TAG_LEN;
    let family = Family::of_ethertype(kind).ok_or(Refused::Other)?;
    let outer = match family {
        Family::V4 => ipv4(frame, l3),
        Family::V6 => ipv6(frame, l3),
    };
    let outer = outer.ok_or(Refused::Other)?;
    let is_tunnel = match outer.protocol {
        IPV4 | IPV6 => true,
        UDP if outer.fragment != Fragment::Later => {
            let udp = frame.at::<8>(outer.next).ok_or(Refused::Other)?;
            // SAFETY: eight bytes can be read there.
            (unsafe { load16::<2>(udp) }) == gue_port
        }
        _ => false,
    };
    if !is_tunnel {
        return Err(Refused::Other);
    }
    if !is_local(&outer.destination) {
        return Err(Refused::Pass(Reason::Elsewhere));
    }
    if outer.fragment != Fragment::None {
        return Err(Refused::Pass(Reason::Fragment));
    }
    if !outer.sound {
        return Err(Refused::Pass(Reason::Outer));
    }
    let (inner, start, end) = match outer.protocol {
        IPV4 => (Family::V4, outer.next, outer.end),
        IPV6 => (Family::V6, outer.next, outer.end),
        _ => gue(frame, &outer)?,
    };
    let (length, first) = inner_header(frame, inner, start).ok_or(Refused::Drop(Reason::Inner))?;
    if start + length > end {
        return Err(Refused::Drop(Reason::Inner));
    }
    let first = mark(inner, first, outer.ecn).ok_or(Refused::Drop(Reason::Ecn))?;
    Ok(Tunnel {
        kind: Kind::of(outer.protocol == UDP, family, inner),
        outer: family,
        inner,
        tags,
        strip: start - l3,
        filled: start + length == end,
        first,
    })
}

/// The number of tags, and the type of what follows them.
#[inline(always)]
fn ethernet<F: Bytes>(frame: &F) -> Option<(u32, u16)> {
    let kind = |offset| {
        let place = frame.at::<2>(offset)?;
        // SAFETY: two bytes can be read there.
        Some(unsafe { load16::<0>(place) })
    };
    let is_tag = |kind| kind == ETHERTYPE_VLAN || kind == ETHERTYPE_QINQ;
    let mut tags = 0;
    let mut found = kind(12)?;
    if is_tag(found) {
        (tags, found) = (1, kind(16)?);
        if is_tag(found) {
            (tags, found) = (2, kind(20)?);
        }
    }
    Some((tags, found))
}

#[inline(always)]
fn ipv4<F: Bytes>(frame: &F, l3: u32) -> Option<Outer> {
    let ip = frame.at::<20>(l3)?;
    // SAFETY: twenty bytes can be read there.
    let (start, total, fragment, protocol, destination) = unsafe {
        (
            load16::<0>(ip).to_ne_bytes(),
            u32::from(u16::from_be(load16::<2>(ip))),
            u16::from_be(load16::<6>(ip)),
            *ip.add(9),
            load32::<16>(ip),
        )
    };
    if start[0] >> 4 != 4 {
        return None;
    }
    let header = u32::from(start[0] & 0x0f) * 4;
    Some(Outer {
        destination: Address::v4(destination),
        protocol,
        ecn: start[1] & 3,
        next: l3 + header,
        end: l3 + total,
        fragment: match (fragment & 0x1fff, fragment & 0x2000) {
            (0, 0) => Fragment::None,
            (0, _) => Fragment::First,
            _ => Fragment::Later,
        },
        sound: header >= 20 && total >= header && l3 + total <= frame.length(),
    })
}

#[inline(always)]
fn ipv6<F: Bytes>(frame: &F, l3: u32) -> Option<Outer> {
    let ip = frame.at::<40>(l3)?;
    // SAFETY: forty bytes can be read there.
    let (start, payload, protocol, destination) = unsafe {
        (
            load16::<0>(ip).to_ne_bytes(),
            u32::from(u16::from_be(load16::<4>(ip))),
            *ip.add(6),
            Address([load32::<24>(ip), load32::<28>(ip), load32::<32>(ip), load32::<36>(ip)]),
        )
    };
    // A mapped address must not appear on the wire, and would pass for IPv4 here.
    if start[0] >> 4 != 6 || destination.is_v4() {
        return None;
    }
    let end = l3 + 40 + payload;
    let mut outer = Outer {
        destination,
        protocol,
        ecn: start[1] >> 4 & 3,
        next: l3 + 40,
        end,
        fragment: Fragment::None,
        sound: end <= frame.length(),
    };
    if protocol == IPV6_FRAGMENT {
        let header = frame.at::<8>(l3 + 40)?;
        // SAFETY: eight bytes can be read there.
        let (protocol, offset) = unsafe { (*header, u16::from_be(load16::<2>(header))) };
        outer.protocol = protocol;
        outer.next += 8;
        outer.fragment = if offset & 0xfff8 == 0 { Fragment::First } else { Fragment::Later };
    }
    Some(outer)
}

/// Reads UDP and GUE: the inner family, where the inner packet begins, and where the datagram ends.
#[inline(always)]
fn gue<F: Bytes>(frame: &F, outer: &Outer) -> Result<(Family, u32, u32), Refused> {
    let udp = frame.at::<8>(outer.next).ok_or(Refused::Pass(Reason::Outer))?;
    // SAFETY: eight bytes can be read there.
    let length = u32::from(u16::from_be(unsafe { load16::<4>(udp) }));
    let (start, end) = (outer.next + 8, outer.next + length);
    if length < 8 || end > outer.end {
        return Err(Refused::Pass(Reason::Outer));
    }
    let header = frame.at::<4>(start).ok_or(Refused::Drop(Reason::Inner))?;
    // SAFETY: four bytes can be read there.
    let [first, protocol, flags @ ..] = unsafe { load32::<0>(header) }.to_ne_bytes();
    match (first >> 6, first, protocol, flags) {
        // Variant 1: what looks like a header's first byte is that of the inner packet.
        (1, ..) => {
            let family = Family::of_version(first >> 4).ok_or(Refused::Drop(Reason::Inner))?;
            Ok((family, start, end))
        }
        // Variant 0: data, not control; no words and no flags beyond the four bytes.
        (0, 0, IPV4, [0, 0]) => Ok((Family::V4, start + 4, end)),
        (0, 0, IPV6, [0, 0]) => Ok((Family::V6, start + 4, end)),
        _ => Err(Refused::Pass(Reason::Gue)),
    }
}

/// The length of the packet whose header is at `start`, and the header's first half word.
#[inline(always)]
fn inner_header<F: Bytes>(frame: &F, family: Family, start: u32) -> Option<(u32, u16)> {
    let place = match family {
        Family::V4 => frame.at::<20>(start)?,
        Family::V6 => frame.at::<40>(start)?,
    };
    // SAFETY: at least twenty bytes can be read there.
    let (first, v4_total, v6_payload) =
        unsafe { (load16::<0>(place), load16::<2>(place), load16::<4>(place)) };
    let version = first.to_ne_bytes()[0];
    match family {
        Family::V4 => {
            let (header, total) =
                (u32::from(version & 0x0f) * 4, u32::from(u16::from_be(v4_total)));
            (version >> 4 == 4 && header >= 20 && total >= header).then_some((total, first))
        }
        Family::V6 => {
            let total = 40 + u32::from(u16::from_be(v6_payload));
            (version >> 4 == 6).then_some((total, first))
        }
    }
}

/// The inner header's first half word, and the same with the ECN bits that it leaves the tunnel
/// with. Nothing if the packet must be dropped.
#[inline(always)]
fn mark(family: Family, first: u16, outer: u8) -> Option<[u16; 2]> {
    let [version, class] = first.to_ne_bytes();
    let shift = match family {
        Family::V4 => 0,
        Family::V6 => 4,
    };
    let ecn = ecn(outer, class >> shift & 3)?;
    let class = class & !(3 << shift) | ecn << shift;
    Some([first, u16::from_ne_bytes([version, class])])
}

/// The ECN bits with which a packet leaves a tunnel (RFC 6040, figure 4). Nothing if it must be
/// dropped: it met congestion, and its sender would not understand the mark.
#[inline(always)]
#[must_use]
pub const fn ecn(outer: u8, inner: u8) -> Option<u8> {
    const NOT_ECT: u8 = 0;
    const ECT_1: u8 = 1;
    const ECT_0: u8 = 2;
    const CE: u8 = 3;
    match (outer, inner) {
        (CE, NOT_ECT) => None,
        (CE, _) => Some(CE),
        (ECT_1, ECT_0) => Some(ECT_1),
        _ => Some(inner),
    }
}

/// A frame in memory, for the host.
impl Bytes for &[u8] {
    fn at<const LEN: usize>(&self, offset: u32) -> Option<*const u8> {
        Some(self.get(offset as usize..)?.get(..LEN)?.as_ptr())
    }

    fn length(&self) -> u32 {
        self.len() as u32
    }
}

#[cfg(test)]
mod tests;
