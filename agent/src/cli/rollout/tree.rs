//! A rollout as a tree: steps, and of the one that runs its agents and metrics. Pure.

use std::{fmt::Write as _, time::Duration};

use weir_proto::rollout::v1::{
    Agent, Analysis, Backend, Event, Metric, Rollout, Step, VersionShare,
};

use super::align::{Paint, Word, align, word};
use crate::{
    cli::figures::{count, long_time, rate, share},
    model::weight::percent,
};

/// Cells of the bar that shows evidence against its bound.
const BAR: usize = 10;
/// Events below the tree.
const EVENTS: usize = 5;
/// Backends of an agent that are named.
const BACKENDS: usize = 3;

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
        rollout.events.iter().rev().take(EVENTS).rev().map(event).collect();
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
    let agents: Vec<Vec<Word>> =
        rollout.agents.iter().map(|one| agent(one, rollout, now_ms)).collect();
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

/// One agent: what the table gives each version and what was seen of it, whether they agree, the
/// traffic, and what is to be looked at.
fn agent(agent: &Agent, rollout: &Rollout, now_ms: i64) -> Vec<Word> {
    let name = word(if agent.in_wave { Paint::Bold } else { Paint::Dim }, &agent.name);
    if !agent.reachable {
        let since = ago(agent.since_ms, now_ms);
        return vec![name, word(Paint::Bad, format!("away for {since}: {}", agent.error))];
    }
    let mut words = vec![name];
    let named = |name: &str| agent.versions.iter().find(|one| one.version == name);
    let shown: Vec<&VersionShare> =
        [&rollout.candidate, &rollout.stable].into_iter().filter_map(|name| named(name)).collect();
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
    words.extend(shown.iter().filter(|one| one.ready < one.backends).map(|one| {
        word(Paint::Warn, format!("{} {} of {} ready", one.version, one.ready, one.backends))
    }));
    words.extend(out(agent));
    if !agent.guard.is_empty() {
        words.push(word(Paint::Bad, format!("guard: {}", agent.guard)));
    }
    if !agent.error.is_empty() {
        words.push(word(Paint::Warn, &agent.error));
    }
    words
}

/// Backends that somebody has taken out, a few of them.
fn out(agent: &Agent) -> Vec<Word> {
    let out = agent.backends.iter().filter(|one| one.state != "active");
    let one = |one: &Backend| {
        let left =
            if one.flows > 0 { format!(", {} left", count(one.flows)) } else { String::new() };
        word(Paint::Warn, format!("{} {}{left}", one.address, one.state))
    };
    out.take(BACKENDS).map(one).collect()
}

/// `canary 5%`, and what was seen; or, where it has no weight, the flows that are left.
fn version(version: &VersionShare) -> [Word; 2] {
    let seen = match (version.weight_bp, version.in_flight) {
        (0, 1..) => format!("{} left", count(version.in_flight)),
        _ => share(version.observed),
    };
    let weight = format!("{} {}", version.version, percent(version.weight_bp));
    [word(Paint::Plain, weight), word(Paint::Dim, seen)]
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

#[cfg(test)]
mod tests {
    use super::*;

    fn share(version: &str, weight_bp: u32, observed: f64) -> VersionShare {
        let (version, ready, backends) = (version.to_owned(), 2, 2);
        VersionShare { version, weight_bp, observed, ready, backends, in_flight: 0 }
    }

    fn step(text: &str, state: &str) -> Step {
        Step { text: text.to_owned(), state: state.to_owned(), ..Step::default() }
    }

    /// In the middle of an analysis, with one agent away.
    fn analyzing() -> Rollout {
        let agent = |name: &str, reachable| Agent {
            name: name.to_owned(),
            reachable,
            in_wave: true,
            error: if reachable { String::new() } else { "no answer within 5 s".to_owned() },
            since_ms: 20_000,
            versions: vec![share("blue", 9_000, 0.9012), share("canary", 1_000, 0.0988)],
            share: "agrees".to_owned(),
            connections_per_s: 812.4,
            ..Agent::default()
        };
        let metric = Metric {
            name: "connectSuccess".to_owned(),
            enforcing: true,
            candidate_n: 1_204,
            candidate_failures: 3,
            baseline_n: 10_840,
            baseline_failures: 30,
            ratio: Some(0.9),
            low: Some(0.25),
            high: Some(3.1),
            evidence: 0.8,
            bound: 2.3,
            state: "undecided".to_owned(),
            ..Metric::default()
        };
        let slow = Metric { name: "handshakeP99".to_owned(), ratio: None, ..metric.clone() };
        Rollout {
            service: "shop".to_owned(),
            revision: "v2".to_owned(),
            strategy: "canary".to_owned(),
            stable: "blue".to_owned(),
            candidate: "canary".to_owned(),
            phase: "progressing".to_owned(),
            activity: "analyzing".to_owned(),
            reason: "nothing speaks against the candidate yet".to_owned(),
            started_ms: 10_000,
            since_ms: 30_000,
            step: 1,
            steps: vec![
                step("weight 10%", "done"),
                step("analysis of 2m to 30m", "running"),
                step("promote", "waiting"),
            ],
            agents: vec![agent("lb1", true), agent("lb2", false)],
            analysis: Some(Analysis {
                verdict: "undecided".to_owned(),
                since_ms: 30_000,
                metrics: vec![metric, slow],
                ..Analysis::default()
            }),
            leader: "a".to_owned(),
            ..Rollout::default()
        }
    }

    #[test]
    fn the_tree_is_aligned() {
        let text = render(&analyzing(), 42_000, false);
        assert_eq!(
            text,
            "\
shop  v2  canary  progressing  analyzing
  step      2 of 3, for 12s; began 32s ago
  versions  blue 90% → canary 10%
  reason    nothing speaks against the candidate yet
  leader    a

  ✔  1  weight 10%
  ▶  2  analysis of 2m to 30m
       ├─ lb1  canary 10%  9.88%  blue 90%  90.12%  agrees  812/s
       └─ lb2  away for 22s: no answer within 5 s
       analysis  undecided  for 12s
       ├─ connectSuccess  3 of 1 204  vs 30 of 10 840  ×0.90 (0.25..3.10)  [███·······]  10^0.8 of 10^2.3  undecided
       └─ handshakeP99    3 of 1 204  vs 30 of 10 840  ×?                  [███·······]  10^0.8 of 10^2.3  undecided
  ·  3  promote
"
        );
    }

    #[test]
    fn colour_changes_nothing_but_colour() {
        let (plain, coloured) =
            (render(&analyzing(), 42_000, false), render(&analyzing(), 42_000, true));
        assert_ne!(plain, coloured);
        let mut stripped = String::new();
        let mut rest = coloured.as_str();
        while let Some((text, code)) = rest.split_once('\x1b') {
            stripped.push_str(text);
            rest = code.split_once('m').map_or("", |(_, rest)| rest);
        }
        stripped.push_str(rest);
        assert_eq!(stripped, plain);
    }
}
