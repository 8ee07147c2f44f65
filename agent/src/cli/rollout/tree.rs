//! A rollout as a tree: steps, and of the one that runs its agents and metrics. Pure.

use std::{fmt::Write as _, time::Duration};

use weir_proto::rollout::v1::{Agent, Analysis, Event, Metric, Rollout, Step, VersionShare};

use super::align::{Paint, Word, align, word};
use crate::{
    cli::figures::{count, long_time, rate, share},
    model::weight::percent,
};

/// Cells of the bar that shows evidence against its bound.
const BAR: usize = 10;
/// Events below the tree.
const EVENTS: usize = 5;

/// The tree, as it is at `now_ms`.
pub(super) fn render(rollout: &Rollout, now_ms: i64, colour: bool) -> String {
    let mut text = head(rollout, now_ms, colour);
    text.push('\n');
    let steps: Vec<Vec<Word>> = rollout.steps.iter().enumerate().map(step).collect();
    let running = usize::try_from(rollout.step).unwrap_or(usize::MAX).min(steps.len());
    for (index, line) in align(&steps, colour).into_iter().enumerate() {
        let _ = writeln!(text, "  {line}");
        if index == running {
            text.push_str(&inside(rollout, now_ms, colour));
        }
    }
    if running == steps.len() {
        text.push_str(&inside(rollout, now_ms, colour));
    }
    let events: Vec<Vec<Word>> =
        rollout.events.iter().rev().take(EVENTS).rev().map(|one| event(one)).collect();
    if !events.is_empty() {
        text.push('\n');
    }
    for line in align(&events, colour) {
        let _ = writeln!(text, "  {line}");
    }
    text
}

/// What it is, where it stands, and why.
fn head(rollout: &Rollout, now_ms: i64, colour: bool) -> String {
    let title = [
        word(Paint::Bold, &rollout.service),
        word(Paint::Plain, &rollout.revision),
        word(Paint::Dim, &rollout.strategy),
        word(phase_paint(&rollout.phase), &rollout.phase),
        word(Paint::Plain, &rollout.activity),
    ];
    let title: Vec<String> = title.iter().map(|word| word.paint(colour)).collect();
    let mut rows = Vec::new();
    let mut row = |name: &str, paint, text: String| {
        if !text.is_empty() {
            rows.push(vec![word(Paint::Dim, name), word(paint, text)]);
        }
    };
    row("step", Paint::Plain, at(rollout, now_ms));
    row("versions", Paint::Plain, versions(rollout));
    row("reason", Paint::Plain, rollout.reason.clone());
    row("held", Paint::Warn, rollout.held.clone());
    row("leader", Paint::Plain, rollout.leader.clone());
    let mut text = format!("{}\n", title.join("  ").trim_end());
    for line in align(&rows, colour) {
        let _ = writeln!(text, "  {line}");
    }
    text
}

/// `3 of 7, for 12s; began 1m 20s ago`
fn at(rollout: &Rollout, now_ms: i64) -> String {
    let all = rollout.steps.len();
    let place = match usize::try_from(rollout.step) {
        Ok(step) if step < all => format!("{} of {all}", step + 1),
        _ => format!("all {all} done"),
    };
    let (since, began) = (ago(rollout.since_ms, now_ms), ago(rollout.started_ms, now_ms));
    format!("{place}, for {since}; began {began} ago")
}

/// `blue → canary 5%`
fn versions(rollout: &Rollout) -> String {
    let of = |version: &str| {
        let shares = rollout.agents.iter().flat_map(|agent| &agent.versions);
        let weights: Vec<u32> =
            shares.filter(|share| share.version == version).map(|share| share.weight_bp).collect();
        match (weights.iter().min(), weights.iter().max()) {
            (Some(low), Some(high)) if low == high => format!(" {}", percent(*low)),
            (Some(low), Some(high)) => format!(" {} to {}", percent(*low), percent(*high)),
            _ => String::new(),
        }
    };
    let (stable, candidate) = (&rollout.stable, &rollout.candidate);
    match (stable.is_empty(), candidate.is_empty()) {
        (_, false) => {
            format!("{stable}{} → {candidate}{}", of(stable), of(candidate))
        }
        (false, true) => format!("{stable}{}", of(stable)),
        (true, true) => String::new(),
    }
}

