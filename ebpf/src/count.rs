//! Counters. Each processor adds to lines of its own, without atomics: the hooks run with
//! migration disabled and are not interrupted by each other.

use core::mem::size_of;

use aya_ebpf::Global;
use aya_ebpf::helpers::generated::bpf_get_smp_processor_id;
use weir_ebpf::abi::{Config, Counters, HOOKS, MAX_BACKENDS, Reason, Reasons};
use weir_ebpf::opaque::masked;

use crate::maps::{COUNTERS, REASONS};

/// Set by the agent before loading.
#[unsafe(no_mangle)]
pub(crate) static CONFIG: Global<Config> = Global::new(Config::DEFAULT);

/// One of the settings. Reading all of them would cost a load for each.
macro_rules! config {
    ($field:ident) => {{
        let all: *const weir_ebpf::abi::Config = (&raw const $crate::count::CONFIG).cast();
        // SAFETY: `Global` is transparent, and written before the program is loaded. Volatile, as its own
        // way of reading, for the compiler knows the value that the object has.
        unsafe { (&raw const (*all).$field).read_volatile() }
    }};
}
pub(crate) use config;

/// The counters of `backend` on this processor.
#[inline(always)]
pub(crate) fn backend(backend: u16, add: impl FnOnce(&mut Counters)) {
    // SAFETY: the helper has no preconditions.
    let processor = unsafe { bpf_get_smp_processor_id() };
    let index = processor * MAX_BACKENDS + u32::from(backend);
    if let Some(counters) = COUNTERS.get_ptr_mut(index) {
        // SAFETY: the pointer is to a live element, which no other processor writes.
        add(unsafe { &mut *counters });
    }
}

/// Counts a packet that `hook` does not forward.
#[inline(always)]
pub(crate) fn reason(hook: u32, reason: Reason) {
    // SAFETY: the helper has no preconditions.
    let processor = unsafe { bpf_get_smp_processor_id() };
    if let Some(reasons) = REASONS.get_ptr_mut(processor * HOOKS + hook) {
        // SAFETY: the pointer is to a live element, which no other processor writes. The mask
        // keeps the index within the array.
        unsafe { (*reasons).packets[masked::<MASK>(reason as usize)] += 1 };
    }
}

/// Counts of an element of `REASONS`, less one.
const MASK: usize = size_of::<Reasons>() / size_of::<u64>() - 1;
const _: () = assert!((MASK + 1).is_power_of_two());
