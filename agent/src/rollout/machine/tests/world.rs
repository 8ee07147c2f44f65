//! A world for the machine: agents that do what is asked, late, badly or not at all; hooks; a judge.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::super::*;
use crate::model::{BackendState, LeaseTerms, PerVersion, Rule, Version, Weight, Weights};
use crate::rollout::judge::{Role, Verdict};
use crate::rollout::name::AgentName;
use crate::rollout::spec::{self, Rollout};
use crate::rollout::time::Timestamp;

/// The head of every document; what follows is added to it.
pub(super) const HEAD: &str = "kind: Rollout\nservice: shop\nrevision: v2\n";

/// A rollout from the lines after the head.
pub(super) fn rollout(lines: &str) -> Rollout {
    spec::parse(&format!("{HEAD}{lines}")).unwrap_or_else(|problems| {
        let list: Vec<String> = problems.iter().map(ToString::to_string).collect();
        panic!("{}", list.join("\n"))
    })
}

/// How an agent behaves.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Manner {
    /// Effects arrive so many ticks late.
    pub late: u32,
    /// It refuses every change.
    pub refuses: bool,
    /// It does not answer.
    pub gone: bool,
}

/// One agent.
pub(super) struct Agent {
    pub view: AgentView,
    pub manner: Manner,
    coming: Vec<(u32, Effect)>,
    /// Since when it answers, or does not.
    since: Timestamp,
}

impl Agent {
    /// As it is seen.
    fn seen(&self, now: Timestamp) -> AgentView {
        let silent_ms = if self.view.reachable { 0 } else { now.since(self.since) };
        AgentView { silent_ms, ..self.view.clone() }
    }
}

/// The world.
pub(super) struct World {
    pub now: Timestamp,
    pub state: State,
    pub agents: BTreeMap<AgentName, Agent>,
    pub hooks: BTreeMap<HookKey, HookAnswer>,
    /// What the next calls of hooks answer; then they succeed.
    pub answers: Vec<HookAnswer>,
    pub calls: Vec<(HookKey, HookCall)>,
    pub commands: Vec<Command>,
    pub leading: bool,
    pub store_ok: bool,
    /// What the judge says of whatever it is asked.
    pub verdict: Verdict,
    pub judging: Option<JudgeStart>,
    /// What was asked for at the last tick.
    pub asked: Vec<Effect>,
    /// Every event.
    pub events: Vec<Event>,
    /// Versions without weight are never empty.
    pub busy: bool,
    told: BTreeSet<u64>,
}

pub(super) fn name(index: usize) -> AgentName {
    AgentName::new(&format!("edge-{index:02}")).unwrap()
}

pub(super) fn address(version: Version, index: usize) -> SocketAddr {
    let net = 61 + version.index();
    format!("10.{net}.0.{}:80", index + 1).parse().unwrap()
}

pub(super) fn undecided() -> Verdict {
    Verdict::Undecided { metric: None, reason: "too early".to_owned() }
}

pub(super) fn pass(early: bool) -> Verdict {
    Verdict::Pass { early, reason: "all is well".to_owned() }
}

pub(super) fn fail() -> Verdict {
    let (metric, reason) = ("connectSuccess".to_owned(), "the candidate fails".to_owned());
    Verdict::Fail { metric, finding: None, reason }
}

pub(super) fn insufficient() -> Verdict {
    let (metric, reason) = ("connectSuccess".to_owned(), "there is no traffic".to_owned());
    Verdict::Insufficient { metric, samples: 0, needed: 100, reason }
}

pub(super) fn incident() -> Verdict {
    let reason = "both fail".to_owned();
    Verdict::Incident { candidate: 0.5, baseline: 0.5, before: 0.0, reason }
}

pub(super) fn mismatch() -> Verdict {
    let (agent, reason) = ("edge-00".to_owned(), "shared otherwise".to_owned());
    Verdict::Mismatch { agent, asked: 0.1, observed: 0.3, connections: 1_000, reason }
}

pub(super) fn bad(backend: SocketAddr, role: Role) -> Verdict {
    let reason = format!("{backend} fails alone");
    Verdict::BadBackend { backend, role, failures: 90, of: 100, reason }
}

impl Agent {
    /// A new one, as it was at the start.
    pub(super) fn joining(now: Timestamp) -> Self {
        Self::new(PerVersion::new(2, 2, 2), now)
    }

