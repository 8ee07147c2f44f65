//! The XDP program: the fast path. It forwards what it can finish on its own and changes nothing
//! of the rest, which the TC program on the same interface sees next, with the whole stack at hand.

use core::mem::size_of;

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_REDIRECT, XDP_TX};
use aya_ebpf::helpers::generated::bpf_redirect;
use aya_ebpf::programs::XdpContext;
use weir_ebpf::abi::{Address, Backend, HOOK_XDP, NextHop, Reason, Return};
use weir_ebpf::checksum::{Delta, apply_udp};
use weir_ebpf::decide::Decision;
use weir_ebpf::packet::{
    self, Frame, Header, IPV4_CHECKSUM, IPV4_DESTINATION, IPV4_HOP_LIMIT, IPV6_DESTINATION,
    IPV6_HOP_LIMIT, Packet,
};
use weir_ebpf::unaligned::{load16, load32, store16, store32};

use crate::count;
use crate::fib::{self, Way};
use crate::maps::LINKS;
use crate::route::{self, Route, Side};

/// A frame in the driver's memory.
struct XdpFrame<'a>(&'a XdpContext);

impl XdpFrame<'_> {
    /// A pointer to a `T` at `offset`, if all of it lies within the frame.
    #[inline(always)]
    fn at<T>(&self, offset: u32) -> Option<*mut T> {
        let start = self.0.data() + offset as usize;
        if start + size_of::<T>() > self.0.data_end() {
            return None;
        }
        Some(start as *mut T)
    }

    /// Replaces the half word at `offset` and returns the old one.
    #[inline(always)]
    fn replace16(&self, offset: u32, new: u16) -> Option<u16> {
        let place = self.at::<[u8; 2]>(offset)?.cast();
        // SAFETY: `at` has checked the bounds.
        unsafe {
            let old = load16::<0>(place);
            store16(place, new);
            Some(old)
        }
    }

    /// Replaces the word at `offset` and returns the old one.
    #[inline(always)]
    fn replace32(&self, offset: u32, new: u32) -> Option<u32> {
        let place = self.at::<[u8; 4]>(offset)?.cast();
        // SAFETY: `at` has checked the bounds.
        unsafe {
            let old = load32::<0>(place);
            store32(place, new);
            Some(old)
        }
    }

    /// Puts the half word at `offset` through `change`.
    #[inline(always)]
    fn update16(&self, offset: u32, change: impl FnOnce(u16) -> u16) -> Option<()> {
        let place = self.at::<[u8; 2]>(offset)?.cast();
        // SAFETY: `at` has checked the bounds.
        unsafe { store16(place, change(load16::<0>(place))) };
        Some(())
    }
}

impl Frame for XdpFrame<'_> {
    #[inline(always)]
    fn header<const LEN: usize>(&self, offset: u32) -> Option<Header<'_, LEN>> {
        // SAFETY: `at` has checked that LEN bytes lie within the frame.
        self.at::<[u8; LEN]>(offset).map(|start| unsafe { Header::new(start.cast()) })
    }

    #[inline(always)]
    fn length(&self) -> u32 {
        (self.0.data_end() - self.0.data()) as u32
    }
}

/// Handles a frame and returns the verdict.
#[inline(always)]
pub(crate) fn handle(context: &XdpContext) -> u32 {
    let frame = XdpFrame(context);
    // What is passed is counted by the TC program.
    let Ok(packet) = packet::parse(&frame) else { return XDP_PASS };
    let verdict = match route::route(&packet) {
        Route::ToBackend(backend, decision) => to_backend(&frame, &packet, backend, decision),
        Route::ToClient(back) => to_client(&frame, &packet, back),
        Route::Pass(_) => return XDP_PASS,
        Route::Drop(reason) => Err(reason),
    };
    match verdict {
        Ok(verdict) => verdict,
        Err(reason) => {
            count::reason(HOOK_XDP, reason);
            XDP_DROP
        }
    }
}

