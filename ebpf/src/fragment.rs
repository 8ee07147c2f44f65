//! Packets that come in fragments: which piece of which packet a frame holds.

use crate::abi::{FragmentKey, Reason, TCP, UDP};
use crate::packet::{self, FRAGMENT, Frame, MAX_OFFSET, Network};

/// The fragment header of IPv6, RFC 8200 §4.5.
mod header {
    pub(super) const LEN: usize = 8;
    pub(super) const NEXT_HEADER: usize = 0;
    /// Offset in units of eight bytes in the upper 13 bits, "more" in the lowest.
    pub(super) const OFFSET: i16 = 2;
    pub(super) const ID: i16 = 4;
}

/// The beginning of an IPv4 header: the identification stands before flags and offset.
mod ipv4 {
    pub(super) const LEN: usize = 8;
    pub(super) const ID: i16 = 4;
}

/// A piece of a packet.
#[derive(Clone, Copy)]
pub struct Piece {
    /// Its IP header. What follows is a piece of what `protocol` says.
    pub network: Network,
    /// What all pieces of the packet have in common.
    pub key: FragmentKey,
    /// Which piece it is.
    pub place: Place,
}

/// Where in its packet a piece belongs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// It is the whole packet: an IPv6 packet with a fragment header all the same (RFC 6946).
    Whole,
    /// It has the transport header, or the beginning of it.
    First,
    /// It begins within the transport header, which it could write over (RFC 1858, RFC 3128).
    Overlap,
    /// It has nothing of the transport header.
    Later,
}

impl Place {
    #[inline(always)]
    const fn new(offset: u16, more: bool) -> Self {
        match offset {
            0 if more => Self::First,
            0 => Self::Whole,
            1 => Self::Overlap,
            _ => Self::Later,
        }
    }
}

/// Reads a frame that holds a fragment.
///
/// # Errors
///
/// Why it is left to the stack: as [`packet::network`], or [`Reason::Fragment`] where it is no
/// fragment of TCP or UDP.
#[inline(always)]
pub fn read<F: Frame + ?Sized>(frame: &F) -> Result<Piece, Reason> {
    let mut network = packet::network(frame)?;
    let (id, place) = if network.source.is_v4() {
        let ip = frame.header::<{ ipv4::LEN }>(network.l3).ok_or(Reason::Malformed)?;
        let field = u16::from_be(network.fragment);
        let id = u32::from(ip.half::<{ ipv4::ID }>());
        (id, Place::new(field & 0x1fff, field & 0x2000 != 0))
    } else {
        if network.protocol != FRAGMENT {
            return Err(Reason::Fragment);
        }
        let piece = frame.header::<{ header::LEN }>(network.l4).ok_or(Reason::Malformed)?;
        if network.l4 + header::LEN as u32 > network.end {
            return Err(Reason::Malformed);
        }
        network.protocol = piece.byte::<{ header::NEXT_HEADER }>();
        network.l4 += header::LEN as u32;
        let field = u16::from_be(piece.half::<{ header::OFFSET }>());
        (piece.word::<{ header::ID }>(), Place::new(field >> 3, field & 1 != 0))
    };
    if network.protocol != TCP && network.protocol != UDP {
        return Err(Reason::Fragment);
    }
    network.l4 = network.zero.hide::<MAX_OFFSET>(network.l4);
    let key = FragmentKey {
        source: network.source,
        destination: network.destination,
        id,
        protocol: network.protocol,
        pad: [0; 3],
    };
    Ok(Piece { network, key, place })
}
