//! One tick at work.

use super::super::time::{Seconds, Timestamp};
use super::{
    AgentView, Clock, Event, EventKind, Observed, Phase, Position, Roles, Stage, State, Status,
};
use crate::rollout::name::AgentName;
use crate::rollout::schedule::Step;

/// The most characters of a reason: it may quote what others answered.
const MAX_REASON: usize = 500;
/// The most events that one tick tells.
pub const MAX_NEWS: usize = 64;

/// One tick at work: the state on its way to the next.
pub(super) struct Turn<'a> {
    pub state: State,
    pub seen: &'a Observed,
    pub now: Timestamp,
    /// Whether this tick has told something: then the news are its own.
    told: bool,
}

impl<'a> Turn<'a> {
    pub(super) fn new(mut state: State, seen: &'a Observed, now: Timestamp) -> Self {
        state.clock.see(now);
        Self { state, seen, now, told: false }
    }

    /// Whether this process may move the rollout on.
    pub(super) const fn leads(&self) -> bool {
        self.seen.leading && self.seen.store_ok
    }

    /// Agents that were not there at the preflight come last in the waves. With them a wave may grow, so
    /// it is a transition.
    fn welcome(&mut self) -> bool {
        let known = &self.state.agents;
        let new: Vec<AgentName> =
            self.seen.agents.keys().filter(|name| !known.contains(name)).cloned().collect();
        if new.is_empty() {
            return false;
        }
        let names: Vec<&str> = new.iter().map(AgentName::as_str).collect();
        let reason = format!("{} joined", names.join(", "));
        self.state.agents.extend(new);
        self.note(reason)
    }

    /// The agents of the rollout with what is known of them, in the order of waves.
    pub(super) fn fleet(&self) -> impl Iterator<Item = (usize, &AgentName, &'a AgentView)> {
        let view = |(index, name)| Some((index, name, self.seen.agents.get(name)?));
        self.state.agents.iter().enumerate().filter_map(view)
    }

    /// Those of them that answer.
    pub(super) fn reachable(&self) -> impl Iterator<Item = (usize, &AgentName, &'a AgentView)> {
        self.fleet().filter(|(_, _, view)| view.reachable)
    }

    pub(super) fn spent(&self, time: Seconds) -> bool {
        self.state.clock.spent_ms >= time.millis()
    }

    pub(super) fn roles(&self) -> Option<Roles> {
        self.state.roles
    }

    /// The step at a place of the way there.
    pub(super) fn step(&self, at: Position) -> Option<&Step> {
        self.state.steps.get(at.step)
    }

    /// Another phase, step or stage: one transition, which is persisted before its effects.
    pub(super) fn go(&mut self, phase: Phase, reason: impl Into<String>) -> bool {
        self.go_by(phase, reason, None)
    }

    /// The same by the doing of somebody.
    pub(super) fn go_by(
        &mut self,
        phase: Phase,
        reason: impl Into<String>,
        by: Option<&str>,
    ) -> bool {
        let before = self.state.status();
        let holds = matches!(phase, Phase::Paused(_) | Phase::Aborting(_));
        self.state.phase = phase;
        self.state.clock = Clock::start(self.now);
        self.state.well_ms = None;
        self.passed(reason.into(), before, by);
        if !holds {
            self.state.calls = self.state.transition;
        }
        true
    }

    /// A transition that leaves place, clock and calls as they are.
    pub(super) fn note(&mut self, reason: impl Into<String>) -> bool {
        let before = self.state.status();
        self.passed(reason.into(), before, None);
        true
    }

    fn passed(&mut self, reason: String, before: Status, by: Option<&str>) {
        self.state.transition += 1;
        self.state.since = self.now;
        self.state.reason = cut(reason);
        let reason = self.state.reason.clone();
        self.tell(EventKind::Transition, by, before, reason);
    }

    /// The same place with another stage.
    pub(super) fn stage(&mut self, at: Position, stage: Stage, reason: impl Into<String>) -> bool {
        self.place(Position { stage, ..at }, reason)
    }

    /// Another place on the way that is being walked.
    pub(super) fn place(&mut self, at: Position, reason: impl Into<String>) -> bool {
        let phase = match self.state.phase {
            Phase::RollingBack(_) => Phase::RollingBack(at),
            _ => Phase::Progressing(at),
        };
        self.go(phase, reason)
    }

    /// Something that people and programs should hear of.
    pub(super) fn tell(
        &mut self,
        kind: EventKind,
        by: Option<&str>,
        before: Status,
        reason: impl Into<String>,
    ) {
        if !std::mem::replace(&mut self.told, true) {
            self.state.news.clear();
        }
        self.state.events += 1;
        if self.state.news.len() == MAX_NEWS {
            self.state.news.remove(0);
        }
        self.state.news.push(Event {
            number: self.state.events,
            at: self.now,
            kind,
            by: by.map(str::to_owned),
            before,
            after: self.state.status(),
            reason: cut(reason.into()),
        });
    }

    /// The next move, if there is one: moves are made until none is left, so that the answer depends on
    /// nothing but what is seen.
    pub(super) fn moved(&mut self) -> bool {
        let under_way = !matches!(self.state.phase, Phase::Pending | Phase::Preflight);
        if under_way && !self.state.is_at_rest() && self.welcome() {
            return true;
        }
        match self.state.phase.clone() {
            Phase::Pending => self.go(Phase::Preflight, "it begins"),
            Phase::Preflight => self.preflight(),
            Phase::Progressing(at) => self.progress(at),
            Phase::Paused(paused) => self.wait(&paused),
            Phase::Aborting(at) => self.let_end(at),
            Phase::RollingBack(at) => self.walk_back(at),
            Phase::Healthy | Phase::Degraded => self.rest(),
        }
    }
}

/// A text of bounded length.
fn cut(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(MAX_REASON) {
        text.truncate(end);
        text.push('…');
    }
    text
}
