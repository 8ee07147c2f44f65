//! Limits on what a processor does in a second: token buckets.

use aya_ebpf::btf_maps::PerCpuArray;
use weir_ebpf::abi::Bucket;

/// Takes one from this processor's allowance of `rate` a second, at most 10^10; `now` in
/// nanoseconds. False when it is used up.
#[inline(always)]
pub(crate) fn take(bucket: &PerCpuArray<Bucket, 1>, rate: u64, now: u64) -> bool {
    let Some(bucket) = bucket.get_ptr_mut(0) else { return false };
    // SAFETY: an element of this processor alone.
    let bucket = unsafe { &mut *bucket };
    *bucket = bucket.refilled(rate, now);
    if !bucket.has_one() {
        return false;
    }
    *bucket = bucket.less_one();
    true
}
