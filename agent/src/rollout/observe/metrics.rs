//! Rollouts as series for Prometheus, in the words of Argo Rollouts where it has them. Pure.

use weir_proto::rollout::v1::{Metric, Rollout};

use crate::observe::exposition::{Family, Format, Kind, Labels, Text};

const fn gauge(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: Kind::Gauge, help }
}

/// As Argo has it: one series a rollout, with what it is in labels.
const INFO: Family =
    Family { name: "rollout", kind: Kind::Info, help: "A rollout: strategy, revision and phase" };
const PHASE: Family =
    gauge("rollout_phase", "1 for the phase that a rollout is in, in Argo's words");
const DESIRED: Family =
    gauge("rollout_info_replicas_desired", "Backends of the version that a rollout releases");
const AVAILABLE: Family =
    gauge("rollout_info_replicas_available", "Those of them that take new connections");
const ANALYSIS: Family = Family {
    name: "analysis_run",
    kind: Kind::Info,
    help: "What the judge says of a rollout, in Argo's words",
};
const METRIC: Family =
    gauge("analysis_run_metric_phase", "1 for what a metric says, in Argo's words");
const WEIGHT: Family =
    gauge("weir_rollout_weight_ratio", "Share of the table by version and agent, read back");
const STEP: Family = gauge("weir_rollout_step", "The step that a rollout is at, from 0");
const STEPS: Family = gauge("weir_rollout_steps", "The steps that it has");
const SINCE: Family =
    gauge("weir_rollout_since_timestamp_seconds", "Since when it is in its phase and step");
const REACHABLE: Family = gauge("weir_rollout_agent_reachable", "1 if the agent answers");
const EVIDENCE: Family = gauge(
    "weir_rollout_evidence",
    "Evidence that the candidate is worse, by metric, as a power of ten",
);
const BOUND: Family = gauge("weir_rollout_evidence_bound", "The evidence from which on it fails");
const LEADING: Family = gauge("weir_coordinator_leading", "1 if this coordinator leads");

/// Argo's phases.
const PHASES: [&str; 4] = ["Progressing", "Paused", "Healthy", "Degraded"];

/// A phase in Argo's words.
fn phase(rollout: &Rollout) -> &'static str {
    match rollout.phase.as_str() {
        "healthy" => "Healthy",
        "paused" => "Paused",
        "aborting" | "rolling-back" | "degraded" => "Degraded",
        _ => "Progressing",
    }
}

/// A verdict in Argo's words.
fn verdict(word: &str) -> &'static str {
    match word {
        "pass" => "Successful",
        "fail" | "mismatch" => "Failed",
        "insufficient" | "incident" => "Inconclusive",
        _ => "Running",
    }
}

/// The whole text.
#[must_use]
pub fn render(rollouts: &[Rollout], leads: bool, format: Format) -> String {
    let mut text = Text::new(format);
    text.family(&LEADING);
    text.sample(&LEADING, &Labels::default(), u8::from(leads));
    let name = |rollout: &Rollout| Labels::of([("name", &rollout.service)]);
    text.family(&INFO);
    for rollout in rollouts {
        let labels = name(rollout).with("strategy", &rollout.strategy);
        let labels = labels.with("revision", &rollout.revision).with("phase", phase(rollout));
        text.sample(&INFO, &labels, 1);
    }
    text.family(&PHASE);
    for rollout in rollouts {
        for one in PHASES {
            let labels = name(rollout).with("phase", one);
            text.sample(&PHASE, &labels, u8::from(one == phase(rollout)));
        }
    }
    let mut each = |family: &Family, value: &dyn Fn(&Rollout) -> String| {
        text.family(family);
        for rollout in rollouts {
            text.sample(family, &name(rollout), value(rollout));
        }
    };
    each(&DESIRED, &|rollout| backends(rollout).1.to_string());
    each(&AVAILABLE, &|rollout| backends(rollout).0.to_string());
    each(&STEP, &|rollout| rollout.step.to_string());
    each(&STEPS, &|rollout| rollout.steps.len().to_string());
    #[allow(clippy::cast_precision_loss, reason = "milliseconds of our time fit")]
    each(&SINCE, &|rollout| (rollout.since_ms as f64 / 1_000.0).to_string());
    of_agents(&mut text, rollouts);
    of_analysis(&mut text, rollouts);
    text.end()
}

