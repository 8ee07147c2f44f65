//! `weir status`

use std::fmt::Write as _;

use clap::Args;

use super::{
    fail::Failure,
    figures::{count, long_time, share},
    output::Output,
    table::{
        Side::{Left, Right},
        Table, dim, text, warning,
    },
};
use crate::{client::Client, health::Counts, node::messages::NodeStatus};

/// Show the agent, its interfaces and how full its tables are.
#[derive(Debug, Args)]
pub(super) struct Status {}

impl Status {
    pub(super) async fn run(self, mut client: Client, output: Output) -> Result<(), Failure> {
        output.answer(&client.status().await?, render)
    }
}

/// `4 096 backends checked, 2 down; 12 checks under way, 0 wait for a place (3 of 12 345 had to)`
fn checks(health: &Counts) -> String {
    if health.backends == 0 {
        return "no backend is checked".to_owned();
    }
    format!(
        "{} backends checked, {} down; {} checks under way, {} wait for a place ({} of {} had to)",
        count(health.backends),
        count(health.failing),
        count(health.in_flight),
        count(health.waiting),
        count(health.waited),
        count(health.made)
    )
}

#[allow(clippy::cast_precision_loss, reason = "two decimals are shown")]
fn render(status: &NodeStatus, colour: bool) -> String {
    let mut lines = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        lines,
        "agent       {} (ABI {}), up {}",
        status.version,
        status.abi,
        long_time(status.uptime)
    );
    let _ = writeln!(lines, "kernel      {}", status.kernel);
    let _ = writeln!(lines, "generation  {}, counters' epoch {}", status.generation, status.epoch);
    let _ = writeln!(lines, "state       {}", status.state_dir);
    if status.bpf_log != "off" {
        let _ = writeln!(lines, "program     logs at level {}", status.bpf_log);
    }
    let sources: Vec<String> = status.outer_sources.iter().map(ToString::to_string).collect();
    let sources = if sources.is_empty() { "no source".to_owned() } else { sources.join(" and ") };
    let _ = writeln!(lines, "tunnels     from {sources}");
    let http = status.http.map_or_else(|| "off".to_owned(), |at| format!("http://{at}/"));
    let _ = writeln!(lines, "http        {http}");
    let listen = status.listen.map_or_else(|| "off".to_owned(), |at| format!("https://{at}"));
    let _ = writeln!(lines, "listen      {listen}");
    let _ = writeln!(lines, "health      {}\n", checks(&status.health));

    let columns =
        [("INTERFACE", Left), ("INDEX", Right), ("ASKED", Left), ("MODE", Left), ("STATE", Left)];
    let mut table = Table::new(&columns, colour);
    for interface in &status.interfaces {
        table.row([
            text(&interface.name),
            text(interface.index),
            text(interface.asked),
            interface.actual.map_or_else(|| dim("-"), text),
            if interface.actual.is_some() {
                text(&interface.state)
            } else {
                warning(&interface.state)
            },
        ]);
    }
    lines.push_str(&table.render());
    lines.push('\n');

    let mut table =
        Table::new(&[("RESOURCE", Left), ("USED", Right), ("LIMIT", Right), ("", Right)], colour);
    for capacity in &status.capacity {
        let part =
            if capacity.limit == 0 { 0.0 } else { capacity.used as f64 / capacity.limit as f64 };
        table.row([
            text(capacity.resource.replace('_', " ")),
            text(count(capacity.used)),
            text(count(capacity.limit)),
            if part < 0.9 { dim(share(part)) } else { warning(share(part)) },
        ]);
    }
    lines.push_str(&table.render());
    for warning in &status.warnings {
        let _ = write!(lines, "\nwarning: {warning}");
    }
    if !status.warnings.is_empty() {
        lines.push('\n');
    }
    lines
}
