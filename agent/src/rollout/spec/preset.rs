//! Strategies by the names that `CodeDeploy` gives them.

use super::{Canary, CanaryStep};
use crate::model::Weight;
use crate::rollout::time::Seconds;

/// The forms, for messages.
const FORMS: &str = "AllAtOnce, CanaryXPercentYMinutes or LinearXPercentEveryYMinutes, such as \
                     Canary10Percent5Minutes or Linear10PercentEvery1Minute";

/// The steps of a preset.
///
/// - `AllAtOnce`: none
/// - `CanaryXPercentYMinutes`: X percent, Y minutes, then everything
/// - `LinearXPercentEveryYMinutes`: X percent more every Y minutes
///
/// The candidate is judged all the time, so a bad one returns within a pause.
///
/// # Errors
///
/// What is wrong with the name.
pub fn preset(name: &str) -> Result<Canary, String> {
    let unknown = || format!("{name:?} is not a preset; write {FORMS}");
    if name == "AllAtOnce" {
        return Ok(Canary::default());
    }
    let (percent, minutes, linear) = if let Some(rest) = name.strip_prefix("Canary") {
        let (percent, minutes) = rest.split_once("Percent").ok_or_else(unknown)?;
        (percent, minutes, false)
    } else if let Some(rest) = name.strip_prefix("Linear") {
        let (percent, minutes) = rest.split_once("PercentEvery").ok_or_else(unknown)?;
        (percent, minutes, true)
    } else {
        return Err(unknown());
    };
    let percent = number(percent).ok_or_else(unknown)?;
    let minutes = minutes.strip_suffix("Minutes").or_else(|| minutes.strip_suffix("Minute"));
    let minutes = minutes.and_then(number).ok_or_else(unknown)?;
    if !(1..=99).contains(&percent) {
        return Err(format!("{percent} percent is not within 1 and 99"));
    }
    if !(1..=10_080).contains(&minutes) {
        return Err(format!("{minutes} minutes are not within 1 and 10080 (a week)"));
    }
    Ok(steps(percent, Seconds::minutes(minutes), linear))
}

/// The number, without signs and leading zeros.
fn number(text: &str) -> Option<u32> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    plain.then(|| text.parse().ok()).flatten()
}

fn steps(percent: u32, pause: Seconds, linear: bool) -> Canary {
    let last = if linear { 99 } else { percent };
    let shares = (percent..=last).step_by(percent as usize);
    let weights = shares.filter_map(|share| Weight::from_bp(share * 100));
    let steps = weights
        .flat_map(|weight| [CanaryStep::SetWeight(weight), CanaryStep::Pause(Some(pause))])
        .collect();
    Canary { steps }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;

    /// Shares in percent, and the pause after each in minutes.
    fn shape(name: &str) -> Vec<(u32, u32)> {
        let canary = preset(name).unwrap();
        let pair = |pair: &[CanaryStep]| match pair {
            [CanaryStep::SetWeight(weight), CanaryStep::Pause(Some(pause))] => {
                (weight.bp() / 100, pause.get() / 60)
            }
            _ => (0, 0),
        };
        canary.steps.chunks(2).map(pair).collect()
    }

    #[test]
    fn presets_are_those_of_codedeploy() {
        assert_eq!(shape("AllAtOnce"), []);
        assert_eq!(shape("Canary10Percent5Minutes"), [(10, 5)]);
        assert_eq!(shape("Canary10Percent30Minutes"), [(10, 30)]);
        let linear: Vec<(u32, u32)> = (1..=9).map(|tenth| (tenth * 10, 1)).collect();
        assert_eq!(shape("Linear10PercentEvery1Minute"), linear);
        assert_eq!(shape("Linear10PercentEvery3Minutes").len(), 9);
        assert_eq!(shape("Linear40PercentEvery2Minutes"), [(40, 2), (80, 2)]);
        assert_eq!(shape("Linear50PercentEvery2Minutes"), [(50, 2)]);
    }

    #[test]
    fn other_names_are_refused() {
        for bad in [
            "",
            "allatonce",
            "Canary10Percent",
            "Canary+1Percent5Minutes",
            "Canary010Percent5Minutes",
            "Canary0Percent5Minutes",
            "Canary100Percent5Minutes",
            "Linear10Percent1Minutes",
            "Linear10PercentEvery0Minutes",
            "Linear10PercentEvery99999Minutes",
            "Canary99999999999Percent5Minutes",
        ] {
            assert!(preset(bad).is_err(), "{bad}");
        }
    }
}
