//! Values that the kernel's verifier is to know nothing about.
//!
//! The verifier walks every path of the program and tells paths apart by what it knows of each
//! value. An offset that is 14, 18 or 22 by the branch taken makes it walk all that follows three
//! times, and each such value multiplies. A value passed through here is the same as before at run
//! time, but the paths that lead to it become one to the verifier: it costs one instruction, and
//! saves most of the time that loading takes.

/// Zero, of which the verifier knows nothing.
#[derive(Clone, Copy)]
pub struct Zero(u32);

impl Zero {
    /// Made of any value that the verifier does not know, such as bytes of a packet.
    #[inline(always)]
    #[must_use]
    pub fn from_unknown(value: u32) -> Self {
        #[cfg(target_arch = "bpf")]
        {
            let zero: u64;
            // SAFETY: two instructions on registers. The verifier does not see that a register
            // differs from itself in no bit; the compiler would.
            unsafe {
                core::arch::asm!("{zero} = {value}", "{zero} ^= {value}", zero = out(reg) zero,
                    value = in(reg) u64::from(value), options(pure, nomem, nostack));
            }
            Self(zero as u32)
        }
        #[cfg(not(target_arch = "bpf"))]
        {
            let _ = value;
            Self(0)
        }
    }

    /// `value`, which is at most `MASK`, a power of two less one. That is all the verifier knows
    /// of it from here on.
    #[inline(always)]
    #[must_use]
    pub const fn hide<const MASK: u32>(self, value: u32) -> u32 {
        const { assert!(MASK == u32::MAX || (MASK + 1).is_power_of_two()) };
        (value ^ self.0) & MASK
    }

    /// The same for a byte.
    #[inline(always)]
    #[must_use]
    pub const fn hide_byte(self, value: u8) -> u8 {
        self.hide::<0xff>(value as u32) as u8
    }
}

/// `value & MASK`, by an instruction that stays even where the compiler knows that it changes nothing:
/// see [`clamped`].
#[inline(always)]
#[must_use]
pub fn masked<const MASK: usize>(value: usize) -> usize {
    #[cfg(target_arch = "bpf")]
    {
        let mut value = value;
        // SAFETY: one instruction, on a register.
        unsafe {
            core::arch::asm!("{value} &= {mask}", value = inout(reg) value, mask = const MASK,
                options(pure, nomem, nostack));
        }
        value & MASK
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        value & MASK
    }
}

/// `value`, which is within `LOW..=HIGH`, by instructions that stay even where the compiler knows
/// that they change nothing. The verifier of Linux 6.1 forgets what it knew of a number of 32 bits
/// once that has been on the stack; so this belongs right before the place that needs it.
#[inline(always)]
#[must_use]
pub fn clamped<const LOW: u32, const HIGH: u32>(value: u32) -> u32 {
    #[cfg(target_arch = "bpf")]
    {
        let mut value = u64::from(value);
        // SAFETY: four instructions on a register.
        unsafe {
            core::arch::asm!("if {value} >= {low} goto +1", "{value} = {low}",
                "if {value} <= {high} goto +1", "{value} = {high}", value = inout(reg) value,
                low = const LOW, high = const HIGH, options(pure, nomem, nostack));
        }
        value as u32
    }
    #[cfg(not(target_arch = "bpf"))]
    value.clamp(LOW, HIGH)
}
