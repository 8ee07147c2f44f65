//! `weir rollout history`

use std::time::{Duration, UNIX_EPOCH};

use clap::Args;
use weir_proto::rollout::v1::HistoryResponse;

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

/// Show the revisions of a service and what happened to it: who, what, why, before and after.
#[derive(Debug, Args)]
pub(super) struct History {
    /// The service.
    #[arg(value_name = "SERVICE", value_parser = ServiceName::new)]
    service: ServiceName,
}

impl History {
    pub(super) async fn run(self, mut remote: Remote, output: Output) -> Result<(), Failure> {
        output.answer(&remote.history(&self.service).await?, render)
    }
}

fn render(history: &HistoryResponse, colour: bool) -> String {
    let columns =
        [("REVISION", Left), ("STRATEGY", Left), ("ENDED", Left), ("AS", Left), ("REASON", Left)];
    let mut table = Table::new(&columns, colour);
    for revision in &history.revisions {
        let phase = revision.phase.as_str();
        table.row([
            text(&revision.name),
            text(&revision.strategy),
            dim(time(revision.at_ms)),
            if phase == "degraded" { warning(phase) } else { text(phase) },
            text(&revision.reason),
        ]);
    }
    let mut lines = table.render();
    let columns = [
        ("ID", Right),
        ("TIME", Left),
        ("WHO", Left),
        ("WHAT", Left),
        ("BEFORE", Left),
        ("AFTER", Left),
        ("REASON", Left),
    ];
    let mut table = Table::new(&columns, colour);
    for event in &history.events {
        table.row([
            text(event.id),
            dim(time(event.at_ms)),
            text(&event.who),
            text(&event.verb),
            text(&event.before),
            text(&event.after),
            text(&event.reason),
        ]);
    }
    if !table.is_empty() {
        lines.push('\n');
        lines.push_str(&table.render());
    }
    lines
}

/// A moment, to the second.
fn time(at_ms: i64) -> String {
    let since = Duration::from_millis(u64::try_from(at_ms).unwrap_or(0));
    humantime::format_rfc3339_seconds(UNIX_EPOCH + since).to_string()
}
