//! A frame in the driver's memory, as the XDP program reads and writes it.

use core::arch::asm;
use core::mem::size_of;

use aya_ebpf::helpers::generated::{bpf_xdp_adjust_head, bpf_xdp_get_buff_len};
use aya_ebpf::programs::XdpContext;
use weir_ebpf::packet::{ETHERNET_LEN, Frame, Header, MAX_OFFSET, Packet, TAG_LEN};
use weir_ebpf::unaligned::{load16, load32, store16, store32};

/// A frame. What cannot be reached in it is `None`.
pub(crate) struct XdpFrame<'a>(pub(crate) &'a XdpContext);

impl XdpFrame<'_> {
    /// The interface it came in through.
    #[inline(always)]
    pub(crate) fn ifindex(&self) -> u32 {
        self.0.ingress_ifindex() as u32
    }

    /// Bytes that can be read and written directly: all but of jumbo frames.
    #[inline(always)]
    fn readable(&self) -> u32 {
        let mut bytes = self.0.data_end();
        // SAFETY: one instruction, on registers. Written out, for the compiler would take the difference
        // of two halves of pointers, which the verifier does not let it keep.
        unsafe {
            asm!("{bytes} -= {start}", bytes = inout(reg) bytes, start = in(reg) self.0.data(),
                options(pure, nomem, nostack));
        }
        bytes as u32
    }

    /// Whether it came in several buffers.
    #[inline(always)]
    pub(crate) fn is_scattered(&self, packet: &Packet) -> bool {
        packet.end() > self.readable()
    }

    /// Bytes of the whole frame.
    #[inline(always)]
    pub(crate) fn length(&self, scattered: bool) -> u32 {
        if scattered { self.whole() } else { self.readable() }
    }

    #[inline(always)]
    pub(crate) fn whole(&self) -> u32 {
        // SAFETY: the context is the program's own.
        unsafe { bpf_xdp_get_buff_len(self.0.ctx) as u32 }
    }

    /// A pointer to a `T` at `offset`, if all of it lies within what can be reached. Of at least
    /// two bytes: the verifier does not follow the comparison that a compiler makes for one.
    #[inline(always)]
    fn at<T>(&self, offset: u32) -> Option<*mut T> {
        const { assert!(size_of::<T>() > 1) };
        let start = self.0.data() + (offset & MAX_OFFSET) as usize;
        if start + size_of::<T>() > self.0.data_end() {
            return None;
        }
        Some(start as *mut T)
    }

    /// Replaces the half word at `offset` and returns the old one.
    #[inline(always)]
    pub(crate) fn replace16(&self, offset: u32, new: u16) -> Option<u16> {
        let place = self.at::<[u8; 2]>(offset)?.cast();
        // SAFETY: `at` has checked the bounds.
        unsafe {
            let old = load16::<0>(place);
            store16(place, new);
            Some(old)
        }
    }

    /// Replaces the word at `offset` and returns the old one.
    #[inline(always)]
    pub(crate) fn replace32(&self, offset: u32, new: u32) -> Option<u32> {
        let place = self.at::<[u8; 4]>(offset)?.cast();
        // SAFETY: `at` has checked the bounds.
        unsafe {
            let old = load32::<0>(place);
            store32(place, new);
            Some(old)
        }
    }

    /// Puts the half word at `offset` through `change`.
    #[inline(always)]
    pub(crate) fn update16(&self, offset: u32, change: impl FnOnce(u16) -> u16) -> Option<()> {
        let place = self.at::<[u8; 2]>(offset)?.cast();
        // SAFETY: `at` has checked the bounds.
        unsafe { store16(place, change(load16::<0>(place))) };
        Some(())
    }

    /// Writes words at `offset`.
    #[inline(always)]
    pub(crate) fn write<const WORDS: usize>(
        &self,
        offset: u32,
        words: &[u32; WORDS],
    ) -> Option<()> {
        let start: *mut u8 = self.at::<[u32; WORDS]>(offset)?.cast();
        for (at, word) in words.iter().enumerate() {
            // SAFETY: `at` has checked the bounds.
            unsafe { store32(start.add(4 * at), *word) };
        }
        Some(())
    }

    /// Moves the beginning of the frame so that in front of the packet's IP header there is room
    /// for Ethernet with these tags and for `outer` bytes behind them, and no more. Gives where the
    /// outer header goes, and moves the packet's offsets. On failure nothing has moved.
    ///
    /// All pointers into the frame are void after this.
    #[inline(always)]
    pub(crate) fn make_room(&self, packet: &mut Packet, tags: [u32; 2], outer: u32) -> Option<u32> {
        let tagged = u32::from(tags[0] != 0) + u32::from(tags[1] != 0);
        let l2 = ETHERNET_LEN + TAG_LEN * tagged;
        let grown = (l2 + outer).wrapping_sub(packet.l3);
        if grown != 0 {
            // SAFETY: the context is the program's own.
            let moved =
                unsafe { bpf_xdp_adjust_head(self.0.ctx, 0_i32.wrapping_sub(grown as i32)) };
            if moved != 0 {
                return None;
            }
            packet.l3 = packet.l3.wrapping_add(grown);
            packet.l4 = packet.l4.wrapping_add(grown);
        }
        Some(l2)
    }

    /// Writes the Ethernet header: destination and source, tags, type.
    #[inline(always)]
    pub(crate) fn write_ethernet(
        &self,
        macs: [[u8; 6]; 2],
        tags: [u32; 2],
        ether_type: u16,
    ) -> Option<()> {
        // An IP header follows, so there are more bytes than the longest one needs.
        let start: *mut u8 = self.at::<[u8; 22]>(0)?.cast();
        // SAFETY: `at` has checked the bounds; bytes have no alignment.
        unsafe {
            // As words: bytes would be written one by one.
            let [to, from] = macs;
            store32(start, u32::from_ne_bytes([to[0], to[1], to[2], to[3]]));
            store32(start.add(4), u32::from_ne_bytes([to[4], to[5], from[0], from[1]]));
            store32(start.add(8), u32::from_ne_bytes([from[2], from[3], from[4], from[5]]));
            if tags[0] == 0 {
                store16(start.add(12), ether_type);
                return Some(());
            }
            store32(start.add(12), tags[0]);
            if tags[1] == 0 {
                store16(start.add(16), ether_type);
                return Some(());
            }
            store32(start.add(16), tags[1]);
            store16(start.add(20), ether_type);
        }
        Some(())
    }
}

impl Frame for XdpFrame<'_> {
    #[inline(always)]
    fn header<const LEN: usize>(&self, offset: u32) -> Option<Header<'_, LEN>> {
        // SAFETY: `at` has checked that LEN bytes lie within the frame.
        self.at::<[u8; LEN]>(offset).map(|start| unsafe { Header::new(start.cast()) })
    }

    #[inline(always)]
    fn holds(&self, bytes: u32) -> bool {
        bytes <= self.readable() || bytes <= self.whole()
    }
}
