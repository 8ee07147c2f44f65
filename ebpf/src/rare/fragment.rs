//! Fragments: the first has the ports, so it is decided like a whole packet, and the others go
//! where it went. Later ones that come before it cannot be placed: those for a listener's address
//! are dropped, and the sender's transport sends the packet again.

use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;
use aya_ebpf::programs::TcContext;
use weir_ebpf::abi::{FRAGMENT_SECONDS, FragmentKey, FragmentPorts, Reason};
use weir_ebpf::fragment::{self, Piece, Place};
use weir_ebpf::packet::{self, Extent, Packet};

use super::{HEADERS, is_listener};
use crate::maps::{self, FRAGMENT, FRAGMENTS, PACKET, PIECE};
use crate::route::{FOLLOWS, Standing};
use crate::skb::SkbFrame;
use crate::tc::{self, Refused};

const ANY: u64 = 0;
/// Values of `PIECE` beside [`FOLLOWS`]: the whole packet, and the first of several.
const WHOLE: u8 = 0;
const FIRST: u8 = 1;
const NANOSECONDS: u64 = 1_000_000_000;

/// Handles a fragment.
#[inline(always)]
pub(crate) fn handle(context: &TcContext) -> i32 {
    let frame = SkbFrame(context);
    frame.pull(HEADERS);
    let outcome = match forward(&frame) {
        // As the program that called would have counted it.
        Err(Refused::Pass(Reason::NotOurs)) => Err(Refused::Pass(Reason::Fragment)),
        outcome => outcome,
    };
    tc::verdict(&frame, outcome)
}

#[inline(always)]
fn forward(frame: &SkbFrame) -> Result<i32, Refused> {
    let piece = fragment::read(frame).map_err(Refused::Pass)?;
    let key = &*maps::keep(&FRAGMENT, piece.key).map_err(Refused::Drop)?;
    let which = match piece.place {
        Place::First => FIRST,
        Place::Whole => WHOLE,
        Place::Overlap | Place::Later => FOLLOWS,
    };
    let which = &*maps::keep(&PIECE, which).map_err(Refused::Drop)?;
    let packet = match packet(frame, &piece, key) {
        Ok(packet) => maps::keep(&PACKET, packet).map_err(Refused::Drop)?,
        Err(reason) if is_listener(key.destination) => return Err(Refused::Drop(reason)),
        Err(Reason::EarlyFragment) => return Err(Refused::Pass(Reason::Fragment)),
        Err(reason) => return Err(Refused::Pass(reason)),
    };
    let verdict = tc::send(frame, packet, Standing::Said(which))?;
    // SAFETY: as in `Standing::is_own`.
    if unsafe { (&raw const *which).read_volatile() } == FIRST {
        remember(key, packet);
    }
    Ok(verdict)
}

/// The packet that a piece is of, as far as it can be known.
#[inline(always)]
fn packet(frame: &SkbFrame, piece: &Piece, key: &FragmentKey) -> Result<Packet, Reason> {
    match piece.place {
        Place::Whole => packet::transport(frame, &piece.network, Extent::Whole),
        Place::First => packet::transport(frame, &piece.network, Extent::Cut),
        Place::Overlap => Err(Reason::Malformed),
        Place::Later => {
            let ports = ports(key).ok_or(Reason::EarlyFragment)?;
            let mut packet = piece.network.packet();
            packet.key.source_port = ports.source;
            packet.key.destination_port = ports.destination;
            Ok(packet)
        }
    }
}

#[inline(always)]
fn seconds() -> u32 {
    // SAFETY: the helper has no preconditions.
    (unsafe { bpf_ktime_get_coarse_ns() } / NANOSECONDS) as u32
}

#[inline(always)]
fn ports(key: &FragmentKey) -> Option<FragmentPorts> {
    let entry = FRAGMENTS.get_ptr(key)?;
    // SAFETY: the map is preallocated, so the memory stays mapped; an entry that is recycled under
    // us gives one fragment the ports of another packet, and its receiver has no use for it.
    let ports = unsafe { *entry };
    if seconds().saturating_sub(ports.seen) > FRAGMENT_SECONDS { None } else { Some(ports) }
}

/// Remembers the ports of a first fragment.
#[inline(always)]
fn remember(key: &FragmentKey, packet: &Packet) {
    let ports = FragmentPorts {
        source: packet.key.source_port,
        destination: packet.key.destination_port,
        seen: seconds(),
    };
    // A failed insert costs the later fragments of this one packet.
    let _ = FRAGMENTS.insert(key, &ports, ANY);
}
