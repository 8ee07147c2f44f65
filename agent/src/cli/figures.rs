//! How figures are written in tables.

use std::time::Duration;

use crate::model::{Observed, TableShare};

/// A share as percent with two decimals.
pub(super) fn share(share: f64) -> String {
    format!("{:.2}%", share * 100.0)
}

/// A version's share of its table; `-` if there is no table.
pub(super) fn table_share(table: TableShare) -> String {
    if table.total == 0 { "-".to_owned() } else { share(table.share()) }
}

/// An observed share; `-` if nothing was observed.
pub(super) fn observed(observed: Observed) -> String {
    if observed.total == 0 { "-".to_owned() } else { share(observed.share()) }
}

/// The interval of an observed share; `-` if nothing was observed.
pub(super) fn interval(observed: Observed) -> String {
    if observed.total == 0 {
        return "-".to_owned();
    }
    let (low, high) = observed.interval();
    format!("{:.2}..{}", low * 100.0, share(high))
}

/// A count with its thousands apart: `1 234 567`.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// A number for each second, with two or three digits before 1 000.
pub(super) fn rate(per_second: f64) -> String {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate is not negative, and beyond 2^64 it saturates"
    )]
    let whole = per_second.round() as u64;
    if per_second > 0.0 && per_second < 9.95 { format!("{per_second:.1}") } else { count(whole) }
}

/// A number of bytes with three or four digits: `1023 B`, `1.4 MiB`.
#[allow(clippy::cast_precision_loss, reason = "one decimal is shown")]
pub(super) fn bytes(number: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if number < 1024 {
        return format!("{number} B");
    }
    let mut value = number as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A time that a commit took.
pub(super) fn short_time(duration: Duration) -> String {
    let micros = duration.as_micros();
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..1_000_000 => format!("{:.1} ms", duration.as_secs_f64() * 1e3),
        _ => format!("{:.1} s", duration.as_secs_f64()),
    }
}

/// A time that something has been up: the two largest units.
pub(super) fn long_time(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, ..) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short_and_exact() {
        assert_eq!(
            [count(0), count(999), count(1_000), count(1_234_567)],
            ["0", "999", "1 000", "1 234 567"]
        );
        assert_eq!([bytes(0), bytes(1_023), bytes(1_024)], ["0 B", "1023 B", "1.0 KiB"]);
        assert_eq!([bytes(1_048_575), bytes(u64::MAX)], ["1.0 MiB", "16.0 EiB"]);
        assert_eq!(short_time(Duration::from_micros(999)), "999 µs");
        assert_eq!(short_time(Duration::from_micros(1_340)), "1.3 ms");
        assert_eq!(short_time(Duration::from_millis(2_500)), "2.5 s");
        let up = |seconds| long_time(Duration::from_secs(seconds));
        assert_eq!([up(59), up(61), up(3_660), up(90_000)], ["59s", "1m 1s", "1h 1m", "1d 1h"]);
        let rates = [0.0, 0.04, 9.94, 9.96, 1_234.5].map(rate);
        assert_eq!(rates, ["0", "0.0", "9.9", "10", "1 235"]);
        let seen = Observed { connections: 974, total: 20_000, steered: 0 };
        assert_eq!([observed(seen), interval(seen)], ["4.87%", "4.39..5.40%"]);
        assert_eq!(observed(Observed::default()), "-");
    }
}
