//! Evidence kept back for what begins late.
//!
//! A bet that has been lost for an hour must win all of it back before it can say anything: a release
//! that goes bad after a long good time would be found late. So a part of the stake is kept, and
//! brought in bit by bit, by how much has been seen. What is brought in now has lost nothing yet.
//! The stake as a whole stays one, so what was said of the evidence still holds.

use serde::{Deserialize, Serialize};

/// The part of the stake that is kept at first.
const KEPT: f64 = 0.2;

/// What is left of the part that was kept.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Reserve {
    left: f64,
    /// What has been seen, in `half`.
    seen: f64,
    /// When so much has been seen, half of it is left.
    half: f64,
}

impl Reserve {
    /// One of which half is left when `half` has been seen.
    pub(super) const fn new(half: f64) -> Self {
        Self { left: KEPT, seen: 0.0, half }
    }

    /// What is at stake from the beginning.
    pub(super) const fn stake() -> f64 {
        1.0 - KEPT
    }

    /// What is left.
    pub(super) const fn left(&self) -> f64 {
        self.left
    }

    /// What is brought in now. It depends on what was seen before, and never on what is seen now.
    pub(super) fn release(&mut self) -> f64 {
        let left = (KEPT / (1.0 + self.seen / self.half)).min(self.left);
        std::mem::replace(&mut self.left, left) - left
    }

    /// So much more has been seen.
    pub(super) fn see(&mut self, amount: f64) {
        self.seen += amount;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_or_won() {
        let mut reserve = Reserve::new(100.0);
        let mut out = Reserve::stake();
        for _ in 0..1_000 {
            out += reserve.release();
            reserve.see(3.0);
            assert!((out + reserve.left() - 1.0).abs() < 1e-12);
        }
        assert!(reserve.left() < 0.2 / 30.0 && reserve.left() > 0.0);
        reserve.see(f64::MAX);
        reserve.see(f64::MAX);
        assert!(reserve.release().is_finite() && reserve.left().abs() < 1e-12);
    }
}