    /// Everything on blue; so many ready backends for each version.
    fn new(ready: PerVersion<usize>, now: Timestamp) -> Self {
        let backends = ready.iter().flat_map(|(version, count)| {
            (0..*count).map(move |index| BackendView {
                address: address(version, index),
                version,
                state: BackendState::Active,
                healthy: true,
                flows: 0,
                may_stop: false,
            })
        });
        let view = AgentView {
            reachable: true,
            weights: PerVersion::new(Weight::FULL, Weight::ZERO, Weight::ZERO),
            share: ShareView::Agrees,
            previews: PerVersion::new(true, true, false),
            ready,
            may_stop: PerVersion::new(false, true, true),
            backends: backends.collect(),
            ..AgentView::default()
        };
        Self { view, manner: Manner::default(), coming: Vec::new(), since: now }
    }

    /// What the agent makes of a request; an agent refuses weight for what nothing serves.
    fn take(&mut self, effect: &Effect) {
        let view = &mut self.view;
        match effect {
            Effect::SetWeights { weights, lease, .. } => {
                set_weights(view, *weights);
                view.lease = lease.map(left);
            }
            Effect::RenewLease { lease, .. } => view.lease = Some(left(*lease)),
            Effect::SetSteering { add, remove, .. } => {
                view.steering.retain(|rule| !remove.contains(&rule.source));
                let gone = |rule: &Rule| add.iter().any(|new| new.source == rule.source);
                view.steering.retain(|rule| !gone(rule));
                view.steering.extend(add);
            }
            Effect::SetBackend { backend, state, .. } => {
                let own = view.backends.iter_mut().filter(|one| one.address == *backend);
                own.for_each(|one| {
                    one.state = *state;
                    one.may_stop = *state != BackendState::Active;
                });
            }
            Effect::SetGuard { guard, .. } => {
                view.guard = guard.map(|(guard, ..)| guard);
                view.tripped = None;
            }
            _ => {}
        }
        self.count();
    }

    /// Works out what follows from the backends.
    pub(super) fn count(&mut self) {
        for (version, ready) in self.view.ready.iter_mut() {
            let serves = |one: &&BackendView| {
                one.version == version && one.healthy && one.state == BackendState::Active
            };
            *ready = self.view.backends.iter().filter(serves).count();
        }
    }

    /// Sets the health of all backends of a version.
    pub(super) fn health(&mut self, version: Version, healthy: bool) {
        let own = self.view.backends.iter_mut().filter(|one| one.version == version);
        own.for_each(|one| one.healthy = healthy);
        self.count();
    }
}

fn left(lease: LeaseTerms) -> LeaseView {
    LeaseView { left_ms: u64::from(lease.length.seconds()) * 1_000 }
}

pub(super) fn set_weights(view: &mut AgentView, weights: Weights) {
    view.weights = PerVersion::from_fn(|version| weights.get(version));
    view.may_stop = PerVersion::from_fn(|version| weights.get(version) == Weight::ZERO);
    view.generation += 1;
}

impl World {
    /// `agents` agents that do all that is asked at once, each with two backends of each version.
    pub(super) fn new(lines: &str, agents: usize) -> Self {
        Self::with(lines, agents, PerVersion::new(2, 2, 2))
    }

    pub(super) fn with(lines: &str, agents: usize, ready: PerVersion<usize>) -> Self {
        let now = Timestamp(1_000_000);
        Self {
            now,
            state: State::new(rollout(lines), now),
            agents: (0..agents).map(|index| (name(index), Agent::new(ready, now))).collect(),
            hooks: BTreeMap::new(),
            answers: Vec::new(),
            calls: Vec::new(),
            commands: Vec::new(),
            leading: true,
            store_ok: true,
            verdict: undecided(),
            judging: None,
            asked: Vec::new(),
            events: Vec::new(),
            busy: false,
            told: BTreeSet::new(),
        }
    }

    pub(super) fn observe(&self) -> Observed {
        Observed {
            leading: self.leading,
            store_ok: self.store_ok,
            agents: self
                .agents
                .iter()
                .map(|(name, it)| (name.clone(), it.seen(self.now)))
                .collect(),
            verdict: self.judging.map(|start| Judged { start, verdict: self.verdict.clone() }),
            hooks: self.hooks.clone(),
            commands: self.commands.clone(),
        }
    }

    /// One tick and what follows from it.
    pub(super) fn tick(&mut self) {
        let (state, effects) = tick(&self.state, &self.observe(), self.now);
        self.state = state;
        self.carry_out(effects);
    }

    /// What follows from a tick.
    pub(super) fn carry_out(&mut self, effects: Vec<Effect>) {
        self.asked.clone_from(&effects);
        for effect in effects {
            self.take(effect);
        }
        self.arrive();
    }

