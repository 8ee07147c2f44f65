//! From stage to stage, from step to step.

use super::super::schedule::Step;
use super::super::spec::{Agents, Gate, GateKind, OnTimeout, Share, VerifyAction};
use super::calls::Answer;
use super::deadline::{around, is_manual};
use super::turn::Turn;
use super::{AgentView, Cause, EventKind, JudgeStart, Phase, Position, ShareView, Stage};
use crate::model::Weight;
use crate::rollout::name::AgentName;

/// How the agents of a step are doing.
pub(super) enum Applied {
    /// Enough have it.
    Yes,
    /// Not yet; why, in words.
    No(String),
    /// Not yet, as a version that should get weight has no ready backend there.
    Unserved(String),
}

impl Turn<'_> {
    /// The next move on the way there.
    pub(super) fn progress(&mut self, at: Position) -> bool {
        let Some(step) = self.step(at).cloned() else { return self.finish() };
        if self.watch(at) || self.judged(at) {
            return true;
        }
        match at.stage {
            Stage::Before | Stage::After => self.hooks(&step, at),
            Stage::Emptying => self.empty(at),
            Stage::Replacing => self.replace(at),
            Stage::Readying => self.ready(at),
            Stage::Applying => self.apply(&step, at),
            Stage::Verifying => self.verify(at),
            Stage::Analyzing { extended } => self.analyze(&step, at, extended),
            Stage::Waiting => self.pass_time(&step, at),
            Stage::Gate => self.gate(&step, at),
        }
    }

    /// The first step, or the one after `at`.
    pub(super) fn begin_step(&mut self, number: usize, why: &str) -> bool {
        let Some(step) = self.state.steps.get(number).cloned() else { return self.finish() };
        let at = Position { step: number, stage: first_stage(&step) };
        let at = if self.raises(at) { at } else { Position { stage: skip(at.stage), ..at } };
        let reason = if why.is_empty() { step.to_string() } else { format!("{why}; {step}") };
        self.go(Phase::Progressing(at), reason);
        match at.stage {
            Stage::Analyzing { .. } => self.fresh_evidence(),
            // From the end of the bake on nothing is judged.
            Stage::Waiting if matches!(step, Step::Drain(_)) => self.state.evidence = None,
            _ => {}
        }
        true
    }

    /// The stage or step after `at`.
    pub(super) fn next(&mut self, at: Position, why: &str) -> bool {
        let Some(step) = self.step(at).cloned() else { return self.finish() };
        match next_stage(&step, at.stage) {
            Some(stage) => {
                self.stage(at, stage, format!("{step}: {why}"));
                true
            }
            None => self.begin_step(at.step + 1, why),
        }
    }

    /// Whether weights rise by a step: a wave before the first weight changes nothing.
    fn raises(&self, at: Position) -> bool {
        if at.stage != Stage::Before || !matches!(self.step(at), Some(Step::Wave(_))) {
            return true;
        }
        let before = &self.state.steps[..at.step];
        before.iter().any(|step| matches!(step, Step::Weight(_)))
    }

    fn hooks(&mut self, step: &Step, at: Position) -> bool {
        let Some(pair) = around(step) else { return self.next(at, "nothing to ask") };
        let stage = if at.stage == Stage::Before { pair.0 } else { pair.1 };
        match self.answer(stage) {
            Answer::Done => self.next(at, "hooks are done"),
            Answer::Waiting => false,
            Answer::Failed(reason) if matches!(step, Step::Drain(_)) => {
                // The release is over; what could not be freed is told.
                let before = self.state.status();
                self.tell(EventKind::Failure, None, before, &reason);
                self.next(at, &reason)
            }
            Answer::Failed(reason) => self.fail(at, reason, true),
        }
    }

    fn apply(&mut self, step: &Step, at: Position) -> bool {
        if matches!(step, Step::Replace { .. }) {
            return self.return_backends(at);
        }
        match self.applied(self.state.wave(at), self.state.rollout.verify.quorum) {
            Applied::Yes => {
                let moved = self.next(at, "the tables say it");
                if next_stage(step, at.stage) == Some(Stage::Verifying) {
                    self.judge_from_here();
                }
                moved
            }
            Applied::Unserved(reason) if self.state.is_late() => self.fail(at, reason, false),
            Applied::No(reason) if self.spent(self.state.rollout.verify.timeout) => {
                self.unverified(at, reason)
            }
            Applied::Unserved(_) | Applied::No(_) => false,
        }
    }

    /// Whether enough of the first `wave` agents have what they should. Those that are away do not
    /// count, but for the moment in which it is not known yet whether they are.
    pub(super) fn applied(&self, wave: usize, quorum: Share) -> Applied {
        let (mut count, mut met) = (0, 0);
        let (mut missing, mut unserved) = (None, None);
        for (index, name, view) in self.fleet().filter(|(index, ..)| *index < wave) {
            if Self::is_away(view) {
                continue;
            }
            count += 1;
            let Some(target) = self.state.target(index) else { continue };
            if view.reachable && self.is_led(index, view) {
                met += 1;
            } else if let Some(version) = target.unserved(view) {
                unserved = Some(format!("{version} has no ready backend on {name}"));
            } else if missing.is_none() {
                missing = Some(lacks(name, view));
            }
        }
        if count > 0 && met >= quorum.of(count) {
            return Applied::Yes;
        }
        match (unserved, missing) {
            (Some(reason), _) => Applied::Unserved(reason),
            (None, Some(reason)) => Applied::No(reason),
            (None, None) => Applied::No("no agent answers".to_owned()),
        }
    }

    /// Tables say it; do new connections too?
    fn verify(&mut self, at: Position) -> bool {
        let wave = self.state.wave(at);
        let quorum = self.state.rollout.verify.quorum;
        if let Applied::No(reason) | Applied::Unserved(reason) = self.applied(wave, quorum) {
            return self.spent(self.state.rollout.verify.timeout) && self.unverified(at, reason);
        }
        let mut agreeing = 0;
        let (mut count, mut differs) = (0, None);
        for (_, name, view) in self.reachable().filter(|(index, ..)| *index < wave) {
            count += 1;
            match view.share {
                ShareView::Agrees => agreeing += 1,
                ShareView::Differs { version, observed, expected, .. } => {
                    differs = Some(format!(
                        "{name}: {version} gets {:.2}% of new connections, not {:.2}%",
                        observed * 100.0,
                        expected * 100.0
                    ));
                }
                ShareView::TooLittle => {}
            }
        }
        if agreeing >= quorum.of(count) {
            return self.verified(at, "new connections agree");
        }
        if !self.state.is_late() {
            return false;
        }
        match differs {
            Some(reason) => self.unverified(at, reason),
            None => self.verified(at, "too few connections to tell; the tables say it"),
        }
    }

    fn verified(&mut self, at: Position, why: &str) -> bool {
        let moved = self.next(at, why);
        self.judge_from_here();
        moved
    }

    /// From the first weight on the candidate is judged, whatever is waited for: to see that new
    /// connections agree may take longer than to see that they fail.
    fn judge_from_here(&mut self) {
        if self.state.evidence.is_none() && matches!(self.state.phase, Phase::Progressing(_)) {
            self.fresh_evidence();
        }
    }

    fn unverified(&mut self, at: Position, reason: String) -> bool {
        match self.state.rollout.verify.on_fail {
            VerifyAction::Pause => self.pause(at, Cause::Unverified, reason),
            VerifyAction::Abort => self.abort(&reason, None),
        }
    }

    fn pass_time(&mut self, step: &Step, at: Position) -> bool {
        if let Step::Drain(delay) = step {
            return self.drain(at, *delay);
        }
        if !self.state.is_late() {
            return false;
        }
        if matches!(step, Step::Pause(None))
            && self.state.rollout.paused.on_timeout == OnTimeout::Abort
        {
            return self.abort("nobody promoted it in time", None);
        }
        self.next(at, "the time is over")
    }

    /// The old version's connections end; it is kept until then.
    fn drain(&mut self, at: Position, delay: super::super::time::Seconds) -> bool {
        let Some(roles) = self.roles() else { return false };
        let least = self.state.rollout.drain.idle.max(delay);
        let left: u64 = self.reachable().map(|(.., view)| view.in_flight[roles.stable]).sum();
        let held = self.reachable().any(|(.., view)| !view.may_stop[roles.stable]);
        let leased = self.reachable().any(|(.., view)| view.lease.is_some());
        if self.state.is_late() {
            return self
                .next(at, &format!("the drain's time is over, {left} connections are left"));
        }
        if self.spent(least) && !held && !leased {
            return self.next(at, &format!("nothing is left on {}", roles.stable));
        }
        false
    }

    fn gate(&mut self, step: &Step, at: Position) -> bool {
        let Step::Gate(Gate { kind, timeout, on_timeout }) = step else { return false };
        if let GateKind::Webhook(_) = kind {
            match self.gate_answer() {
                Answer::Done => return self.next(at, "the gate is open"),
                Answer::Failed(reason) => return self.fail(at, reason, true),
                Answer::Waiting => {}
            }
        }
        if !self.spent(*timeout) {
            return false;
        }
        let who = if is_manual(step) { "nobody" } else { "no hook" };
        match on_timeout {
            OnTimeout::Abort => self.abort(&format!("{who} opened the gate in {timeout}"), None),
            OnTimeout::Proceed => self.next(at, &format!("{who} closed the gate in {timeout}")),
        }
    }

    /// Everything is done.
    fn finish(&mut self) -> bool {
        self.remember();
        self.state.evidence = None;
        self.note_unanswered();
        let revision = self.state.rollout.revision.clone();
        self.go(Phase::Healthy, format!("{revision} is released"))
    }

    /// The evidence begins anew.
    pub(super) fn fresh_evidence(&mut self) {
        self.state.evidence = Some(JudgeStart(self.state.transition));
    }

    /// Whether so many agents are away that nothing may go on; which, in words.
    pub(super) fn too_many_away(&self) -> Option<String> {
        let Agents { unreachable, .. } = self.state.rollout.agents;
        let away: Vec<&AgentName> = self
            .fleet()
            .filter(|(.., view)| Self::is_away(view))
            .map(|(_, name, _)| name)
            .collect();
        let fleet = self.state.agents.len().max(1);
        // Compared without rounding: so many hundredths of a percent of the fleet.
        let limit = unreachable.max_percent.bp() as usize * fleet;
        (away.len() * Weight::FULL.bp() as usize > limit).then(|| {
            let names: Vec<&str> = away.iter().take(5).map(|name| name.as_str()).collect();
            let more = if away.len() > 5 { ", …" } else { "" };
            format!("{} of {fleet} agents are away: {}{more}", away.len(), names.join(", "))
        })
    }
}

