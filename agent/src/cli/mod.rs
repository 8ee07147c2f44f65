//! The command line: one file a verb, and what they share.
//!
//! - `output`: table, JSON or YAML, with or without colour
//! - `table`, `figures`: aligned tables and the figures in them
//! - `fail`: errors and exit codes

mod agent;
mod apply;
mod change;
mod completions;
mod coordinator;
mod counters;
mod decap;
mod delete;
mod detach;
mod drain;
mod drains;
mod events;
mod fail;
mod figures;
mod get;
mod guard;
mod log_args;
mod output;
mod renew;
mod rollback;
mod rollout;
mod settle;
mod shift;
mod status;
mod steer;
mod table;
mod top;
mod trace;
mod verify;

use std::{future::Future, net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

use self::{
    fail::Failure,
    output::{Colour, Format, Output},
};
use crate::client::{Address, Client, DEFAULT_SOCKET};
use crate::tls::Files;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed: the agent, the network or the disk
  2  wrong usage of the command line
  3  no agent could be reached, or no decapsulator found
  4  refused: bad input, no such service, a condition that does not hold, or a role that does not suffice; nothing
     was changed
  5  --verify: changed, but new connections are not shared as was asked
  6  --verify: changed, but too few new connections came to tell";

/// Sends connections to blue, green and canary backends by weight, in the kernel.
#[derive(Debug, Parser)]
#[command(name = "weir", version, after_help = EXIT_CODES, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Everywhere")]
struct Global {
    /// The agent's Unix socket.
    #[arg(
        long,
        global = true,
        env = "WEIR_SOCKET",
        hide_env_values = true,
        default_value = DEFAULT_SOCKET,
        value_name = "PATH"
    )]
    socket: PathBuf,
    /// Where the agent is, instead of at --socket: unix:PATH, or https://HOST:PORT with mutual TLS.
    #[arg(
        long,
        global = true,
        env = "WEIR_ADDRESS",
        hide_env_values = true,
        value_name = "ADDRESS"
    )]
    address: Option<String>,
    #[command(flatten)]
    tls: Tls,
    /// How to print the answer: table, json or yaml. The names in json and yaml are stable.
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        default_value_t,
        hide_possible_values = true,
        value_name = "FORMAT"
    )]
    output: Format,
    /// When to use colour: auto (on a terminal, unless `NO_COLOR` is set), always or never.
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        hide_possible_values = true,
        value_name = "WHEN"
    )]
    color: Colour,
}

/// What this end of a connection over TLS shows and accepts, whichever end that is. All in PEM.
#[derive(Debug, clap::Args)]
struct Tls {
    /// With TLS: our certificate, followed by those between it and its authority.
    #[arg(
        id = "tls-cert",
        long,
        global = true,
        env = "WEIR_TLS_CERT",
        hide_env_values = true,
        value_name = "FILE"
    )]
    cert: Option<PathBuf>,
    /// With TLS: the certificate's private key.
    #[arg(
        id = "tls-key",
        long,
        global = true,
        env = "WEIR_TLS_KEY",
        hide_env_values = true,
        value_name = "FILE"
    )]
    key: Option<PathBuf>,
    /// With TLS: the authorities whose certificates are accepted from the other end.
    #[arg(
        id = "tls-ca",
        long,
        global = true,
        env = "WEIR_TLS_CA",
        hide_env_values = true,
        value_name = "FILE"
    )]
    ca: Option<PathBuf>,
    /// With TLS: the name that the agent's certificate must have; without it, the host in --address.
    #[arg(
        id = "tls-name",
        long,
        global = true,
        env = "WEIR_TLS_NAME",
        hide_env_values = true,
        value_name = "NAME"
    )]
    name: Option<String>,
}

impl Tls {
    /// An address to listen at, with the three files.
    fn listen(&self, address: SocketAddr) -> Result<(SocketAddr, Files), Failure> {
        let files = self.files().ok_or_else(|| {
            Failure::Usage(format!("--listen {address} takes --tls-cert, --tls-key and --tls-ca"))
        })?;
        Ok((address, files))
    }

