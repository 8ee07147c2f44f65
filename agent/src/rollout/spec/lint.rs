//! Plans that are right in form and cannot be meant. What depends on the fleet as it is then, the
//! preflight looks at: see `machine`.

use super::{AutoPromotion, BlueGreen, Canary, CanaryStep, Rolling, Rollout, Stage, Strategy};
use crate::model::{Version, Weight};
use crate::rollout::time::Seconds;

/// What is impossible: the path in the document, and the reason.
#[must_use]
pub fn lint(rollout: &Rollout) -> Vec<(String, String)> {
    let mut found = Found(Vec::new());
    match &rollout.strategy {
        Strategy::Canary(canary) => self::canary(rollout, canary, &mut found),
        Strategy::BlueGreen(blue_green) => self::blue_green(rollout, *blue_green, &mut found),
        Strategy::Rolling(rolling) => self::rolling(rollout, *rolling, &mut found),
    }
    roles(rollout, &mut found);
    times(rollout, &mut found);
    for (field, message) in rollout.analysis.problems() {
        found.add(format!("analysis.{field}"), message);
    }
    external(rollout, &mut found);
    found.0
}

struct Found(Vec<(String, String)>);

impl Found {
    fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.0.push((path.into(), message.into()));
    }

    fn check(&mut self, good: bool, path: &str, message: impl FnOnce() -> String) {
        if !good {
            self.add(path, message());
        }
    }
}

/// What the candidate is if the document does not say it; nothing: it depends on the stable version.
#[must_use]
pub fn default_candidate(strategy: &Strategy, stable: Version) -> Version {
    match strategy {
        Strategy::Canary(_) => Version::Canary,
        Strategy::BlueGreen(_) if stable == Version::Blue => Version::Green,
        Strategy::BlueGreen(_) => Version::Blue,
        Strategy::Rolling(_) => stable,
    }
}

fn roles(rollout: &Rollout, found: &mut Found) {
    let rolling = matches!(rollout.strategy, Strategy::Rolling(_));
    if let (true, Some(_)) = (rolling, rollout.candidate) {
        found.add(
            "candidate",
            "has no meaning with rolling, which replaces the backends of the stable version; leave \
             it out",
        );
        return;
    }
    let candidate = rollout
        .candidate
        .or_else(|| rollout.stable.map(|stable| default_candidate(&rollout.strategy, stable)));
    if let (false, Some(stable), Some(candidate)) = (rolling, rollout.stable, candidate)
        && stable == candidate
    {
        let path = if rollout.candidate.is_some() { "candidate" } else { "stable" };
        found.add(
            path,
            format!("{candidate} would be both candidate and stable; name two versions"),
        );
    }
}

fn canary(rollout: &Rollout, canary: &Canary, found: &mut Found) {
    let candidate = rollout.candidate.unwrap_or(Version::Canary);
    let (mut weight, mut route, mut changed) = (Weight::ZERO, false, true);
    for (index, step) in canary.steps.iter().enumerate() {
        let path = |key: &str| format!("strategy.canary.steps[{index}].{key}");
        match step {
            CanaryStep::SetWeight(next) => {
                found.check(*next > weight, &path("setWeight"), || {
                    format!("{next} is not more than the {weight} before it; weights only rise")
                });
                weight = weight.max(*next);
                changed = true;
            }
            CanaryStep::SetMatchRoute(asked) => {
                found.check(asked.to == candidate, &path("setMatchRoute.to"), || {
                    format!("{} is not the candidate, {candidate}", asked.to)
                });
                route = true;
                changed = true;
            }
            CanaryStep::SetWave(_) => changed = true,
            CanaryStep::Analysis(analysis) => {
                found.check(weight > Weight::ZERO || route, &path("analysis"), || {
                    "comes before the candidate has any weight, so there is nothing to judge; put \
                     it after a setWeight"
                        .to_owned()
                });
                found.check(changed, &path("analysis"), || {
                    "follows another with no change between them; make one of both".to_owned()
                });
                self::analysis(*analysis, &path("analysis"), found);
                changed = false;
            }
            CanaryStep::Gate(gate) => {
                found.check(gate.timeout > Seconds::ZERO, &path("gate.timeout"), || {
                    "is nothing: the gate would be over before anybody can answer".to_owned()
                });
            }
            CanaryStep::Pause(Some(Seconds::ZERO)) => {
                found.add(path("pause.duration"), "is nothing; leave the step out");
            }
            CanaryStep::Pause(_) => {}
        }
    }
    if let Some(CanaryStep::SetWave(_) | CanaryStep::SetMatchRoute(_)) = canary.steps.last() {
        found.add(
            format!("strategy.canary.steps[{}]", canary.steps.len() - 1),
            "is the last step, after which the candidate gets everything anyway; leave it out, or \
             let a wait follow",
        );
    }
}

