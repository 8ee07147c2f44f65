//! The TC program: the same decisions with the whole stack at hand. It takes packets that carry
//! many segments or an unfinished checksum, so it rewrites through the kernel's helpers, and it
//! lets the kernel find neighbours that nobody knows yet. Frames leave without tags: the interface
//! of a VLAN puts its own on them.

use aya_ebpf::bindings::{BPF_F_PSEUDO_HDR, TC_ACT_SHOT, TC_ACT_UNSPEC};
use aya_ebpf::helpers::generated::{bpf_csum_diff, bpf_redirect};
use aya_ebpf::programs::TcContext;
use weir_ebpf::abi::{
    Address, Complaint, FORWARD_DSR_L2, FORWARD_NAT, HOOK_TC, Link, NextHop, PROGRAM_FRAGMENT,
    PROGRAM_ICMP, PROGRAM_REPLY, Reason,
};
use weir_ebpf::packet::{
    IPV4_CHECKSUM, IPV4_DESTINATION, IPV4_HOP_LIMIT, IPV6_DESTINATION, IPV6_HOP_LIMIT, MAX_TAGS,
    Packet,
};

use crate::count::{self, config};
use crate::fib::{self, Leaving, Way};
use crate::log;
use crate::maps::LINKS;
use crate::rare;
use crate::route::{self, Chosen, Route, Side, Standing};
use crate::skb::{HEADERS, SkbFrame};
use crate::trace;
use crate::tunnel;

/// Why a packet is not forwarded. It is as it was, unless it is dropped.
#[derive(Clone, Copy)]
pub(crate) enum Refused {
    Pass(Reason),
    Drop(Reason),
    /// Dropped, and its sender is told what [`rare::prepare`] has left.
    Tell(Reason),
}

/// Handles a packet and returns the verdict.
#[inline(always)]
pub(crate) fn handle(context: &TcContext) -> i32 {
    let frame = SkbFrame(context);
    let outcome = forward(&frame);
    match outcome {
        Err(Refused::Pass(Reason::NotTransport)) => rare::call(&frame, PROGRAM_ICMP),
        Err(Refused::Pass(Reason::Fragment)) => rare::call(&frame, PROGRAM_FRAGMENT),
        _ => {}
    }
    verdict(&frame, outcome)
}

/// The verdict on a packet, which is counted here where it is not forwarded.
#[inline(always)]
pub(crate) fn verdict(frame: &SkbFrame, outcome: Result<i32, Refused>) -> i32 {
    let (verdict, reason) = match outcome {
        Ok(verdict) => return verdict,
        Err(Refused::Pass(reason)) => (TC_ACT_UNSPEC, reason),
        Err(Refused::Drop(reason) | Refused::Tell(reason)) => (TC_ACT_SHOT, reason),
    };
    count::reason(HOOK_TC, reason);
    trace::refused(frame, verdict == TC_ACT_UNSPEC, reason);
    if verdict == TC_ACT_SHOT {
        log::dropped(frame, reason);
    }
    if let Err(Refused::Tell(_)) = outcome {
        rare::call(frame, PROGRAM_REPLY);
    }
    verdict
}

#[inline(always)]
fn forward(frame: &SkbFrame) -> Result<i32, Refused> {
    frame.pull(HEADERS);
    let packet = route::read(frame).map_err(Refused::Pass)?;
    if frame.tags(packet) > MAX_TAGS {
        return Err(Refused::Pass(Reason::Vlan));
    }
    send(frame, packet, Standing::Own)
}

/// Sends a packet of a flow where it goes, and counts it.
#[inline(always)]
pub(crate) fn send(
    frame: &SkbFrame,
    packet: &mut Packet,
    standing: Standing,
) -> Result<i32, Refused> {
    let bytes = frame.length();
    match route::route(packet, standing) {
        Route::ToService(ours) => {
            let chosen = &route::choose(frame, packet, ours, standing, |_, _| true)
                .map_err(Refused::Drop)?;
            let verdict = to_backend(frame, packet, chosen, standing)?;
            route::count_in(packet, chosen, bytes);
            trace::sent(chosen);
            Ok(verdict)
        }
        Route::ToClient(back) => {
            let port = route::port_or(packet.key.source_port, back.port);
            let verdict = to_client(frame, packet, (&back.address, port), standing)?;
            route::count_out(packet, back, bytes);
            Ok(verdict)
        }
        Route::Pass(reason) => Err(Refused::Pass(reason)),
    }
}

/// Sends a packet to a backend.
#[inline(always)]
pub(crate) fn to_backend(
    frame: &SkbFrame,
    packet: &mut Packet,
    chosen: &Chosen,
    standing: Standing,
) -> Result<i32, Refused> {
    let room = tunnel::room(chosen.service, &chosen.backend.address).map_err(Refused::Drop)?;
    let hop = NextHop(chosen.backend.next_hop);
    let known = LINKS.get(hop.link()).filter(|link| link.ifindex != 0);
    let length = frame.longest(packet, room);
    let way = match known {
        Some(link) => through(link, hop, length),
        None => ask(frame, packet, chosen, room, length),
    };
    let expires = chosen.service.forwarding != FORWARD_DSR_L2;
    if let Err(why) = check(packet, way, expires, room) {
        return Err(refuse(frame, packet, why, &packet.key.destination, standing));
    }
    change(frame, packet, chosen, room, standing).map_err(Refused::Drop)?;
    let verdict = transmit(frame, way)?;
    if known.is_none() {
        count::reason(HOOK_TC, Reason::Fib);
    }
    Ok(verdict)
}

