//! A frame in a socket buffer, as the TC program reads and writes it: through the kernel's helpers,
//! which know of segments still to be cut, of checksums still to be reckoned, and of tags that are
//! kept beside the frame.

use core::ffi::c_void;
use core::mem::{MaybeUninit, size_of};

use aya_ebpf::bindings::{
    __sk_buff, BPF_F_ADJ_ROOM_ENCAP_L3_IPV4, BPF_F_ADJ_ROOM_ENCAP_L3_IPV6,
    BPF_F_ADJ_ROOM_ENCAP_L4_UDP, BPF_F_ADJ_ROOM_FIXED_GSO, BPF_F_MARK_MANGLED_0,
    BPF_F_RECOMPUTE_CSUM, bpf_adj_room_mode::BPF_ADJ_ROOM_MAC,
};
use aya_ebpf::helpers::generated::{
    bpf_l3_csum_replace, bpf_l4_csum_replace, bpf_skb_adjust_room, bpf_skb_load_bytes,
    bpf_skb_pull_data, bpf_skb_store_bytes, bpf_skb_vlan_pop,
};
use aya_ebpf::programs::TcContext;
use weir_ebpf::abi::{Reason, UDP};
use weir_ebpf::outer::{IPV4_LEN, IPV6_LEN, Outer};
use weir_ebpf::packet::{
    ETHER_TYPE, ETHERNET_LEN, Frame, Header, MAX_OFFSET, MAX_TAGS, Packet, TAG_LEN, ether_type,
};

/// Bytes that must be readable at once: Ethernet, two tags, IPv6, one small extension, TCP.
pub(crate) const HEADERS: u32 = 96;
/// Segments that carry no more than this are small enough for any tunnel.
const SMALL_SEGMENT: u32 = 256;

/// A frame. What the kernel refuses to do is [`Reason::Rewrite`].
pub(crate) struct SkbFrame<'a>(pub(crate) &'a TcContext);

fn done(said: i64) -> Result<(), Reason> {
    if said == 0 { Ok(()) } else { Err(Reason::Rewrite) }
}

