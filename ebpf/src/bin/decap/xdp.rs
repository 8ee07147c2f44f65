//! The XDP program: moves the Ethernet header up to the inner packet and gives the rest back.

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use aya_ebpf::helpers::generated::{bpf_xdp_adjust_head, bpf_xdp_get_buff_len};
use aya_ebpf::programs::XdpContext;
use weir_ebpf::checksum::Delta;
use weir_ebpf::decap::abi::{Family, Reason};
use weir_ebpf::decap::{self, Bytes, IPV4_CHECKSUM, Refused, TAG_LEN, Tunnel};
use weir_ebpf::unaligned::{load16, load32, store16, store32};

use crate::maps;

/// A frame in the driver's memory.
struct XdpFrame<'a>(&'a XdpContext);

impl XdpFrame<'_> {
    /// A pointer to `LEN` bytes at `offset`, if they lie within the first buffer.
    #[inline(always)]
    fn place<const LEN: usize>(&self, offset: u32) -> Option<*mut u8> {
        // The mask says to the verifier what the callers promise.
        let start = self.0.data() + (offset & 0xff) as usize;
        if start + LEN > self.0.data_end() {
            return None;
        }
        Some(start as *mut u8)
    }
}

impl Bytes for XdpFrame<'_> {
    #[inline(always)]
    fn at<const LEN: usize>(&self, offset: u32) -> Option<*const u8> {
        self.place::<LEN>(offset).map(<*mut u8>::cast_const)
    }

    #[inline(always)]
    fn length(&self) -> u32 {
        // SAFETY: the context is the program's own.
        (unsafe { bpf_xdp_get_buff_len(self.0.ctx) }) as u32
    }
}

/// Handles a frame and returns the verdict.
#[inline(always)]
pub(crate) fn handle(context: &XdpContext) -> u32 {
    let frame = XdpFrame(context);
    let bytes = frame.length();
    let stripped = decap::tunnel(&frame, maps::gue_port(), maps::is_local).and_then(|tunnel| {
        strip(&frame, &tunnel).ok_or(Refused::Drop(Reason::Rewrite)).map(|()| tunnel)
    });
    match stripped {
        Ok(tunnel) => {
            maps::count(tunnel.kind, bytes);
            XDP_PASS
        }
        Err(Refused::Other) => XDP_PASS,
        Err(Refused::Pass(reason)) => {
            maps::count_reason(reason);
            XDP_PASS
        }
        Err(Refused::Drop(reason)) => {
            maps::count_reason(reason);
            XDP_DROP
        }
    }
}

#[inline(always)]
fn strip(frame: &XdpFrame, tunnel: &Tunnel) -> Option<()> {
    set_ecn(frame, tunnel)?;
    let ethernet = Ethernet::read(frame, tunnel.tags)?;
    // SAFETY: the context is the program's own.
    if unsafe { bpf_xdp_adjust_head(frame.0.ctx, tunnel.strip as i32) } != 0 {
        return None;
    }
    // All pointers into the frame are void from here on.
    ethernet.write(frame, tunnel.tags, tunnel.inner.ethertype())
}

#[inline(always)]
fn set_ecn(frame: &XdpFrame, tunnel: &Tunnel) -> Option<()> {
    let [old, new] = tunnel.first;
    if old == new {
        return Some(());
    }
    let start = tunnel.l3() + tunnel.strip;
    let first = frame.place::<2>(start)?;
    // SAFETY: the bounds are checked.
    unsafe { store16(first, new) };
    if tunnel.inner == Family::V4 {
        let sum = frame.place::<2>(start + IPV4_CHECKSUM)?;
        // SAFETY: the bounds are checked.
        unsafe { store16(sum, Delta::default().half(old, new).apply(load16::<0>(sum))) };
    }
    Some(())
}

/// An Ethernet header with its tags, but without the type of what follows: words as they lie in
/// memory. What is not there is not looked at.
struct Ethernet {
    macs: [u32; 3],
    tags: [u32; 2],
}

impl Ethernet {
    #[inline(always)]
    fn read(frame: &XdpFrame, tags: u32) -> Option<Self> {
        let macs = frame.place::<12>(0)?;
        // SAFETY: the bounds are checked.
        let macs = unsafe { [load32::<0>(macs), load32::<4>(macs), load32::<8>(macs)] };
        let mut found = Self { macs, tags: [0; 2] };
        if tags > 0 {
            let tag = frame.place::<4>(12)?;
            // SAFETY: the bounds are checked.
            found.tags[0] = unsafe { load32::<0>(tag) };
        }
        if tags > 1 {
            let tag = frame.place::<4>(16)?;
            // SAFETY: the bounds are checked.
            found.tags[1] = unsafe { load32::<0>(tag) };
        }
        Some(found)
    }

    #[inline(always)]
    fn write(&self, frame: &XdpFrame, tags: u32, ethertype: u16) -> Option<()> {
        let macs = frame.place::<12>(0)?;
        // SAFETY: the bounds are checked.
        unsafe {
            store32(macs, self.macs[0]);
            store32(macs.add(4), self.macs[1]);
            store32(macs.add(8), self.macs[2]);
        }
        if tags > 0 {
            let tag = frame.place::<4>(12)?;
            // SAFETY: the bounds are checked.
            unsafe { store32(tag, self.tags[0]) };
        }
        if tags > 1 {
            let tag = frame.place::<4>(16)?;
            // SAFETY: the bounds are checked.
            unsafe { store32(tag, self.tags[1]) };
        }
        let kind = frame.place::<2>(12 + tags * TAG_LEN)?;
        // SAFETY: the bounds are checked.
        unsafe { store16(kind, ethertype) };
        Some(())
    }
}
