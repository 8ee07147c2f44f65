//! `weir rollout run`

use std::{
    io::{self, IsTerminal as _},
    path::PathBuf,
};

use clap::Args;
use tokio::sync::oneshot;
use tokio_stream::StreamExt as _;
use weir_proto::rollout::v1::{CommandRequest, Rollout, StartRequest};

use super::{Here, alone, get, lint, status, who};
use crate::{
    cli::{
        coordinator::StateArgs,
        fail::Failure,
        output::{Output, print},
    },
    client::ClientError,
    model::ServiceName,
    rollout::api::Remote,
};

/// Begin a rollout, and show how it goes until it is over.
#[derive(Debug, Args)]
#[command(after_help = "\
With a coordinator at its socket, that carries the rollout out; Ctrl-C only ends the show. Without one,
this process does it itself, against the agents of --agents or the one of this host, and can be asked
like a coordinator (`weir rollout get -w`, `promote`, `abort` in another terminal). Then Ctrl-C asks
whether to abort, to hold, or to go on; held, the weights stay as they are, and the same `run` goes on
from there. Without a terminal Ctrl-C holds.")]
pub(super) struct Run {
    /// The rollout, as YAML; `-` is standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Begin it, and do not wait.
    #[arg(long)]
    detach: bool,
    /// Why, for the event log.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
    why: String,
    /// Without a coordinator: the agents to work with, instead of the one of this host.
    #[arg(long, value_name = "FILE")]
    agents: Option<PathBuf>,
    #[command(flatten)]
    state: StateArgs,
}

impl Run {
    pub(super) async fn run(self, here: &Here<'_>, output: Output) -> Result<(), Failure> {
        let document = lint::read(&self.file)?;
        // What is wrong with it is said with its place, before anybody is asked.
        let rollout = lint::parse(&self.file, &document)?;
        let service = rollout.service.clone();
        let begin = Begin { document, why: self.why, service, revision: rollout.revision };
        match Remote::connect(&here.coordinator).await {
            Ok(remote) => {
                let mut remote = begin.start(remote).await?;
                if self.detach {
                    return Ok(());
                }
                let last = follow(&mut remote, &begin, output, OnInterrupt::Leave).await?;
                end(&last, output)
            }
            Err(ClientError::NoAgent(_)) if self.detach => Err(Failure::NoAgent(format!(
                "no coordinator at {}; --detach needs one",
                here.coordinator
            ))),
            Err(ClientError::NoAgent(_)) => {
                let alone = alone::start(here, self.agents.as_deref(), &self.state)?;
                let remote = here.connect().await?;
                let mut remote = begin.start(remote).await?;
                let last = follow(&mut remote, &begin, output, OnInterrupt::Ask).await;
                alone.stop().await;
                end(&last?, output)
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// What is to begin.
struct Begin {
    document: String,
    why: String,
    service: ServiceName,
    revision: String,
}

impl Begin {
    /// Begins it, unless it is on its way already: then it goes on.
    async fn start(&self, mut remote: Remote) -> Result<Remote, Failure> {
        let before = remote.get(&self.service).await;
        let goes_on = before
            .as_ref()
            .is_ok_and(|rollout| rollout.revision == self.revision && !status::over(rollout));
        if goes_on {
            eprintln!("{} {} is on its way already: it goes on", self.service, self.revision);
            return Ok(remote);
        }
        let (document, why) = (self.document.clone(), self.why.clone());
        let started = remote.start(StartRequest { document, who: who(), why }).await?;
        if started.outcome == "queued" {
            eprintln!("{} {}: queued behind the one on its way", self.service, self.revision);
        }
        Ok(remote)
    }

    async fn abort(&self, remote: &mut Remote) -> Result<(), Failure> {
        let (service, verb) = (self.service.to_string(), "abort".to_owned());
        let (to_revision, why) = (String::new(), "Ctrl-C".to_owned());
        let request = CommandRequest { service, verb, to_revision, who: who(), why };
        Ok(remote.command(request).await?)
    }
}

/// What Ctrl-C means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OnInterrupt {
    /// The show ends.
    Leave,
    /// This process does the work: a person says what becomes of it.
    Ask,
}

/// What a person wants after Ctrl-C.
enum Answer {
    Abort,
    Hold,
    GoOn,
}

/// Shows the rollout until it is over.
async fn follow(
    remote: &mut Remote,
    begin: &Begin,
    output: Output,
    on_interrupt: OnInterrupt,
) -> Result<Rollout, Failure> {
    let mut stream = Box::pin(remote.watch(&begin.service).await?);
    let mut last = Rollout::default();
    let mut shown = Shown::default();
    loop {
        tokio::select! {
            rollout = stream.next() => {
                let Some(rollout) = rollout else {
                    return Err(Failure::NoAgent("the coordinator stopped".to_owned()));
                };
                last = rollout?;
                shown.show(&last, output)?;
                if last.revision == begin.revision && status::over(&last) {
                    return Ok(last);
                }
            }
            interrupted = tokio::signal::ctrl_c() => {
                interrupted?;
                match on_interrupt {
                    OnInterrupt::Leave => return Ok(last),
                    OnInterrupt::Ask => match ask().await {
                        Answer::Abort => begin.abort(remote).await?,
                        Answer::Hold => return Ok(last),
                        Answer::GoOn => {}
                    },
                }
            }
        }
    }
}

/// Asks a person what becomes of the rollout. A second Ctrl-C, or no terminal: it is held.
async fn ask() -> Answer {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Answer::Hold;
    }
    eprint!("\nabort it (a), hold it as it is and leave (h), or go on (Enter)? ");
    // A thread of its own, which nobody waits for: reading a terminal cannot be given up.
    let (tell, told) = oneshot::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        let read = io::stdin().read_line(&mut line);
        let _ = tell.send(read.map(|_| line));
    });
    tokio::select! {
        line = told => match line {
            Ok(Ok(line)) if matches!(line.trim(), "a" | "abort") => Answer::Abort,
            Ok(Ok(line)) if line == "\n" => Answer::GoOn,
            _ => Answer::Hold,
        },
        _ = tokio::signal::ctrl_c() => Answer::Hold,
    }
}

/// How much was shown: on a terminal the whole tree each time, else a line for each change.
#[derive(Debug, Default)]
struct Shown(String);

impl Shown {
    fn show(&mut self, rollout: &Rollout, output: Output) -> Result<(), Failure> {
        if output.is_terminal() || !output.is_table() {
            return get::show(rollout, output);
        }
        let step = rollout.steps.get(usize::try_from(rollout.step).unwrap_or(usize::MAX));
        let step = step.map_or("", |step| step.text.as_str());
        let words = [&rollout.phase, step, &rollout.activity, &rollout.reason];
        let line = words.iter().filter(|word| !word.is_empty()).copied().collect::<Vec<_>>();
        let line = format!("{} {}: {}\n", rollout.service, rollout.revision, line.join(": "));
        if line != self.0 {
            print(&line)?;
            self.0 = line;
        }
        Ok(())
    }
}

/// The last word.
fn end(last: &Rollout, output: Output) -> Result<(), Failure> {
    let outcome = status::outcome(last, output);
    if let Err(Failure::Exit(..)) = &outcome
        && !status::over(last)
        && output.is_table()
    {
        eprintln!("see `weir rollout get {} -w`", last.service);
    }
    outcome
}
