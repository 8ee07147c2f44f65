//! A strategy as a flat list of steps: what `plan` prints and the machine walks.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::spec::{
    Analysis, AutoPromotion, BlueGreen, Canary, CanaryStep, Gate, GateKind, Hook, Rolling, Rollout,
    Route, Share, Stage, Strategy,
};
use super::time::Seconds;
use crate::model::{Weight, Weights};

/// One step. Steps that wait have their time with them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Step {
    /// Clients by origin go to the candidate.
    Route(Route),
    /// On how many agents the steps from here on apply.
    Wave(Share),
    /// The candidate's share.
    Weight(Weight),
    /// Wait for evidence.
    Analysis(Analysis),
    /// Wait for so long, or until promoted.
    Pause(Option<Seconds>),
    /// Wait for an answer.
    Gate(Gate),
    /// Replace backends: out, another in its place, in again. `revert`: what was there before.
    Replace {
        /// Which, together.
        backends: Vec<SocketAddr>,
        /// The way back.
        revert: bool,
    },
    /// The candidate gets everything on every agent.
    Promote,
    /// The candidate is watched with everything on it.
    Bake(Seconds),
    /// The old version's connections end; at least so long.
    Drain(Seconds),
    /// Every agent gets these weights at once: the way back.
    Restore(Weights),
}

/// The steps of a rollout. With `rolling` they depend on the backends of the stable version.
///
/// # Errors
///
/// Why it cannot be done with these backends.
pub fn steps(rollout: &Rollout, backends: &[SocketAddr]) -> Result<Vec<Step>, String> {
    let mut steps = match &rollout.strategy {
        Strategy::Canary(canary) => self::canary(canary),
        Strategy::BlueGreen(blue_green) => self::blue_green(*blue_green),
        Strategy::Rolling(rolling) => {
            let mut steps = self::rolling(*rolling, backends)?;
            steps.push(Step::Bake(rollout.bake));
            return Ok(steps);
        }
    };
    let delay = match &rollout.strategy {
        Strategy::BlueGreen(blue_green) => blue_green.scale_down_delay,
        _ => Seconds::ZERO,
    };
    steps.extend([Step::Promote, Step::Bake(rollout.bake), Step::Drain(delay)]);
    Ok(steps)
}

fn canary(canary: &Canary) -> Vec<Step> {
    let step = |step: &CanaryStep| match step {
        CanaryStep::SetMatchRoute(route) => Step::Route(route.clone()),
        CanaryStep::SetWave(share) => Step::Wave(*share),
        CanaryStep::SetWeight(weight) => Step::Weight(*weight),
        CanaryStep::Analysis(analysis) => Step::Analysis(*analysis),
        CanaryStep::Pause(pause) => Step::Pause(*pause),
        CanaryStep::Gate(gate) => Step::Gate(gate.clone()),
    };
    canary.steps.iter().map(step).collect()
}

fn blue_green(blue_green: BlueGreen) -> Vec<Step> {
    let analysis = blue_green.pre_promotion_analysis.map(Step::Analysis);
    let pause = match blue_green.auto_promotion {
        AutoPromotion::Never => Some(Step::Pause(None)),
        AutoPromotion::After(Seconds::ZERO) => None,
        AutoPromotion::After(after) => Some(Step::Pause(Some(after))),
    };
    analysis.into_iter().chain(pause).collect()
}

fn rolling(rolling: Rolling, backends: &[SocketAddr]) -> Result<Vec<Step>, String> {
    let count = backends.len();
    let partition = rolling.partition as usize;
    if partition > count {
        return Err(format!("partition keeps {partition} backends, but there are {count}"));
    }
    let together = rolling.max_unavailable.of(count);
    if together >= count {
        return Err(format!(
            "maxUnavailable takes out {together} of {count} backends, which leaves none; give the \
             version more, or take fewer at a time"
        ));
    }
    let mut sorted = backends.to_vec();
    sorted.sort_unstable();
    let batches = sorted[partition..].chunks(together);
    Ok(batches
        .flat_map(|batch| {
            let replace = Step::Replace { backends: batch.to_vec(), revert: false };
            std::iter::once(replace).chain(rolling.analysis.map(Step::Analysis))
        })
        .collect())
}

/// When a step begins and how long it lasts, as far as the spec alone says it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Planned {
    /// The step.
    pub step: Step,
    /// It begins so long after the begin of the rollout, at the earliest.
    pub begins: Seconds,
    /// It lasts so long at least.
    pub least: Seconds,
    /// It lasts so long at most; then its deadline acts.
    pub most: Seconds,
}

