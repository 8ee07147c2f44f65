//! How long each state lasts at the most, and what happens then.

use super::super::schedule::{Step, hooks};
use super::super::spec::{GateKind, OnTimeout, Rollout, Stage as HookStage};
use super::super::time::Seconds;
use super::{Phase, Position, Stage, State};

/// An analysis is given as long again so many times at the most; then a person is waited for.
pub const MOST_EXTENSIONS: u32 = 3;

/// When a state is over, whatever happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline {
    /// After so long.
    pub after: Seconds,
    /// What happens then.
    pub then: Then,
}

/// What happens at a deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// The next stage or step begins.
    Proceed,
    /// It has failed: `onFailure` says what follows.
    Fail,
    /// It waits for a person, or until it is as it should be.
    Pause,
    /// It goes back.
    Abort,
    /// It ends degraded: nothing has been changed.
    End,
}

impl State {
    /// The deadline of what is waited for; nothing at rest.
    #[must_use]
    pub fn deadline(&self) -> Option<Deadline> {
        let rollout = &self.rollout;
        let at = |after, then| Some(Deadline { after, then });
        match &self.phase {
            Phase::Pending => at(Seconds::ZERO, Then::Proceed),
            Phase::Preflight => at(rollout.progress_deadline, Then::End),
            Phase::Progressing(place) => self.steps.get(place.step).map(|step| {
                let deadline = stage(rollout, step, *place);
                if matches!(step, Step::Drain(_)) {
                    // The new version serves already: what fails now is told.
                    return Deadline { then: Then::Proceed, ..deadline };
                }
                deadline
            }),
            Phase::Paused(_) => {
                let then = on_timeout(rollout.paused.on_timeout);
                at(rollout.paused.timeout, then)
            }
            Phase::Aborting(_) => at(total(rollout, HookStage::Replace), Then::Proceed),
            Phase::RollingBack(place) => self
                .back
                .get(place.step)
                .map(|step| Deadline { then: Then::Proceed, ..back(rollout, step, *place) }),
            Phase::Healthy | Phase::Degraded => None,
        }
    }

    /// Whether it is over.
    pub(super) fn is_late(&self) -> bool {
        self.deadline().is_some_and(|deadline| self.clock.spent_ms >= deadline.after.millis())
    }
}

fn on_timeout(action: OnTimeout) -> Then {
    match action {
        OnTimeout::Abort => Then::Abort,
        OnTimeout::Proceed => Then::Proceed,
    }
}

/// How long all hooks of a stage may take, one after the other.
fn total(rollout: &Rollout, stage: HookStage) -> Seconds {
    hooks(rollout, stage).map(|hook| hook.timeout).sum()
}

/// The hooks that are asked before and after a step's weights.
pub(super) const fn around(step: &Step) -> Option<(HookStage, HookStage)> {
    match step {
        Step::Weight(_) | Step::Wave(_) => Some((HookStage::PreWeight, HookStage::PostWeight)),
        Step::Promote => Some((HookStage::PrePromotion, HookStage::PostPromotion)),
        Step::Drain(_) => Some((HookStage::PostDrain, HookStage::PostDrain)),
        Step::Restore(_) => Some((HookStage::PostRollback, HookStage::PostRollback)),
        _ => None,
    }
}

fn stage(rollout: &Rollout, step: &Step, at: Position) -> Deadline {
    let fail = |after| Deadline { after, then: Then::Fail };
    let deadline = rollout.progress_deadline;
    let hooks = |pick: fn((HookStage, HookStage)) -> HookStage| {
        around(step).map_or(Seconds::ZERO, |pair| total(rollout, pick(pair)))
    };
    match at.stage {
        Stage::Before => fail(hooks(|pair| pair.0)),
        Stage::After => fail(hooks(|pair| pair.1)),
        // Part of it is the wait until so many backends may be out.
        Stage::Emptying => fail(deadline.plus(rollout.drain.timeout)),
        Stage::Replacing => fail(total(rollout, HookStage::Replace)),
        Stage::Readying | Stage::Applying => fail(deadline),
        Stage::Verifying => Deadline { after: rollout.verify.timeout, then: Then::Pause },
        Stage::Analyzing { extended } => {
            let once = if let Step::Analysis(analysis) = step {
                analysis.max_duration
            } else {
                Seconds::ZERO
            };
            let after = Seconds::new(once.get().saturating_mul(extended + 1));
            Deadline { after, then: Then::Pause }
        }
        Stage::Waiting => waiting(rollout, step),
        Stage::Gate => match step {
            Step::Gate(gate) => Deadline { after: gate.timeout, then: on_timeout(gate.on_timeout) },
            _ => fail(Seconds::ZERO),
        },
    }
}

fn waiting(rollout: &Rollout, step: &Step) -> Deadline {
    let proceed = |after| Deadline { after, then: Then::Proceed };
    match step {
        Step::Pause(Some(time)) | Step::Bake(time) => proceed(*time),
        Step::Pause(None) => {
            Deadline { after: rollout.paused.timeout, then: on_timeout(rollout.paused.on_timeout) }
        }
        Step::Drain(delay) => proceed(rollout.drain.timeout.max(*delay)),
        _ => proceed(Seconds::ZERO),
    }
}

/// The same on the way back, where nothing is waited for that need not be.
fn back(rollout: &Rollout, step: &Step, at: Position) -> Deadline {
    let by_agents = matches!(step, Step::Restore(_)) && at.stage == Stage::Applying;
    if by_agents {
        return Deadline { after: rollout.verify.timeout, then: Then::Proceed };
    }
    stage(rollout, step, at)
}

/// Whether a gate is a person's.
pub(super) fn is_manual(step: &Step) -> bool {
    matches!(step, Step::Gate(gate) if gate.kind == GateKind::Manual)
}
