//! What came of the cases, for people.

use std::fmt::Write as _;

use super::Case;
use super::run::{AtHook, MEASURED, Report};
use crate::program::Verdict;

/// A line for each case, what was wrong, and a summary.
#[must_use]
pub fn table(cases: &[Case], reports: &[Report], colour: bool) -> String {
    let measured = reports.iter().flat_map(|r| &r.hooks).any(|hook| hook.nanoseconds.is_some());
    let width = reports.iter().map(|r| cases[r.case].name.len()).max().unwrap_or(0).max(4);
    let times = if measured { format!("  {:>8}  {:>8}", "xdp ns", "tc ns") } else { String::new() };
    let mut text =
        format!("{:<width$}  {:<9}  {:<8}  {:<8}{times}  result\n", "case", "node", "xdp", "tc");
    for report in reports {
        let case = &cases[report.case];
        let [xdp, tc] = &report.hooks;
        let _ = write!(
            text,
            "{:<width$}  {:<9}  {:<8}  {:<8}",
            case.name,
            case.node.name,
            verdict(xdp),
            verdict(tc)
        );
        if measured {
            let _ = write!(text, "  {:>8}  {:>8}", time(xdp), time(tc));
        }
        let _ = writeln!(text, "  {}", result(report.is_well(), colour));
    }
    for report in reports.iter().filter(|report| !report.is_well()) {
        let _ = write!(text, "\n{}\n", report.complaint(cases));
    }
    if measured {
        let _ = writeln!(
            text,
            "\nns: the median of {MEASURED} single runs, each over the frame as it came in, the \
             kernel's own clock\nread before and after it; the flow is known since the first run. \
             The case with the least\nis about what that reading costs. The frame is in the cache, \
             no driver and no stack are in it."
        );
    }
    let wrong = reports.iter().filter(|report| !report.is_well()).count();
    let verdict = if wrong == 0 {
        format!("all {} cases hold", reports.len())
    } else {
        format!("{wrong} of {} cases do not hold", reports.len())
    };
    let _ = writeln!(text, "\n{verdict}");
    text
}

fn verdict(hook: &AtHook) -> &'static str {
    match hook.verdict {
        Some(Verdict::Pass) => "pass",
        Some(Verdict::Drop) => "drop",
        Some(Verdict::Back) => "back",
        Some(Verdict::Redirect) => "redirect",
        // The kernel refuses to try such a frame.
        None => "-",
    }
}

fn time(hook: &AtHook) -> String {
    hook.nanoseconds.map_or_else(|| "-".to_owned(), |time| time.to_string())
}

fn result(well: bool, colour: bool) -> &'static str {
    match (well, colour) {
        (true, true) => "\x1b[32mok\x1b[0m",
        (true, false) => "ok",
        (false, true) => "\x1b[31mFAIL\x1b[0m",
        (false, false) => "FAIL",
    }
}
