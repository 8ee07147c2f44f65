//! `weir rollout get`

use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use tokio_stream::StreamExt as _;
use weir_proto::rollout::v1::{ListResponse, Rollout};

use super::tree;
use crate::{
    cli::{
        fail::Failure,
        output::Output,
        table::{
            Side::{Left, Right},
            Table, dim, text, warning,
        },
    },
    model::ServiceName,
    rollout::api::Remote,
};

/// Show a rollout: its steps, and of the one that runs the agents and what is known of both versions.
#[derive(Debug, Args)]
pub(super) struct Get {
    /// One service; without it, all rollouts in a line each.
    #[arg(value_name = "SERVICE", value_parser = ServiceName::new)]
    service: Option<ServiceName>,
    /// Show it again whenever it changes, until Ctrl-C.
    #[arg(short, long, requires = "service")]
    watch: bool,
}

impl Get {
    pub(super) async fn run(self, mut remote: Remote, output: Output) -> Result<(), Failure> {
        let Some(service) = self.service else {
            return output.answer(&remote.list().await?, render_all);
        };
        if !self.watch {
            let rollout = remote.get(&service).await?;
            return output.answer(&rollout, |rollout, colour| tree::render(rollout, now(), colour));
        }
        let mut stream = Box::pin(remote.watch(&service).await?);
        while let Some(rollout) = stream.next().await {
            show(&rollout?, output)?;
        }
        Err(Failure::NoAgent("the coordinator ended the stream: it stopped".to_owned()))
    }
}

/// Shows one of a series of states of a rollout.
pub(super) fn show(rollout: &Rollout, output: Output) -> Result<(), Failure> {
    output.series(rollout, |rollout, colour| tree::render(rollout, now(), colour))
}

/// Milliseconds since 1970.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// One line a rollout.
fn render_all(list: &ListResponse, colour: bool) -> String {
    if list.rollouts.is_empty() {
        return "no rollouts; `weir rollout run FILE` starts one\n".to_owned();
    }
    let columns = [
        ("SERVICE", Left),
        ("REVISION", Left),
        ("STRATEGY", Left),
        ("PHASE", Left),
        ("STEP", Right),
        ("REASON", Left),
    ];
    let mut table = Table::new(&columns, colour);
    for rollout in &list.rollouts {
        let step = usize::try_from(rollout.step).unwrap_or(usize::MAX).min(rollout.steps.len());
        let phase = rollout.phase.as_str();
        table.row([
            text(&rollout.service),
            text(&rollout.revision),
            dim(&rollout.strategy),
            if phase == "degraded" { warning(phase) } else { text(phase) },
            text(format!("{step} of {}", rollout.steps.len())),
            text(&rollout.reason),
        ]);
    }
    table.render()
}
