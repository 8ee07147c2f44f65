//! The TC program: the same decisions with the whole stack at hand. It takes packets that carry
//! many segments or an unfinished checksum, so it rewrites through the kernel's helpers, and it
//! lets the kernel find neighbours that nobody knows yet.

use core::ffi::c_void;
use core::mem::{MaybeUninit, size_of};

use aya_ebpf::bindings::{
    __sk_buff, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, BPF_F_RECOMPUTE_CSUM, TC_ACT_SHOT,
    TC_ACT_UNSPEC,
};
use aya_ebpf::helpers::generated::{
    bpf_csum_diff, bpf_l3_csum_replace, bpf_l4_csum_replace, bpf_redirect, bpf_skb_load_bytes,
    bpf_skb_pull_data, bpf_skb_store_bytes,
};
use aya_ebpf::programs::TcContext;
use weir_ebpf::abi::{
    Address, Backend, Complaint, HOOK_TC, NextHop, PROGRAM_FRAGMENT, PROGRAM_ICMP, PROGRAM_REPLY,
    Reason, Return,
};
use weir_ebpf::decide::Decision;
use weir_ebpf::packet::{
    self, Frame, Header, IPV4_CHECKSUM, IPV4_DESTINATION, IPV4_HOP_LIMIT, IPV6_DESTINATION,
    IPV6_HOP_LIMIT, Packet,
};

use crate::count::{self, CONFIG};
use crate::fib::{self, Way};
use crate::maps::LINKS;
use crate::rare;
use crate::route::{self, Route, Side};

/// Bytes that must be readable at once: Ethernet, IPv6, one small extension, TCP.
pub(crate) const HEADERS: u32 = 96;

/// A frame in a socket buffer.
pub(crate) struct SkbFrame<'a>(pub(crate) &'a TcContext);

impl SkbFrame<'_> {
    #[inline(always)]
    pub(crate) fn skb(&self) -> *mut __sk_buff {
        self.0.skb.skb
    }

    /// Makes the first bytes readable where the driver left them in pages.
    #[inline(always)]
    pub(crate) fn pull(&self, most: u32) {
        let length = self.length();
        let wanted = if length < most { length } else { most };
        if self.0.data() + wanted as usize > self.0.data_end() {
            // SAFETY: the context is the program's own. On failure the parser finds the frame short.
            unsafe { bpf_skb_pull_data(self.skb(), wanted) };
        }
    }

    /// Reads a value at `offset`, wherever in the buffer it lies.
    #[inline(always)]
    pub(crate) fn load<T: Copy>(&self, offset: u32) -> Result<T, Reason> {
        let mut value = MaybeUninit::<T>::uninit();
        let (to, length) = (value.as_mut_ptr().cast(), size_of::<T>() as u32);
        // SAFETY: the context is the program's own and the value is as long as said.
        match unsafe { bpf_skb_load_bytes(self.skb().cast(), offset, to, length) } {
            // SAFETY: the helper has written all of it; callers ask for plain bytes and words.
            0 => Ok(unsafe { value.assume_init() }),
            _ => Err(Reason::Rewrite),
        }
    }

    /// Writes a value at `offset`, where a checksum beside it is mended: both leave the sum over the
    /// frame, which the network card may have reckoned, as it was. Or a MAC address, which is not
    /// in that sum. All pointers into the frame are void after this.
    #[inline(always)]
    pub(crate) fn store<T: Copy>(&self, offset: u32, value: &T) -> Result<(), Reason> {
        self.store_with(offset, value, 0)
    }

    /// The same with that sum following the change: where nothing is mended, or all of it in this way.
    #[inline(always)]
    pub(crate) fn put<T: Copy>(&self, offset: u32, value: &T) -> Result<(), Reason> {
        self.store_with(offset, value, u64::from(BPF_F_RECOMPUTE_CSUM))
    }

    #[inline(always)]
    fn store_with<T: Copy>(&self, offset: u32, value: &T, flags: u64) -> Result<(), Reason> {
        let from: *const c_void = core::ptr::from_ref(value).cast();
        let length = size_of::<T>() as u32;
        // SAFETY: the context is the program's own and the value is as long as said.
        match unsafe { bpf_skb_store_bytes(self.skb(), offset, from, length, flags) } {
            0 => Ok(()),
            _ => Err(Reason::Rewrite),
        }
    }

    #[inline(always)]
    pub(crate) fn ip_checksum(
        &self,
        offset: u32,
        old: u32,
        new: u32,
        size: u64,
    ) -> Result<(), Reason> {
        // SAFETY: the context is the program's own.
        match unsafe {
            bpf_l3_csum_replace(self.skb(), offset, u64::from(old), u64::from(new), size)
        } {
            0 => Ok(()),
            _ => Err(Reason::Rewrite),
        }
    }

    #[inline(always)]
    fn checksum(&self, packet: &Packet, old: u32, new: u32, flags: u64) -> Result<(), Reason> {
        let udp = if packet.is_tcp() { 0 } else { u64::from(BPF_F_MARK_MANGLED_0) };
        let (old, new) = (u64::from(old), u64::from(new));
        // SAFETY: the context is the program's own.
        match unsafe {
            bpf_l4_csum_replace(self.skb(), packet.l4_checksum(), old, new, flags | udp)
        } {
            0 => Ok(()),
            _ => Err(Reason::Rewrite),
        }
    }
}

