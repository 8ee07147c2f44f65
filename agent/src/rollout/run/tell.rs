//! A rollout as it is told to people and programs. Pure.

use std::{collections::BTreeMap, time::SystemTime};

use weir_proto::rollout::v1;

use super::{court::Evidence, recent::Recent};
use crate::{
    model::{Agreement, ServiceName, Version},
    rollout::{
        external::About,
        fleet::{
            seen::{Reach, Seen},
            view::{timestamp, view},
        },
        ledger::{Event, Revision},
        machine::{AgentView, EventKind, Phase, Stage, State, Status},
        name::AgentName,
        schedule::Step,
        spec::Share,
    },
};

/// All that is known of a rollout.
pub(super) struct Known<'a> {
    /// Where it stands.
    pub(super) state: &'a State,
    /// What was seen of each agent.
    pub(super) seen: &'a BTreeMap<AgentName, Seen>,
    /// What is judged.
    pub(super) evidence: Option<&'a Evidence>,
    /// What happened last.
    pub(super) recent: &'a Recent,
    /// Why nothing advances; empty: it does.
    pub(super) held: String,
}

/// Of a service of which nothing is known yet.
pub(super) fn nothing(service: &ServiceName) -> v1::Rollout {
    v1::Rollout {
        service: service.to_string(),
        phase: word(Status::Pending).to_owned(),
        reason: "it has not begun".to_owned(),
        ..v1::Rollout::default()
    }
}

/// Whether nothing more happens by itself in a phase.
#[must_use]
pub fn is_over(phase: &str) -> bool {
    matches!(phase, "healthy" | "degraded")
}

/// The rollout.
pub(super) fn rollout(known: &Known<'_>, leader: &str) -> v1::Rollout {
    let Known { state, seen, evidence, recent, held } = known;
    let name = |version: Option<Version>| version.map_or_else(String::new, |one| one.to_string());
    let (way, at) = way(state);
    let wave = wave(state, at);
    let stable = state.roles.map(|roles| roles.stable);
    let candidate = state.roles.map(|roles| roles.candidate).filter(|one| Some(*one) != stable);
    v1::Rollout {
        service: state.rollout.service.to_string(),
        revision: state.rollout.revision.clone(),
        strategy: state.rollout.strategy.name().to_owned(),
        stable: name(stable),
        candidate: name(candidate),
        phase: word(state.status()).to_owned(),
        activity: activity(state).to_owned(),
        reason: state.reason.clone(),
        transition: state.transition,
        started_ms: recent.began_ms().unwrap_or(millis(state.since.0)),
        since_ms: millis(state.since.0),
        step: u32::try_from(at).unwrap_or(u32::MAX),
        steps: steps(way, at, state),
        agents: seen.iter().map(|(name, seen)| agent(name, seen, wave.contains(&name))).collect(),
        analysis: evidence.map(analysis),
        events: recent.events(),
        leader: leader.to_owned(),
        held: held.clone(),
    }
}

/// The steps that it goes through, and the one that it is at.
fn way(state: &State) -> (&[Step], usize) {
    match &state.phase {
        Phase::Pending | Phase::Preflight => (&state.steps, 0),
        Phase::Progressing(position) | Phase::Aborting(position) => (&state.steps, position.step),
        Phase::Paused(paused) => (&state.steps, paused.at.map_or(0, |at| at.step)),
        Phase::RollingBack(position) => (&state.back, position.step),
        Phase::Healthy if state.back.is_empty() => (&state.steps, state.steps.len()),
        Phase::Healthy | Phase::Degraded => (&state.back, state.back.len()),
    }
}

/// The agents that the step at a place is for.
fn wave(state: &State, at: usize) -> Vec<&AgentName> {
    let before = state.steps.iter().take(at + 1).rev();
    let share = before.clone().find_map(|step| match step {
        Step::Wave(share) => Some(*share),
        Step::Promote | Step::Bake(_) | Step::Drain(_) => Some(Share::ALL),
        _ => None,
    });
    let going_back = matches!(state.phase, Phase::RollingBack(_) | Phase::Degraded);
    let share = if going_back { Share::ALL } else { share.unwrap_or(Share::ALL) };
    state.agents.iter().take(share.of(state.agents.len())).collect()
}

fn steps(way: &[Step], at: usize, state: &State) -> Vec<v1::Step> {
    let mut weight = 0;
    let one = |(index, step): (usize, &Step)| {
        match step {
            Step::Weight(to) => weight = to.bp(),
            Step::Promote => weight = 10_000,
            _ => {}
        }
        let agents = match step {
            Step::Wave(_) => {
                wave(state, index).iter().map(std::string::ToString::to_string).collect()
            }
            _ => Vec::new(),
        };
        v1::Step {
            text: step.to_string(),
            kind: kind_of(step).to_owned(),
            state: match index.cmp(&at) {
                std::cmp::Ordering::Less => "done",
                std::cmp::Ordering::Equal => "running",
                std::cmp::Ordering::Greater => "waiting",
            }
            .to_owned(),
            weight_bp: weight,
            agents,
        }
    };
    way.iter().enumerate().map(one).collect()
}

/// The kind of a step, in one stable word.
#[must_use]
pub const fn kind_of(step: &Step) -> &'static str {
    match step {
        Step::Route(_) => "setMatchRoute",
        Step::Wave(_) => "setWave",
        Step::Weight(_) => "setWeight",
        Step::Analysis(_) => "analysis",
        Step::Pause(_) => "pause",
        Step::Gate(_) => "gate",
        Step::Replace { .. } => "replace",
        Step::Promote => "promote",
        Step::Bake(_) => "bake",
        Step::Drain(_) => "drain",
        Step::Restore(_) => "restore",
    }
}

