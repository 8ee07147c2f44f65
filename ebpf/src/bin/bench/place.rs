//! Headers in a frame.

use core::arch::asm;

use aya_ebpf::programs::XdpContext;
use weir_ebpf::unaligned::{load16, load32, store16, store32};

/// The beginning of a frame, if it has `LEN` bytes.
#[inline(always)]
pub(crate) fn start<const LEN: usize>(context: &XdpContext) -> Option<*mut u8> {
    let start = context.data();
    if start + LEN > context.data_end() { None } else { Some(start as *mut u8) }
}

/// Writes a word at any address; see [`weir_ebpf::unaligned`].
///
/// # Safety
///
/// Eight bytes can be written.
#[inline(always)]
pub(crate) unsafe fn store64(place: *mut u8, word: u64) {
    // SAFETY: one store to bytes that the caller vouches for.
    unsafe {
        asm!("*(u64 *)({place} + 0) = {word}", word = in(reg) word, place = in(reg) place,
            options(nostack));
    }
}

/// Puts the MAC addresses of the Ethernet header at `from`, swapped, to `to`, which may be the same.
///
/// # Safety
///
/// 12 bytes can be read at `from` and written at `to`.
#[inline(always)]
pub(crate) unsafe fn swap_macs(from: *const u8, to: *mut u8) {
    // SAFETY: the caller vouches for the bytes.
    unsafe {
        let (destination, tail) = (load32::<0>(from), load16::<4>(from));
        let (source, end) = (load32::<6>(from), load16::<10>(from));
        store32(to, source);
        store16(to.add(4), end);
        store32(to.add(6), destination);
        store16(to.add(10), tail);
    }
}