/// Of what is released: backends that take new connections, and all, over all agents.
fn backends(rollout: &Rollout) -> (u32, u32) {
    let version = if rollout.candidate.is_empty() { &rollout.stable } else { &rollout.candidate };
    let versions = rollout.agents.iter().flat_map(|agent| &agent.versions);
    let own = versions.filter(|one| one.version == *version);
    own.fold((0, 0), |(ready, all), one| (ready + one.ready, all + one.backends))
}

fn of_agents(text: &mut Text, rollouts: &[Rollout]) {
    text.family(&WEIGHT);
    for rollout in rollouts {
        for agent in &rollout.agents {
            for version in &agent.versions {
                let labels = Labels::of([
                    ("name", &rollout.service),
                    ("agent", &agent.name),
                    ("version", &version.version),
                ]);
                text.sample(&WEIGHT, &labels, f64::from(version.weight_bp) / 10_000.0);
            }
        }
    }
    text.family(&REACHABLE);
    for rollout in rollouts {
        for agent in &rollout.agents {
            let labels = Labels::of([("name", &rollout.service), ("agent", &agent.name)]);
            text.sample(&REACHABLE, &labels, u8::from(agent.reachable));
        }
    }
}

fn of_analysis(text: &mut Text, rollouts: &[Rollout]) {
    let judged =
        || rollouts.iter().filter_map(|rollout| Some((rollout, rollout.analysis.as_ref()?)));
    text.family(&ANALYSIS);
    for (rollout, analysis) in judged() {
        let labels = Labels::of([("name", &rollout.service)]);
        text.sample(&ANALYSIS, &labels.with("phase", verdict(&analysis.verdict)), 1);
    }
    let mut each = |family: &Family, one: &dyn Fn(&Metric, Labels) -> (Labels, String)| {
        text.family(family);
        for (rollout, analysis) in judged() {
            for metric in &analysis.metrics {
                let labels = Labels::of([("name", &rollout.service), ("metric", &metric.name)]);
                let (labels, value) = one(metric, labels);
                text.sample(family, &labels, value);
            }
        }
    };
    each(&METRIC, &|metric, labels| (labels.with("phase", verdict(&metric.state)), "1".to_owned()));
    each(&EVIDENCE, &|metric, labels| (labels, metric.evidence.to_string()));
    each(&BOUND, &|metric, labels| (labels, metric.bound.to_string()));
}

#[cfg(test)]
mod tests {
    use weir_proto::rollout::v1::{Agent, Analysis, VersionShare};

    use super::*;

    #[test]
    fn rollouts_are_told_in_argos_words() {
        let version = "canary".to_owned();
        let share =
            VersionShare { version, weight_bp: 500, ready: 1, backends: 2, ..<_>::default() };
        let name = "lb1".to_owned();
        let agent = Agent { name, reachable: true, versions: vec![share], ..Agent::default() };
        let state = "fail".to_owned();
        let metric =
            Metric { name: "earlyReset".to_owned(), evidence: 2.5, state, ..<_>::default() };
        let verdict = "fail".to_owned();
        let rollout = Rollout {
            service: "shop".to_owned(),
            revision: "v2".to_owned(),
            strategy: "canary".to_owned(),
            candidate: "canary".to_owned(),
            phase: "rolling-back".to_owned(),
            agents: vec![agent],
            analysis: Some(Analysis { verdict, metrics: vec![metric], ..<_>::default() }),
            ..Rollout::default()
        };
        let text = render(&[rollout], true, Format::Prometheus);
        for line in [
            r#"rollout_info{name="shop",strategy="canary",revision="v2",phase="Degraded"} 1"#,
            r#"rollout_phase{name="shop",phase="Degraded"} 1"#,
            r#"rollout_phase{name="shop",phase="Healthy"} 0"#,
            r#"rollout_info_replicas_available{name="shop"} 1"#,
            r#"analysis_run_info{name="shop",phase="Failed"} 1"#,
            r#"analysis_run_metric_phase{name="shop",metric="earlyReset",phase="Failed"} 1"#,
            r#"weir_rollout_weight_ratio{name="shop",agent="lb1",version="canary"} 0.05"#,
            r#"weir_rollout_evidence{name="shop",metric="earlyReset"} 2.5"#,
            "weir_coordinator_leading 1",
        ] {
            assert!(text.lines().any(|one| one == line), "{line}\n{text}");
        }
    }
}
