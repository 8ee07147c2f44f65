//! The maps, and what is looked up and counted in them.

use aya_ebpf::Global;
use aya_ebpf::btf_maps::{HashMap, PerCpuArray};
use aya_ebpf::macros::btf_map;
use weir_ebpf::abi::Address;
use weir_ebpf::decap::abi::{Config, Counters, Kind, MAX_LOCALS, Reason};

/// Set before loading.
#[unsafe(no_mangle)]
static CONFIG: Global<Config> = Global::new(Config::DEFAULT);

/// The host's addresses, as `Address` has them: `weir decap` writes, the program reads. Full:
/// packets to the addresses that found no room are left to the stack. The value says nothing.
#[btf_map]
static LOCALS: HashMap<[u32; 4], u32, { MAX_LOCALS as usize }> = HashMap::new();

/// One element for each processor: the program adds, `weir decap` reads.
#[btf_map]
static COUNTERS: PerCpuArray<Counters, 1> = PerCpuArray::new();

/// UDP port of GUE, network byte order.
#[inline(always)]
pub(crate) fn gue_port() -> u16 {
    CONFIG.load().gue_port
}

/// Whether the host has this address.
#[inline(always)]
pub(crate) fn is_local(address: &Address) -> bool {
    LOCALS.get_ptr(address.0).is_some()
}

/// Counts a packet that was stripped; `bytes` is the length of its frame before.
#[inline(always)]
pub(crate) fn count(kind: Kind, bytes: u32) {
    if let Some(counters) = COUNTERS.get_ptr_mut(0) {
        // SAFETY: the pointer is to a live element, which no other processor writes. The mask keeps
        // the index within the array of eight.
        let stripped = unsafe { &mut (*counters).kinds[kind as usize & 7] };
        stripped.packets += 1;
        stripped.bytes += u64::from(bytes);
    }
}

/// Counts a packet that was not.
#[inline(always)]
pub(crate) fn count_reason(reason: Reason) {
    if let Some(counters) = COUNTERS.get_ptr_mut(0) {
        // SAFETY: as in `count`.
        unsafe { (*counters).reasons[reason as usize & 7] += 1 };
    }
}
