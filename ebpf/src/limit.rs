//! Limits on what a processor does in a second: token buckets.

use aya_ebpf::btf_maps::PerCpuArray;
use weir_ebpf::abi::Bucket;

const NANOSECONDS: u64 = 1_000_000_000;

/// Takes one from this processor's allowance of `rate` a second, at most 10^10; `now` in
/// nanoseconds. False when it is used up.
#[inline(always)]
pub(crate) fn take(bucket: &PerCpuArray<Bucket, 1>, rate: u64, now: u64) -> bool {
    let Some(bucket) = bucket.get_ptr_mut(0) else { return false };
    // SAFETY: an element of this processor alone.
    let bucket = unsafe { &mut *bucket };
    // The clock is coarse, some milliseconds; the allowance is refilled as it ticks, up to what a
    // tenth of a second gives. Counted in billionths, or a tick that gives less than one would give
    // nothing, ever.
    let elapsed = now - bucket.filled;
    let elapsed = if elapsed > NANOSECONDS { NANOSECONDS } else { elapsed };
    let most = (rate / 10 + 1) * NANOSECONDS;
    let tokens = bucket.tokens + elapsed * rate;
    bucket.tokens = if tokens > most { most } else { tokens };
    bucket.filled = now;
    if bucket.tokens < NANOSECONDS {
        return false;
    }
    bucket.tokens -= NANOSECONDS;
    true
}
