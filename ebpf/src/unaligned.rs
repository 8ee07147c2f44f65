//! Words in a packet, which lie at any address.
//!
//! The BPF machine reads and writes a word at any address on the processors weir runs on, but the
//! compiler does not know, and would take four loads and three shifts for a word. So on that target
//! the instruction is written out. Everywhere else the standard way is used.

#[cfg(target_arch = "bpf")]
use core::arch::asm;

macro_rules! word {
    ($type:ty, $load:ident, $store:ident, $bpf_load:literal, $bpf_store:literal) => {
        /// Reads the word `OFFSET` bytes after `base`, as it lies in memory.
        ///
        /// # Safety
        ///
        /// The bytes there can be read.
        #[inline(always)]
        #[must_use]
        pub unsafe fn $load<const OFFSET: i16>(base: *const u8) -> $type {
            #[cfg(target_arch = "bpf")]
            {
                let value: u64;
                // SAFETY: one load of bytes that the caller vouches for.
                unsafe {
                    asm!($bpf_load, value = out(reg) value, base = in(reg) base,
                        offset = const OFFSET, options(pure, readonly, nostack));
                }
                value as $type
            }
            #[cfg(not(target_arch = "bpf"))]
            // SAFETY: the caller vouches for the bytes.
            unsafe {
                base.offset(OFFSET as isize).cast::<$type>().read_unaligned()
            }
        }

        /// Writes a word at `place`, as it lies in memory.
        ///
        /// # Safety
        ///
        /// The bytes there can be written, and nobody holds a reference to them.
        #[inline(always)]
        pub unsafe fn $store(place: *mut u8, value: $type) {
            #[cfg(target_arch = "bpf")]
            // SAFETY: one store to bytes that the caller vouches for.
            unsafe {
                asm!($bpf_store, value = in(reg) u64::from(value), place = in(reg) place,
                    options(nostack));
            }
            #[cfg(not(target_arch = "bpf"))]
            // SAFETY: the caller vouches for the bytes.
            unsafe {
                place.cast::<$type>().write_unaligned(value);
            }
        }
    };
}

word!(
    u16,
    load16,
    store16,
    "{value} = *(u16 *)({base} + {offset})",
    "*(u16 *)({place} + 0) = {value}"
);
word!(
    u32,
    load32,
    store32,
    "{value} = *(u32 *)({base} + {offset})",
    "*(u32 *)({place} + 0) = {value}"
);
