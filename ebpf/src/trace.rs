//! Telling tracers what becomes of packets. When nobody traces, a packet that is forwarded pays for
//! one word of `TRACE`, which is zero.
//!
//! A decision is noted as it is made ([`decided`]), when the frame is still as it came in; it is
//! told when it is known what became of the packet ([`sent`], [`refused`]).

use core::ffi::c_void;
use core::ptr::addr_of;
use core::slice;

use aya_ebpf::bindings::BPF_RB_NO_WAKEUP;
use aya_ebpf::helpers::generated::{
    bpf_get_prandom_u32, bpf_ktime_get_coarse_ns, bpf_ktime_get_ns, bpf_skb_load_bytes,
    bpf_xdp_load_bytes,
};
use weir_ebpf::abi::{
    Address, FlowKey, HOOK_TC, HOOK_XDP, NO_BACKEND, NO_REASON, NO_SERVICE, Reason, TRACE_DROPPED,
    TRACE_EVENT, TRACE_FRAME, TRACE_PASSED, TRACE_SENT, TRACERS, TraceEvent,
};
use weir_ebpf::decide::Decision;
use weir_ebpf::opaque::clamped;
use weir_ebpf::packet::{Frame, Packet};

use crate::maps::{PACKET, TRACE, TRACE_LOST, TRACED, TRACES};
use crate::skb::SkbFrame;
use crate::xdp_frame::XdpFrame;

/// Of a packet that is neither TCP nor UDP, or could not be read.
const NO_FLOW: FlowKey = FlowKey {
    source: Address([0; 4]),
    destination: Address([0; 4]),
    source_port: 0,
    destination_port: 0,
    protocol: 0,
    pad: [0; 3],
};

/// An event in the making, on this processor.
#[repr(C)]
pub(crate) struct Traced {
    event: TraceEvent,
    frame: [u8; TRACE_FRAME as usize],
    /// What each tracer wants of it: for each byte of `wants` a bit by tracer. Zero: there is none.
    asked: u32,
    /// Bytes of the frame that are wanted.
    bytes: u32,
}

/// A frame that can be told of.
pub(crate) trait Traceable: Frame {
    /// Row of its hook.
    const HOOK: u32;
    /// The interface it came in by.
    fn came_by(&self) -> u32;
    /// Bytes of it.
    fn bytes(&self) -> u32;
    /// The VLAN tag that is kept beside it.
    fn tag(&self) -> u32;
    /// Copies its first bytes, as many as there are at least.
    fn copy(&self, to: *mut c_void, length: u32) -> bool;
}

impl Traceable for XdpFrame<'_> {
    const HOOK: u32 = HOOK_XDP;

    #[inline(always)]
    fn came_by(&self) -> u32 {
        self.ifindex()
    }

    #[inline(always)]
    fn bytes(&self) -> u32 {
        self.whole()
    }

    #[inline(always)]
    fn tag(&self) -> u32 {
        0
    }

    #[inline(always)]
    fn copy(&self, to: *mut c_void, length: u32) -> bool {
        // SAFETY: the context is the program's own, and callers have as much room.
        unsafe { bpf_xdp_load_bytes(self.0.ctx, 0, to, length) == 0 }
    }
}

impl Traceable for SkbFrame<'_> {
    const HOOK: u32 = HOOK_TC;

    #[inline(always)]
    fn came_by(&self) -> u32 {
        self.ifindex()
    }

    #[inline(always)]
    fn bytes(&self) -> u32 {
        self.length()
    }

    #[inline(always)]
    fn tag(&self) -> u32 {
        // SAFETY: the context is the program's own.
        unsafe {
            let skb = self.skb();
            if (*skb).vlan_present == 0 {
                return 0;
            }
            u32::from(u16::from_be((*skb).vlan_proto as u16)) << 16 | (*skb).vlan_tci & 0xffff
        }
    }

    #[inline(always)]
    fn copy(&self, to: *mut c_void, length: u32) -> bool {
        // SAFETY: as above.
        unsafe { bpf_skb_load_bytes(self.skb().cast(), 0, to, length) == 0 }
    }
}

/// Whether anybody traces.
#[inline(always)]
fn is_on() -> bool {
    let Some(trace) = TRACE.get_ptr(0) else { return false };
    // SAFETY: a live element; the agent writes whole words.
    unsafe { addr_of!((*trace).until).read_volatile() != 0 }
}

/// Notes where a packet is to go. Says whether it must be told what became of it: one or zero.
#[inline(always)]
pub(crate) fn decided<F: Traceable>(
    frame: &F,
    packet: &Packet,
    service: u32,
    decision: Decision,
    opens: bool,
) -> u8 {
    if !is_on() {
        return 0;
    }
    let Some(traced) = begin(&packet.key, service) else { return 0 };
    traced.event.backend = decision.backend;
    traced.event.why = decision.why as u8;
    traced.event.opens = u8::from(opens);
    traced.event.flags = packet.flags;
    capture(frame, traced);
    1
}

/// Tells that a packet was sent where it was decided, if `traced` says so.
#[inline(always)]
pub(crate) fn sent(traced: u8) {
    if traced != 0 {
        tell(TRACE_SENT, NO_REASON);
    }
}

