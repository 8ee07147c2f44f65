//! How a step is written: a bar of the observed shares, and a row for each version.

use std::fmt::Write as _;
use std::time::Duration;

use weir::model::Observed;

use super::judge::{Row, View};
use super::screen::Paint;
use super::script::{Step, percent};
use crate::identity::Version;

/// Cells of the bar. All lines fit in a terminal of 80 columns.
const WIDTH: usize = 77;

/// Cells of the line of progress.
const PROGRESS: usize = 16;

/// What the columns mean.
pub(super) fn legend(paint: Paint) -> String {
    let mut text = String::new();
    for (name, meaning) in [
        ("ASKED", "the weight"),
        ("TABLE", "share of the kernel's table, read back"),
        ("OBSERVED", "share of the step's new connections, by the answers that clients got"),
        ("AGENT", "the same, by the kernel's counters as the agent tells them"),
        ("OPEN", "unbroken of all long-lived connections that began on the version"),
    ] {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {}", paint.dim(format!("{name:<9} {meaning}")));
    }
    text
}

/// The head of a step: what is done, and what it means.
pub(super) fn head(paint: Paint, number: usize, of: usize, step: &Step, done: &str) -> String {
    let title = paint.bold(format!("{number}/{of}  {:<12}", step.title));
    format!("\n{title}  {}\n  {}\n", paint.dim(done), step.meaning)
}

/// The rows of a step.
pub(super) fn rows(paint: Paint, view: &View) -> String {
    let head = format!(
        "  {:<8}{:>7}{:>8}{:>9}{:>15}{:>8}{:>7}{:>7}{:>8}",
        "VERSION", "ASKED", "TABLE", "OBSERVED", "99.9% INTERVAL", "AGENT", "NEW", "FAILED", "OPEN"
    );
    let mut text = format!("  {}\n{}\n", bar(paint, view), paint.dim(head));
    for (version, row) in Version::ALL.into_iter().zip(&view.rows) {
        text.push_str(&of_version(paint, version, row));
    }
    let failed = format!("{:>7}", count(view.failed));
    let failed = if view.failed > 0 { paint.bad(failed) } else { failed };
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "  {:<55}{:>7}{failed}{}",
        "all",
        count(view.answered()),
        healthy(paint, view.long_lived)
    );
    text
}

fn of_version(paint: Paint, version: Version, row: &Row) -> String {
    let name = paint.version(version, format!("{} {version:<6}", paint.cell(version)));
    let table = format!("{:.2}%", row.table.share() * 100.0);
    format!(
        "  {name}{:>7}{table:>8}{}{:>15}{:>8}{:>7}{:>7}{}\n",
        percent(row.asked),
        paint.bold(format!("{:>9}", share(row.observed))),
        interval(row.observed),
        share(row.counted),
        count(row.observed.connections),
        "",
        healthy(paint, row.long_lived)
    )
}

fn healthy(paint: Paint, (healthy, all): (usize, usize)) -> String {
    let text = if all == 0 { "-".to_owned() } else { format!("{healthy}/{all}") };
    let text = format!("{text:>8}");
    if healthy < all { paint.bad(text) } else { text }
}

/// The last line of a running step.
pub(super) fn progress(paint: Paint, passed: Duration, whole: Duration, view: &View) -> String {
    let part = (passed.as_secs_f64() / whole.as_secs_f64()).min(1.0);
    let done = cells(part, PROGRESS);
    let rate = u128::from(view.answered()) * 1_000 / passed.as_millis().max(100);
    format!(
        "  {}{}  {} of {} s   {rate} new connections a second   {}\n",
        "━".repeat(done),
        paint.dim("╌".repeat(PROGRESS - done)),
        passed.as_secs().min(whole.as_secs()),
        whole.as_secs(),
        paint.dim("Ctrl-C cleans up")
    )
}

/// The last line of a step that is over.
pub(super) fn finding(paint: Paint, view: &View) -> String {
    let complaints = view.complaints();
    if complaints.is_empty() {
        let text = "nothing broke; shares as asked";
        return format!("  {} {text}\n", paint.good("✓"));
    }
    let lines = complaints.iter().map(|line| format!("  {} {line}\n", paint.bad("✗")));
    lines.collect()
}

/// The observed shares as one line in the versions' colours.
fn bar(paint: Paint, view: &View) -> String {
    let mut left = WIDTH;
    let mut parts = [0; 3];
    // From the right: blue, the largest as a rule, takes what rounding leaves.
    for index in [2, 1, 0] {
        let observed = view.rows[index].observed;
        let wanted = cells(observed.share(), WIDTH).max(usize::from(observed.connections > 0));
        parts[index] = wanted.min(left);
        left -= parts[index];
    }
    if view.answered() == 0 {
        return paint.dim("╌".repeat(WIDTH));
    }
    parts[largest(view)] += left;
    let part = |(version, length)| {
        let version: Version = version;
        paint.version(version, paint.cell(version).repeat(length))
    };
    Version::ALL.into_iter().zip(parts).filter(|(_, length)| *length > 0).map(part).collect()
}

fn largest(view: &View) -> usize {
    (0..3).max_by_key(|&index| view.rows[index].observed.connections).unwrap_or(0)
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a part of 0 to 1 of some dozens"
)]
fn cells(part: f64, of: usize) -> usize {
    ((part.clamp(0.0, 1.0) * of as f64).round() as usize).min(of)
}

fn share(observed: Observed) -> String {
    if observed.total == 0 { "-".to_owned() } else { format!("{:.2}%", observed.share() * 100.0) }
}

fn interval(observed: Observed) -> String {
    if observed.total == 0 {
        return "-".to_owned();
    }
    let (low, high) = observed.interval();
    format!("{:.2}..{:.2}%", low * 100.0, high * 100.0)
}

/// A count with its thousands apart: `31 204`.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::judge::shares;

    fn view(counts: [u64; 3]) -> View {
        let observed = shares(counts);
        let rows = [0, 1, 2].map(|index| Row { observed: observed[index], ..Row::default() });
        View { rows, ..View::default() }
    }

    #[test]
    fn the_bar_is_always_as_long() {
        let plain = Paint::default();
        for counts in [[1, 0, 0], [9_999, 0, 1], [1, 9_998, 1], [33, 33, 34], [0, 1, 1], [0; 3]] {
            let bar = bar(plain, &view(counts));
            assert_eq!(bar.chars().count(), WIDTH, "{counts:?}: {bar}");
        }
        assert!(bar(plain, &view([9_999, 0, 1])).ends_with("█░"));
    }

    #[test]
    fn every_row_is_as_long() {
        let text = rows(Paint::default(), &view([31_204, 0, 1_204]));
        let lengths: Vec<usize> = text.lines().map(|line| line.chars().count()).collect();
        assert_eq!(lengths, [79; 6], "{text}");
    }

    #[test]
    fn thousands_stand_apart() {
        assert_eq!([count(0), count(999), count(31_204)], ["0", "999", "31 204"]);
    }
}
