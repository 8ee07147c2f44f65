//! `weir settle`

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::time::Duration;

use clap::Args;

use super::{change, fail::Failure, figures::long_time, output::Output};
use crate::{client::Client, model::ServiceName, node::messages};

/// End the transition of a service now, before it settles by itself.
#[derive(Debug, Args)]
#[command(after_help = "\
Connections that began before the last shift and have been silent since then break: the slots they
belong to forget where that was. All others stay.")]
pub(super) struct Settle {
    /// The service.
    #[arg(value_name = "SERVICE", value_parser = ServiceName::new)]
    service: ServiceName,
    /// Show what would settle, and change nothing.
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

impl Settle {
    pub(super) async fn run(self, mut client: Client, output: Output) -> Result<(), Failure> {
        let mut request = messages::Settle { service: self.service, dry_run: true, fence: None };
        if !self.yes {
            let would = client.settle(&request).await?;
            if self.dry_run || would.is_none() {
                return output.answer(&would, |settled, _| render(settled));
            }
            agree(&would)?;
        }
        request.dry_run = false;
        output.answer(&client.settle(&request).await?, |settled, _| render(settled))
    }
}

/// Says what it costs, and asks whether it shall be.
fn agree(would: &messages::Settled) -> Result<(), Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::Usage(format!(
            "{}say --yes to settle all the same, or --dry-run to see this alone",
            render(would)
        )));
    }
    let mut errors = io::stderr().lock();
    write!(errors, "{}Settle now? [y/N] ", render(would))?;
    errors.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::Failed("nothing was changed".to_owned())),
    }
}

fn render(settled: &messages::Settled) -> String {
    let commit = change::commit(&settled.commit);
    if settled.is_none() {
        return "nothing to settle: no slot belongs elsewhere than where it leads\n".to_owned();
    }
    let mut lines: Vec<String> = settled
        .slots
        .iter()
        .map(|one| format!("{} version slots of {} -> {}", one.slots, one.from, one.to))
        .collect();
    if settled.backend_slots > 0 {
        lines.push(format!("{} backend slots", settled.backend_slots));
    }
    if settled.prefixes > 0 {
        lines.push(format!("{} prefixes of clients", settled.prefixes));
    }
    if settled.commit.dry_run {
        let left = long_time(Duration::from_secs(settled.by_itself_s.into()));
        lines.push(format!(
            "connections in these that have been silent since the shift would break; by itself all of \
             it settles in {left}, and nothing breaks"
        ));
    }
    lines.join("\n") + "\n" + &commit
}
