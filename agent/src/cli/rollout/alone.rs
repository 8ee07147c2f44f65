//! Without a coordinator: this process is one, or speaks to the agents itself.

use std::{path::Path, time::Duration};

use serde::Serialize;
use tokio::{sync::oneshot, time::timeout};
use weir_proto::rollout::v1::PlanResponse;

use super::Here;
use crate::{
    api::{Ends, socket},
    cli::{
        coordinator::{StateArgs, fleet, host_name, http, read_agents},
        fail::Failure,
        output::Output,
        table::{Side::Left, Table, text, warning},
    },
    client::{Address, Client},
    model::{ServiceName, Version, Weight, Weights},
    node::messages::{ChangeOptions, InFlight, ServiceShift, ServiceStatus, Shift},
    rollout::{
        api::serve,
        fleet::agents::Agent,
        name::AgentName,
        run::{self, Coordinator, Options},
        spec::Rollout,
    },
};

/// This process as a coordinator.
pub(super) struct Alone {
    coordinator: Coordinator,
    stop: oneshot::Sender<()>,
    serving: tokio::task::JoinHandle<()>,
}

/// What a rollout would do, of these agents.
pub(super) async fn plan(
    here: &Here<'_>,
    rollout: &Rollout,
    agents: Option<&Path>,
) -> Result<PlanResponse, Failure> {
    Ok(run::plan::plan(rollout, &fleet(here.global, agents)?).await)
}

/// Begins to be a coordinator, for the agents of a file, or for the one of this host.
pub(super) fn start(
    here: &Here<'_>,
    agents: Option<&Path>,
    state: &StateArgs,
) -> Result<Alone, Failure> {
    let Address::Unix(socket) = &here.coordinator else {
        return Err(Failure::NoAgent(format!("no coordinator at {}", here.coordinator)));
    };
    let agents = fleet(here.global, agents)?;
    let name = host_name();
    let store = state.open(&name)?;
    let (listener, guard) =
        socket::bind(socket).map_err(|error| Failure::Failed(error.to_string()))?;
    let coordinator =
        Coordinator::start(Options { name, agents, store, http: http()?, record: None });
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn({
        let coordinator = coordinator.clone();
        async move {
            let shutdown = async {
                // An error means that the process ends.
                let _ = stopped.await;
            };
            if let Err(error) =
                serve(Ends { socket: listener, guard: &guard, port: None }, coordinator, shutdown)
                    .await
            {
                eprintln!("weir: {error}");
            }
        }
    });
    Ok(Alone { coordinator, stop, serving })
}

impl Alone {
    /// Stops; what was set at the agents stays.
    pub(super) async fn stop(self) {
        // An error means that it has stopped.
        let _ = self.stop.send(());
        let _ = self.serving.await;
        self.coordinator.stop().await;
    }
}

/// What became of one agent.
#[derive(Debug, Serialize)]
struct Aborted {
    agent: AgentName,
    /// The weights it has now, in words.
    weights: Option<String>,
    /// Why it has not gone back.
    error: Option<String>,
}

/// Gives all new connections back to the stable version on every agent of the file, past any
/// coordinator.
pub(super) async fn abort(
    here: &Here<'_>,
    (file, to): (&Path, Option<Version>),
    service: &ServiceName,
    output: Output,
) -> Result<(), Failure> {
    let agents = read_agents(file, &here.global.tls)?;
    let mut tasks = tokio::task::JoinSet::new();
    for agent in agents {
        let service = service.clone();
        tasks.spawn(async move {
            let outcome = abort_one(&agent, service, to).await;
            let (weights, error) = match outcome {
                Ok(weights) => (Some(weights), None),
                Err(error) => (None, Some(error)),
            };
            Aborted { agent: agent.name, weights, error }
        });
    }
    let mut all = tasks.join_all().await;
    all.sort_by(|one, other| one.agent.cmp(&other.agent));
    output.answer(&all, |all, colour| {
        let mut table = Table::new(&[("AGENT", Left), ("WEIGHTS", Left)], colour);
        for one in all {
            table.row([
                text(&one.agent),
                match (&one.weights, &one.error) {
                    (Some(weights), _) => text(weights),
                    (None, error) => warning(error.as_deref().unwrap_or("?")),
                },
            ]);
        }
        table.render()
    })?;
    let failed: Vec<String> =
        all.iter().filter(|one| one.error.is_some()).map(|one| one.agent.to_string()).collect();
    if failed.is_empty() {
        return Ok(());
    }
    Err(Failure::Failed(format!("not aborted on {}: ask again", failed.join(", "))))
}

/// How long one agent may take.
const ANSWER: Duration = Duration::from_secs(10);

async fn abort_one(
    agent: &Agent,
    service: ServiceName,
    to: Option<Version>,
) -> Result<String, String> {
    let abort = async {
        let connected = Client::connect(agent.address.clone()).await;
        let mut client = connected.map_err(|error| error.to_string())?;
        let status = client.get(&service).await.map_err(|error| error.to_string())?;
        let weights = match to {
            Some(version) => Weights::all_to(version),
            None => stable(&status)
                .ok_or("it cannot tell which version is stable: name it, --to blue")?,
        };
        let shift = Shift {
            shifts: vec![ServiceShift {
                service,
                set: weights.iter().collect(),
                remainder: Version::Blue,
                expected_generation: None,
            }],
            in_flight: InFlight::BySpec,
            lease: None,
            options: ChangeOptions::default(),
        };
        client.shift(&shift).await.map_err(|error| error.to_string())?;
        Ok(weights.to_string())
    };
    match timeout(ANSWER, abort).await {
        Ok(outcome) => outcome,
        Err(_) => Err(format!("no answer within {} s", ANSWER.as_secs())),
    }
}

/// What a service had before its rollout, if that can be told without doubt.
fn stable(status: &ServiceStatus) -> Option<Weights> {
    let whole = |weights: &Weights| weights.iter().any(|(_, weight)| weight == Weight::FULL);
    let guard = status.guard.and_then(|guard| guard.guard.fallback);
    let lease = status.lease.map(|lease| lease.revert_to);
    [guard, lease, Some(status.settled)].into_iter().flatten().find(whole)
}
