//! Telling tracers what becomes of packets. When nobody traces, a packet that is forwarded pays for
//! one word of `TRACE`, which is zero.
//!
//! A decision is noted as it is made ([`decided`]), when the frame is still as it came in; it is
//! told when it is known what became of the packet ([`sent`], [`refused`]).

use core::arch::asm;
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
use crate::route::{self, Chosen};
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
    /// When it was asked, by the coarse clock.
    now: u64,
    /// By what it is chosen.
    random: u32,
    /// How far its ends are off a tracer's prefix.
    off: [u32; 2],
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
pub(crate) fn is_on() -> bool {
    let Some(trace) = TRACE.get_ptr(0) else { return false };
    // SAFETY: a live element; the agent writes whole words.
    unsafe { addr_of!((*trace).until).read_volatile() != 0 }
}

/// Notes where a packet is to go. Says whether it must be told what became of it, as
/// [`TRACED`](route::TRACED) or zero.
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
    let Some(traced) = TRACED.get_ptr_mut(0) else { return 0 };
    // SAFETY: an element of this processor alone, which nothing else refers to.
    let traced = unsafe { &mut *traced };
    traced.event.key = packet.key;
    traced.event.flags = packet.flags;
    traced.event.service = service;
    traced.event.backend = decision.backend;
    traced.event.why = decision.why as u8;
    traced.event.opens = u8::from(opens);
    let wanted = trace_ask(u64::from(frame.bytes()));
    if wanted == 0 {
        return 0;
    }
    capture(frame, traced, wanted);
    route::TRACED
}

/// Tells that a packet was sent where it was decided, if that was noted.
#[inline(always)]
pub(crate) fn sent(chosen: &Chosen) {
    if chosen.marks & route::TRACED != 0 {
        trace_tell(u64::from(TRACE_SENT), u64::from(NO_REASON));
    }
}

/// Tells that a packet was dropped, or is left to others.
#[inline(always)]
pub(crate) fn refused<F: Traceable>(frame: &F, passed: bool, reason: Reason) {
    if !is_on() {
        return;
    }
    if trace_note(reason as u64) != 0 {
        let wanted = trace_ask(u64::from(frame.bytes()));
        let Some(traced) = TRACED.get_ptr_mut(0) else { return };
        if wanted == 0 {
            return;
        }
        // SAFETY: as above.
        capture(frame, unsafe { &mut *traced }, wanted);
    }
    trace_tell(u64::from(if passed { TRACE_PASSED } else { TRACE_DROPPED }), reason as u64);
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

/// Adds the frame as it is now: one byte at least, whatever is wanted of it; and at most
/// [`TRACE_FRAME`], which the verifier sees.
#[inline(always)]
fn capture<F: Traceable>(frame: &F, traced: &mut Traced, wanted: u64) {
    const { assert!(TRACE_FRAME == 256) };
    traced.event.hook = F::HOOK as u8;
    traced.event.ifindex = frame.came_by();
    traced.event.tag = frame.tag();
    let to = traced.frame.as_mut_ptr().cast();
    if !frame.copy(to, ((wanted & 0xff) + 1) as u32) {
        traced.event.captured = 0;
    }
}

// What follows is done by functions of the kind that the verifier walks once, not for each way that
// leads to them; see `signal`.

/// Asks the tracers whether they want the event that was begun, of a frame of this length. Zero: none
/// does. Else, in the lowest byte, how many bytes of it to add, less one.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn trace_ask(length: u64) -> u64 {
    let (Some(traced), Some(trace)) = (TRACED.get_ptr_mut(0), TRACE.get_ptr_mut(0)) else {
        return 0;
    };
    // SAFETY: the one is an element of this processor alone, which nothing else refers to; the other
    // is shared with the agent, which writes whole words. The helpers have no preconditions.
    unsafe {
        let traced = &mut *traced;
        traced.now = bpf_ktime_get_coarse_ns();
        traced.random = bpf_get_prandom_u32();
        (traced.asked, traced.bytes) = (0, 0);
        for index in 0..TRACERS {
            // All is read anew for each, and nothing kept on the stack, of which callers leave little.
            asm!("", options(nostack));
            let one = &(*trace).all[index];
            traced.off[0] = one.off(&traced.event.key.source);
            asm!("", options(nostack));
            traced.off[1] = one.off(&traced.event.key.destination);
            asm!("", options(nostack));
            let (off, service) = (traced.off, traced.event.service);
            let asks = one.asks(off, service, traced.now, traced.random);
            traced.asked |= (asks as u32 * one.wants) << index;
            // What is beyond one tracer's wish the agent takes off again.
            traced.bytes |= asks as u32 * one.frame;
        }
        asm!("", options(nostack));
        if traced.asked == 0 {
            if traced.now >= addr_of!((*trace).until).read_volatile() {
                // Nobody has renewed it: the agent is gone. From now on nobody pays for this.
                (&raw mut (*trace).until).write_volatile(0);
            }
            return 0;
        }
        let bytes = u64::from(traced.bytes);
        let most = u64::from(TRACE_FRAME);
        let bytes = if bytes > most { most } else { bytes };
        let bytes = if bytes > length { length } else { bytes };
        traced.event.length = length as u32;
        traced.event.captured = bytes as u32;
        0x100 | bytes.saturating_sub(1)
    }
}

/// Begins an event of a packet that was not decided. Zero: there is one of it already.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn trace_note(reason: u64) -> u64 {
    const UNREAD: u64 = 1 << Reason::NotIp as u32
        | 1 << Reason::NotTransport as u32
        | 1 << Reason::Malformed as u32
        | 1 << Reason::Fragment as u32
        | 1 << Reason::EarlyFragment as u32
        | 1 << Reason::Silenced as u32;
    let (Some(traced), Some(packet)) = (TRACED.get_ptr_mut(0), PACKET.get_ptr(0)) else {
        return 0;
    };
    // SAFETY: elements of this processor alone, which nothing else refers to. Unless the reason says
    // that the packet could not be read, the second was written for it.
    unsafe {
        let traced = &mut *traced;
        if traced.asked != 0 {
            return 0;
        }
        if UNREAD >> (reason & 63) & 1 != 0 {
            traced.event.key = NO_FLOW;
            traced.event.flags = 0;
        } else {
            traced.event.key = (*packet).key;
            traced.event.flags = (*packet).flags;
        }
        traced.event.service = NO_SERVICE;
        traced.event.backend = NO_BACKEND;
        traced.event.why = 0;
        traced.event.opens = 0;
    }
    1
}

/// Puts the event that was noted into the ring, for the tracers that want to know of what became
/// of the packet.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn trace_tell(what: u64, reason: u64) -> u64 {
    let Some(traced) = TRACED.get_ptr_mut(0) else { return 0 };
    // SAFETY: an element of this processor alone. The helper has no preconditions.
    unsafe {
        let traced = &mut *traced;
        let tracers = (traced.asked >> ((what * 8) & 31)) as u8;
        traced.asked = 0;
        if tracers == 0 {
            return 0;
        }
        traced.event.time = bpf_ktime_get_ns();
        traced.event.what = what as u8;
        traced.event.reason = reason as u32;
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
    0
}