fn analysis(analysis: super::Analysis, path: &str, found: &mut Found) {
    let super::Analysis { min_duration: min, max_duration: max, .. } = analysis;
    found.check(max > Seconds::ZERO, &format!("{path}.maxDuration"), || {
        "is nothing: no evidence comes in no time".to_owned()
    });
    found.check(min <= max, &format!("{path}.minDuration"), || {
        format!("{min} is longer than maxDuration, {max}")
    });
}

fn blue_green(rollout: &Rollout, blue_green: BlueGreen, found: &mut Found) {
    const PATH: &str = "strategy.blueGreen";
    if let Some(asked) = blue_green.pre_promotion_analysis {
        let path = format!("{PATH}.prePromotionAnalysis");
        found.check(blue_green.preview || !rollout.external.is_empty(), &path, || {
            "has nothing to judge: green gets no connections before the promotion; give it a \
             preview listener or external metrics"
                .to_owned()
        });
        analysis(asked, &path, found);
    }
    if let AutoPromotion::After(after) = blue_green.auto_promotion {
        let limit = rollout.paused.timeout;
        found.check(after <= limit, &format!("{PATH}.autoPromotion.after"), || {
            format!("{after} is longer than anything waits unattended (paused.timeout, {limit})")
        });
    }
}

fn rolling(rollout: &Rollout, rolling: Rolling, found: &mut Found) {
    const PATH: &str = "strategy.rolling";
    let ready = rolling.min_ready_seconds;
    let deadline = rollout.progress_deadline;
    found.check(ready < deadline, &format!("{PATH}.minReadySeconds"), || {
        format!(
            "{ready} is not within progressDeadline, {deadline}: no backend could be ready in time"
        )
    });
    if let Some(asked) = rolling.analysis {
        analysis(asked, &format!("{PATH}.analysis"), found);
    }
    let replace = rollout.hooks.iter().filter(|hook| hook.stage == Stage::Replace).count();
    found.check(replace == 1, PATH, || {
        format!(
            "needs exactly one hook of the stage replace, which replaces a backend; there are \
             {replace}"
        )
    });
    found.check(rollout.guard.is_none(), "guard", || {
        "has no meaning with rolling: there is no other version to fall back to; leave it out"
            .to_owned()
    });
}

fn times(rollout: &Rollout, found: &mut Found) {
    let deadline = rollout.progress_deadline;
    found.check(deadline > Seconds::ZERO, "progressDeadline", || {
        "is nothing: everything would be late".to_owned()
    });
    found.check(rollout.bake <= deadline, "bake", || {
        format!("{} is longer than progressDeadline, {deadline}", rollout.bake)
    });
    let drain = rollout.drain;
    found.check(drain.idle <= drain.timeout, "drain.idle", || {
        format!("{} is longer than drain.timeout, {}", drain.idle, drain.timeout)
    });
    found.check(rollout.verify.timeout > Seconds::ZERO, "verify.timeout", || {
        "is nothing: no agent answers in no time".to_owned()
    });
    found.check(rollout.verify.timeout <= deadline, "verify.timeout", || {
        format!("{} is longer than progressDeadline, {deadline}", rollout.verify.timeout)
    });
    found.check(rollout.paused.timeout > Seconds::ZERO, "paused.timeout", || {
        "is nothing: no person answers in no time".to_owned()
    });
    if let Some(guard) = rollout.guard {
        let window = guard.window.get();
        found.check((1..=300).contains(&window), "guard.window", || {
            format!("{} is not within 1s and 5m", guard.window)
        });
    }
    for (index, hook) in rollout.hooks.iter().enumerate() {
        let path = format!("hooks[{index}]");
        found.check(hook.timeout > Seconds::ZERO, &format!("{path}.timeout"), || {
            "is nothing: no hook answers in no time".to_owned()
        });
        let rolling = matches!(rollout.strategy, Strategy::Rolling(_));
        found.check(rolling || hook.stage != Stage::Replace, &format!("{path}.stage"), || {
            "replace is for the strategy rolling alone".to_owned()
        });
        let of_weights =
            matches!(hook.stage, Stage::PreWeight | Stage::PostWeight | Stage::PostDrain);
        found.check(!(rolling && of_weights), &format!("{path}.stage"), || {
            format!("{} never comes with rolling, which moves no weight", hook.stage)
        });
    }
}

fn external(rollout: &Rollout, found: &mut Found) {
    for (index, metric) in rollout.external.iter().enumerate() {
        let path = format!("analysis.external[{index}]");
        found.check(metric.success.is_some() || metric.failure.is_some(), &path, || {
            "says nothing of what is good or bad; give it a successCondition or a failureCondition"
                .to_owned()
        });
    }
}
