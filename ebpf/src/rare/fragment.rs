//! Fragments: the first has the ports, so it is decided like a whole packet, and the others go
//! where it went. Later ones that come before it cannot be placed: those for a listener's address
//! are dropped, and the sender's transport sends the packet again.

use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;
use aya_ebpf::programs::TcContext;
use weir_ebpf::abi::{FRAGMENT_SECONDS, FragmentPorts, Reason};
use weir_ebpf::decide::{Decision, Why};
use weir_ebpf::fragment::{self, Piece, Place};
use weir_ebpf::packet::{self, Length, Packet};

use super::{HEADERS, is_listener};
use crate::maps::FRAGMENTS;
use crate::route::{self, Route};
use crate::tc::{self, Refused, SkbFrame};

const ANY: u64 = 0;
const NANOSECONDS: u64 = 1_000_000_000;

/// Handles a fragment.
#[inline(always)]
pub(crate) fn handle(context: &TcContext) -> i32 {
    let frame = SkbFrame(context);
    frame.pull(HEADERS);
    let outcome = forward(&frame);
    tc::verdict(&frame, outcome)
}

#[inline(always)]
fn forward(frame: &SkbFrame) -> Result<i32, Refused> {
    let piece = fragment::read(frame).map_err(Refused::Pass)?;
    let packet = packet(frame, &piece)?;
    match route::route(&packet) {
        Route::ToBackend(backend, decision) => {
            remember(&piece, &packet);
            // That it was not remembered is no sign of a full table.
            let why = if packet.follows { Why::Table } else { decision.why };
            tc::to_backend(frame, &packet, backend, Decision { why, ..decision })
        }
        Route::ToClient(back) => {
            remember(&piece, &packet);
            tc::to_client(frame, &packet, back)
        }
        Route::Pass(Reason::NotOurs) => Err(Refused::Pass(Reason::Fragment)),
        Route::Pass(reason) => Err(Refused::Pass(reason)),
        Route::Drop(reason) => Err(Refused::Drop(reason)),
    }
}

/// The packet that a piece is of, as far as it can be known.
#[inline(always)]
fn packet(frame: &SkbFrame, piece: &Piece) -> Result<Packet, Refused> {
    let network = &piece.network;
    let refused = match piece.place {
        Place::Whole => {
            return packet::transport(frame, network, Length::Whole).map_err(Refused::Pass);
        }
        Place::First => match packet::transport(frame, network, Length::Cut) {
            Ok(packet) => return Ok(packet),
            Err(reason) => reason,
        },
        Place::Overlap => Reason::Malformed,
        Place::Later => match ports(piece) {
            Some(ports) => {
                let packet = network.packet(ports.source, ports.destination, 0);
                return Ok(Packet { follows: true, ..packet });
            }
            None => Reason::EarlyFragment,
        },
    };
    if is_listener(network.destination) {
        return Err(Refused::Drop(refused));
    }
    Err(Refused::Pass(match refused {
        Reason::EarlyFragment => Reason::Fragment,
        other => other,
    }))
}

#[inline(always)]
fn seconds() -> u32 {
    // SAFETY: the helper has no preconditions.
    (unsafe { bpf_ktime_get_coarse_ns() } / NANOSECONDS) as u32
}

#[inline(always)]
fn ports(piece: &Piece) -> Option<FragmentPorts> {
    let entry = FRAGMENTS.get_ptr(piece.key)?;
    // SAFETY: the map is preallocated, so the memory stays mapped; an entry that is recycled under
    // us gives one fragment the ports of another packet, and its receiver has no use for it.
    let ports = unsafe { *entry };
    if seconds().wrapping_sub(ports.seen) > FRAGMENT_SECONDS { None } else { Some(ports) }
}

/// Remembers the ports of a first fragment.
#[inline(always)]
fn remember(piece: &Piece, packet: &Packet) {
    if piece.place == Place::First {
        let ports = FragmentPorts {
            source: packet.key.source_port,
            destination: packet.key.destination_port,
            seen: seconds(),
        };
        // A failed insert costs the later fragments of this one packet.
        let _ = FRAGMENTS.insert(piece.key, ports, ANY);
    }
}
