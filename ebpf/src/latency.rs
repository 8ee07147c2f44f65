//! Times in buckets: eight for each doubling, so that a value is known within an eighth of itself.

/// Number of buckets. The last one holds all that took longer, too.
pub const BUCKETS: usize = 192;

/// Bits of a nanosecond count that are not told apart: times are in units of 1.024 µs.
const UNIT_BITS: u32 = 10;
/// Buckets for each doubling, as a power of two.
const SUB_BITS: u32 = 3;
const SUBS: u64 = 1 << SUB_BITS;

/// The bucket of a time in nanoseconds, below [`BUCKETS`].
///
/// Below eight units each unit has its own bucket; above, bucket `8·(e-2) + s` holds the times whose
/// highest bit is bit `e` of the units, `s` being the three bits below it.
#[inline(always)]
#[must_use]
pub const fn bucket(nanoseconds: u64) -> usize {
    let units = nanoseconds >> UNIT_BITS;
    if units < SUBS {
        return units as usize;
    }
    // Not `leading_zeros`: BPF has no instruction for it, and a loop is not what the verifier likes.
    let mut rest = units;
    let mut exponent = 0;
    let mut step = 32;
    while step > 0 {
        if rest >> step != 0 {
            rest >>= step;
            exponent += step;
        }
        step /= 2;
    }
    let sub = (units >> (exponent - SUB_BITS)) & (SUBS - 1);
    let bucket = ((exponent - SUB_BITS + 1) as u64 * SUBS + sub) as usize;
    if bucket < BUCKETS { bucket } else { BUCKETS - 1 }
}

/// The shortest time of a bucket in nanoseconds; of [`BUCKETS`], the end of the last one but for
/// what is longer.
#[must_use]
pub const fn lower_bound(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < SUBS {
        return bucket << UNIT_BITS;
    }
    let exponent = bucket / SUBS - 1;
    (SUBS + bucket % SUBS) << (exponent as u32 + UNIT_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_time_is_in_its_bucket() {
        let mut time = 0_u64;
        while time < lower_bound(BUCKETS) {
            let at = bucket(time);
            assert!(lower_bound(at) <= time && time < lower_bound(at + 1), "{time} in {at}");
            time = time * 33 / 32 + 1;
        }
    }

    #[test]
    fn bounds_are_exact() {
        for at in 1..BUCKETS {
            assert_eq!(bucket(lower_bound(at)), at);
            assert_eq!(bucket(lower_bound(at) - 1), at - 1);
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    /// No bucket is wider than an eighth of where it begins, above eight units.
    #[test]
    fn buckets_are_narrow() {
        for at in 8..BUCKETS {
            let (low, high) = (lower_bound(at), lower_bound(at + 1));
            assert!((high - low) * 8 <= low, "bucket {at}: {low} to {high}");
        }
    }

    /// From a microsecond to more than half a minute.
    #[test]
    fn the_range_is_that_of_handshakes() {
        assert_eq!(lower_bound(1), 1_024);
        assert!(lower_bound(BUCKETS - 1) > 15_000_000_000);
    }
}