impl Frame for SkbFrame<'_> {
    #[inline(always)]
    fn header<const LEN: usize>(&self, offset: u32) -> Option<Header<'_, LEN>> {
        let start = self.0.data() + offset as usize;
        if start + LEN > self.0.data_end() {
            return None;
        }
        // SAFETY: the bounds are checked above.
        Some(unsafe { Header::new(start as *const u8) })
    }

    #[inline(always)]
    fn length(&self) -> u32 {
        self.0.len()
    }
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
    match outcome {
        Ok(verdict) => verdict,
        Err(Refused::Pass(reason)) => {
            count::reason(HOOK_TC, reason);
            TC_ACT_UNSPEC
        }
        Err(Refused::Drop(reason)) => {
            count::reason(HOOK_TC, reason);
            TC_ACT_SHOT
        }
        Err(Refused::Tell(reason)) => {
            count::reason(HOOK_TC, reason);
            rare::call(frame, PROGRAM_REPLY);
            TC_ACT_SHOT
        }
    }
}

/// Why a packet is not forwarded.
#[derive(Clone, Copy)]
pub(crate) enum Refused {
    Pass(Reason),
    Drop(Reason),
    /// Dropped, and its sender is told what [`rare::prepare`] has left.
    Tell(Reason),
}

#[inline(always)]
fn forward(frame: &SkbFrame) -> Result<i32, Refused> {
    // SAFETY: the context is the program's own.
    if unsafe { (*frame.skb()).vlan_present } != 0 {
        return Err(Refused::Pass(Reason::Vlan));
    }
    frame.pull(HEADERS);
    let packet = packet::parse(frame).map_err(Refused::Pass)?;
    match route::route(&packet) {
        Route::ToBackend(backend, decision) => to_backend(frame, &packet, backend, decision),
        Route::ToClient(back) => to_client(frame, &packet, back),
        Route::Pass(reason) => Err(Refused::Pass(reason)),
        Route::Drop(reason) => Err(Refused::Drop(reason)),
    }
}

/// Sends a packet to a backend, and counts it.
#[inline(always)]
pub(crate) fn to_backend(
    frame: &SkbFrame,
    packet: &Packet,
    backend: &Backend,
    decision: Decision,
) -> Result<i32, Refused> {
    let bytes = frame.length();
    let verdict = deliver(frame, packet, backend)?;
    route::count_in(packet, decision, bytes);
    Ok(verdict)
}

/// Sends a packet to a backend.
#[inline(always)]
pub(crate) fn deliver(
    frame: &SkbFrame,
    packet: &Packet,
    backend: &Backend,
) -> Result<i32, Refused> {
    let hop = NextHop(backend.next_hop);
    let known = LINKS.get(hop.link()).filter(|link| link.ifindex != 0);
    let way = match known {
        Some(link) => {
            Way::Neighbour { ifindex: link.ifindex, source: link.mac, destination: hop.mac() }
        }
        None => ask(frame, packet, &packet.key.source, &backend.address),
    };
    let verdict = send(frame, packet, way, &backend.address, backend.port, Side::Destination)?;
    if known.is_none() {
        count::reason(HOOK_TC, Reason::Fib);
    }
    Ok(verdict)
}

/// Sends a packet to a client, and counts it.
#[inline(always)]
pub(crate) fn to_client(frame: &SkbFrame, packet: &Packet, back: &Return) -> Result<i32, Refused> {
    let bytes = frame.length();
    let verdict = return_to(frame, packet, &back.address, back.port)?;
    route::count_out(back, bytes);
    Ok(verdict)
}