    fn take(&mut self, effect: Effect) {
        match effect {
            Effect::JudgeFrom { start, .. } => self.judging = Some(start),
            Effect::JudgeStop => self.judging = None,
            Effect::Notify(event) => {
                if self.told.insert(event.number) {
                    self.events.push(event);
                }
            }
            Effect::CallHook { key, call } => {
                let open = matches!(self.hooks.get(&key), None | Some(HookAnswer::InProgress));
                assert!(open, "a hook that has answered is asked again: {key:?}");
                if !self.hooks.contains_key(&key) {
                    self.calls.push((key.clone(), call));
                }
                let next = if self.answers.is_empty() {
                    HookAnswer::Succeeded
                } else {
                    self.answers.remove(0)
                };
                self.hooks.insert(key, next);
            }
            Effect::SetWeights { ref agent, .. }
            | Effect::RenewLease { ref agent, .. }
            | Effect::SetSteering { ref agent, .. }
            | Effect::SetBackend { ref agent, .. }
            | Effect::SetGuard { ref agent, .. } => {
                let agent = self.agents.get_mut(agent).expect("an agent that exists");
                assert!(agent.view.reachable, "what does not answer is asked for {effect:?}");
                let late = agent.manner.late;
                agent.coming.push((late, effect));
            }
        }
    }

    /// Effects reach the agents, each in its time.
    fn arrive(&mut self) {
        for agent in self.agents.values_mut() {
            let coming = std::mem::take(&mut agent.coming);
            for (late, effect) in coming {
                match (late, agent.manner) {
                    (_, Manner { gone: true, .. } | Manner { refuses: true, .. }) => {}
                    (0, _) => agent.take(&effect),
                    (late, _) => agent.coming.push((late - 1, effect)),
                }
            }
            agent.view.pending = !agent.coming.is_empty();
            if self.busy {
                agent.view.may_stop = PerVersion::new(false, false, false);
            }
            let reachable = !agent.manner.gone;
            if agent.view.reachable != reachable {
                agent.view.reachable = reachable;
                agent.since = self.now;
            }
        }
    }

    /// So many seconds, a tick in each.
    pub(super) fn run(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now = Timestamp(self.now.0 + 1_000);
            self.tick();
        }
    }

    /// Ticks until the status is so; fails after `most` seconds.
    pub(super) fn until(&mut self, status: Status, most: u64) {
        for _ in 0..most {
            if self.state.status() == status {
                return;
            }
            self.run(1);
        }
        assert_eq!(self.state.status(), status, "after {most} s: {}", self.state.reason);
    }

    /// Ticks until the place is at so many a step; fails after `most` seconds.
    pub(super) fn until_step(&mut self, step: usize, most: u64) {
        for _ in 0..most {
            if matches!(&self.state.phase, Phase::Progressing(at) if at.step == step) {
                return;
            }
            self.run(1);
        }
        panic!("not at step {step} after {most} s: {:?} {}", self.state.phase, self.state.reason);
    }

    /// Ticks until a stage is reached, on whatever way; fails after `most` seconds.
    pub(super) fn until_stage(&mut self, stage: Stage, most: u64) {
        for _ in 0..most {
            if let Phase::Progressing(at) | Phase::RollingBack(at) = &self.state.phase
                && at.stage == stage
            {
                return;
            }
            self.run(1);
        }
        panic!("not {stage:?} after {most} s: {:?} {}", self.state.phase, self.state.reason);
    }

    pub(super) fn command(&mut self, verb: Verb) {
        let id = self.commands.last().map_or(1, |last| last.id + 1);
        self.commands.push(Command { id, by: "ann".to_owned(), verb });
    }

    pub(super) fn agent(&mut self, index: usize) -> &mut Agent {
        self.agents.get_mut(&name(index)).unwrap()
    }

    /// The candidate's weight on each agent, in percent of one hundred.
    pub(super) fn weights(&self, version: Version) -> Vec<u32> {
        self.agents.values().map(|agent| agent.view.weights[version].bp() / 100).collect()
    }

    /// Each place that was passed, in order: the status, and the reason of the transition.
    pub(super) fn trace(&self) -> Vec<String> {
        let moves = self.events.iter().filter(|event| event.kind == EventKind::Transition);
        moves.map(|event| format!("{}: {}", event.after, event.reason)).collect()
    }

    /// The statuses that were passed, without repetition.
    pub(super) fn statuses(&self) -> Vec<Status> {
        let moves = self.events.iter().filter(|event| event.kind == EventKind::Transition);
        let mut all: Vec<Status> = moves.map(|event| event.after).collect();
        all.dedup();
        all
    }

    pub(super) fn has_event(&self, kind: EventKind, part: &str) -> bool {
        self.events.iter().any(|event| event.kind == kind && event.reason.contains(part))
    }
}
