//! The way back, and rest.

use super::super::schedule::Step;
use super::super::spec::Share;
use super::calls::Answer;
use super::target::split;
use super::turn::Turn;
use super::walk::{Applied, first_stage, next_stage};
use super::{Event, EventKind, Goal, Kept, Phase, Position, ShareView, Stage, State};
use crate::model::{Weight, Weights};
use crate::rollout::name::AgentName;
use crate::rollout::spec::Stage as HookStage;

/// The most revisions that are kept.
const MAX_KEPT: usize = 8;
/// The most words about what could not be brought back.
const MAX_SCARS: usize = 32;

impl Turn<'_> {
    /// Returns everything to the stable version. In each state this is the right thing to call.
    pub(super) fn abort(&mut self, reason: &str, by: Option<&str>) -> bool {
        if !self.state.is_going_back() {
            self.state.failure = Some(reason.to_owned());
        }
        match self.state.phase.clone() {
            Phase::Pending | Phase::Preflight => self.end_unbegun(reason, by),
            Phase::Paused(paused) if paused.at.is_none() => self.end_unbegun(reason, by),
            Phase::Progressing(at) => self.go_by(Phase::Aborting(at), reason, by),
            Phase::Paused(paused) => {
                let at = paused.at.unwrap_or(Position { step: 0, stage: Stage::Before });
                self.go_by(Phase::Aborting(at), reason, by)
            }
            Phase::Degraded if self.state.roles.is_some() => {
                self.go_back(Goal::Stable, Vec::new(), reason, by)
            }
            Phase::Aborting(_) | Phase::RollingBack(_) | Phase::Healthy | Phase::Degraded => false,
        }
    }

    /// It ends before anything was changed.
    pub(super) fn end_unbegun(&mut self, reason: &str, by: Option<&str>) -> bool {
        self.state.evidence = None;
        self.go_by(Phase::Degraded, format!("nothing was changed: {reason}"), by)
    }

    /// What cannot be interrupted ends: a hook that is replacing a backend.
    pub(super) fn let_end(&mut self, at: Position) -> bool {
        if at.stage == Stage::Replacing
            && let Some(Step::Replace { backends, .. }) = self.step(at)
            && !self.replacements_ended(backends)
            && !self.state.is_late()
        {
            return false;
        }
        let back = self.reverts(at);
        let reason = self.state.failure.clone().unwrap_or_default();
        self.go_back(Goal::Stable, back, &reason, None)
    }

    /// The replacements that were begun, the last first.
    fn reverts(&self, at: Position) -> Vec<Step> {
        let begun = |(number, step): (usize, &Step)| match step {
            Step::Replace { backends, .. } if number < at.step || at.stage != Stage::Emptying => {
                Some(Step::Replace { backends: backends.clone(), revert: true })
            }
            _ => None,
        };
        self.state.steps.iter().enumerate().take(at.step + 1).rev().filter_map(begun).collect()
    }

    /// Takes the way back: `reverts`, and then the weights for every agent at once, which are asked
    /// for from the first moment.
    pub(super) fn go_back(
        &mut self,
        goal: Goal,
        reverts: Vec<Step>,
        reason: &str,
        by: Option<&str>,
    ) -> bool {
        let Some(weights) = self.weights_of(&goal) else {
            return self.end_unbegun(reason, by);
        };
        self.state.back = reverts;
        self.state.back.push(Step::Restore(weights));
        self.state.goal = Some(goal);
        self.state.evidence = None;
        self.state.unanswered.clear();
        self.state.scars.clear();
        self.state.failure = Some(reason.to_owned());
        let at = Position { step: 0, stage: first_stage(&self.state.back[0]) };
        self.go_by(Phase::RollingBack(at), reason, by)
    }

    fn weights_of(&self, goal: &Goal) -> Option<Weights> {
        match goal {
            Goal::Stable => Some(split(self.roles()?, Weight::ZERO)),
            Goal::Revision(name) => self
                .state
                .kept
                .iter()
                .rev()
                .find(|kept| kept.revision == *name)
                .map(|it| it.weights),
        }
    }

    /// The next move on the way back.
    pub(super) fn walk_back(&mut self, at: Position) -> bool {
        match (self.state.back.get(at.step), at.stage) {
            (None, _) => self.is_back(),
            (_, Stage::Emptying) => self.empty(at),
            (_, Stage::Replacing) => self.replace(at),
            (_, Stage::Readying) => self.ready(at),
            (Some(Step::Replace { .. }), Stage::Applying) => self.return_backends(at),
            (_, Stage::Applying) => {
                let applied =
                    matches!(self.applied(self.state.agents.len(), Share::ALL), Applied::Yes);
                let all = self.fleet().all(|(.., view)| view.reachable);
                (applied && all || self.state.is_late())
                    && self.next_back(at, "the tables of those that answer say it")
            }
            (_, Stage::Verifying) => {
                let differs = self
                    .reachable()
                    .any(|(.., view)| matches!(view.share, ShareView::Differs { .. }));
                (!differs || self.state.is_late()) && self.next_back(at, "new connections follow")
            }
            (_, _) => match self.answer(HookStage::PostRollback) {
                Answer::Done => self.next_back(at, "it is told"),
                Answer::Waiting => false,
                Answer::Failed(reason) => self.scar(at, reason),
            },
        }
    }

    pub(super) fn next_back(&mut self, at: Position, why: &str) -> bool {
        let Some(step) = self.state.back.get(at.step).cloned() else { return self.is_back() };
        if let Some(stage) = next_stage(&step, at.stage) {
            return self.stage(at, stage, format!("{step}: {why}"));
        }
        match self.state.back.get(at.step + 1).cloned() {
            Some(next) => {
                let stage = first_stage(&next);
                self.place(Position { step: at.step + 1, stage }, next.to_string())
            }
            None => self.is_back(),
        }
    }

    /// Something could not be brought back; the rest can.
    pub(super) fn scar(&mut self, at: Position, reason: String) -> bool {
        let before = self.state.status();
        self.tell(EventKind::Failure, None, before, &reason);
        if self.state.scars.len() < MAX_SCARS {
            self.state.scars.push(reason);
        }
        // The next step, whatever stages this one still had.
        let last = Position { stage: Stage::After, ..at };
        match self.state.back.get(at.step) {
            Some(Step::Replace { .. }) => match self.state.back.get(at.step + 1).cloned() {
                Some(next) => {
                    let stage = first_stage(&next);
                    self.place(Position { step: at.step + 1, stage }, next.to_string())
                }
                None => self.is_back(),
            },
            _ => self.next_back(last, "it could not be told"),
        }
    }

    /// The way back has ended: verified, or with the names of those that did not answer.
    fn is_back(&mut self) -> bool {
        self.note_unanswered();
        let mut parts: Vec<String> = self.state.scars.clone();
        if !self.state.unanswered.is_empty() {
            let names: Vec<&str> = self.state.unanswered.iter().map(AgentName::as_str).collect();
            parts.insert(0, format!("not verified on {}", names.join(", ")));
        }
        let (phase, what) = if let Some(Goal::Revision(name)) = self.state.goal.clone() {
            self.now_in_force(&name);
            let phase = if parts.is_empty() { Phase::Healthy } else { Phase::Degraded };
            (phase, format!("returned to {name}"))
        } else {
            let why = self.state.failure.clone().unwrap_or_default();
            (Phase::Degraded, format!("{why}; everything is back"))
        };
        let reason =
            if parts.is_empty() { what } else { format!("{what}, but {}", parts.join("; ")) };
        self.go(phase, reason)
    }

    /// Takes down which agents do not have what they should.
    pub(super) fn note_unanswered(&mut self) {
        let missing = self.state.agents.iter().enumerate().filter(|(index, name)| {
            let view = self.seen.agents.get(*name);
            !view.is_some_and(|view| view.reachable && self.is_led(*index, view))
        });
        self.state.unanswered = missing.map(|(_, name)| name.clone()).collect();
    }

    /// At rest: agents that had not answered are led to what they should have, and what was queued
    /// begins.
    pub(super) fn rest(&mut self) -> bool {
        let led: Vec<_> = self
            .reachable()
            .filter(|(index, name, view)| {
                self.state.unanswered.contains(*name) && self.is_led(*index, view)
            })
            .map(|(_, name, _)| name.clone())
            .collect();
        for name in led {
            self.state.unanswered.remove(&name);
            let before = self.state.status();
            self.tell(EventKind::Returned, None, before, format!("{name} has what it should"));
        }
        if !self.state.unanswered.is_empty() {
            return false;
        }
        match self.state.queued.take() {
            Some(next) => {
                self.begin(*next, "it was queued", None);
                true
            }
            None => false,
        }
    }

    /// A release is over: its revision can be returned to.
    pub(super) fn remember(&mut self) {
        let Some(roles) = self.roles() else { return };
        let replaced = self.state.steps.iter().filter_map(|step| match step {
            Step::Replace { backends, .. } => Some(backends.iter().copied()),
            _ => None,
        });
        let kept = Kept {
            revision: self.state.rollout.revision.clone(),
            weights: Weights::all_to(roles.candidate),
            replaced: replaced.flatten().collect(),
        };
        self.state.kept.retain(|one| one.revision != kept.revision);
        self.state.kept.push(kept);
        let surplus = self.state.kept.len().saturating_sub(MAX_KEPT);
        self.state.kept.drain(..surplus);
    }

    /// A kept revision has been returned to: it comes last. What was replaced after it is no more.
    fn now_in_force(&mut self, name: &str) {
        let kept = &mut self.state.kept;
        let Some(index) = kept.iter().rposition(|kept| kept.revision == name) else { return };
        let mut after = kept.split_off(index + 1);
        after.retain(|kept| kept.replaced.is_empty());
        let own = kept.remove(index);
        kept.append(&mut after);
        kept.push(own);
    }
}

impl State {
    /// The event of the last transition, for those who look at the state alone.
    #[must_use]
    pub fn last_event(&self) -> Option<&Event> {
        self.news.last()
    }
}
