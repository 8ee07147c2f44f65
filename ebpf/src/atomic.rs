//! Instructions that the language does not offer on this target.

use core::arch::asm;

/// Puts `new` in place of `old`, if `old` is there, and gives what was there. Orders everything.
///
/// # Safety
///
/// `place` points at eight aligned bytes of a map's element.
#[inline(always)]
pub(crate) unsafe fn compare_exchange(place: *mut u64, old: u64, new: u64) -> u64 {
    let found: u64;
    // SAFETY: one instruction, on memory that the caller vouches for.
    unsafe {
        asm!("r0 = cmpxchg_64({place} + 0, r0, {new})", place = in(reg) place, new = in(reg) new,
            inout("r0") old => found, options(nostack));
    }
    found
}

/// Adds to a number that others add to at the same time.
///
/// # Safety
///
/// `place` points at eight aligned bytes of a map's element.
#[inline(always)]
pub(crate) unsafe fn add(place: *mut u64, amount: u64) {
    // SAFETY: one instruction, on memory that the caller vouches for.
    unsafe {
        asm!("lock *(u64 *)({place} + 0) += {amount}", place = in(reg) place,
            amount = in(reg) amount, options(nostack));
    }
}