/// One step.
fn step((index, step): (usize, &Step)) -> Vec<Word> {
    let (sign, paint) = match step.state.as_str() {
        "done" => (word(Paint::Good, "✔"), Paint::Plain),
        "running" => (word(Paint::Bold, "▶"), Paint::Bold),
        "skipped" => (word(Paint::Dim, "–"), Paint::Dim),
        _ => (word(Paint::Dim, "·"), Paint::Dim),
    };
    let wave = match step.agents.len() {
        0 => String::new(),
        _ => format!("on {}", step.agents.join(", ")),
    };
    vec![
        sign,
        word(Paint::Dim, (index + 1).to_string()),
        word(paint, &step.text),
        word(Paint::Dim, wave),
    ]
}

/// What hangs below the running step: agents, then metrics.
fn inside(rollout: &Rollout, now_ms: i64, colour: bool) -> String {
    let candidate = &rollout.candidate;
    let agents: Vec<Vec<Word>> =
        rollout.agents.iter().map(|one| agent(one, candidate, now_ms)).collect();
    let mut text = branches(&align(&agents, colour));
    if let Some(analysis) = &rollout.analysis {
        text.push_str(&of_analysis(analysis, now_ms, colour));
    }
    text
}

/// Lines below each other, with what joins them.
fn branches(lines: &[String]) -> String {
    let mut text = String::new();
    for (index, line) in lines.iter().enumerate() {
        let joint = if index + 1 == lines.len() { "└─" } else { "├─" };
        let _ = writeln!(text, "       {joint} {line}");
    }
    text
}

/// One agent: table, observed, whether they agree, traffic, backends.
fn agent(agent: &Agent, candidate: &str, now_ms: i64) -> Vec<Word> {
    let name = word(if agent.in_wave { Paint::Bold } else { Paint::Dim }, &agent.name);
    if !agent.reachable {
        let since = ago(agent.since_ms, now_ms);
        let why = format!("unreachable for {since}: {}", agent.error);
        return vec![name, word(Paint::Bad, why)];
    }
    let mut words = vec![name];
    let mut shown: Vec<&VersionShare> =
        agent.versions.iter().filter(|share| share.backends > 0).collect();
    shown.sort_by_key(|share| share.version != candidate);
    for share in &shown {
        words.extend(version(share));
    }
    words.push(match agent.share.as_str() {
        "agrees" => word(Paint::Good, "agrees"),
        "differs" => word(Paint::Bad, "differs"),
        "too-few" => word(
            Paint::Dim,
            format!("{} of {} seen", count(agent.connections), count(agent.needed)),
        ),
        _ => word(Paint::Dim, "not judged"),
    });
    words.push(word(Paint::Dim, format!("{}/s", rate(agent.connections_per_s))));
    if !agent.guard.is_empty() {
        words.push(word(Paint::Bad, format!("guard: {}", agent.guard)));
    }
    words
}

/// `canary 5% seen 4.98% 2 of 2 ready`, with flows that are left where it has no weight.
fn version(version: &VersionShare) -> Vec<Word> {
    let ready = format!("{} of {} ready", version.ready, version.backends);
    let left = match (version.weight_bp, version.in_flight) {
        (0, 1..) => format!("{} left", count(version.in_flight)),
        _ => share(version.observed),
    };
    vec![
        word(Paint::Plain, &version.version),
        word(Paint::Plain, percent(version.weight_bp)),
        word(Paint::Dim, left),
        word(if version.ready < version.backends { Paint::Warn } else { Paint::Dim }, ready),
    ]
}

