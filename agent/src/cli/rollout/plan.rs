//! `weir rollout plan`

use std::{path::PathBuf, time::Duration};

use clap::Args;
use comfy_table::Cell;
use weir_proto::rollout::v1::{PlanResponse, PlannedStep};

use super::{Here, alone, lint};
use crate::{
    cli::{
        fail::Failure,
        figures::{count, long_time, rate},
        output::Output,
        table::{
            Side::{Left, Right},
            Table, dim, text, warning,
        },
    },
    client::ClientError,
    model::weight::percent,
    rollout::api::Remote,
};

/// Show what a rollout would do: each step with the slots that it moves, and how long its analysis
/// will need at the traffic of now. Changes nothing.
#[derive(Debug, Args)]
#[command(after_help = "\
LEAST is how long a step takes at the least. FOR 2x is how long its analysis needs to find a candidate that
fails twice as often, about, at the traffic of now; SAMPLES until there is enough of either version to pass.
docs/statistics.md says how they come about.")]
pub(super) struct Plan {
    /// The rollout, as YAML; `-` is standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Without a coordinator: the agents to ask, instead of the one of this host.
    #[arg(long, value_name = "FILE")]
    agents: Option<PathBuf>,
}

impl Plan {
    pub(super) async fn run(self, here: &Here<'_>, output: Output) -> Result<(), Failure> {
        let document = lint::read(&self.file)?;
        let rollout = lint::parse(&self.file, &document)?;
        let plan = match Remote::connect(&here.coordinator).await {
            Ok(mut remote) => remote.plan(&document).await?,
            Err(ClientError::NoAgent(_)) => {
                alone::plan(here, &rollout, self.agents.as_deref()).await?
            }
            Err(error) => return Err(error.into()),
        };
        output.answer(&plan, render)
    }
}

fn render(plan: &PlanResponse, colour: bool) -> String {
    let PlanResponse { service, revision, strategy, stable, candidate, .. } = plan;
    let way = match (stable.as_str(), candidate.as_str()) {
        ("", _) => String::new(),
        (stable, candidate) if stable == candidate => format!(", within {stable}"),
        (stable, candidate) => format!(", from {stable} to {candidate}"),
    };
    let all: f64 = plan.traffic.iter().map(|one| one.connections_per_s).sum();
    let agents = plan.traffic.len();
    let agents = format!("{agents} agent{}", if agents == 1 { "" } else { "s" });
    let mut lines = format!(
        "{service} {revision}: {strategy}{way}\n{agents}, {} new connections a second\n\n",
        rate(all)
    );
    let columns = [
        ("STEP", Right),
        ("WHAT", Left),
        ("WEIGHT", Right),
        ("SLOTS MOVED", Right),
        ("LEAST", Right),
        ("SAMPLES", Right),
        ("FOR 2x", Right),
    ];
    let mut table = Table::new(&columns, colour);
    for (index, step) in plan.steps.iter().enumerate() {
        table.row(row(index, step));
    }
    lines.push_str(if table.is_empty() { "no steps\n" } else { "" });
    if !table.is_empty() {
        lines.push_str(&table.render());
    }
    for one in &plan.warnings {
        lines.extend(["warning: ", one, "\n"]);
    }
    lines
}

fn row(index: usize, step: &PlannedStep) -> [Cell; 7] {
    let analysis = step.kind == "analysis";
    let time = |time: Option<u64>| match time {
        Some(ms) => text(long_time(Duration::from_millis(ms.div_ceil(1_000) * 1_000))),
        // Without a weight it depends on who comes by the preview.
        None if analysis && step.weight_bp > 0 => warning("never"),
        None => dim("-"),
    };
    let slots = step
        .slots
        .map(|slots| format!("{} of {}", count(slots.into()), count(step.total_slots.into())));
    let least = match step.least_ms {
        Some(0) => dim("-"),
        Some(ms) => text(long_time(Duration::from_millis(ms))),
        None => text("promoted"),
    };
    [
        dim(index + 1),
        text(&step.text),
        text(percent(step.weight_bp)),
        slots.map_or_else(|| dim("-"), text),
        least,
        time(step.samples_ms),
        time(step.need_ms),
    ]
}
