//! `weir rollout explain`

use std::fmt::Write as _;

use clap::Args;
use weir_proto::rollout::v1::{Analysis, Metric, Rollout};

use crate::{
    cli::{fail::Failure, figures::count, output::Output},
    model::ServiceName,
    rollout::api::Remote,
};

/// Say in numbers why a rollout was judged as it was: of each metric how many connections, how many
/// failures, how many times as often, and how strong the evidence is.
#[derive(Debug, Args)]
pub(super) struct Explain {
    /// The service.
    #[arg(value_name = "SERVICE", value_parser = ServiceName::new)]
    service: ServiceName,
}

impl Explain {
    pub(super) async fn run(self, mut remote: Remote, output: Output) -> Result<(), Failure> {
        let rollout = remote.get(&self.service).await?;
        match &rollout.analysis {
            Some(analysis) => output.answer(analysis, |analysis, _| render(&rollout, analysis)),
            None => Err(Failure::Refused(format!(
                "{} was not judged yet: {}, {}",
                self.service, rollout.phase, rollout.reason
            ))),
        }
    }
}

fn render(rollout: &Rollout, analysis: &Analysis) -> String {
    let mut lines = format!(
        "{} {} is {}: {}\nverdict  {}: {}\n",
        rollout.service,
        rollout.revision,
        rollout.phase,
        rollout.reason,
        analysis.verdict,
        analysis.text
    );
    for one in &analysis.metrics {
        lines.push('\n');
        lines.push_str(&metric(rollout, one));
    }
    lines
}

/// One metric, in sentences.
fn metric(rollout: &Rollout, metric: &Metric) -> String {
    let candidate = if rollout.candidate.is_empty() { "new" } else { &rollout.candidate };
    let stable = if rollout.stable.is_empty() { "old" } else { &rollout.stable };
    let role = if metric.enforcing { "can fail the rollout" } else { "is only watched" };
    let mut lines = format!("{}  {}; {role}\n", metric.name, metric.state);
    let mut arm = |name: &str, failures: u64, n: u64| {
        let _ = writeln!(lines, "  {name:<10} {} failures of {}", count(failures), count(n));
    };
    arm(candidate, metric.candidate_failures, metric.candidate_n);
    arm(stable, metric.baseline_failures, metric.baseline_n);
    if let Some(ratio) = metric.ratio {
        let between = match (metric.low, metric.high) {
            (Some(low), Some(high)) => format!(", between {low:.2} and {high:.2}"),
            _ => String::new(),
        };
        let _ = writeln!(lines, "  {candidate} fails {ratio:.2} times as often{between}");
    }
    let _ = writeln!(
        lines,
        "  evidence that it is worse: 10^{:.2}; it counts from 10^{:.2} on",
        metric.evidence, metric.bound
    );
    if !metric.text.is_empty() {
        let _ = writeln!(lines, "  {}", metric.text);
    }
    lines
}