/// The steps with their times.
#[must_use]
pub fn timetable(rollout: &Rollout, steps: &[Step]) -> Vec<Planned> {
    let mut begins = Seconds::ZERO;
    let mut planned = Vec::with_capacity(steps.len());
    for step in steps {
        let (least, most) = (least(rollout, step), most(rollout, step));
        planned.push(Planned { step: step.clone(), begins, least, most });
        begins = begins.plus(least);
    }
    planned
}

fn least(rollout: &Rollout, step: &Step) -> Seconds {
    match step {
        Step::Analysis(analysis) if analysis.advance_early => analysis.min_duration,
        Step::Analysis(analysis) => analysis.max_duration,
        Step::Pause(pause) => pause.unwrap_or_default(),
        Step::Replace { .. } => min_ready(rollout),
        Step::Bake(bake) => *bake,
        Step::Drain(delay) => rollout.drain.idle.max(*delay),
        _ => Seconds::ZERO,
    }
}

fn most(rollout: &Rollout, step: &Step) -> Seconds {
    let deadline = rollout.progress_deadline;
    let hooks = |stage| hooks(rollout, stage).map(|hook| hook.timeout).sum::<Seconds>();
    let applied = deadline.plus(rollout.verify.timeout);
    match step {
        Step::Route(_) => applied,
        Step::Wave(_) | Step::Weight(_) => {
            applied.plus(hooks(Stage::PreWeight)).plus(hooks(Stage::PostWeight))
        }
        Step::Promote => applied.plus(hooks(Stage::PrePromotion)).plus(hooks(Stage::PostPromotion)),
        Step::Analysis(analysis) => {
            let times = 1 + super::machine::MOST_EXTENSIONS;
            Seconds::new(analysis.max_duration.get().saturating_mul(times))
        }
        Step::Pause(pause) => pause.unwrap_or(rollout.paused.timeout),
        Step::Gate(gate) => gate.timeout,
        Step::Replace { .. } => {
            let empty = deadline.plus(rollout.drain.timeout);
            empty.plus(hooks(Stage::Replace)).plus(deadline).plus(rollout.verify.timeout)
        }
        Step::Bake(bake) => *bake,
        Step::Drain(delay) => rollout.drain.timeout.max(*delay).plus(hooks(Stage::PostDrain)),
        Step::Restore(_) => {
            let twice = rollout.verify.timeout.plus(rollout.verify.timeout);
            twice.plus(hooks(Stage::PostRollback))
        }
    }
}

/// The hooks of a stage, in order.
pub(super) fn hooks(rollout: &Rollout, stage: Stage) -> impl Iterator<Item = &Hook> {
    rollout.hooks.iter().filter(move |hook| hook.stage == stage)
}

/// `minReadySeconds`; nothing without `rolling`.
pub(super) fn min_ready(rollout: &Rollout) -> Seconds {
    match &rollout.strategy {
        Strategy::Rolling(rolling) => rolling.min_ready_seconds,
        _ => Seconds::ZERO,
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Route(route) => {
                let sources: Vec<String> = route.sources.iter().map(ToString::to_string).collect();
                write!(f, "route {} to {}", sources.join(", "), route.to)
            }
            Self::Wave(share) => write!(f, "wave of {share} of the agents"),
            Self::Weight(weight) => write!(f, "weight {weight}"),
            Self::Analysis(analysis) if analysis.advance_early => {
                write!(f, "analysis of {} to {}", analysis.min_duration, analysis.max_duration)
            }
            Self::Analysis(analysis) => write!(f, "analysis of {}", analysis.max_duration),
            Self::Pause(Some(time)) => write!(f, "pause of {time}"),
            Self::Pause(None) => f.write_str("pause until promoted"),
            Self::Gate(gate) => match gate.kind {
                GateKind::Manual => write!(f, "gate: a person, within {}", gate.timeout),
                GateKind::Webhook(_) => write!(f, "gate: a hook, within {}", gate.timeout),
            },
            Self::Replace { backends, revert } => {
                let names: Vec<String> = backends.iter().map(ToString::to_string).collect();
                let verb = if *revert { "bring back" } else { "replace" };
                write!(f, "{verb} {}", names.join(", "))
            }
            Self::Promote => f.write_str("promote"),
            Self::Bake(time) => write!(f, "bake for {time}"),
            Self::Drain(Seconds::ZERO) => f.write_str("drain the old version"),
            Self::Drain(delay) => write!(f, "drain the old version, {delay} at least"),
            Self::Restore(weights) => write!(f, "return to {weights}"),
        }
    }
}
