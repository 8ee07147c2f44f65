//! The kernel's own routing, for clients, and for backends whose next hop the agent does not know.

use core::ffi::c_void;
use core::mem::{size_of, zeroed};

use aya_ebpf::bindings::{
    BPF_FIB_LKUP_RET_FRAG_NEEDED, BPF_FIB_LKUP_RET_FWD_DISABLED, BPF_FIB_LKUP_RET_NO_NEIGH,
    BPF_FIB_LKUP_RET_NOT_FWDED, BPF_FIB_LKUP_RET_SUCCESS, TC_ACT_SHOT,
    bpf_fib_lookup as Parameters, bpf_redir_neigh,
};
use aya_ebpf::helpers::generated::{bpf_fib_lookup, bpf_redirect_neigh};
use weir_ebpf::abi::Address;

use crate::maps::{self, FIB, NEIGHBOUR};

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// What the kernel says of a destination.
#[derive(Clone, Copy)]
pub(crate) enum Way {
    /// Through this interface, with these MAC addresses.
    Neighbour { ifindex: u32, source: [u8; 6], destination: [u8; 6] },
    /// Through this interface to this next hop, whose MAC address the kernel must still find.
    Unresolved { ifindex: u32, hop: Address },
    /// The node itself, no route, or no forwarding at all: the stack knows what to do.
    Stack,
    /// No way for IP packets longer than this.
    TooBig { mtu: u32 },
    /// No way.
    None,
}

/// A packet as it will be when it leaves.
pub(crate) struct Leaving<'a> {
    /// The interface it came in through.
    pub(crate) ifindex: u32,
    pub(crate) protocol: u8,
    pub(crate) source: &'a Address,
    pub(crate) destination: &'a Address,
    /// Of the IP packet, in bytes.
    pub(crate) length: u32,
}

/// Asks for the way of a packet.
#[inline(always)]
pub(crate) fn way(context: *mut c_void, leaving: &Leaving) -> Way {
    let Leaving { ifindex, protocol, source, destination, length } = *leaving;
    // SAFETY: all zeroes is a valid value of this plain C struct.
    let Ok(ask) = maps::keep(&FIB, unsafe { zeroed::<Parameters>() }) else { return Way::None };
    ask.l4_protocol = protocol;
    ask.ifindex = ifindex;
    ask.__bindgen_anon_1.tot_len = if length > 0xffff { 0xffff } else { length as u16 };
    if destination.is_v4() {
        ask.family = AF_INET;
        ask.__bindgen_anon_3.ipv4_src = source.0[3];
        ask.__bindgen_anon_4.ipv4_dst = destination.0[3];
    } else {
        ask.family = AF_INET6;
        ask.__bindgen_anon_3.ipv6_src = source.0;
        ask.__bindgen_anon_4.ipv6_dst = destination.0;
    }
    // SAFETY: the context is the program's own; the parameters are initialised and as long as said.
    let answer =
        unsafe { bpf_fib_lookup(context, &raw mut *ask, size_of::<Parameters>() as i32, 0) };
    if answer == i64::from(BPF_FIB_LKUP_RET_SUCCESS) {
        return Way::Neighbour { ifindex: ask.ifindex, source: ask.smac, destination: ask.dmac };
    }
    if answer == i64::from(BPF_FIB_LKUP_RET_NO_NEIGH) {
        // The destination field now holds the next hop, whose family may differ from ours only
        // for IPv4 over an IPv6 gateway.
        // SAFETY: the kernel has filled the field that the family names.
        let hop = unsafe {
            if ask.family == AF_INET {
                Address::v4(ask.__bindgen_anon_4.ipv4_dst)
            } else {
                Address(ask.__bindgen_anon_4.ipv6_dst)
            }
        };
        return Way::Unresolved { ifindex: ask.ifindex, hop };
    }
    if answer == i64::from(BPF_FIB_LKUP_RET_FRAG_NEEDED) {
        // SAFETY: the kernel has filled the field on this answer.
        return Way::TooBig { mtu: u32::from(unsafe { ask.__bindgen_anon_1.mtu_result }) };
    }
    // Where forwarding is off, the packet may still be for the node itself: the stack knows.
    if answer == i64::from(BPF_FIB_LKUP_RET_NOT_FWDED)
        || answer == i64::from(BPF_FIB_LKUP_RET_FWD_DISABLED)
    {
        return Way::Stack;
    }
    Way::None
}

/// Sends the packet to `hop` through `ifindex`; the kernel finds the MAC address and waits for it
/// where it must. TC only. Returns the verdict.
#[inline(always)]
pub(crate) fn redirect_neighbour(ifindex: u32, hop: &Address) -> i32 {
    // SAFETY: all zeroes is a valid value of this plain C struct.
    let neighbour = maps::keep(&NEIGHBOUR, unsafe { zeroed::<bpf_redir_neigh>() });
    let Ok(neighbour) = neighbour else { return TC_ACT_SHOT };
    if hop.is_v4() {
        neighbour.nh_family = u32::from(AF_INET);
        neighbour.__bindgen_anon_1.ipv4_nh = hop.0[3];
    } else {
        neighbour.nh_family = u32::from(AF_INET6);
        neighbour.__bindgen_anon_1.ipv6_nh = hop.0;
    }
    // SAFETY: the parameters are initialised and as long as said.
    unsafe {
        bpf_redirect_neigh(ifindex, &raw mut *neighbour, size_of::<bpf_redir_neigh>() as i32, 0)
            as i32
    }
}
