//! `weir drains`

use std::time::Duration;

use clap::Args;

use super::{
    counters::duration,
    fail::Failure,
    figures::{count, long_time},
    output::Output,
    table::{
        Side::{Left, Right},
        Table, dim, text, version, warning,
    },
};
use crate::{
    client::Client,
    model::{OnTimeout, ServiceName},
    node::messages::{DrainStatus, MayStop},
};

/// Show what drains, and whether it may be stopped.
#[derive(Debug, Args)]
#[command(after_help = "\
One line for each version that has lost all its weight or whose slots have not settled, and for each
backend that drains or is down.

FLOWS are those that are remembered: that have spoken since the shift, or begun. One that was silent
since then is not counted; until its slots settle the answer is not yes.")]
pub(super) struct Drains {
    /// One service; without it, all services.
    #[arg(value_name = "SERVICE", value_parser = ServiceName::new)]
    service: Option<ServiceName>,
    /// Show them again and again, until Ctrl-C.
    #[arg(short, long)]
    watch: bool,
    /// Time between two looks, 100ms to 1h.
    #[arg(long, requires = "watch", default_value = "1s", value_name = "TIME", value_parser = duration)]
    interval: Duration,
}

impl Drains {
    pub(super) async fn run(self, mut client: Client, output: Output) -> Result<(), Failure> {
        let services: Vec<ServiceName> = self.service.into_iter().collect();
        if !self.watch {
            let drains = client.drains(&services).await?;
            return output.answer(&drains, |drains, colour| render(drains, colour));
        }
        loop {
            let drains = client.drains(&services).await?;
            output.series(&drains, |drains, colour| render(drains, colour))?;
            tokio::time::sleep(self.interval).await;
        }
    }
}

/// One line a version or backend.
pub(super) fn render(drains: &[DrainStatus], colour: bool) -> String {
    if drains.is_empty() {
        return "nothing drains\n".to_owned();
    }
    let columns = [
        ("SERVICE", Left),
        ("VERSION", Left),
        ("BACKEND", Left),
        ("WHY", Left),
        ("FOR", Right),
        ("FLOWS", Right),
        ("SILENT", Right),
        ("PACKETS", Right),
        ("SETTLES", Right),
        ("DEADLINE", Left),
        ("MAY I STOP IT?", Left),
    ];
    let mut table = Table::new(&columns, colour);
    let mut last = None;
    for one in drains {
        let first = last != Some((&one.service, one.version));
        last = Some((&one.service, one.version));
        let backend = one.backend.map_or_else(|| text("all"), text);
        let answer = match one.may_stop {
            MayStop::Yes => text(format!("yes: {}", one.reason)),
            MayStop::No => warning(format!("no: {}", one.reason)),
            MayStop::Unknown => warning(format!("not known {}", one.reason)),
        };
        table.row([
            text(if first { one.service.as_str() } else { "" }),
            if first { version(one.version) } else { text("") },
            backend,
            dim(&one.why),
            text(seconds(one.age_s)),
            text(count(one.flows)),
            text(seconds(one.longest_silence_s.map(u64::from))),
            text(packets(one)),
            text(seconds(one.settles_in_s.map(u64::from))),
            text(deadline(one)),
            answer,
        ]);
    }
    table.render()
}

fn seconds(seconds: Option<u64>) -> String {
    seconds.map_or_else(|| "-".to_owned(), |seconds| long_time(Duration::from_secs(seconds)))
}

/// `12 in 8s`
fn packets(one: &DrainStatus) -> String {
    match one.window_s {
        0 => "-".to_owned(),
        window => format!("{} in {window}s", count(one.packets)),
    }
}

/// `reset in 9m 3s`, `over, kept`
fn deadline(one: &DrainStatus) -> String {
    let word = match one.on_timeout {
        OnTimeout::Keep => "kept",
        OnTimeout::Reset => "reset",
    };
    match one.deadline_in_s {
        None => "-".to_owned(),
        Some(left @ 1..) => format!("{word} in {}", seconds(Some(left.unsigned_abs()))),
        Some(_) => format!("over, {word}"),
    }
}