    /// The three files, if all are given.
    fn files(&self) -> Option<Files> {
        let Self { cert, key, ca, .. } = self;
        Some(Files { certificate: cert.clone()?, key: key.clone()?, authority: ca.clone()? })
    }
}

impl Global {
    /// Where the agent is.
    fn agent(&self) -> Result<Address, Failure> {
        let Some(address) = &self.address else { return Ok(Address::from(&self.socket)) };
        let (files, name) = (self.tls.files(), self.tls.name.as_deref());
        Address::parse(address, files.as_ref(), name)
            .map_err(|error| Failure::Usage(format!("--address: {error}")))
    }
}

#[derive(Debug, Subcommand)]
enum Verb {
    Agent(agent::Agent),
    Coordinator(coordinator::Coordinator),
    Rollout(rollout::Rollout),
    Apply(apply::Apply),
    Get(get::Get),
    Delete(delete::Delete),
    Detach(detach::Detach),
    Shift(shift::Shift),
    Drain(drain::Drain),
    Undrain(drain::Undrain),
    Down(drain::Down),
    Drains(drains::Drains),
    Settle(settle::Settle),
    Rollback(rollback::Rollback),
    Renew(renew::Renew),
    Guard(guard::Guard),
    Steer(steer::Steer),
    Counters(counters::Counters),
    Decap(decap::Decap),
    Events(events::Events),
    Trace(trace::Trace),
    Status(status::Status),
    Top(top::Top),
    Completions(completions::Completions),
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    let Cli { global, verb } = cli;
    let output = Output::new(global.output, global.color);
    match verb {
        Verb::Agent(verb) => verb.run(global.socket, global.tls.files()),
        Verb::Coordinator(verb) => verb.run(&global),
        Verb::Rollout(verb) => verb.run(&global, output),
        Verb::Detach(verb) => verb.run(),
        Verb::Decap(verb) => verb.run(output),
        Verb::Completions(verb) => verb.run(),
        Verb::Top(verb) => verb.run(&global.agent()?, output),
        Verb::Apply(verb) => {
            let request = verb.read()?;
            with_client(&global, |client| request.run(client, output))
        }
        Verb::Get(verb) => with_client(&global, |client| verb.run(client, output)),
        Verb::Delete(verb) => with_client(&global, |client| verb.run(client, output)),
        Verb::Shift(verb) => with_client(&global, |client| verb.run(client, output)),
        Verb::Drain(verb) => with_client(&global, |client| verb.run(client, output)),
        Verb::Undrain(verb) => with_client(&global, |client| verb.run(client, output)),
        Verb::Down(verb) => with_client(&global, |client| verb.run(client, output)),
        Verb::Drains(verb) => with_client(&global, |client| verb.run(client, output)),
        Verb::Settle(verb) => with_client(&global, |client| verb.run(client, output)),
        Verb::Rollback(verb) => with_client(&global, |client| verb.run(client, output)),
        Verb::Renew(verb) => with_client(&global, |client| verb.run(client, output)),
        Verb::Guard(verb) => with_client(&global, |client| verb.run(client, output)),
        Verb::Steer(verb) => with_client(&global, |client| verb.run(client, output)),
        Verb::Counters(verb) => with_client(&global, |client| verb.run(client, output)),
        Verb::Events(verb) => with_client(&global, |client| verb.run(client, output)),
        Verb::Trace(verb) => with_client(&global, |client| verb.run(client, output)),
        Verb::Status(verb) => with_client(&global, |client| verb.run(client, output)),
    }
}

/// Connects, and lets a verb speak to the agent.
fn with_client<F: Future<Output = Result<(), Failure>>>(
    global: &Global,
    verb: impl FnOnce(Client) -> F,
) -> Result<(), Failure> {
    let address = global.agent()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = Client::connect(address).await?;
        verb(client).await
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }
}
