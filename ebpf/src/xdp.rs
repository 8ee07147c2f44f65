//! The XDP program: the fast path. It forwards what it can finish on its own. Of the rest it changes
//! and remembers nothing: the TC program on the same interface sees it next, with the whole stack at hand.

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_TX};
use aya_ebpf::programs::XdpContext;
use weir_ebpf::abi::{
    Address, Backend, FORWARD_DSR_L2, FORWARD_GUE, FORWARD_NAT, GOES_BACK, HOOK_XDP, IN_BUFFERS,
    Link, NextHop, Reason, Return, Service,
};
use weir_ebpf::checksum::{Delta, apply_udp};
use weir_ebpf::outer::{self, Outer};
use weir_ebpf::packet::{
    self, IPV4_CHECKSUM, IPV4_DESTINATION, IPV4_HOP_LIMIT, IPV6_DESTINATION, IPV6_HOP_LIMIT,
    Packet, ether_type,
};

use crate::count;
use crate::fib::{self, Leaving, Way};
use crate::log;
use crate::maps::{DEVICES, LINKS};
use crate::route::{self, Chosen, Ours, Route, Side, Standing};
use crate::trace;
use crate::tunnel;
use crate::xdp_frame::XdpFrame;

/// Why a packet is not forwarded.
enum Refused {
    /// It is as it was; TC sees it next.
    Leave,
    Drop(Reason),
}

/// The frame has been changed, so it cannot be left to TC.
const BROKEN: Refused = Refused::Drop(Reason::Rewrite);

/// Handles a frame and returns the verdict.
#[inline(always)]
pub(crate) fn handle(context: &XdpContext) -> u32 {
    let frame = XdpFrame(context);
    if let Some(verdict) = at_once(&frame) {
        return verdict;
    }
    // What is passed is counted by the TC program.
    let Ok(packet) = route::read(&frame) else { return XDP_PASS };
    let verdict = match route::route(packet, Standing::Own) {
        Route::ToService(ours) => to_backend(&frame, packet, ours),
        Route::ToClient(back) => to_client(&frame, packet, back),
        Route::Pass(_) => Err(Refused::Leave),
    };
    match verdict {
        Ok(verdict) => verdict,
        Err(Refused::Leave) => {
            trace::left();
            XDP_PASS
        }
        Err(Refused::Drop(reason)) => {
            count::reason(HOOK_XDP, reason);
            trace::refused(&frame, false, reason);
            log::dropped(&frame, reason);
            XDP_DROP
        }
    }
}

/// The way of nearly all packets: within a connection, in a plain frame, to a backend that is known by
/// looking. It is the same way as all others have, in the same words; but what stands here once more
/// the compiler makes for packets of which it knows all but the values. Nothing, and nothing changed,
/// for any other packet.
#[inline(always)]
fn at_once(frame: &XdpFrame) -> Option<u32> {
    let packet = &mut packet::plain(frame)?;
    if frame.is_scattered(packet) {
        return None;
    }
    let chosen = &route::choose_at_once(packet)?;
    match send(frame, packet, chosen, false) {
        Ok((verdict, bytes)) => {
            route::count_at_once(packet, chosen, bytes);
            Some(verdict)
        }
        Err(Refused::Drop(Reason::Rewrite)) => {
            count::reason(HOOK_XDP, Reason::Rewrite);
            Some(XDP_DROP)
        }
        Err(_) => None,
    }
}

#[inline(always)]
fn to_backend(frame: &XdpFrame, packet: &mut Packet, ours: Ours) -> Result<u32, Refused> {
    let scattered = frame.is_scattered(packet);
    let sends =
        |service: &Service, backend: &Backend| match way(packet, scattered, service, backend) {
            Ok((link, _)) => is_way(frame, scattered, link),
            Err(refused) => matches!(refused, Refused::Drop(_)),
        };
    let chosen =
        &route::choose(frame, packet, ours, Standing::Own, sends).map_err(Refused::Drop)?;
    let (verdict, bytes) = send(frame, packet, chosen, scattered)?;
    route::count_in(packet, chosen, bytes);
    trace::sent(chosen);
    Ok(verdict)
}

/// The link by which a packet reaches a backend, and the bytes that are put around it.
#[inline(always)]
fn way(
    packet: &Packet,
    scattered: bool,
    service: &Service,
    backend: &Backend,
) -> Result<(&'static Link, u32), Refused> {
    let hop = NextHop(backend.next_hop);
    let link = LINKS.get(hop.link()).filter(|link| link.ifindex != 0).ok_or(Refused::Leave)?;
    if packet.hop_limit <= 1 && service.forwarding != FORWARD_DSR_L2 {
        return Err(Refused::Leave);
    }
    let room = tunnel::room(service, &backend.address).map_err(Refused::Drop)?;
    if fits(packet, scattered, room, link.mtu) { Ok((link, room)) } else { Err(Refused::Leave) }
}

/// Whether this program can send out of a link.
#[inline(always)]
fn is_way(frame: &XdpFrame, scattered: bool, link: &Link) -> bool {
    is_back(frame, link) || DEVICES.get_ifindex(device(scattered, link.lower)).is_some()
}

/// Whether a link is reached by the interface that the frame came by, which takes it back.
#[inline(always)]
fn is_back(frame: &XdpFrame, link: &Link) -> bool {
    link.lower == frame.ifindex() && link.back != 0
}

/// The key in `DEVICES` of an interface that takes such a frame.
#[inline(always)]
fn device(scattered: bool, ifindex: u32) -> u32 {
    if scattered { ifindex | IN_BUFFERS } else { ifindex }
}

