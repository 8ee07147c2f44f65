//! What people ask for.

use super::super::schedule::Step;
use super::super::spec::{OnNewRevision, Rollout};
use super::turn::Turn;
use super::{Cause, Command, EventKind, Goal, Kept, Phase, Position, Stage, State, Verb};
use crate::model::Weight;

/// What came of a command: what was done, or why it was not.
type Heeded = Result<(), String>;

impl Turn<'_> {
    /// Hears what is new. Whoever does not lead hears nothing but aborts: they need neither a store
    /// nor to lead.
    pub(super) fn hear(&mut self) {
        let seen = self.seen;
        let new = seen.commands.iter().filter(|command| command.id > self.state.heard);
        let mut new: Vec<&Command> = new.collect();
        new.sort_by_key(|command| command.id);
        let leads = self.leads();
        for command in new.into_iter().filter(|one| leads || one.verb == Verb::Abort) {
            self.state.heard = command.id;
            let before = self.state.status();
            let heeded = self.heed(&command.verb, &command.by);
            let (kind, text) = match heeded {
                Ok(()) => (EventKind::Command, command.verb.name().to_owned()),
                Err(why) => (EventKind::Refused, format!("{}: {why}", command.verb.name())),
            };
            self.tell(kind, Some(&command.by), before, text);
        }
    }

    fn heed(&mut self, verb: &Verb, by: &str) -> Heeded {
        match verb {
            Verb::Run(rollout) => self.run(rollout, by),
            Verb::Promote { full } => self.promote(*full, by),
            Verb::Pause => self.pause_for(by),
            Verb::Resume => match self.state.phase.clone() {
                Phase::Paused(paused) => {
                    self.resume(&paused, "resumed", Some(by));
                    Ok(())
                }
                _ => Err("it is not paused".to_owned()),
            },
            Verb::Abort => self.abort_for(by),
            Verb::Retry => self.retry(by),
            Verb::Undo { to_revision } => self.undo(to_revision.as_deref(), by),
        }
    }

    fn abort_for(&mut self, by: &str) -> Heeded {
        if self.abort(&format!("aborted by {by}"), Some(by)) || self.state.is_going_back() {
            return Ok(());
        }
        match self.state.phase {
            Phase::Healthy => Err("nothing is under way; `undo` returns to a revision".to_owned()),
            _ => Ok(()),
        }
    }

    fn run(&mut self, rollout: &Rollout, by: &str) -> Heeded {
        if rollout.service != self.state.rollout.service {
            return Err(format!(
                "it is for {}, not {}",
                rollout.service, self.state.rollout.service
            ));
        }
        if self.state.is_at_rest() {
            self.begin(rollout.clone(), "it was asked for", Some(by));
            return Ok(());
        }
        let running = &self.state.rollout.revision;
        if *running == rollout.revision && !self.state.is_going_back() {
            return Err(format!("{running} is under way already"));
        }
        match self.state.rollout.on_new_revision {
            OnNewRevision::Reject => return Err(format!("{running} is under way")),
            OnNewRevision::Supersede if !self.is_draining() => {
                self.abort(&format!("superseded by {}", rollout.revision), Some(by));
            }
            // What is released is not taken back for a newer one.
            OnNewRevision::Queue | OnNewRevision::Supersede => {}
        }
        self.state.queued = Some(Box::new(rollout.clone()));
        Ok(())
    }

    /// Another rollout of the service.
    pub(super) fn begin(&mut self, rollout: Rollout, why: &str, by: Option<&str>) {
        let revision = rollout.revision.clone();
        let old = &mut self.state;
        let fresh = State::new(rollout, self.now);
        // What belongs to the service outlives its rollouts.
        self.state = State {
            phase: old.phase.clone(),
            transition: old.transition,
            kept: std::mem::take(&mut old.kept),
            queued: old.queued.take(),
            heard: old.heard,
            events: old.events,
            news: std::mem::take(&mut old.news),
            ..fresh
        };
        self.go_by(Phase::Pending, format!("{revision}: {why}"), by);
    }

    /// Where the way there is, walked or held.
    fn place_now(&self) -> Option<Position> {
        match &self.state.phase {
            Phase::Progressing(at) => Some(*at),
            Phase::Paused(paused) => paused.at,
            _ => None,
        }
    }

    fn promote(&mut self, full: bool, by: &str) -> Heeded {
        let at = self.place_now().ok_or("nothing is under way that could be promoted")?;
        let step = self.step(at).cloned().ok_or("there is no such step")?;
        if matches!(step, Step::Drain(_)) {
            return Err("it has everything already; the old version is drained".to_owned());
        }
        if full {
            let last = self.state.steps.iter().position(|step| matches!(step, Step::Promote));
            let last = last.ok_or("rolling replaces each backend in its turn")?;
            if at.step >= last {
                return Err("it gets everything already".to_owned());
            }
            let at = Position { step: last, stage: Stage::Before };
            self.go_by(Phase::Progressing(at), "promoted in full", Some(by));
            return Ok(());
        }
        let waits = matches!(at.stage, Stage::Analyzing { .. } | Stage::Waiting | Stage::Gate);
        match self.state.phase.clone() {
            Phase::Paused(paused) => {
                self.resume(&paused, "promoted", Some(by));
                let failed = matches!(at.stage, Stage::Before | Stage::After | Stage::Verifying);
                let skips = waits || (failed && paused.cause != Cause::User);
                if skips && let Phase::Progressing(at) = self.state.phase {
                    self.next(at, "promoted");
                }
                Ok(())
            }
            _ if waits => {
                self.next(at, &format!("promoted by {by}"));
                Ok(())
            }
            _ => Err(format!("{step} is being applied; nothing is waited for")),
        }
    }

    fn pause_for(&mut self, by: &str) -> Heeded {
        let at = match &self.state.phase {
            Phase::Pending | Phase::Preflight => None,
            Phase::Progressing(at) => Some(*at),
            Phase::Paused(paused) if paused.cause != Cause::User => paused.at,
            Phase::Paused(_) => return Err("it is paused already".to_owned()),
            _ => return Err("nothing is under way that could be paused".to_owned()),
        };
        self.pause_by(at, Cause::User, "paused".to_owned(), Some(by));
        Ok(())
    }

    fn retry(&mut self, by: &str) -> Heeded {
        match self.state.phase.clone() {
            Phase::Degraded => {
                let rollout = self.state.rollout.clone();
                self.begin(rollout, "tried again", Some(by));
                Ok(())
            }
            Phase::Paused(paused) if paused.cause != Cause::User => {
                self.resume(&paused, "tried again", Some(by));
                Ok(())
            }
            Phase::Paused(_) => Err("it is paused; `resume` goes on".to_owned()),
            _ => Err("nothing has failed".to_owned()),
        }
    }

    fn undo(&mut self, to: Option<&str>, by: &str) -> Heeded {
        let rest = self.state.is_at_rest();
        let Some(to) = to else {
            if !rest {
                return self.abort_for(by);
            }
            let back = usize::from(self.state.phase == Phase::Healthy) + 1;
            let index = self.state.kept.len().checked_sub(back);
            let index = index.ok_or("no revision is kept that could be returned to")?;
            return self.undo_to(index, by);
        };
        let index = self.state.kept.iter().rposition(|kept| kept.revision == to);
        let index = index.ok_or_else(|| {
            let names: Vec<&str> =
                self.state.kept.iter().map(|kept| kept.revision.as_str()).collect();
            format!("{to:?} is not kept; there are {}", names.join(", "))
        })?;
        self.undo_to(index, by)
    }

    fn is_draining(&self) -> bool {
        self.place_now().is_some_and(|at| matches!(self.step(at), Some(Step::Drain(_))))
    }

    /// Whether a revision can be returned to in one write, now.
    fn may_undo(&self, target: &Kept) -> Heeded {
        let replaces = |steps: &[Step]| steps.iter().any(|it| matches!(it, Step::Replace { .. }));
        let under_way = match self.state.phase {
            Phase::RollingBack(_) => replaces(&self.state.back),
            _ => !self.state.is_at_rest() && replaces(&self.state.steps),
        };
        if under_way {
            return Err("backends are being replaced; `abort` brings them back".to_owned());
        }
        for (_, name, view) in self.reachable() {
            let gone = target
                .weights
                .iter()
                .find(|(version, weight)| *weight > Weight::ZERO && view.ready[*version] == 0);
            if let Some((version, _)) = gone {
                return Err(format!("{version} has no ready backend on {name} any more"));
            }
        }
        Ok(())
    }

    fn undo_to(&mut self, index: usize, by: &str) -> Heeded {
        if matches!(self.state.phase, Phase::Aborting(_)) {
            return Err("it is going back; when it is, try again".to_owned());
        }
        let target = self.state.kept[index].clone();
        self.may_undo(&target)?;
        let mut reverts: Vec<Step> = Vec::new();
        for kept in self.state.kept[index + 1..].iter().rev() {
            let one = |backend| Step::Replace { backends: vec![backend], revert: true };
            reverts.extend(kept.replaced.iter().rev().copied().map(one));
        }
        let goal = Goal::Revision(target.revision.clone());
        let reason = format!("return to {}", target.revision);
        self.go_back(goal, reverts, &reason, Some(by));
        Ok(())
    }
}
