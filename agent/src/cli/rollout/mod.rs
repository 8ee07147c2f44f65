//! `weir rollout`: one file a verb, and what they share.
//!
//! - `tree`: a rollout as people see it; `align` sets its words below each other

mod align;
mod alone;
mod command;
mod explain;
mod get;
mod history;
mod lint;
mod plan;
mod replay;
mod run;
mod status;
mod tree;

use clap::{Args, Subcommand};

use super::{Global, Tls, fail::Failure, output::Output};
use crate::{
    client::{Address, ClientError},
    rollout::api::{DEFAULT_SOCKET, Remote},
};

const EXIT_CODES: &str = "\
Exit codes of `run` and `status`, beside those of every verb (`weir --help`):
  0   healthy
  10  it still goes on when the time is over
  11  it waits for a person: paused, or at a gate
  12  it went wrong and has gone back, or does so: degraded
  13  there is no rollout of the service";

/// Release a service over agents: rolling, blue-green or canary, judged and rolled back by itself.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(super) struct Rollout {
    #[command(flatten)]
    at: At,
    #[command(subcommand)]
    verb: Verb,
}

/// Where the coordinator is.
#[derive(Debug, Clone, Args)]
pub(super) struct At {
    /// Where the coordinator is: unix:PATH, or https://HOST:PORT with mutual TLS.
    #[arg(
        long,
        global = true,
        env = "WEIR_COORDINATOR",
        hide_env_values = true,
        default_value_t = format!("unix:{DEFAULT_SOCKET}"),
        value_name = "ADDRESS"
    )]
    pub(super) coordinator: String,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Plan(plan::Plan),
    Run(run::Run),
    Get(get::Get),
    Promote(command::Promote),
    Pause(command::Pause),
    Resume(command::Resume),
    Abort(command::Abort),
    Retry(command::Retry),
    Undo(command::Undo),
    History(history::History),
    Explain(explain::Explain),
    Replay(replay::Replay),
    Lint(lint::Lint),
    Status(status::Status),
}

impl Rollout {
    pub(super) fn run(self, global: &Global, output: Output) -> Result<(), Failure> {
        let Self { at, verb } = self;
        let here = Here { coordinator: at.address(&global.tls)?, global };
        match verb {
            Verb::Lint(verb) => return verb.run(output),
            Verb::Replay(verb) => return verb.run(output),
            _ => {}
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(async {
            match verb {
                Verb::Run(verb) => verb.run(&here, output).await,
                Verb::Plan(verb) => verb.run(&here, output).await,
                Verb::Abort(verb) => verb.run(&here, output).await,
                Verb::Get(verb) => verb.run(here.connect().await?, output).await,
                Verb::Promote(verb) => verb.run(here.connect().await?).await,
                Verb::Pause(verb) => verb.run(here.connect().await?).await,
                Verb::Resume(verb) => verb.run(here.connect().await?).await,
                Verb::Retry(verb) => verb.run(here.connect().await?).await,
                Verb::Undo(verb) => verb.run(here.connect().await?).await,
                Verb::History(verb) => verb.run(here.connect().await?, output).await,
                Verb::Explain(verb) => verb.run(here.connect().await?, output).await,
                Verb::Status(verb) => verb.run(here.connect().await?, output).await,
                Verb::Lint(_) | Verb::Replay(_) => Ok(()),
            }
        })
    }
}

impl At {
    /// Where that is.
    pub(super) fn address(&self, tls: &Tls) -> Result<Address, Failure> {
        let (files, name) = (tls.files(), tls.name.as_deref());
        let address = if self.coordinator.starts_with('/') {
            Ok(Address::from(&self.coordinator))
        } else {
            Address::parse(&self.coordinator, files.as_ref(), name)
        };
        address.map_err(|error| Failure::Usage(format!("--coordinator: {error}")))
    }
}

/// Where everything is that a verb may speak to.
struct Here<'a> {
    coordinator: Address,
    global: &'a Global,
}

impl Here<'_> {
    /// Connects to the coordinator.
    async fn connect(&self) -> Result<Remote, Failure> {
        Remote::connect(&self.coordinator).await.map_err(|error| match error {
            ClientError::NoAgent(address) => Failure::NoAgent(format!(
                "no coordinator at {address}: is it running? Start it with `weir coordinator`, or name its \
                 address with --coordinator"
            )),
            other => other.into(),
        })
    }
}

/// Who sits at the keyboard, for the event log.
fn who() -> String {
    let user = std::env::var("SUDO_USER").or_else(|_| std::env::var("USER"));
    format!("{} (weir rollout)", user.unwrap_or_else(|_| "somebody".to_owned()))
}
