//! `weir guard`

use clap::Args;

use super::{fail::Failure, output::Output, shift::Setting};
use crate::{
    client::Client,
    model::{
        self, PerVersion, ServiceName, Version, Weight, Weights,
        guard::{MAX_CONNECTIONS, Metric, WindowLength, parse_condition},
        weight::percent,
    },
    node::messages::{ClearGuard, GuardStatus, SetGuard},
};

/// Set a limit that the agent enforces on its own: a version that breaks it loses its weight.
#[derive(Debug, Args)]
#[command(after_help = "\
The agent looks a few times a second. When the version breaks its guard, one commit gives its weight to
the others, as the last settled weights say or --fallback; its connections stay. From then on a change that
gives it weight is refused until the guard is ended (--off), or forced. The guard outlives the agent.

Examples:
  weir guard shop canary connect_success '>= 50%'
  weir guard shop canary connect_success '>= 99%' --min-connections 200 --window 30s --fallback blue=100%
  weir guard shop                    show it
  weir guard shop --off              end it")]
pub(super) struct Guard {
    /// The service.
    #[arg(value_name = "SERVICE", value_parser = ServiceName::new)]
    service: ServiceName,
    /// The version that is watched. Without it, show the guard that there is.
    #[arg(value_name = "VERSION", requires = "condition")]
    version: Option<Version>,
    /// What is measured: `connect_success`, the handshakes that a server accepted of all that ended.
    #[arg(value_name = "METRIC")]
    metric: Option<Metric>,
    /// The least share that is well, such as '>= 50%'.
    #[arg(value_name = "CONDITION", value_parser = parse_condition)]
    condition: Option<Weight>,
    /// With fewer connections within the window nothing is said.
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_CONNECTIONS)))]
    min_connections: u32,
    /// How long it looks back, 1s to 10m.
    #[arg(long, default_value = "5s", value_name = "TIME")]
    window: WindowLength,
    /// The weights to go back to, with commas between them; without it, those that settled last.
    #[arg(long, value_delimiter = ',', value_name = "VERSION=WEIGHT")]
    fallback: Vec<Setting>,
    /// End the guard.
    #[arg(long, conflicts_with_all = ["version", "fallback"])]
    off: bool,
}

impl Guard {
    pub(super) async fn run(self, mut client: Client, output: Output) -> Result<(), Failure> {
        let service = self.service.clone();
        if self.off {
            client.clear_guard(&ClearGuard { service: service.clone(), fence: None }).await?;
            return output.answer(&None::<GuardStatus>, |_, _| format!("{service}: no guard\n"));
        }
        let (Some(version), Some(metric), Some(least)) =
            (self.version, self.metric, self.condition)
        else {
            let status = client.get(&service).await?.guard;
            return output.answer(&status, |status, _| match status {
                Some(status) => format!("{service}: {}\n", line(status)),
                None => format!("{service}: no guard\n"),
            });
        };
        let guard = model::Guard {
            version,
            metric,
            least,
            min_connections: self.min_connections,
            window: self.window,
            fallback: fallback(&self.fallback)?,
        };
        let set = SetGuard { service: service.clone(), guard, fence: None };
        let status = client.set_guard(&set).await?;
        output.answer(&Some(status), |_, _| format!("{service}: {}\n", line(&status)))
    }
}

fn fallback(settings: &[Setting]) -> Result<Option<Weights>, Failure> {
    if settings.is_empty() {
        return Ok(None);
    }
    let mut weights = PerVersion::from_fn(|_| Weight::ZERO);
    for Setting(version, weight) in settings {
        weights[*version] = *weight;
    }
    let weights = Weights::new(weights);
    weights.map(Some).map_err(|error| Failure::Usage(format!("--fallback: {error}")))
}

/// The guard, and what it sees: `canary: connect_success >= 50% …; 3 of 41 failed`
pub(super) fn line(status: &GuardStatus) -> String {
    let GuardStatus { guard, connections, failures, tripped } = status;
    match tripped {
        None => format!("{guard}; {failures} of {connections} connections failed"),
        Some(tripped) => {
            let time = humantime::format_rfc3339_seconds(tripped.since);
            let failed = tripped.failures * 10_000 / tripped.connections.max(1);
            let failed = percent(u32::try_from(failed).unwrap_or(u32::MAX));
            format!(
                "TRIPPED at {time}: {} of {} connections failed ({failed}), weights {} → {}; {guard}",
                tripped.failures, tripped.connections, tripped.before, tripped.after
            )
        }
    }
}