/// What it does in its step.
const fn activity(state: &State) -> &'static str {
    let (Phase::Progressing(at) | Phase::Aborting(at) | Phase::RollingBack(at)) = &state.phase
    else {
        return "";
    };
    match at.stage {
        Stage::Before => "asking hooks",
        Stage::Emptying => "emptying",
        Stage::Replacing => "replacing",
        Stage::Readying => "readying",
        Stage::Applying => "applying",
        Stage::Verifying => "verifying",
        Stage::After => "telling hooks",
        Stage::Analyzing { .. } => "analyzing",
        Stage::Waiting => "waiting",
        Stage::Gate => "gate",
    }
}

/// The phase with which a rollout begins.
pub(super) const BEGIN: &str = "preflight";

/// A phase, in one stable word.
pub(super) const fn word(status: Status) -> &'static str {
    match status {
        Status::Pending => "pending",
        Status::Preflight => "preflight",
        Status::Progressing => "progressing",
        Status::Paused => "paused",
        Status::Promoting => "promoting",
        Status::Baking => "baking",
        Status::Draining => "draining",
        Status::Healthy => "healthy",
        Status::Aborting => "aborting",
        Status::RollingBack => "rolling-back",
        Status::Degraded => "degraded",
    }
}

/// The kind of an event, in one stable word.
pub(super) const fn kind(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Transition => "transition",
        EventKind::Command => "command",
        EventKind::Refused => "refused",
        EventKind::Failure => "failure",
        EventKind::Ejected => "ejected",
        EventKind::Returned => "returned",
    }
}

/// One agent.
fn agent(name: &AgentName, seen: &Seen, in_wave: bool) -> v1::Agent {
    let view = view(seen);
    let error = match &seen.reach {
        Reach::Lost { error, .. } => error.clone(),
        Reach::Reached { .. } => seen.failed.clone().unwrap_or_default(),
    };
    let ratio = seen.status.as_ref().map(|status| status.sample_ratio);
    let share = match ratio.map(|ratio| ratio.agreement) {
        Some(Agreement::Agrees) => "agrees",
        Some(Agreement::Differs) => "differs",
        Some(Agreement::TooFew) => "too-few",
        Some(Agreement::NotJudged) | None => "not-judged",
    };
    v1::Agent {
        name: name.to_string(),
        reachable: view.reachable,
        error,
        since_ms: millis(timestamp(seen.since()).0),
        generation: view.generation,
        versions: Version::ALL.map(|one| of_version(one, seen, &view)).into(),
        share: share.to_owned(),
        connections: ratio.map_or(0, |ratio| ratio.connections),
        needed: ratio.map_or(0, |ratio| ratio.needed),
        connections_per_s: seen.rate,
        guard: view.tripped.as_ref().map_or_else(String::new, |tripped| tripped.reason.clone()),
        in_wave,
        backends: view.backends.iter().map(backend).collect(),
    }
}

fn of_version(version: Version, seen: &Seen, view: &AgentView) -> v1::VersionShare {
    let row = seen.status.as_ref().map(|status| &status.versions[version]);
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    v1::VersionShare {
        version: version.to_string(),
        weight_bp: view.weights[version].bp(),
        observed: row.map_or(0.0, |row| row.observed.share()),
        ready: count(view.ready[version]),
        backends: count(row.map_or(0, |row| row.backends.len())),
        in_flight: view.in_flight[version],
    }
}

fn backend(one: &crate::rollout::machine::BackendView) -> v1::Backend {
    v1::Backend {
        address: one.address.to_string(),
        version: one.version.to_string(),
        state: format!("{:?}", one.state).to_lowercase(),
        healthy: one.healthy,
        flows: one.flows,
    }
}

/// What the judge says.
fn analysis(evidence: &Evidence) -> v1::Analysis {
    super::opinion::analysis(evidence)
}

/// The rollout that calls of hooks are about.
pub(super) fn about(state: &State) -> About {
    let (way, at) = way(state);
    About {
        service: state.rollout.service.clone(),
        revision: state.rollout.revision.clone(),
        step: (at < way.len()).then_some(at + 1),
    }
}

/// An event of the state.
pub(super) fn of_state(event: &crate::rollout::machine::Event) -> v1::Event {
    v1::Event {
        id: event.number,
        at_ms: millis(event.at.0),
        who: event.by.clone().unwrap_or_default(),
        verb: kind(event.kind).to_owned(),
        reason: event.reason.clone(),
        before: word(event.before).to_owned(),
        after: word(event.after).to_owned(),
    }
}

/// An event of the log.
pub(super) fn event(id: u64, event: Event) -> v1::Event {
    let Event { at_ms, who, verb, reason, before, after } = event;
    v1::Event { id, at_ms: millis(at_ms), who, verb, reason, before, after }
}

/// A revision of the log.
pub(super) fn revision(revision: Revision) -> v1::Revision {
    let text = |name: &str| revision.document[name].as_str().unwrap_or_default().to_owned();
    v1::Revision {
        at_ms: millis(revision.at_ms),
        phase: text("phase").to_lowercase(),
        reason: text("reason"),
        strategy: text("strategy"),
        name: revision.name,
    }
}

fn millis(at: u64) -> i64 {
    i64::try_from(at).unwrap_or(i64::MAX)
}

/// Now, as moments are told.
#[must_use]
pub fn now() -> i64 {
    millis(timestamp(SystemTime::now()).0)
}
