//! Hooks: which is to be asked now, and what came of it.

use super::super::schedule::{Step, hooks};
use super::super::spec::{GateKind, Hook, Stage as HookStage};
use super::super::time::Seconds;
use super::turn::Turn;
use super::{Effect, HookAnswer, HookCall, HookKey, Phase, Stage};

/// What came of the hooks of a stage.
pub(super) enum Answer {
    /// All succeeded, or there are none.
    Done,
    /// One is still to answer.
    Waiting,
    /// One failed; which and why, in words.
    Failed(String),
}

impl Turn<'_> {
    fn key(&self, stage: Option<HookStage>, index: usize) -> HookKey {
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        HookKey { transition: self.state.calls, stage, index }
    }

    /// What came of the hooks of a stage, asked one after the other since the last transition.
    pub(super) fn answer(&self, stage: HookStage) -> Answer {
        let mut due = Seconds::ZERO;
        for (index, hook) in hooks(&self.state.rollout, stage).enumerate() {
            due = due.plus(hook.timeout);
            match self.seen.hooks.get(&self.key(Some(stage), index)) {
                Some(HookAnswer::Succeeded) => {}
                Some(HookAnswer::Failed(reason)) => {
                    return Answer::Failed(format!("the hook {stage} failed: {reason}"));
                }
                _ if self.spent(due) => {
                    return Answer::Failed(format!("the hook {stage} did not answer in time"));
                }
                _ => return Answer::Waiting,
            }
        }
        Answer::Done
    }

    /// The hook of a stage that is to be asked now, if one is.
    fn pending(&self, stage: HookStage) -> Option<(HookKey, &Hook)> {
        hooks(&self.state.rollout, stage).enumerate().find_map(|(index, hook)| {
            let key = self.key(Some(stage), index);
            let open = !matches!(self.seen.hooks.get(&key), Some(HookAnswer::Succeeded));
            open.then_some((key, hook))
        })
    }

    pub(super) fn gate_answer(&self) -> Answer {
        match self.seen.hooks.get(&self.key(None, 0)) {
            Some(HookAnswer::Succeeded) => Answer::Done,
            Some(HookAnswer::Failed(reason)) => {
                Answer::Failed(format!("the gate is closed: {reason}"))
            }
            _ => Answer::Waiting,
        }
    }

    /// What came of the replacements of a step's backends, which are asked for together.
    pub(super) fn replaced(&self, backends: &[std::net::SocketAddr]) -> Answer {
        let mut waiting = false;
        for (index, backend) in backends.iter().enumerate() {
            match self.seen.hooks.get(&self.key(Some(HookStage::Replace), index)) {
                Some(HookAnswer::Succeeded) => {}
                Some(HookAnswer::Failed(reason)) => {
                    return Answer::Failed(format!("{backend} could not be replaced: {reason}"));
                }
                _ => waiting = true,
            }
        }
        let timeout = hooks(&self.state.rollout, HookStage::Replace).map(|hook| hook.timeout).sum();
        match waiting {
            false => Answer::Done,
            true if self.spent(timeout) => {
                Answer::Failed("a backend was not replaced in time".to_owned())
            }
            true => Answer::Waiting,
        }
    }

    /// Whether no replacement is under way: each that was asked for has ended.
    pub(super) fn replacements_ended(&self, backends: &[std::net::SocketAddr]) -> bool {
        (0..backends.len()).all(|index| {
            let key = self.key(Some(HookStage::Replace), index);
            !matches!(self.seen.hooks.get(&key), Some(HookAnswer::InProgress))
        })
    }

    /// The hooks that are to be asked now.
    pub(super) fn call_hooks(&self, effects: &mut Vec<Effect>) {
        let (steps, at) = match &self.state.phase {
            Phase::Preflight => {
                if self.state.roles.is_some() {
                    self.call(HookStage::PreRollout, effects);
                }
                return;
            }
            // While it is aborted only what was begun is asked how it goes.
            Phase::Progressing(at) | Phase::Aborting(at) => (&self.state.steps, *at),
            Phase::RollingBack(at) => (&self.state.back, *at),
            _ => return,
        };
        let Some(step) = steps.get(at.step) else { return };
        if matches!(self.state.phase, Phase::Aborting(_)) && at.stage != Stage::Replacing {
            return;
        }
        match (at.stage, super::deadline::around(step)) {
            (Stage::Before, Some((stage, _))) | (Stage::After, Some((_, stage))) => {
                self.call(stage, effects);
            }
            (Stage::Gate, _) => self.call_gate(step, effects),
            (Stage::Replacing, _) => self.call_replacements(step, effects),
            _ => {}
        }
    }

    fn call(&self, stage: HookStage, effects: &mut Vec<Effect>) {
        if let Some((key, hook)) = self.pending(stage)
            && !matches!(self.seen.hooks.get(&key), Some(HookAnswer::Failed(_)))
        {
            effects.push(Effect::CallHook { key, call: plain(hook) });
        }
    }

    fn call_gate(&self, step: &Step, effects: &mut Vec<Effect>) {
        let Step::Gate(gate) = step else { return };
        let GateKind::Webhook(target) = &gate.kind else { return };
        let key = self.key(None, 0);
        if matches!(self.seen.hooks.get(&key), None | Some(HookAnswer::InProgress)) {
            let (target, timeout) = (target.clone(), gate.timeout);
            let call = HookCall { target, timeout, backend: None, revert: false };
            effects.push(Effect::CallHook { key, call });
        }
    }

    fn call_replacements(&self, step: &Step, effects: &mut Vec<Effect>) {
        let Step::Replace { backends, revert } = step else { return };
        let Some(hook) = hooks(&self.state.rollout, HookStage::Replace).next() else { return };
        for (index, backend) in backends.iter().enumerate() {
            let key = self.key(Some(HookStage::Replace), index);
            let answer = self.seen.hooks.get(&key);
            let due = match self.state.phase {
                Phase::Aborting(_) => answer == Some(&HookAnswer::InProgress),
                _ => matches!(answer, None | Some(HookAnswer::InProgress)),
            };
            if due {
                let call = HookCall { backend: Some(*backend), revert: *revert, ..plain(hook) };
                effects.push(Effect::CallHook { key, call });
            }
        }
    }
}

fn plain(hook: &Hook) -> HookCall {
    let (target, timeout) = (hook.target.clone(), hook.timeout);
    HookCall { target, timeout, backend: None, revert: false }
}
