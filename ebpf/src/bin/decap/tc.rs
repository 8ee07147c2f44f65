//! The TC program: has the kernel take the outer headers away, so that what it knows of the packet
//! (segments, checksums, offsets, protocol) stays true.

use core::ffi::c_void;
use core::mem::size_of;

use aya_ebpf::bindings::bpf_adj_room_mode::BPF_ADJ_ROOM_MAC;
use aya_ebpf::bindings::{
    __sk_buff, BPF_CSUM_LEVEL_DEC, BPF_F_ADJ_ROOM_DECAP_L3_IPV4, BPF_F_ADJ_ROOM_DECAP_L3_IPV6,
    BPF_F_ADJ_ROOM_FIXED_GSO, BPF_F_ADJ_ROOM_NO_CSUM_RESET, BPF_F_RECOMPUTE_CSUM, TC_ACT_SHOT,
    TC_ACT_UNSPEC,
};
use aya_ebpf::helpers::generated::{
    bpf_csum_level, bpf_l3_csum_replace, bpf_skb_adjust_room, bpf_skb_change_proto,
    bpf_skb_pull_data, bpf_skb_store_bytes,
};
use aya_ebpf::programs::TcContext;
use weir_ebpf::decap::abi::{Family, Kind, Reason};
use weir_ebpf::decap::{self, Bytes, ETHERNET_LEN, HEADERS, IPV4_CHECKSUM, Refused, Tunnel};

use crate::maps;

/// What the kernel answers to a flag that it does not know.
const EINVAL: i64 = 22;
/// By how much an IPv6 header is longer than one of IPv4.
const V6_EXTRA: i32 = 20;

/// A frame in a socket buffer.
struct SkbFrame<'a>(&'a TcContext);

impl SkbFrame<'_> {
    #[inline(always)]
    fn skb(&self) -> *mut __sk_buff {
        self.0.skb.skb
    }

    /// Makes the headers readable where the driver left them in pages.
    #[inline(always)]
    fn pull(&self) {
        let length = self.length();
        let wanted = if length < HEADERS { length } else { HEADERS };
        if self.0.data() + wanted as usize > self.0.data_end() {
            // SAFETY: the context is the program's own. On failure the frame is found short.
            unsafe { bpf_skb_pull_data(self.skb(), wanted) };
        }
    }

    /// Takes bytes away between the Ethernet and the IP header.
    #[inline(always)]
    fn shrink(&self, bytes: i32, decap: u32) -> i64 {
        // Each segment of a large packet keeps its size, and a sum that the network card has
        // verified stays verified.
        let flags = BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_NO_CSUM_RESET | decap;
        // SAFETY: the context is the program's own.
        unsafe { bpf_skb_adjust_room(self.skb(), -bytes, BPF_ADJ_ROOM_MAC, u64::from(flags)) }
    }

    /// Writes a half word at `offset`.
    #[inline(always)]
    fn store(&self, offset: u32, value: u16, flags: u32) -> Result<(), Refused> {
        let from: *const c_void = core::ptr::from_ref(&value).cast();
        let (length, flags) = (size_of::<u16>() as u32, u64::from(flags));
        // SAFETY: the context is the program's own and the value is as long as said.
        match unsafe { bpf_skb_store_bytes(self.skb(), offset, from, length, flags) } {
            0 => Ok(()),
            _ => Err(Refused::Drop(Reason::Rewrite)),
        }
    }
}

impl Bytes for SkbFrame<'_> {
    #[inline(always)]
    fn at<const LEN: usize>(&self, offset: u32) -> Option<*const u8> {
        // The mask says to the verifier what the callers promise.
        let start = self.0.data() + (offset & 0xff) as usize;
        if start + LEN > self.0.data_end() {
            return None;
        }
        Some(start as *const u8)
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
    frame.pull();
    let bytes = frame.length();
    let stripped = decap::tunnel(&frame, maps::gue_port(), maps::is_local)
        .and_then(|tunnel| strip(&frame, &tunnel).map(|()| tunnel));
    match stripped {
        Ok(tunnel) => {
            maps::count(tunnel.kind, bytes);
            TC_ACT_UNSPEC
        }
        Err(Refused::Other) => TC_ACT_UNSPEC,
        Err(Refused::Pass(reason)) => {
            maps::count_reason(reason);
            TC_ACT_UNSPEC
        }
        Err(Refused::Drop(reason)) => {
            maps::count_reason(reason);
            TC_ACT_SHOT
        }
    }
}