/// Sends a packet to a client as if from this address and port.
#[inline(always)]
pub(crate) fn return_to(
    frame: &SkbFrame,
    packet: &Packet,
    address: &Address,
    port: u16,
) -> Result<i32, Refused> {
    let way = ask(frame, packet, address, &packet.key.destination);
    send(frame, packet, way, address, port, Side::Source)
}

#[inline(always)]
fn ask(frame: &SkbFrame, packet: &Packet, source: &Address, destination: &Address) -> Way {
    // SAFETY: the context is the program's own.
    let ifindex = unsafe { (*frame.skb()).ifindex };
    fib::way(frame.skb().cast(), ifindex, packet.key.protocol, source, destination)
}

/// Rewrites the packet and sends it out. A packet for the node itself is left as it is.
#[inline(always)]
fn send(
    frame: &SkbFrame,
    packet: &Packet,
    way: Way,
    address: &Address,
    port: u16,
    side: Side,
) -> Result<i32, Refused> {
    match way {
        Way::Stack if side == Side::Source => return Err(Refused::Pass(Reason::Direct)),
        Way::Stack | Way::None => return Err(Refused::Drop(Reason::NoRoute)),
        Way::Neighbour { .. } | Way::Unresolved { .. } => {}
    }
    if packet.hop_limit <= 1 {
        let listener = if side == Side::Source { *address } else { packet.key.destination };
        return Err(refusal(frame, packet, Complaint::Expired, &listener));
    }
    rewrite(frame, packet, address, port, side).map_err(Refused::Drop)?;
    match way {
        Way::Neighbour { ifindex, source, destination } => {
            frame.store(0, &[destination, source]).map_err(Refused::Drop)?;
            // SAFETY: the helper has no preconditions.
            Ok(unsafe { bpf_redirect(ifindex, 0) } as i32)
        }
        Way::Unresolved { ifindex, hop } => Ok(fib::redirect_neighbour(ifindex, &hop)),
        Way::Stack | Way::None => Err(Refused::Drop(Reason::NoRoute)),
    }
}

/// Refuses a packet that is too long, or has no hop left: the sender is told as from `listener`, but
/// not of an error that was told, nor of a later fragment.
#[inline(always)]
fn refusal(frame: &SkbFrame, packet: &Packet, why: Complaint, listener: &Address) -> Refused {
    let reason = match why {
        Complaint::Expired => Reason::HopLimit,
        Complaint::TooBig(_) => Reason::TooBig,
    };
    if packet.follows {
        return Refused::Drop(reason);
    }
    rare::prepare(frame, packet.l3, why, listener);
    Refused::Tell(reason)
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
        if !packet.follows {
            frame.checksum(packet, old, new, pseudo | 4)?;
        }
        frame.ip_checksum(packet.l3 + IPV4_CHECKSUM, old, new, 4)?;
        let place = if side == Side::Source { IPV4_DESTINATION - 4 } else { IPV4_DESTINATION };
        frame.store(packet.l3 + place, &new)?;
        let hops = |limit| u32::from(u16::from_ne_bytes([limit, packet.key.protocol]));
        let (old, new) = (hops(packet.hop_limit), hops(packet.hop_limit - 1));
        frame.ip_checksum(packet.l3 + IPV4_CHECKSUM, old, new, 2)?;
        frame.store(packet.l3 + IPV4_HOP_LIMIT, &(packet.hop_limit - 1))?;
    } else {
        let (mut old, mut new) = (old_address.0, address.0);
        let place = if side == Side::Source { IPV6_DESTINATION - 16 } else { IPV6_DESTINATION };
        if packet.follows {
            frame.put(packet.l3 + place, &new)?;
        } else {
            // SAFETY: both arrays are sixteen bytes.
            let delta = unsafe { bpf_csum_diff(&raw mut old[0], 16, &raw mut new[0], 16, 0) };
            let flags = pseudo | u64::from(CONFIG.load().l4_ipv6_flag);
            frame.checksum(packet, 0, delta as u32, flags)?;
            frame.store(packet.l3 + place, &new)?;
        }
        frame.put(packet.l3 + IPV6_HOP_LIMIT, &(packet.hop_limit - 1))?;
    }
    if packet.follows {
        return Ok(());
    }
    frame.checksum(packet, u32::from(old_port), u32::from(port), 2)?;
    let offset = if side == Side::Source { 0 } else { 2 };
    frame.store(packet.l4 + offset, &port)
}
