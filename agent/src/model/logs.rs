//! Sums of what only logarithms are known of.

/// The logarithm of the sum of what these are the logarithms of: nothing less than the largest, and
/// no overflow on the way. Negative infinity, which is nothing, for none.
#[must_use]
pub fn log_sum_exp(logs: &[f64]) -> f64 {
    let most = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if most.is_infinite() {
        return most;
    }
    let sum: f64 = logs.iter().map(|log| (log - most).exp()).sum();
    most + sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_that_no_float_holds() {
        assert!((log_sum_exp(&[1_000.0, 1_000.0]) - 1_000.0 - 2_f64.ln()).abs() < 1e-12);
        assert!((log_sum_exp(&[-1e9, 3.0]) - 3.0).abs() < 1e-12);
        assert!(log_sum_exp(&[]).is_infinite());
        assert!(log_sum_exp(&[f64::NEG_INFINITY; 2]).is_infinite());
    }
}