#[inline(always)]
fn to_backend(
    frame: &XdpFrame,
    packet: &Packet,
    backend: &Backend,
    decision: Decision,
) -> Result<u32, Reason> {
    let hop = NextHop(backend.next_hop);
    let Some(link) = LINKS.get(hop.link()).filter(|link| link.ifindex != 0) else {
        return Ok(XDP_PASS);
    };
    if packet.hop_limit <= 1 {
        return Ok(XDP_PASS);
    }
    let bytes = frame.length();
    rewrite(frame, packet, &backend.address, backend.port, Side::Destination)
        .ok_or(Reason::Rewrite)?;
    let verdict = transmit(frame, link.ifindex, link.mac, hop.mac()).ok_or(Reason::Rewrite)?;
    route::count_in(packet, decision, bytes);
    Ok(verdict)
}

#[inline(always)]
fn to_client(frame: &XdpFrame, packet: &Packet, back: &Return) -> Result<u32, Reason> {
    let way = fib::way(
        frame.0.ctx.cast(),
        frame.0.ingress_ifindex() as u32,
        packet.key.protocol,
        &back.address,
        &packet.key.destination,
    );
    let Way::Neighbour { ifindex, source, destination } = way else { return Ok(XDP_PASS) };
    if packet.hop_limit <= 1 {
        return Ok(XDP_PASS);
    }
    let bytes = frame.length();
    rewrite(frame, packet, &back.address, back.port, Side::Source).ok_or(Reason::Rewrite)?;
    let verdict = transmit(frame, ifindex, source, destination).ok_or(Reason::Rewrite)?;
    route::count_out(back, bytes);
    Ok(verdict)
}

/// Rewrites one side's address and port, takes one hop, and mends the checksums.
#[inline(always)]
fn rewrite(
    frame: &XdpFrame,
    packet: &Packet,
    address: &Address,
    port: u16,
    side: Side,
) -> Option<()> {
    let delta = if packet.is_v4() {
        let back = if side == Side::Source { 4 } else { 0 };
        let old = frame.replace32(packet.l3 + IPV4_DESTINATION - back, address.0[3])?;
        let moved = Delta::default().word(old, address.0[3]);
        // The hop limit and the protocol share a half word.
        let hops = |limit| u16::from_ne_bytes([limit, packet.key.protocol]);
        let (old, new) = (hops(packet.hop_limit), hops(packet.hop_limit - 1));
        frame.replace16(packet.l3 + IPV4_HOP_LIMIT, new)?;
        let header = moved.half(old, new);
        frame.update16(packet.l3 + IPV4_CHECKSUM, |sum| header.apply(sum))?;
        moved
    } else {
        let back = if side == Side::Source { 16 } else { 0 };
        let place = packet.l3 + IPV6_DESTINATION - back;
        let mut delta = Delta::default();
        for word in 0..4 {
            let new = address.0[word as usize];
            delta = delta.word(frame.replace32(place + word * 4, new)?, new);
        }
        let limit = frame.at::<u8>(packet.l3 + IPV6_HOP_LIMIT)?;
        // SAFETY: `at` has checked the bounds; a byte has no alignment.
        unsafe { *limit -= 1 };
        delta
    };
    let offset = if side == Side::Source { 0 } else { 2 };
    let delta = delta.half(frame.replace16(packet.l4 + offset, port)?, port);
    let tcp = packet.is_tcp();
    frame.update16(
        packet.l4_checksum(),
        |sum| {
            if tcp { delta.apply(sum) } else { apply_udp(delta, sum) }
        },
    )
}

/// Sets the MAC addresses and sends the frame out.
#[inline(always)]
fn transmit(frame: &XdpFrame, ifindex: u32, source: [u8; 6], destination: [u8; 6]) -> Option<u32> {
    let ends = frame.at::<[[u8; 6]; 2]>(0)?;
    // SAFETY: `at` has checked the bounds; bytes have no alignment.
    unsafe { *ends = [destination, source] };
    if ifindex == frame.0.ingress_ifindex() as u32 {
        return Some(XDP_TX);
    }
    // SAFETY: the helper has no preconditions.
    let verdict = unsafe { bpf_redirect(ifindex, 0) } as u32;
    if verdict == XDP_REDIRECT { Some(verdict) } else { None }
}