/// Rewrites a packet to its backend. Gives the verdict, and the bytes of the frame as it came.
#[inline(always)]
fn send(
    frame: &XdpFrame,
    packet: &mut Packet,
    chosen: &Chosen,
    scattered: bool,
) -> Result<(u32, u32), Refused> {
    // A copy, which stays in registers.
    let (backend, forwarding) = (*chosen.backend, chosen.service.forwarding);
    let bytes = frame.length(scattered);
    let hop = NextHop(backend.next_hop);
    let (link, room) = way(packet, scattered, chosen.service, &backend)?;
    let verdict = out_of(is_back(frame, link), scattered, link.lower)?;
    let l2 = frame.make_room(packet, link.tags, room).ok_or(Refused::Leave)?;
    // From here on the frame is not what it was.
    let mut is_v4 = packet.is_v4();
    if room != 0 {
        take_hop(frame, packet).ok_or(BROKEN)?;
        let outer = tunnel::outer(packet, chosen, &backend.address, room);
        write_outer(frame, l2, &outer, chosen).ok_or(BROKEN)?;
        is_v4 = backend.address.is_v4();
    } else if forwarding == FORWARD_NAT {
        let port = route::port_or(packet.key.destination_port, backend.port);
        rewrite(frame, packet, &backend.address, port, Side::Destination).ok_or(BROKEN)?;
    }
    frame.write_ethernet([hop.mac(), link.mac], link.tags, ether_type(is_v4)).ok_or(BROKEN)?;
    Ok((verdict, bytes))
}

#[inline(always)]
fn to_client(frame: &XdpFrame, packet: &mut Packet, back: &Return) -> Result<u32, Refused> {
    let leaving = Leaving {
        ifindex: frame.ifindex(),
        protocol: packet.key.protocol,
        source: &back.address,
        destination: &packet.key.destination,
        length: packet.length,
    };
    let way = fib::way(frame.0.ctx.cast(), &leaving);
    let Way::Neighbour { ifindex, source, destination } = way else { return Err(Refused::Leave) };
    if packet.hop_limit <= 1 {
        return Err(Refused::Leave);
    }
    // A VLAN device is not among the devices that can be sent out of: TC gives such a frame its
    // tags.
    let scattered = frame.is_scattered(packet);
    let is_back = ifindex == frame.ifindex() && takes_back(ifindex);
    let verdict = out_of(is_back, scattered, ifindex)?;
    let bytes = frame.length(scattered);
    frame.make_room(packet, [0; 2], 0).ok_or(Refused::Leave)?;
    let port = route::port_or(packet.key.source_port, back.port);
    rewrite(frame, packet, &back.address, port, Side::Source).ok_or(BROKEN)?;
    let is_v4 = packet.is_v4();
    frame.write_ethernet([destination, source], [0; 2], ether_type(is_v4)).ok_or(BROKEN)?;
    route::count_out(packet, back, bytes);
    Ok(verdict)
}

/// Whether the packet can leave as it is. One in several buffers may be many segments in one, of
/// which only TC knows.
#[inline(always)]
fn fits(packet: &Packet, scattered: bool, outer: u32, mtu: u32) -> bool {
    if mtu == 0 { !scattered } else { packet.length + outer <= mtu }
}

/// Whether a frame that came by this interface may go back by it.
#[inline(always)]
fn takes_back(ifindex: u32) -> bool {
    DEVICES.get_ifindex(ifindex | GOES_BACK).is_some()
}

/// The verdict that sends the frame out of an interface, be it back by the one that it came by.
#[inline(always)]
fn out_of(is_back: bool, scattered: bool, ifindex: u32) -> Result<u32, Refused> {
    if is_back {
        return Ok(XDP_TX);
    }
    DEVICES.redirect(device(scattered, ifindex), u64::from(XDP_PASS)).map_err(|_| Refused::Leave)
}

#[inline(always)]
fn write_outer(frame: &XdpFrame, l2: u32, outer: &Outer, chosen: &Chosen) -> Option<()> {
    let end = if outer.destination.is_v4() {
        frame.write(l2, &outer.ipv4())?;
        l2 + outer::IPV4_LEN
    } else {
        frame.write(l2, &outer.ipv6())?;
        l2 + outer::IPV6_LEN
    };
    if chosen.service.forwarding == FORWARD_GUE {
        frame.write(end, &outer.udp(chosen.service.gue_port))?;
    }
    Some(())
}

/// Takes one hop of the packet.
#[inline(always)]
fn take_hop(frame: &XdpFrame, packet: &Packet) -> Option<()> {
    if packet.is_v4() {
        let delta = take_hop_v4(frame, packet, Delta::default())?;
        frame.update16(packet.l3 + IPV4_CHECKSUM, |sum| delta.apply(sum))
    } else {
        take_hop_v6(frame, packet)
    }
}

#[inline(always)]
fn take_hop_v4(frame: &XdpFrame, packet: &Packet, delta: Delta) -> Option<Delta> {
    // The hop limit and the protocol share a half word.
    let hops = |limit| u16::from_ne_bytes([limit, packet.key.protocol]);
    let (old, new) = (hops(packet.hop_limit), hops(packet.hop_limit - 1));
    frame.replace16(packet.l3 + IPV4_HOP_LIMIT, new)?;
    Some(delta.half(old, new))
}

#[inline(always)]
fn take_hop_v6(frame: &XdpFrame, packet: &Packet) -> Option<()> {
    // The next header comes first.
    frame.update16(packet.l3 + IPV6_HOP_LIMIT - 1, |half| {
        let [next, _] = half.to_ne_bytes();
        u16::from_ne_bytes([next, packet.hop_limit - 1])
    })
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
        let header = take_hop_v4(frame, packet, moved)?;
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
        take_hop_v6(frame, packet)?;
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
