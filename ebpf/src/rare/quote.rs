//! What an ICMP error quotes: once the error has its way (see [`super::icmp`]), the end of the quoted
//! packet that its receiver knows by another name is translated. A program of its own because there
//! are many ways, and the verifier would walk this once for each.

use aya_ebpf::programs::TcContext;
use weir_ebpf::abi::{Address, HOOK_TC, Reason};
use weir_ebpf::icmp::{CHECKSUM, Quote};
use weir_ebpf::packet::{IPV4_CHECKSUM, IPV4_DESTINATION, IPV6_DESTINATION, Packet};

use super::HEADERS;
use crate::count;
use crate::maps::{CHANGE, PACKET, QUOTE};
use crate::route::{self, Side};
use crate::skb::SkbFrame;
use crate::tc::{self, Refused};

/// What becomes of a quote, and of the error.
#[derive(Clone, Copy)]
pub(crate) struct Change {
    /// The end of the quoted packet that changes,
    pub(crate) side: Side,
    /// and what it changes to. Port zero: it stays.
    pub(crate) address: Address,
    pub(crate) port: u16,
    /// Whether the error's own address of the other side has changed to that too.
    pub(crate) outer: bool,
    /// The verdict on the frame.
    pub(crate) verdict: i32,
    /// Where the error's IP header was before the frame lost its tags.
    pub(crate) l3: u32,
    /// The error's checksum before.
    pub(crate) checksum: u16,
}

impl Change {
    /// None yet, of an error with its IP header there and with this checksum.
    #[inline(always)]
    pub(crate) const fn of(l3: u32, checksum: u16) -> Self {
        let address = Address([0; 4]);
        Self { side: Side::Source, address, port: 0, outer: true, verdict: 0, l3, checksum }
    }
}

/// Translates what the program for ICMP has left in `CHANGE`, `QUOTE` and `PACKET`.
#[inline(always)]
pub(crate) fn handle(context: &TcContext) -> i32 {
    let frame = SkbFrame(context);
    let outcome = finish(&frame).map_err(Refused::Drop);
    tc::verdict(&frame, outcome)
}

#[inline(always)]
fn finish(frame: &SkbFrame) -> Result<i32, Reason> {
    // SAFETY: elements of this processor alone, written by the program that called.
    let (change, quote, error) = unsafe {
        (
            &*CHANGE.get_ptr(0).ok_or(Reason::NoTable)?,
            &*QUOTE.get_ptr(0).ok_or(Reason::NoTable)?,
            &*PACKET.get_ptr(0).ok_or(Reason::NoTable)?,
        )
    };
    translate(frame, error, quote, change)?;
    count::reason(HOOK_TC, Reason::Quoted);
    Ok(change.verdict)
}

/// Puts the new end into the quoted packet, and mends its checksums and the error's.
#[inline(always)]
fn translate(
    frame: &SkbFrame,
    error: &Packet,
    quote: &Quote,
    change: &Change,
) -> Result<(), Reason> {
    let key = &quote.key;
    let (old, was, place, at) = match change.side {
        Side::Source => ((key.source, key.source_port), error.key.destination, 0, 0),
        Side::Destination => ((key.destination, key.destination_port), error.key.source, 1, 2),
    };
    let new = (change.address, route::port_or(old.1, change.port));
    let outer = (was, if change.outer { new.0 } else { was });
    let mended = quote.mended(old, new, outer, change.checksum);
    let lost = change.l3 - error.l3;
    let (l3, l4) = (quote.l3 - lost, quote.l4 - lost);
    if error.is_v4() {
        frame.store_summed(l3 + IPV4_DESTINATION - 4 + place * 4, &new.0.0[3])?;
        frame.store_summed(l3 + IPV4_CHECKSUM, &mended.ip_checksum)?;
    } else {
        frame.store_summed(l3 + IPV6_DESTINATION - 16 + place * 16, &new.0)?;
    }
    frame.store_summed(l4 + at, &new.1)?;
    if quote.summed {
        frame.store_summed(l4 + quote.l4_checksum_at(), &mended.l4_checksum)?;
    }
    frame.store_summed(error.l4 + CHECKSUM, &mended.checksum)
}
