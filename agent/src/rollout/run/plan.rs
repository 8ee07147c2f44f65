//! A rollout before it begins: what each step moves, and how long it will take.

use std::{
    future::Future,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use weir_proto::rollout::v1;

use super::tell;
use crate::{
    client::{Client, ClientError},
    model::{PerVersion, Traffic, Version, Weight, Weights},
    node::messages::{ChangeOptions, InFlight, ServiceShift, ServiceStatus, Shift},
    rollout::{
        fleet::{
            agents::Agent,
            seen::{Reach, Seen},
            view::{timestamp, view},
        },
        judge::{Load, Need},
        machine::{AgentView, Observed, Phase, State, tick},
        name::AgentName,
        schedule::{self, Planned, Step},
        spec::{Rollout, lint},
    },
};

/// Over so long traffic is looked at.
const LOOK: Duration = Duration::from_secs(2);
/// The longest wait for one answer.
const ANSWER: Duration = Duration::from_secs(5);
/// A candidate that fails so many times as often shall be found.
const TIMES: f64 = 2.0;
/// How many of the connections fail at a baseline that was not seen to fail.
const UNSEEN: f64 = 0.001;

/// What was found at one agent.
#[derive(Debug)]
struct Survey {
    agent: AgentName,
    /// The same as `status`, as the machine looks at it.
    view: AgentView,
    status: Arc<ServiceStatus>,
    connections_per_s: f64,
    counted: PerVersion<Traffic>,
    /// By weight step, slots from the table of now.
    moved: Vec<u32>,
}

/// What the rollout would do. Looks at the agents for two seconds; changes nothing.
pub async fn plan(rollout: &Rollout, agents: &[Agent]) -> v1::PlanResponse {
    let mut warnings = Vec::new();
    let mut tasks = JoinSet::new();
    for agent in agents.iter().cloned() {
        let rollout = rollout.clone();
        tasks.spawn(async move {
            let survey = survey(&agent, &rollout).await;
            survey.map_err(|error| format!("{}: {error}", agent.name))
        });
    }
    let mut surveys = Vec::new();
    for outcome in tasks.join_all().await {
        match outcome {
            Ok(survey) => surveys.push(survey),
            Err(error) => warnings.push(error),
        }
    }
    surveys.sort_by(|one, other| one.agent.cmp(&other.agent));
    warnings.sort();
    let first = surveys.first();
    let roles = first.map(|survey| roles(rollout, &survey.status));
    let backends = match (first, roles) {
        (Some(survey), Some((stable, _))) => backends(&survey.status, stable),
        _ => Vec::new(),
    };
    let steps = schedule::steps(rollout, &backends);
    match missing(rollout, &surveys) {
        Some(missing) => warnings.push(format!("it cannot begin yet: {missing}")),
        None => warnings.extend(steps.as_ref().err().cloned()),
    }
    let steps = steps.unwrap_or_default();
    let rate = surveys.iter().map(|survey| survey.connections_per_s).sum();
    let load = Load { connections_per_s: rate, share: 0.0, failures: failures(&surveys) };
    let traffic = surveys.iter().map(|survey| v1::AgentTraffic {
        agent: survey.agent.to_string(),
        connections_per_s: survey.connections_per_s,
    });
    let name = |version: Option<Version>| version.map_or_else(String::new, |one| one.to_string());
    v1::PlanResponse {
        service: rollout.service.to_string(),
        revision: rollout.revision.clone(),
        strategy: rollout.strategy.name().to_owned(),
        stable: name(roles.map(|(stable, _)| stable)),
        candidate: name(roles.map(|(_, candidate)| candidate)),
        steps: planned(rollout, (&steps, backends.len()), first, load),
        traffic: traffic.collect(),
        warnings,
    }
}

/// What keeps it from beginning on the agents that answer, as the preflight would say it.
fn missing(rollout: &Rollout, surveys: &[Survey]) -> Option<String> {
    if surveys.is_empty() {
        return None;
    }
    // The guard would be set, and hooks asked, by then.
    let rollout = Rollout { guard: None, hooks: Vec::new(), ..rollout.clone() };
    let now = timestamp(SystemTime::now());
    let observed = Observed {
        leading: true,
        store_ok: true,
        agents: surveys.iter().map(|one| (one.agent.clone(), one.view.clone())).collect(),
        ..Observed::default()
    };
    let (state, _) = tick(&State::new(rollout, now), &observed, now);
    (state.phase == Phase::Preflight).then_some(state.reason)
}

/// Stable and candidate, as the preflight will find them.
fn roles(rollout: &Rollout, status: &ServiceStatus) -> (Version, Version) {
    let most = || {
        let by_weight = |one: &Version| (status.versions[*one].asked, std::cmp::Reverse(*one));
        Version::ALL.into_iter().max_by_key(by_weight).unwrap_or(Version::Blue)
    };
    let stable = rollout.stable.unwrap_or_else(most);
    let by_default = || lint::default_candidate(&rollout.strategy, stable);
    let candidate = rollout.candidate.unwrap_or_else(by_default);
    (stable, candidate)
}

fn backends(status: &ServiceStatus, version: Version) -> Vec<SocketAddr> {
    let all = status.versions[version].backends.iter();
    all.map(|one| SocketAddr::new(one.address, one.port)).collect()
}

/// The candidate's weight after a step; nothing if it leaves that alone.
fn weight(step: &Step) -> Option<Weight> {
    match step {
        Step::Weight(weight) => Some(*weight),
        Step::Promote => Some(Weight::FULL),
        _ => None,
    }
}

/// The part of connections that fails at the moment.
#[allow(clippy::cast_precision_loss, reason = "a part needs no more than 53 bits")]
fn failures(surveys: &[Survey]) -> f64 {
    let mut all = Traffic::default();
    for survey in surveys {
        survey.counted.iter().for_each(|(_, traffic)| all.add(traffic));
    }
    let failed = all.refused + all.unanswered;
    let ended = failed + all.established;
    if failed == 0 || ended == 0 { UNSEEN } else { failed as f64 / ended as f64 }
}

/// Each step with what it moves and how long it takes. `all`: the stable version's backends.
fn planned(
    rollout: &Rollout,
    (steps, all): (&[Step], usize),
    survey: Option<&Survey>,
    load: Load,
) -> Vec<v1::PlannedStep> {
    let mut moved = survey.into_iter().flat_map(|survey| &survey.moved);
    let (mut before, mut weight_bp) = (0, 0);
    // With `rolling`, the backends that were replaced so far, and those that are held against the rest.
    let (mut replaced, mut fresh_bp) = (0, None);
    let part = |backends: usize| u32::try_from(backends * 10_000 / all.max(1)).unwrap_or(10_000);
    let total = survey.map_or(0, |one| one.status.versions[Version::Blue].table.total);
    let step = |Planned { step, least, .. }: Planned| {
        let mut slots = None;
        if let Some(weight) = weight(&step) {
            weight_bp = weight.bp();
            // Each is counted from the table of now, and each moves on from the one before.
            slots = moved.next().map(|to| to.abs_diff(std::mem::replace(&mut before, *to)));
        }
        if let Step::Replace { backends, .. } = &step {
            replaced += backends.len();
            weight_bp = part(replaced);
            fresh_bp = Some(part(if replaced < all { replaced } else { backends.len() }));
        }
        let until_promoted = matches!(step, Step::Pause(None) | Step::Gate(_));
        let analysis = matches!(step, Step::Analysis(_)).then(|| {
            let share = f64::from(fresh_bp.unwrap_or(weight_bp)) / 10_000.0;
            let load = Load { share, ..load };
            (
                Need::to_fail(&rollout.analysis, &load, TIMES),
                Need::of_samples(&rollout.analysis, &load),
            )
        });
        let (need, samples) = analysis.unwrap_or_default();
        v1::PlannedStep {
            text: step.to_string(),
            kind: tell::kind_of(&step).to_owned(),
            slots,
            total_slots: total,
            weight_bp,
            least_ms: (!until_promoted).then(|| least.millis()),
            need_ms: need.and_then(|need| need.time).map(millis),
            need_failures: need.map(|need| ceil(need.failures)),
            samples_ms: samples.and_then(|need| need.time).map(millis),
        }
    };
    schedule::timetable(rollout, steps).into_iter().map(step).collect()
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates")]
fn ceil(number: f64) -> u64 {
    number.ceil() as u64
}

/// Looks at one agent: traffic, and what each weight would move.
async fn survey(agent: &Agent, rollout: &Rollout) -> Result<Survey, String> {
    let services = [rollout.service.clone()];
    let mut client = within(Client::connect(agent.address.clone())).await?;
    let status = Arc::new(within(client.get(&rollout.service)).await?);
    let mark = within(client.counters(&services)).await?;
    sleep(LOOK).await;
    let sample = within(client.counters_since(&services, mark)).await?;
    let rate = sample.interval.as_ref().and_then(|interval| interval.of(&rollout.service));
    let rate =
        rate.map_or(0.0, |of| of.versions.iter().map(|(_, one)| one.delta.connections_per_s).sum());
    let (stable, candidate) = roles(rollout, &status);
    let steps = schedule::steps(rollout, &backends(&status, stable)).unwrap_or_default();
    let mut moved = Vec::new();
    for weight in steps.iter().filter_map(weight).filter(|_| stable != candidate) {
        let rest = Weight::from_bp(10_000 - weight.bp()).unwrap_or(Weight::ZERO);
        let weights = PerVersion::from_fn(|one| match one {
            one if one == candidate => weight,
            one if one == stable => rest,
            _ => Weight::ZERO,
        });
        let Ok(weights) = Weights::new(weights) else { continue };
        let shift = Shift {
            shifts: vec![ServiceShift {
                service: rollout.service.clone(),
                set: weights.iter().collect(),
                remainder: stable,
                expected_generation: None,
            }],
            in_flight: InFlight::default(),
            lease: None,
            // Backends of the candidate may come later; that is not this question.
            options: ChangeOptions { dry_run: true, force: true, ..ChangeOptions::default() },
        };
        let changed = within(client.shift(&shift)).await?;
        let slots = changed.changes.iter().flat_map(|change| &change.moves).map(|one| one.slots);
        moved.push(slots.sum());
    }
    let of = |version: Version| {
        let counters = sample.counters.services.first();
        counters.map_or_else(Traffic::default, |one| one.versions[version].traffic)
    };
    let now = SystemTime::now();
    let seen = Seen {
        reach: Reach::Reached { since: now },
        status: Some(Arc::clone(&status)),
        ..Seen::nothing(now)
    };
    Ok(Survey {
        agent: agent.name.clone(),
        view: view(&seen),
        counted: PerVersion::from_fn(of),
        status,
        connections_per_s: rate,
        moved,
    })
}

async fn within<T>(call: impl Future<Output = Result<T, ClientError>>) -> Result<T, String> {
    match timeout(ANSWER, call).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {} s", ANSWER.as_secs())),
    }
}
