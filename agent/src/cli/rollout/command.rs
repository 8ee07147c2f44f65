//! What a person wants of a rollout: promote, pause, resume, abort, retry, undo.

use std::path::PathBuf;

use clap::Args;
use weir_proto::rollout::v1::CommandRequest;

use super::{Here, alone, who};
use crate::{
    cli::{
        fail::Failure,
        output::{Output, print},
    },
    model::{ServiceName, Version},
    rollout::api::Remote,
};

/// Which rollout, and why.
#[derive(Debug, Args)]
pub(super) struct Which {
    /// The service.
    #[arg(value_name = "SERVICE", value_parser = ServiceName::new)]
    pub(super) service: ServiceName,
    /// Why, for the event log.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
    pub(super) why: String,
}

/// End a pause or a gate, and go on.
#[derive(Debug, Args)]
pub(super) struct Promote {
    #[command(flatten)]
    which: Which,
    /// Leave out all steps that are left, analyses too.
    #[arg(long)]
    full: bool,
}

/// Hold a rollout where it is. What is judged goes on being judged.
#[derive(Debug, Args)]
pub(super) struct Pause {
    #[command(flatten)]
    which: Which,
}

/// Go on after `pause`.
#[derive(Debug, Args)]
pub(super) struct Resume {
    #[command(flatten)]
    which: Which,
}

/// Give all new connections back to the old version, now.
#[derive(Debug, Args)]
#[command(after_help = "\
Without a coordinator, --agents speaks to the agents themselves, all at once; no rollout need be known.")]
pub(super) struct Abort {
    #[command(flatten)]
    which: Which,
    /// Go straight to the agents of this file, past the coordinator: for when it is gone.
    #[arg(long, value_name = "FILE")]
    agents: Option<PathBuf>,
    /// With --agents: the version that gets everything. Without it, the one that the rollout's guard or lease names,
    /// or that had everything when the tables last settled.
    #[arg(long, requires = "agents", value_name = "VERSION")]
    to: Option<Version>,
}

/// Try a degraded rollout again, from its first step.
#[derive(Debug, Args)]
pub(super) struct Retry {
    #[command(flatten)]
    which: Which,
}

/// Go back to an earlier revision in one step, without the steps between.
#[derive(Debug, Args)]
pub(super) struct Undo {
    #[command(flatten)]
    which: Which,
    /// The revision; without it, the one before.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "REVISION")]
    to_revision: String,
}

impl Promote {
    pub(super) async fn run(self, remote: Remote) -> Result<(), Failure> {
        let verb = if self.full { "promote-full" } else { "promote" };
        send(remote, self.which, verb, String::new()).await
    }
}

impl Pause {
    pub(super) async fn run(self, remote: Remote) -> Result<(), Failure> {
        send(remote, self.which, "pause", String::new()).await
    }
}

impl Resume {
    pub(super) async fn run(self, remote: Remote) -> Result<(), Failure> {
        send(remote, self.which, "resume", String::new()).await
    }
}

impl Retry {
    pub(super) async fn run(self, remote: Remote) -> Result<(), Failure> {
        send(remote, self.which, "retry", String::new()).await
    }
}

impl Undo {
    pub(super) async fn run(self, remote: Remote) -> Result<(), Failure> {
        send(remote, self.which, "undo", self.to_revision).await
    }
}

impl Abort {
    pub(super) async fn run(self, here: &Here<'_>, output: Output) -> Result<(), Failure> {
        match &self.agents {
            Some(file) => alone::abort(here, (file, self.to), &self.which.service, output).await,
            None => send(here.connect().await?, self.which, "abort", String::new()).await,
        }
    }
}

async fn send(
    mut remote: Remote,
    which: Which,
    verb: &str,
    to_revision: String,
) -> Result<(), Failure> {
    let Which { service, why } = which;
    let (service, verb) = (service.to_string(), verb.to_owned());
    let told = format!("{service}: {verb}; see `weir rollout get {service} -w`\n");
    remote.command(CommandRequest { service, verb, to_revision, who: who(), why }).await?;
    print(&told)
}
