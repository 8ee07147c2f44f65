//! What is rare: ICMP, fragments, errors to senders. Each is a program of its own, reached from
//! the TC program by a tail call, so that the common way does not carry it.

pub(crate) mod fragment;
pub(crate) mod icmp;
pub(crate) mod quote;
pub(crate) mod reply;

use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;
use weir_ebpf::abi::{Address, Complaint, Endpoint, HOOK_TC, Reason, Reply};

use crate::count::{self, config};
use crate::limit;
use crate::maps::{self, ICMP_LIMIT, PROGRAMS};
use crate::skb::SkbFrame;

/// Bytes that must be readable at once: headers as in `tc`, and a quoted packet's. With all the
/// options that IPv4 can have that is 22 + 60 + 8 + 60 + 20.
const HEADERS: u32 = 192;

/// Goes on in another program. Returns only where that cannot be: then the packet is treated as
/// if the program had not known it.
#[inline(always)]
pub(crate) fn call(frame: &SkbFrame, program: u32) {
    // SAFETY: nothing here has to be dropped.
    unsafe { PROGRAMS.tail_call(frame.0, program) }
}

/// Leaves word for the program `PROGRAM_REPLY`: what the packet's sender is to be told, as if from
/// `source`. The packet must be as it came in.
#[inline(always)]
pub(crate) fn prepare(frame: &SkbFrame, l3: u32, complaint: Complaint, source: &Address) {
    let reply = Reply { complaint, l3: l3 as u8 };
    let [a, b, c, d] = source.0;
    // SAFETY: the context is the program's own. Word by word: nothing wider may be written there.
    unsafe {
        let control = (&raw mut (*frame.skb()).cb).cast::<u32>();
        control.write_volatile(reply.word());
        control.add(1).write_volatile(a);
        control.add(2).write_volatile(b);
        control.add(3).write_volatile(c);
        control.add(4).write_volatile(d);
    }
}

/// Whether this is the address of a listener.
#[inline(always)]
fn is_listener(address: Address) -> bool {
    let marker = Endpoint { address, port: 0, protocol: 0, pad: 0 };
    maps::root().is_some_and(|root| maps::listener(root, &marker).is_some())
}

/// Whether one more message may be sent. Counts the one that may not.
#[inline(always)]
fn may_speak() -> bool {
    // SAFETY: the helper has no preconditions.
    let now = unsafe { bpf_ktime_get_coarse_ns() };
    let may = limit::take(&ICMP_LIMIT, u64::from(config!(icmp_per_second)), now);
    if !may {
        count::reason(HOOK_TC, Reason::Silenced);
    }
    may
}

/// The frame's MAC addresses, destination first; nothing where the frame was for many.
#[inline(always)]
fn ends(frame: &SkbFrame) -> Option<[[u8; 6]; 2]> {
    let [to, from] = frame.load::<[[u8; 6]; 2]>(0).ok()?;
    if to[0] & 1 == 0 { Some([to, from]) } else { None }
}
