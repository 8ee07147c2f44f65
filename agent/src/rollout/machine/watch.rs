//! What is watched whatever is waited for: guards that trip, agents that are away, backends that are
//! gone.

use super::super::spec::UnreachableAction;
use super::turn::Turn;
use super::{AgentView, Cause, Phase, Position, Stage};
use crate::model::Weight;
use crate::rollout::schedule::Step;

/// An agent that has not answered for so long is away, in milliseconds: a restart is shorter.
const AWAY_MS: u64 = 5_000;

impl Turn<'_> {
    /// A guard that tripped for the candidate always leads back: the agent has done so already.
    pub(super) fn heed_guards(&mut self) {
        if !matches!(self.state.phase, Phase::Progressing(_) | Phase::Paused(_)) {
            return;
        }
        let (Some(roles), Some(_)) = (self.roles(), self.state.rollout.guard) else { return };
        if matches!(&self.state.phase, Phase::Paused(paused) if paused.at.is_none()) {
            return;
        }
        let tripped = self.reachable().find_map(|(_, name, view)| {
            let tripped = view.tripped.as_ref().filter(|trip| trip.version == roles.candidate)?;
            Some(format!("the guard of {name} has tripped: {}", tripped.reason))
        });
        if let Some(reason) = tripped {
            self.abort(&reason, None);
        }
    }

    /// Agents that are away, and weight without a backend that takes it.
    pub(super) fn watch(&mut self, at: Position) -> bool {
        // What is left of a release when only the old version drains needs nobody.
        let drains = matches!(self.step(at), Some(Step::Drain(_)));
        if let Some(reason) = self.too_many_away().filter(|_| !drains) {
            match self.state.rollout.agents.unreachable.action {
                UnreachableAction::Pause => return self.pause(at, Cause::Unreachable, reason),
                UnreachableAction::Abort => return self.abort(&reason, None),
                UnreachableAction::Proceed => {}
            }
        }
        match self.without_backend(at) {
            Some(reason) => self.fail(at, reason, false),
            None => false,
        }
    }

    /// An agent that has not answered for long.
    pub(super) const fn is_away(view: &AgentView) -> bool {
        !view.reachable && view.silent_ms >= AWAY_MS
    }

    /// Where the candidate has weight and nothing ready to serve it. While weights are being applied
    /// that is waited for instead.
    fn without_backend(&self, at: Position) -> Option<String> {
        let roles = self.roles().filter(|roles| roles.candidate != roles.stable)?;
        if matches!(at.stage, Stage::Before | Stage::Applying) {
            return None;
        }
        self.reachable().find_map(|(index, name, view)| {
            let target = self.state.target(index)?;
            let gone = target.weights.get(roles.candidate) > Weight::ZERO
                && view.ready[roles.candidate] == 0;
            gone.then(|| format!("{} has lost its last ready backend on {name}", roles.candidate))
        })
    }
}