/// The verdict, and each metric with its evidence.
fn of_analysis(analysis: &Analysis, now_ms: i64, colour: bool) -> String {
    let paint = match analysis.verdict.as_str() {
        "pass" => Paint::Good,
        "fail" | "mismatch" => Paint::Bad,
        "undecided" => Paint::Plain,
        _ => Paint::Warn,
    };
    let verdict = word(paint, &analysis.verdict).paint(colour);
    let since = word(Paint::Dim, format!("for {}", ago(analysis.since_ms, now_ms))).paint(colour);
    let mut text = format!("       analysis  {verdict}  {since}  {}", analysis.text);
    text.truncate(text.trim_end().len());
    text.push('\n');
    let metrics: Vec<Vec<Word>> = analysis.metrics.iter().map(metric).collect();
    text.push_str(&branches(&align(&metrics, colour)));
    text
}

/// `connectSuccess  3 of 1 204  60 of 23 322  ratio 0.97 (0.21..2.80)  [███·······] 10^0.9 of 10^2.6`
fn metric(metric: &Metric) -> Vec<Word> {
    let arm = |failures, n| format!("{} of {}", count(failures), count(n));
    let ratio = match (metric.ratio, metric.low, metric.high) {
        (Some(ratio), Some(low), Some(high)) => format!("×{ratio:.2} ({low:.2}..{high:.2})"),
        (Some(ratio), ..) => format!("×{ratio:.2}"),
        _ => "×?".to_owned(),
    };
    let paint = match metric.state.as_str() {
        "fail" => Paint::Bad,
        "pass" => Paint::Good,
        "insufficient" => Paint::Warn,
        _ => Paint::Plain,
    };
    let name = if metric.enforcing { metric.name.clone() } else { format!("({})", metric.name) };
    vec![
        word(paint, name),
        word(Paint::Plain, arm(metric.candidate_failures, metric.candidate_n)),
        word(Paint::Dim, format!("vs {}", arm(metric.baseline_failures, metric.baseline_n))),
        word(Paint::Plain, ratio),
        word(paint, bar(metric.evidence, metric.bound)),
        word(Paint::Dim, format!("10^{:.1} of 10^{:.1}", metric.evidence, metric.bound)),
        word(paint, &metric.state),
    ]
}

/// Evidence against its bound, both as powers of ten: full where it is reached.
fn bar(evidence: f64, bound: f64) -> String {
    let part = if bound > 0.0 { (evidence / bound).clamp(0.0, 1.0) } else { 0.0 };
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "between 0 and 10"
    )]
    let full = (part * BAR as f64).floor() as usize;
    format!("[{}{}]", "█".repeat(full), "·".repeat(BAR - full))
}

fn event(event: &Event) -> Vec<Word> {
    let time = Duration::from_millis(u64::try_from(event.at_ms).unwrap_or(0));
    let time = humantime::format_rfc3339_seconds(std::time::SystemTime::UNIX_EPOCH + time);
    let change = match (event.before.is_empty(), event.after.is_empty()) {
        (false, false) => format!("{} → {}", event.before, event.after),
        _ => event.after.clone(),
    };
    vec![
        word(Paint::Dim, time.to_string()),
        word(Paint::Plain, &event.verb),
        word(Paint::Plain, change),
        word(Paint::Dim, &event.reason),
    ]
}

fn phase_paint(phase: &str) -> Paint {
    match phase {
        "healthy" => Paint::Good,
        "aborting" | "rolling-back" | "degraded" => Paint::Bad,
        "paused" => Paint::Warn,
        _ => Paint::Bold,
    }
}

/// Since a moment, in its two largest units.
fn ago(moment_ms: i64, now_ms: i64) -> String {
    let passed = u64::try_from(now_ms.saturating_sub(moment_ms)).unwrap_or(0);
    long_time(Duration::from_millis(passed))
}
