//! The TC program: the same decisions with the whole stack at hand. It takes packets that carry
//! many segments or an unfinished checksum, so it rewrites through the kernel's helpers, and it
//! lets the kernel find neighbours that nobody knows yet. Frames leave without tags: the interface
//! of a VLAN puts its own on them.

use aya_ebpf::bindings::{BPF_F_PSEUDO_HDR, TC_ACT_SHOT, TC_ACT_UNSPEC};
use aya_ebpf::helpers::generated::{bpf_csum_diff, bpf_redirect};
use aya_ebpf::programs::TcContext;
use weir_ebpf::abi::{
    Address, FORWARD_DSR_L2, FORWARD_NAT, HOOK_TC, Link, NextHop, Reason, Return,
};
use weir_ebpf::packet::{
    IPV4_CHECKSUM, IPV4_DESTINATION, IPV4_HOP_LIMIT, IPV6_DESTINATION, IPV6_HOP_LIMIT, MAX_TAGS,
    Packet,
};

use crate::count::{self, CONFIG};
use crate::fib::{self, Leaving, Way};
use crate::maps::LINKS;
use crate::route::{self, Chosen, Route, Side};
use crate::skb::SkbFrame;
use crate::tunnel;

/// Why a packet is not forwarded. It is as it was, unless it is dropped.
enum Refused {
    Pass(Reason),
    Drop(Reason),
    /// Its hop limit is used up.
    Expired,
    /// Its sender may send IP packets of up to this many bytes there.
    TooBig {
        mtu: u32,
    },
}

/// Handles a packet and returns the verdict.
#[inline(always)]
pub(crate) fn handle(context: &TcContext) -> i32 {
    let (verdict, reason) = match forward(&SkbFrame(context)) {
        Ok(verdict) => return verdict,
        Err(Refused::Pass(reason)) => (TC_ACT_UNSPEC, reason),
        Err(Refused::Drop(reason)) => (TC_ACT_SHOT, reason),
        Err(Refused::Expired) => (TC_ACT_SHOT, Reason::HopLimit),
        Err(Refused::TooBig { mtu: _ }) => (TC_ACT_SHOT, Reason::TooBig),
    };
    count::reason(HOOK_TC, reason);
    verdict
}

#[inline(always)]
fn forward(frame: &SkbFrame) -> Result<i32, Refused> {
    frame.pull();
    let packet = route::read(frame).map_err(Refused::Pass)?;
    if frame.tags(packet) > MAX_TAGS {
        return Err(Refused::Pass(Reason::Vlan));
    }
    match route::route(packet) {
        Route::ToService(service) => to_backend(frame, packet, service),
        Route::ToClient(back) => to_client(frame, packet, back),
        Route::Pass(reason) => Err(Refused::Pass(reason)),
    }
}

#[inline(always)]
fn to_backend(frame: &SkbFrame, packet: &mut Packet, service: u32) -> Result<i32, Refused> {
    let chosen = &route::choose(frame, packet, service).map_err(Refused::Drop)?;
    let room = tunnel::room(chosen).map_err(Refused::Drop)?;
    let hop = NextHop(chosen.backend.next_hop);
    let known = LINKS.get(hop.link()).filter(|link| link.ifindex != 0);
    let length = frame.longest(packet, room);
    let way = match known {
        Some(link) => through(link, hop, length),
        None => ask(frame, packet, chosen, room, length),
    };
    let expires = chosen.service.forwarding != FORWARD_DSR_L2;
    check(packet, way, expires, room)?;
    let bytes = frame.length();
    change(frame, packet, chosen, room).map_err(Refused::Drop)?;
    let verdict = transmit(frame, way)?;
    route::count_in(chosen, bytes);
    if known.is_none() {
        count::reason(HOOK_TC, Reason::Fib);
    }
    Ok(verdict)
}

#[inline(always)]
fn to_client(frame: &SkbFrame, packet: &mut Packet, back: &Return) -> Result<i32, Refused> {
    let leaving = Leaving {
        ifindex: frame.ifindex(),
        protocol: packet.key.protocol,
        source: &back.address,
        destination: &packet.key.destination,
        length: frame.longest(packet, 0),
    };
    let way = fib::way(frame.skb().cast(), &leaving);
    if let Way::Stack = way {
        return Err(Refused::Pass(Reason::Direct));
    }
    check(packet, way, true, 0)?;
    let bytes = frame.length();
    frame.pop_tags(packet).map_err(Refused::Drop)?;
    let port = route::port_or(packet.key.source_port, back.port);
    rewrite(frame, packet, &back.address, port, Side::Source).map_err(Refused::Drop)?;
    let verdict = transmit(frame, way)?;
    route::count_out(back, bytes);
    Ok(verdict)
}

/// The way by what the agent knows.
#[inline(always)]
fn through(link: &Link, hop: NextHop, length: u32) -> Way {
    if link.mtu != 0 && length > link.mtu {
        return Way::TooBig { mtu: link.mtu };
    }
    Way::Neighbour { ifindex: link.ifindex, source: link.mac, destination: hop.mac() }
}

