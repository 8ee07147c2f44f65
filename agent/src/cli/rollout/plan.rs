//! `weir rollout plan`

use std::path::{Path, PathBuf};

use clap::Args;
use weir_proto::rollout::v1::PlanResponse;

use super::{At, alone, lint};
use crate::{
    cli::{fail::Failure, output::Output},
    client::ClientError,
    rollout::api::Remote,
};

/// Show what a rollout would do: each step with the slots that it moves, and how long its analysis
/// will need at the traffic of now. Changes nothing.
#[derive(Debug, Args)]
pub(super) struct Plan {
    /// The rollout, as YAML; `-` is standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Without a coordinator: the agents to ask, instead of the one of this host.
    #[arg(long, value_name = "FILE")]
    agents: Option<PathBuf>,
}

impl Plan {
    pub(super) async fn run(self, at: &At, agent: &Path, output: Output) -> Result<(), Failure> {
        let document = lint::read(&self.file)?;
        let rollout = lint::parse(&self.file, &document)?;
        let plan = match Remote::connect(&at.coordinator).await {
            Ok(mut remote) => remote.plan(&document).await?,
            Err(ClientError::NoAgent(_)) => {
                alone::plan(&rollout, agent, self.agents.as_deref()).await?
            }
            Err(error) => return Err(error.into()),
        };
        output.answer(&plan, render)
    }
}

fn render(plan: &PlanResponse, _colour: bool) -> String {
    format!("{plan:?}\n")
}