#[inline(always)]
fn strip(frame: &SkbFrame, tunnel: &Tunnel) -> Result<(), Refused> {
    // One tag lies beside the frame. A second one is in the frame, where the helper strips nothing.
    // A packet of many segments has one inner packet, unless the kernel joined datagrams.
    // SAFETY: the context is the program's own.
    let segments = unsafe { (*frame.skb()).gso_size } != 0;
    if tunnel.tags != 0 || segments && !tunnel.filled {
        return Err(Refused::Pass(Reason::Unable));
    }
    take_away(frame, tunnel)?;
    if matches!(tunnel.kind, Kind::Gue4 | Kind::Gue6) {
        // What the network card has verified so far was the outer UDP checksum. It fails where
        // nothing was verified, and then there is nothing to take back.
        // SAFETY: the context is the program's own.
        unsafe { bpf_csum_level(frame.skb(), u64::from(BPF_CSUM_LEVEL_DEC)) };
    }
    if tunnel.outer != tunnel.inner {
        frame.store(ETHERNET_LEN - 2, tunnel.inner.ethertype(), 0)?;
    }
    set_ecn(frame, tunnel)
}

#[inline(always)]
fn take_away(frame: &SkbFrame, tunnel: &Tunnel) -> Result<(), Refused> {
    let bytes = tunnel.strip as i32;
    let (decap, older) = match (tunnel.outer, tunnel.inner) {
        (Family::V4, Family::V6) => (BPF_F_ADJ_ROOM_DECAP_L3_IPV6, bytes + V6_EXTRA),
        (Family::V6, Family::V4) => (BPF_F_ADJ_ROOM_DECAP_L3_IPV4, bytes - V6_EXTRA),
        _ => (0, 0),
    };
    match frame.shrink(bytes, decap) {
        0 => Ok(()),
        // Before Linux 6.3 the helper does not change families. This one does, and makes or takes
        // the room by which their headers differ on its way.
        error if error == -EINVAL && decap != 0 => {
            let protocol = tunnel.inner.ethertype();
            // SAFETY: the context is the program's own.
            if unsafe { bpf_skb_change_proto(frame.skb(), protocol, 0) } != 0 {
                return Err(Refused::Pass(Reason::Unable));
            }
            match frame.shrink(older, 0) {
                0 => Ok(()),
                _ => Err(Refused::Drop(Reason::Rewrite)),
            }
        }
        _ => Err(Refused::Pass(Reason::Unable)),
    }
}

/// Sets the ECN bits of the packet that was inside.
#[inline(always)]
fn set_ecn(frame: &SkbFrame, tunnel: &Tunnel) -> Result<(), Refused> {
    let [old, new] = tunnel.first;
    if old == new {
        return Ok(());
    }
    if tunnel.inner == Family::V6 {
        return frame.store(ETHERNET_LEN, new, BPF_F_RECOMPUTE_CSUM);
    }
    // A sum over the whole packet stays right: the header's checksum takes back what the half word
    // adds.
    let (place, from, to) = (ETHERNET_LEN + IPV4_CHECKSUM, u64::from(old), u64::from(new));
    // SAFETY: the context is the program's own.
    if unsafe { bpf_l3_csum_replace(frame.skb(), place, from, to, size_of::<u16>() as u64) } != 0 {
        return Err(Refused::Drop(Reason::Rewrite));
    }
    frame.store(ETHERNET_LEN, new, 0)
}