/// The way to a backend by what the kernel knows.
#[inline(always)]
fn ask(frame: &SkbFrame, packet: &Packet, chosen: &Chosen, room: u32, length: u32) -> Way {
    let outer = tunnel::outer(packet, chosen, room);
    let (protocol, source) = if room == 0 {
        (packet.key.protocol, &packet.key.source)
    } else {
        (outer.protocol, &outer.source)
    };
    let destination = &chosen.backend.address;
    let leaving = Leaving { ifindex: frame.ifindex(), protocol, source, destination, length };
    fib::way(frame.skb().cast(), &leaving)
}

/// Whether the packet can go this way, with `outer` bytes around it.
#[inline(always)]
fn check(packet: &Packet, way: Way, expires: bool, outer: u32) -> Result<(), Refused> {
    match way {
        Way::Stack | Way::None => Err(Refused::Drop(Reason::NoRoute)),
        _ if expires && packet.hop_limit <= 1 => Err(Refused::Expired),
        Way::TooBig { mtu } => Err(Refused::TooBig { mtu: mtu.saturating_sub(outer) }),
        Way::Neighbour { .. } | Way::Unresolved { .. } => Ok(()),
    }
}

/// Makes of the packet what the backend is to receive.
#[inline(always)]
fn change(frame: &SkbFrame, packet: &mut Packet, chosen: &Chosen, room: u32) -> Result<(), Reason> {
    frame.pop_tags(packet)?;
    let (backend, service) = (chosen.backend, chosen.service);
    if room != 0 {
        take_hop(frame, packet)?;
        let outer = tunnel::outer(packet, chosen, room);
        return frame.encapsulate(packet, &outer, service.gue_port);
    }
    if service.forwarding == FORWARD_NAT {
        let port = route::port_or(packet.key.destination_port, backend.port);
        rewrite(frame, packet, &backend.address, port, Side::Destination)?;
    }
    Ok(())
}

/// Sends the packet out.
#[inline(always)]
fn transmit(frame: &SkbFrame, way: Way) -> Result<i32, Refused> {
    match way {
        Way::Neighbour { ifindex, source, destination } => {
            frame.store(0, &[destination, source]).map_err(Refused::Drop)?;
            // SAFETY: the helper has no preconditions.
            Ok(unsafe { bpf_redirect(ifindex, 0) } as i32)
        }
        Way::Unresolved { ifindex, hop } => Ok(fib::redirect_neighbour(ifindex, &hop)),
        Way::Stack | Way::TooBig { .. } | Way::None => Err(Refused::Drop(Reason::NoRoute)),
    }
}

/// Takes one hop of the packet.
#[inline(always)]
fn take_hop(frame: &SkbFrame, packet: &Packet) -> Result<(), Reason> {
    let left = packet.hop_limit - 1;
    if packet.is_v4() {
        let hops = |limit| u32::from(u16::from_ne_bytes([limit, packet.key.protocol]));
        let (old, new) = (hops(packet.hop_limit), hops(left));
        frame.ip_checksum(packet.l3 + IPV4_CHECKSUM, old, new, 2)?;
        frame.store(packet.l3 + IPV4_HOP_LIMIT, &left)
    } else {
        frame.store_summed(packet.l3 + IPV6_HOP_LIMIT, &left)
    }
}

/// Rewrites one side's address and port, takes one hop, and mends the checksums.
#[inline(always)]
fn rewrite(
    frame: &SkbFrame,
    packet: &Packet,
    address: &Address,
    port: u16,
    side: Side,
) -> Result<(), Reason> {
    let (old_address, old_port) = match side {
        Side::Source => (packet.key.source, packet.key.source_port),
        Side::Destination => (packet.key.destination, packet.key.destination_port),
    };
    let pseudo = u64::from(BPF_F_PSEUDO_HDR);
    if packet.is_v4() {
        let (old, new) = (old_address.0[3], address.0[3]);
        frame.l4_checksum(packet, old, new, pseudo | 4)?;
        frame.ip_checksum(packet.l3 + IPV4_CHECKSUM, old, new, 4)?;
        let place = if side == Side::Source { IPV4_DESTINATION - 4 } else { IPV4_DESTINATION };
        frame.store(packet.l3 + place, &new)?;
    } else {
        let (mut old, mut new) = (old_address.0, address.0);
        // SAFETY: both arrays are sixteen bytes.
        let delta = unsafe { bpf_csum_diff(&raw mut old[0], 16, &raw mut new[0], 16, 0) };
        let flags = pseudo | u64::from(CONFIG.load().l4_ipv6_flag);
        frame.l4_checksum(packet, 0, delta as u32, flags)?;
        let place = if side == Side::Source { IPV6_DESTINATION - 16 } else { IPV6_DESTINATION };
        frame.store(packet.l3 + place, &new)?;
    }
    take_hop(frame, packet)?;
    frame.l4_checksum(packet, u32::from(old_port), u32::from(port), 2)?;
    let offset = if side == Side::Source { 0 } else { 2 };
    frame.store(packet.l4 + offset, &port)
}