impl SkbFrame<'_> {
    #[inline(always)]
    pub(crate) fn skb(&self) -> *mut __sk_buff {
        self.0.skb.skb
    }

    /// The interface it came in through.
    #[inline(always)]
    pub(crate) fn ifindex(&self) -> u32 {
        // SAFETY: the context is the program's own.
        unsafe { (*self.skb()).ifindex }
    }

    /// Bytes of the frame, without a tag that is kept beside it.
    #[inline(always)]
    pub(crate) fn length(&self) -> u32 {
        self.0.len()
    }

    /// Tags of the frame: in it, and beside it.
    #[inline(always)]
    pub(crate) fn tags(&self, packet: &Packet) -> u32 {
        // SAFETY: the context is the program's own.
        let beside = unsafe { (*self.skb()).vlan_present };
        (packet.l3 - ETHERNET_LEN) / TAG_LEN + u32::from(beside != 0)
    }

    /// Bytes of payload in each of the segments that the packet is still to be cut into. Zero: it
    /// is one as it is.
    #[inline(always)]
    fn segment_size(&self) -> u32 {
        // SAFETY: the context is the program's own.
        unsafe { (*self.skb()).gso_size }
    }

    /// Whether [`encapsulate`](Self::encapsulate) makes a TCP packet's segments shorter, so that
    /// they are no longer with the outer header than they were without.
    #[inline(always)]
    fn shrinks(&self, packet: &Packet) -> bool {
        packet.is_tcp() && self.segment_size() > SMALL_SEGMENT
    }

    /// Length of the longest IP packet on the wire, with `outer` bytes around each.
    #[inline(always)]
    pub(crate) fn longest(&self, packet: &Packet, outer: u32) -> u32 {
        let size = self.segment_size();
        if size == 0 {
            return packet.length + outer;
        }
        let segment = packet.payload - packet.l3 + size;
        if self.shrinks(packet) { segment } else { segment + outer }
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
        done(unsafe { bpf_skb_load_bytes(self.skb().cast(), offset, to, length) })?;
        // SAFETY: the helper has written all of it; callers ask for plain bytes and words.
        Ok(unsafe { value.assume_init() })
    }

    /// Writes a value at `offset`. All pointers into the frame are void after this, and after
    /// everything below.
    #[inline(always)]
    pub(crate) fn store<T: Copy>(&self, offset: u32, value: &T) -> Result<(), Reason> {
        self.write(offset, value, 0)
    }

    /// The same for bytes that no checksum in the packet covers or makes up for: what the network
    /// card has reckoned over the whole packet must follow.
    #[inline(always)]
    pub(crate) fn store_summed<T: Copy>(&self, offset: u32, value: &T) -> Result<(), Reason> {
        self.write(offset, value, u64::from(BPF_F_RECOMPUTE_CSUM))
    }

    #[inline(always)]
    fn write<T: Copy>(&self, offset: u32, value: &T, flags: u64) -> Result<(), Reason> {
        let (from, length): (*const c_void, _) =
            (core::ptr::from_ref(value).cast(), size_of::<T>());
        // SAFETY: the context is the program's own and the value is as long as said.
        done(unsafe { bpf_skb_store_bytes(self.skb(), offset, from, length as u32, flags) })
    }

    /// Mends the IPv4 checksum at `offset` after a change of `size` bytes.
    #[inline(always)]
    pub(crate) fn ip_checksum(
        &self,
        offset: u32,
        old: u32,
        new: u32,
        size: u64,
    ) -> Result<(), Reason> {
        let (old, new) = (u64::from(old), u64::from(new));
        // SAFETY: the context is the program's own.
        done(unsafe { bpf_l3_csum_replace(self.skb(), offset, old, new, size) })
    }

    /// Mends the TCP or UDP checksum after a change.
    #[inline(always)]
    pub(crate) fn l4_checksum(
        &self,
        packet: &Packet,
        old: u32,
        new: u32,
        flags: u64,
    ) -> Result<(), Reason> {
        let udp = if packet.is_tcp() { 0 } else { u64::from(BPF_F_MARK_MANGLED_0) };
        let (old, new, at) = (u64::from(old), u64::from(new), packet.l4_checksum());
        // SAFETY: the context is the program's own.
        done(unsafe { bpf_l4_csum_replace(self.skb(), at, old, new, flags | udp) })
    }

    /// Removes all tags, and moves the packet's offsets.
    #[inline(always)]
    pub(crate) fn pop_tags(&self, packet: &mut Packet) -> Result<(), Reason> {
        let tags = self.tags(packet);
        for tag in 0..MAX_TAGS {
            if tag < tags {
                // SAFETY: the context is the program's own.
                done(unsafe { bpf_skb_vlan_pop(self.skb()) })?;
            }
        }
        let gone = packet.l3 - ETHERNET_LEN;
        packet.l3 = ETHERNET_LEN;
        packet.l4 -= gone;
        packet.payload -= gone;
        Ok(())
    }

    /// Puts an outer header around the packet, which has no tags: UDP to `gue_port` within IP, or
    /// IP alone. Segments still to be cut out of a TCP packet become shorter by it.
    #[inline(always)]
    pub(crate) fn encapsulate(
        &self,
        packet: &Packet,
        outer: &Outer,
        gue_port: u16,
    ) -> Result<(), Reason> {
        let (v4, gue) = (outer.destination.is_v4(), outer.protocol == UDP);
        let (ip, family) = if v4 {
            (IPV4_LEN, BPF_F_ADJ_ROOM_ENCAP_L3_IPV4)
        } else {
            (IPV6_LEN, BPF_F_ADJ_ROOM_ENCAP_L3_IPV6)
        };
        let fixed = if self.shrinks(packet) { 0 } else { BPF_F_ADJ_ROOM_FIXED_GSO };
        let udp = if gue { BPF_F_ADJ_ROOM_ENCAP_L4_UDP } else { 0 };
        let (room, flags) = (outer.length - packet.length, u64::from(family | udp | fixed));
        // SAFETY: the context is the program's own.
        done(unsafe { bpf_skb_adjust_room(self.skb(), room as i32, BPF_ADJ_ROOM_MAC, flags) })?;
        if v4 != packet.is_v4() {
            self.store(ETHER_TYPE, &ether_type(v4))?;
        }
        if v4 {
            self.store_summed(ETHERNET_LEN, &outer.ipv4())?;
        } else {
            self.store_summed(ETHERNET_LEN, &outer.ipv6())?;
        }
        if gue {
            self.store_summed(ETHERNET_LEN + ip, &outer.udp(gue_port))?;
        }
        Ok(())
    }
}

impl Frame for SkbFrame<'_> {
    #[inline(always)]
    fn header<const LEN: usize>(&self, offset: u32) -> Option<Header<'_, LEN>> {
        let start = self.0.data() + (offset & MAX_OFFSET) as usize;
        if start + LEN > self.0.data_end() {
            return None;
        }
        // SAFETY: the bounds are checked above.
        Some(unsafe { Header::new(start as *const u8) })
    }

    #[inline(always)]
    fn holds(&self, bytes: u32) -> bool {
        bytes <= self.length()
    }
}
