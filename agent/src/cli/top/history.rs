//! How a version has done for some time, for sparklines.

use std::collections::VecDeque;

use crate::node::interval::Delta;

/// Looks that are kept.
const LOOKS: usize = 240;

/// Rates and latencies of the last looks; nothing where there was a gap.
#[derive(Debug, Clone, Default)]
pub(super) struct History {
    rates: VecDeque<Option<f64>>,
    p99: VecDeque<Option<f64>>,
}

impl History {
    /// Takes note of a look.
    pub(super) fn push(&mut self, delta: Option<&Delta>) {
        let slowest = delta.and_then(|delta| delta.handshakes.quantile(0.99));
        self.rates.push_back(delta.map(|delta| delta.connections_per_s));
        self.p99.push_back(slowest.map(|time| time.as_secs_f64()));
        for values in [&mut self.rates, &mut self.p99] {
            values.drain(..values.len().saturating_sub(LOOKS));
        }
    }

    /// New connections a second, as bars, the newest at the right.
    pub(super) fn rates(&self, width: usize) -> String {
        bars(&self.rates, width)
    }

    /// The time that 99 % of handshakes did not exceed, likewise.
    pub(super) fn slowest(&self, width: usize) -> String {
        bars(&self.p99, width)
    }
}

/// Bars of eight heights, from 0 to the largest of those shown; spaces where nothing is known.
fn bars(values: &VecDeque<Option<f64>>, width: usize) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let shown = values.len().min(width);
    let shown = values.range(values.len() - shown..);
    let most = shown.clone().flatten().copied().fold(0.0, f64::max);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 7")]
    let bar = |value: &Option<f64>| match value {
        None => ' ',
        Some(value) if most > 0.0 => BARS[(value / most * 7.0).round().clamp(0.0, 7.0) as usize],
        Some(_) => BARS[0],
    };
    shown.map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_high_as_their_values() {
        let of = |values: &[Option<f64>], width| bars(&values.iter().copied().collect(), width);
        assert_eq!(of(&[Some(0.0), Some(3.5), Some(7.0)], 8), "▁▅█");
        assert_eq!(of(&[Some(9.0), None, Some(1.0)], 2), " █");
        assert_eq!(of(&[Some(0.0), Some(0.0)], 8), "▁▁");
        assert_eq!(of(&[], 8), "");
    }
}
