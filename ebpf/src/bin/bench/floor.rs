//! Parse, swap addresses, send.

use aya_ebpf::bindings::xdp_action::{XDP_PASS, XDP_TX};
use aya_ebpf::programs::XdpContext;
use weir_ebpf::unaligned::{load16, load32, store32};

use crate::place;

const IPV4: u16 = 0x0800_u16.to_be();
const TCP: u8 = 6;
/// Ethernet, IPv4 without options, TCP.
pub(crate) const HEADERS: usize = 54;

/// Whether these are the headers of a TCP packet over IPv4, without options and no fragment.
///
/// # Safety
///
/// [`HEADERS`] bytes can be read.
#[inline(always)]
pub(crate) unsafe fn is_plain_tcp(start: *const u8) -> bool {
    // SAFETY: the caller vouches for the bytes.
    unsafe {
        load16::<12>(start) == IPV4
            && start.add(14).read() == 0x45
            && load16::<20>(start) & 0x3fff_u16.to_be() == 0
            && start.add(23).read() == TCP
    }
}

#[inline(always)]
pub(crate) fn handle(context: &XdpContext) -> u32 {
    let Some(start) = place::start::<HEADERS>(context) else { return XDP_PASS };
    // SAFETY: the bounds are checked.
    unsafe {
        if !is_plain_tcp(start) {
            return XDP_PASS;
        }
        place::swap_macs(start, start);
        let (source, destination) = (load32::<26>(start), load32::<30>(start));
        store32(start.add(26), destination);
        store32(start.add(30), source);
    }
    XDP_TX
}