/// Sends a packet to a client, as if from this address and port.
#[inline(always)]
pub(crate) fn to_client(
    frame: &SkbFrame,
    packet: &mut Packet,
    (address, port): (&Address, u16),
    standing: Standing,
) -> Result<i32, Refused> {
    let leaving = Leaving {
        ifindex: frame.ifindex(),
        protocol: packet.key.protocol,
        source: address,
        destination: &packet.key.destination,
        length: frame.longest(packet, 0),
    };
    let way = fib::way(frame.skb().cast(), &leaving);
    if let Way::Stack = way {
        return Err(Refused::Pass(Reason::Direct));
    }
    if let Err(why) = check(packet, way, true, 0) {
        return Err(refuse(frame, packet, why, address, standing));
    }
    frame.pop_tags(packet).map_err(Refused::Drop)?;
    rewrite(frame, packet, address, port, Side::Source, standing).map_err(Refused::Drop)?;
    transmit(frame, way)
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
    let outer = tunnel::outer(packet, chosen, &chosen.backend.address, room);
    let (protocol, source) = if room == 0 {
        (packet.key.protocol, &packet.key.source)
    } else {
        (outer.protocol, &outer.source)
    };
    let destination = &chosen.backend.address;
    let leaving = Leaving { ifindex: frame.ifindex(), protocol, source, destination, length };
    fib::way(frame.skb().cast(), &leaving)
}

/// Why a packet cannot go the way that was found.
#[derive(Clone, Copy)]
enum Stopped {
    NoWay,
    By(Complaint),
}

/// Whether the packet can go this way, with `outer` bytes around it.
#[inline(always)]
fn check(packet: &Packet, way: Way, expires: bool, outer: u32) -> Result<(), Stopped> {
    match way {
        Way::Stack | Way::None => Err(Stopped::NoWay),
        _ if expires && packet.hop_limit <= 1 => Err(Stopped::By(Complaint::Expired)),
        Way::TooBig { mtu } => {
            let fits = mtu.saturating_sub(outer);
            let fits = if fits > 0xffff { 0xffff } else { fits as u16 };
            Err(Stopped::By(Complaint::TooBig(fits)))
        }
        Way::Neighbour { .. } | Way::Unresolved { .. } => Ok(()),
    }
}

/// Refuses a packet. Its sender, who spoke with `listener`, is told if that helps.
#[inline(always)]
fn refuse(
    frame: &SkbFrame,
    packet: &Packet,
    why: Stopped,
    listener: &Address,
    standing: Standing,
) -> Refused {
    let Stopped::By(complaint) = why else { return Refused::Drop(Reason::NoRoute) };
    let reason = match complaint {
        Complaint::Expired => Reason::HopLimit,
        Complaint::TooBig(_) => Reason::TooBig,
    };
    if !standing.is_own() {
        return Refused::Drop(reason);
    }
    rare::prepare(frame, packet.l3, complaint, listener);
    Refused::Tell(reason)
}

/// Makes of the packet what the backend is to receive.
#[inline(always)]
fn change(
    frame: &SkbFrame,
    packet: &mut Packet,
    chosen: &Chosen,
    room: u32,
    standing: Standing,
) -> Result<(), Reason> {
    frame.pop_tags(packet)?;
    let (backend, service) = (chosen.backend, chosen.service);
    if room != 0 {
        take_hop(frame, packet)?;
        let outer = tunnel::outer(packet, chosen, &chosen.backend.address, room);
        return frame.encapsulate(packet, &outer, service.gue_port);
    }
    if service.forwarding == FORWARD_NAT {
        let port = route::port_or(packet.key.destination_port, backend.port);
        rewrite(frame, packet, &backend.address, port, Side::Destination, standing)?;
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

/// Rewrites one side's address and port, takes one hop, and mends the checksums. What follows has no
/// ports, and no checksum of TCP or UDP.
#[inline(always)]
fn rewrite(
    frame: &SkbFrame,
    packet: &Packet,
    address: &Address,
    port: u16,
    side: Side,
    standing: Standing,
) -> Result<(), Reason> {
    let (old_address, old_port) = match side {
        Side::Source => (packet.key.source, packet.key.source_port),
        Side::Destination => (packet.key.destination, packet.key.destination_port),
    };
    let (pseudo, own) = (u64::from(BPF_F_PSEUDO_HDR), standing.is_own());
    if packet.is_v4() {
        let (old, new) = (old_address.0[3], address.0[3]);
        if own {
            frame.l4_checksum(packet, old, new, pseudo | 4)?;
        }
        frame.ip_checksum(packet.l3 + IPV4_CHECKSUM, old, new, 4)?;
        let place = if side == Side::Source { IPV4_DESTINATION - 4 } else { IPV4_DESTINATION };
        frame.store(packet.l3 + place, &new)?;
    } else {
        let (mut old, mut new) = (old_address.0, address.0);
        let place = if side == Side::Source { IPV6_DESTINATION - 16 } else { IPV6_DESTINATION };
        if own {
            // SAFETY: both arrays are sixteen bytes.
            let delta = unsafe { bpf_csum_diff(&raw mut old[0], 16, &raw mut new[0], 16, 0) };
            let flags = pseudo | u64::from(config!(l4_ipv6_flag));
            frame.l4_checksum(packet, 0, delta as u32, flags)?;
            frame.store(packet.l3 + place, &new)?;
        } else {
            frame.store_summed(packet.l3 + place, &new)?;
        }
    }
    take_hop(frame, packet)?;
    if !own {
        return Ok(());
    }
    frame.l4_checksum(packet, u32::from(old_port), u32::from(port), 2)?;
    let offset = if side == Side::Source { 0 } else { 2 };
    frame.store(packet.l4 + offset, &port)
}
