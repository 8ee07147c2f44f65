//! Errors to senders: the packet itself becomes the error, and goes back through the interface it
//! came by. It is to say why (RFC 1812 §4.3, RFC 4443 §2.4), from whom the sender thinks to have
//! spoken with, and to quote how the packet began.

use core::ffi::c_void;

use aya_ebpf::bindings::bpf_adj_room_mode::BPF_ADJ_ROOM_MAC;
use aya_ebpf::bindings::{BPF_F_RECOMPUTE_CSUM, TC_ACT_SHOT};
use aya_ebpf::helpers::generated::{
    bpf_csum_diff, bpf_redirect, bpf_skb_adjust_room, bpf_skb_change_tail, bpf_skb_load_bytes,
    bpf_skb_store_bytes,
};
use aya_ebpf::programs::TcContext;
use weir_ebpf::abi::{Address, Reply};
use weir_ebpf::icmp::{Quoted, error_v4, error_v6, may_be_told};
use weir_ebpf::opaque::clamped;

use weir_ebpf::packet::ETHERNET_LEN;

use super::{ends, may_speak};
use crate::skb::SkbFrame;

/// Bytes that are quoted at most: the longest IPv4 header and 128 bytes, and some.
const QUOTE: usize = 192;
/// The least that is quoted: an IPv4 header and the ports. No packet that comes here is shorter.
const LEAST: u32 = 28;
/// Bytes that are cut out behind the MAC header. More than any header ends at: a checksum that the
/// kernel has yet to finish there is so forgotten, and with it what it would write into the quote.
const CUT: u32 = 256;

/// Answers to the packet, as the control words say.
#[inline(always)]
pub(crate) fn handle(context: &TcContext) -> i32 {
    reply(&SkbFrame(context)).unwrap_or(TC_ACT_SHOT)
}

/// The beginning of the packet.
#[repr(C, align(8))]
struct Beginning([u32; QUOTE / 4]);

#[inline(always)]
fn reply(frame: &SkbFrame) -> Option<i32> {
    let words = control(frame);
    let Reply { complaint, l3 } = Reply::from_word(words[0]);
    let l3 = u32::from(l3);
    let from = Address([words[1], words[2], words[3], words[4]]);
    let mut quote = Beginning([0; QUOTE / 4]);
    let quoted = load(frame, l3, &mut quote)?;
    let q = &quote.0;
    let v4 = from.is_v4();
    let to = if v4 { Address::v4(q[3]) } else { Address([q[2], q[3], q[4], q[5]]) };
    let [here, there] = ends(frame)?;
    if !may_be_told(&to) || !may_speak() {
        return None;
    }
    let headers: u32 = if v4 { 28 } else { 48 };
    resize(frame, l3, headers + quoted.length)?;
    if v4 {
        frame.store_summed(l3, &error_v4(from, to, complaint, quoted)).ok()?;
    } else {
        frame.store_summed(l3, &error_v6(from, to, complaint, quoted)).ok()?;
    }
    save(frame, l3 + headers, &quote, quoted.length)?;
    frame.store(0, &[there, here]).ok()?;
    // SAFETY: the helper has no preconditions.
    Some(unsafe { bpf_redirect(frame.ifindex(), 0) } as i32)
}

/// The control words.
#[inline(always)]
fn control(frame: &SkbFrame) -> [u32; 5] {
    // SAFETY: the context is the program's own. Word by word: nothing wider may be read there.
    unsafe {
        let words = (&raw const (*frame.skb()).cb).cast::<u32>();
        [
            words.read_volatile(),
            words.add(1).read_volatile(),
            words.add(2).read_volatile(),
            words.add(3).read_volatile(),
            words.add(4).read_volatile(),
        ]
    }
}

/// Reads how the packet begins.
#[inline(always)]
fn load(frame: &SkbFrame, l3: u32, quote: &mut Beginning) -> Option<Quoted> {
    // Not what may follow the packet in a short frame.
    let first = frame.load::<[u8; 8]>(l3).ok()?;
    let half = |i: usize| u32::from(u16::from_be_bytes([first[i], first[i + 1]]));
    let said = if first[0] >> 4 == 4 { half(2) } else { 40 + half(4) };
    let there = frame.length().wrapping_sub(l3);
    let length = if said < there { said } else { there };
    let length = if length < QUOTE as u32 { length } else { QUOTE as u32 };
    if length < LEAST {
        return None;
    }
    let length = clamped::<LEAST, { QUOTE as u32 }>(length);
    let to: *mut c_void = quote.0.as_mut_ptr().cast();
    // SAFETY: the context is the program's own, and the buffer has room for `length` bytes.
    if unsafe { bpf_skb_load_bytes(frame.skb().cast(), l3, to, length) } != 0 {
        return None;
    }
    // What is not quoted is zero, and adds nothing.
    // SAFETY: the buffer is as long as said.
    let sum =
        unsafe { bpf_csum_diff(core::ptr::null_mut(), 0, quote.0.as_mut_ptr(), QUOTE as u32, 0) };
    Some(Quoted { length, sum: sum as u32 })
}

/// Gives the IP packet this length. What is behind the MAC header is void.
#[inline(always)]
fn resize(frame: &SkbFrame, l3: u32, length: u32) -> Option<()> {
    // The kernel cuts nothing out behind a tag that is in the frame. Such a frame has come from a
    // wire, with its checksum.
    let cut = if l3 == ETHERNET_LEN { CUT } else { 0 };
    // SAFETY: the context is the program's own.
    unsafe {
        // This also makes one packet of what was to become many.
        if bpf_skb_change_tail(frame.skb(), l3 + length + cut, 0) != 0 {
            return None;
        }
        if cut != 0 && bpf_skb_adjust_room(frame.skb(), -(CUT as i32), BPF_ADJ_ROOM_MAC, 0) != 0 {
            return None;
        }
    }
    Some(())
}

/// Writes the quote.
#[inline(always)]
fn save(frame: &SkbFrame, offset: u32, quote: &Beginning, length: u32) -> Option<()> {
    let from: *const c_void = quote.0.as_ptr().cast();
    let flags = u64::from(BPF_F_RECOMPUTE_CSUM);
    // SAFETY: the context is the program's own, and the buffer has `length` bytes.
    match unsafe { bpf_skb_store_bytes(frame.skb(), offset, from, length, flags) } {
        0 => Some(()),
        _ => None,
    }
}
