//! `weir rollout status`

use std::time::Duration;

use clap::Args;
use tokio::time::{Instant, timeout_at};
use tokio_stream::StreamExt as _;
use weir_proto::rollout::v1::Rollout;

use crate::{
    cli::{
        fail::Failure,
        output::{Output, print},
    },
    client::ClientError,
    model::ServiceName,
    rollout::api::Remote,
};

/// Wait until a rollout is over, and say by the exit code how: for CI.
#[derive(Debug, Args)]
pub(super) struct Status {
    /// The service.
    #[arg(value_name = "SERVICE", value_parser = ServiceName::new)]
    service: ServiceName,
    /// How long to wait; 0s only looks.
    #[arg(long, default_value = "0s", value_name = "TIME", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

/// The exit codes.
const PROGRESSING: u8 = 10;
const WAITING: u8 = 11;
const DEGRADED: u8 = 12;
const NONE: u8 = 13;

impl Status {
    pub(super) async fn run(self, mut remote: Remote, output: Output) -> Result<(), Failure> {
        let deadline = Instant::now() + self.timeout;
        let service = &self.service;
        let last = match remote.get(service).await {
            Ok(rollout) => rollout,
            Err(ClientError::Refused { reason, message, .. }) if reason == "NO_ROLLOUT" => {
                return Err(Failure::Exit(NONE, message));
            }
            Err(error) => return Err(error.into()),
        };
        let last =
            if over(&last) { last } else { wait(&mut remote, service, deadline, last).await? };
        if !output.is_table() {
            output.answer(&last, |_, _| String::new())?;
        }
        outcome(&last, output)
    }
}

/// Follows it until it is over, or the time is.
async fn wait(
    remote: &mut Remote,
    service: &ServiceName,
    deadline: Instant,
    mut last: Rollout,
) -> Result<Rollout, Failure> {
    let mut stream = Box::pin(remote.watch(service).await?);
    while let Ok(Some(rollout)) = timeout_at(deadline, stream.next()).await {
        last = rollout?;
        if over(&last) {
            break;
        }
    }
    Ok(last)
}

/// Whether nothing more happens by itself, whatever comes.
pub(super) fn over(rollout: &Rollout) -> bool {
    matches!(rollout.phase.as_str(), "healthy" | "degraded")
}

/// What the exit code says.
pub(super) fn outcome(rollout: &Rollout, output: Output) -> Result<(), Failure> {
    let Rollout { service, revision, phase, reason, activity, .. } = rollout;
    let line = format!("{service} {revision} is {phase}: {reason}");
    match phase.as_str() {
        "healthy" if output.is_table() => print(&format!("{line}\n")),
        "healthy" => Ok(()),
        "aborting" | "rolling-back" | "degraded" => Err(Failure::Exit(DEGRADED, line)),
        "paused" => Err(Failure::Exit(WAITING, line)),
        _ if activity == "gate" => Err(Failure::Exit(WAITING, line)),
        _ => Err(Failure::Exit(PROGRESSING, line)),
    }
}