/// What an agent lacks, in words.
fn lacks(name: &AgentName, view: &AgentView) -> String {
    if view.reachable {
        format!("{name} does not have the weights yet")
    } else {
        format!("{name} does not answer")
    }
}

pub(super) fn first_stage(step: &Step) -> Stage {
    match step {
        Step::Wave(_) | Step::Weight(_) | Step::Promote => Stage::Before,
        Step::Route(_) | Step::Restore(_) => Stage::Applying,
        Step::Analysis(_) => Stage::Analyzing { extended: 0 },
        Step::Pause(_) | Step::Bake(_) | Step::Drain(_) => Stage::Waiting,
        Step::Gate(_) => Stage::Gate,
        Step::Replace { .. } => Stage::Emptying,
    }
}

fn skip(stage: Stage) -> Stage {
    if stage == Stage::Before { Stage::Applying } else { stage }
}

/// The stage after one within a step; nothing: the step is over.
pub(super) fn next_stage(step: &Step, stage: Stage) -> Option<Stage> {
    match (step, stage) {
        (Step::Wave(_) | Step::Weight(_) | Step::Promote | Step::Restore(_), Stage::Applying) => {
            Some(Stage::Verifying)
        }
        (Step::Wave(_) | Step::Weight(_) | Step::Promote | Step::Restore(_), Stage::Verifying)
        | (Step::Drain(_), Stage::Waiting) => Some(Stage::After),
        (Step::Replace { .. }, Stage::Emptying) => Some(Stage::Replacing),
        (Step::Replace { .. }, Stage::Replacing) => Some(Stage::Readying),
        (_, Stage::Before) | (Step::Replace { .. }, Stage::Readying) => Some(Stage::Applying),
        _ => None,
    }
}