/// Tells that a packet was dropped, or is left to others.
#[inline(always)]
pub(crate) fn refused<F: Traceable>(frame: &F, passed: bool, reason: Reason) {
    if !is_on() {
        return;
    }
    if !is_noted() {
        let unread = matches!(
            reason,
            Reason::NotIp
                | Reason::NotTransport
                | Reason::Malformed
                | Reason::Fragment
                | Reason::EarlyFragment
                | Reason::Silenced
        );
        let Some(packet) = PACKET.get_ptr_mut(0) else { return };
        // SAFETY: an element of this processor alone; where nothing else was said, it was written
        // for this packet.
        let packet = unsafe { &mut *packet };
        if unread {
            packet.key = NO_FLOW;
            packet.flags = 0;
        }
        let Some(traced) = begin(&packet.key, NO_SERVICE) else { return };
        traced.event.flags = packet.flags;
        capture(frame, traced);
    }
    tell(if passed { TRACE_PASSED } else { TRACE_DROPPED }, reason as u32);
}

/// Forgets what was noted: the packet is left to the next program, as it came in.
#[inline(always)]
pub(crate) fn left() {
    if is_on()
        && let Some(traced) = TRACED.get_ptr_mut(0)
    {
        // SAFETY: an element of this processor alone.
        unsafe { (*traced).asked = 0 };
    }
}

#[inline(always)]
fn is_noted() -> bool {
    // SAFETY: an element of this processor alone.
    TRACED.get_ptr(0).is_some_and(|traced| unsafe { (*traced).asked != 0 })
}

/// Begins an event, if anybody wants it.
#[inline(always)]
fn begin(key: &FlowKey, service: u32) -> Option<&'static mut Traced> {
    let (traced, trace) = (TRACED.get_ptr_mut(0)?, TRACE.get_ptr_mut(0)?);
    // SAFETY: the one is an element of this processor alone, which nothing else refers to; the other
    // is shared with the agent, which writes whole words. The helpers have no preconditions.
    unsafe {
        let traced = &mut *traced;
        let now = bpf_ktime_get_coarse_ns();
        let random = bpf_get_prandom_u32();
        let (mut asked, mut bytes) = (0, 0);
        for index in 0..TRACERS {
            let one = &(*trace).all[index];
            let asks = one.asks(key, service, now, random);
            asked |= (asks * u64::from(one.wants)) << index;
            // What is beyond one tracer's wish the agent takes off again.
            bytes |= asks * u64::from(one.frame);
        }
        traced.asked = asked as u32;
        traced.bytes = bytes as u32;
        if asked == 0 {
            if now >= addr_of!((*trace).until).read_volatile() {
                // Nobody has renewed it: the agent is gone. From now on nobody pays for this.
                (&raw mut (*trace).until).write_volatile(0);
            }
            return None;
        }
        traced.event.key = *key;
        traced.event.service = service;
        traced.event.backend = NO_BACKEND;
        traced.event.why = 0;
        traced.event.opens = 0;
        traced.event.flags = 0;
        Some(traced)
    }
}

/// Adds the frame as it is now.
#[inline(always)]
fn capture<F: Traceable>(frame: &F, traced: &mut Traced) {
    let length = frame.bytes();
    traced.event.hook = F::HOOK as u8;
    traced.event.ifindex = frame.came_by();
    traced.event.length = length;
    traced.event.tag = frame.tag();
    let wanted = if traced.bytes < length { traced.bytes } else { length };
    traced.event.captured = 0;
    if wanted == 0 {
        return;
    }
    let wanted = clamped::<1, TRACE_FRAME>(wanted);
    if frame.copy(traced.frame.as_mut_ptr().cast(), wanted) {
        traced.event.captured = wanted;
    }
}

/// Puts the event that was noted into the ring, for the tracers that want to know of what became
/// of the packet.
#[inline(always)]
fn tell(what: u32, reason: u32) {
    let Some(traced) = TRACED.get_ptr_mut(0) else { return };
    // SAFETY: an element of this processor alone. The helper has no preconditions.
    unsafe {
        let traced = &mut *traced;
        let tracers = (traced.asked >> ((what * 8) & 31)) as u8;
        traced.asked = 0;
        if tracers == 0 {
            return;
        }
        traced.event.time = bpf_ktime_get_ns();
        traced.event.what = what as u8;
        traced.event.reason = reason;
        traced.event.tracers = tracers;
        let length = clamped::<TRACE_EVENT, { TRACE_EVENT + TRACE_FRAME }>(
            TRACE_EVENT + traced.event.captured,
        );
        // The frame follows the event without a gap.
        let bytes = slice::from_raw_parts((&raw const *traced).cast::<u8>(), length as usize);
        // The agent looks in time; to wake it would cost more than all the rest.
        if TRACES.output_untyped::<[u8]>(bytes, u64::from(BPF_RB_NO_WAKEUP)).is_err()
            && let Some(lost) = TRACE_LOST.get_ptr_mut(0)
        {
            for index in 0..TRACERS {
                (*lost).events[index] += u64::from(tracers >> index & 1);
            }
        }
    }
}
