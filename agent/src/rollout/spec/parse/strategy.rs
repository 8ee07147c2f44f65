//! The strategy, and the steps of a canary.

use super::super::reader::{Field, Map};
use super::super::{
    Analysis, AutoPromotion, BlueGreen, Canary, CanaryStep, Count, Gate, GateKind, Rolling, Route,
    Share, Strategy, preset, tree::Value,
};
use super::{hooks, policy};
use crate::model::{Version, Weight, steering};
use crate::rollout::time::Seconds;

/// The most steps of a canary.
pub(super) const MAX_STEPS: usize = 256;
/// The most prefixes of a step.
const MAX_SOURCES: usize = 1_000;
/// An analysis lasts so long at least, and at most, if nothing is said.
const ANALYSIS: Analysis = Analysis {
    min_duration: Seconds::minutes(1),
    max_duration: Seconds::minutes(30),
    advance_early: false,
};

/// Exactly one of the strategies, or a preset.
pub(super) fn strategy(field: &Field<'_>, candidate: Option<Version>) -> Option<Strategy> {
    let mut map = field.map()?;
    let found = [
        map.present("canary").map(|field| canary(&field, candidate).map(Strategy::Canary)),
        map.present("blueGreen").map(|field| blue_green(&field).map(Strategy::BlueGreen)),
        map.present("rolling").map(|field| rolling(&field).map(Strategy::Rolling)),
        map.present("preset").map(|field| by_name(&field).map(Strategy::Canary)),
    ];
    let mut found = found.into_iter().flatten();
    let (first, second) = (found.next(), found.next());
    if first.is_none() || second.is_some() {
        field.wrong("names not exactly one of canary, blueGreen, rolling and preset");
    }
    first.flatten()
}

fn by_name(field: &Field<'_>) -> Option<Canary> {
    preset::preset(&field.text()?).map_err(|message| field.wrong(message)).ok()
}

fn canary(field: &Field<'_>, candidate: Option<Version>) -> Option<Canary> {
    let mut map = field.map()?;
    let steps = map.need("steps")?.list(MAX_STEPS);
    Some(Canary { steps: steps.iter().filter_map(|field| step(field, candidate)).collect() })
}

/// A map with one key, which names the step.
fn step(field: &Field<'_>, candidate: Option<Version>) -> Option<CanaryStep> {
    let mut map = field.map()?;
    let found = [
        map.get("setWeight").map(|field| field.weight().map(CanaryStep::SetWeight)),
        map.get("setWave").map(|field| wave(&field).map(CanaryStep::SetWave)),
        map.get("setMatchRoute")
            .map(|field| route(&field, candidate).map(CanaryStep::SetMatchRoute)),
        map.present("analysis").map(|field| analysis(&field).map(CanaryStep::Analysis)),
        map.present("pause").map(|field| pause(&field)),
        map.present("gate").map(|field| gate(&field).map(CanaryStep::Gate)),
    ];
    let mut found = found.into_iter().flatten();
    let (first, second) = (found.next(), found.next());
    if first.is_none() || second.is_some() {
        field.wrong(
            "names not exactly one of setWeight, setWave, setMatchRoute, analysis, pause and gate",
        );
    }
    first.flatten()
}

fn wave(field: &Field<'_>) -> Option<Share> {
    field.map().and_then(|mut map| share(&map.need("agents")?))
}

/// A part that is not nothing.
pub(super) fn share(field: &Field<'_>) -> Option<Share> {
    let weight = field.weight()?;
    if weight == Weight::ZERO {
        field.wrong("is nothing; write more than 0%");
        return None;
    }
    Some(Share(weight))
}

fn route(field: &Field<'_>, candidate: Option<Version>) -> Option<Route> {
    let mut map = field.map()?;
    let sources = map.need("sources");
    let to = map.or("to", candidate.unwrap_or(Version::Canary), Field::read);
    let sources = sources?;
    let mut prefixes = Vec::new();
    for item in sources.list(MAX_SOURCES) {
        let Some(text) = item.text() else { continue };
        match steering::prefix(&text) {
            Ok(prefix) if prefixes.contains(&prefix) => item.wrong("is listed twice"),
            Ok(prefix) => prefixes.push(prefix),
            Err(message) => item.wrong(message),
        }
    }
    if prefixes.is_empty() {
        sources.wrong("names no prefix of clients' addresses; name at least one");
    }
    Some(Route { sources: prefixes, to })
}

pub(super) fn analysis(field: &Field<'_>) -> Option<Analysis> {
    let mut map = field.map()?;
    let max = map.get("maxDuration").and_then(|field| field.time());
    let min = map.get("minDuration").and_then(|field| field.time());
    let max_duration =
        max.unwrap_or(min.map_or(ANALYSIS.max_duration, |min| min.max(ANALYSIS.max_duration)));
    Some(Analysis {
        min_duration: min.unwrap_or(ANALYSIS.min_duration.min(max_duration)),
        max_duration,
        advance_early: map.or("advanceEarly", ANALYSIS.advance_early, Field::bool),
    })
}

fn pause(field: &Field<'_>) -> Option<CanaryStep> {
    let mut map = field.map()?;
    Some(CanaryStep::Pause(map.get("duration").and_then(|field| field.time())))
}

fn gate(field: &Field<'_>) -> Option<Gate> {
    let mut map = field.map()?;
    let kind = map.need("type").and_then(|kind| kind.word(&[("manual", false), ("webhook", true)]));
    let target = hooks::target(&mut map, kind == Some(true));
    let timeout = map.need("timeout").and_then(|field| field.time());
    let on_timeout = map.need("onTimeout").and_then(|field| policy::on_timeout(&field));
    if kind == Some(false) && target.is_some() {
        field.wrong("a manual gate waits for a person: it has neither url nor command");
    }
    let kind = if kind? { GateKind::Webhook(target?) } else { GateKind::Manual };
    Some(Gate { kind, timeout: timeout?, on_timeout: on_timeout? })
}

fn blue_green(field: &Field<'_>) -> Option<BlueGreen> {
    let mut map = field.map()?;
    let preview = map.or("preview", false, |field| field.word(&[("listener", true)]));
    let pre_promotion_analysis =
        map.present("prePromotionAnalysis").and_then(|field| analysis(&field));
    let auto_promotion = map.or("autoPromotion", AutoPromotion::Never, auto_promotion);
    let scale_down_delay = map.or("scaleDownDelay", Seconds::ZERO, Field::time);
    Some(BlueGreen { preview, pre_promotion_analysis, auto_promotion, scale_down_delay })
}

/// `after: 5m` as a map, or `never`.
fn auto_promotion(field: &Field<'_>) -> Option<AutoPromotion> {
    if let Value::Text(_) = field.node.value {
        return field.word(&[("never", AutoPromotion::Never)]);
    }
    let mut map: Map<'_> = field.map()?;
    Some(AutoPromotion::After(map.need("after")?.time()?))
}

fn rolling(field: &Field<'_>) -> Option<Rolling> {
    let mut map = field.map()?;
    let max_unavailable = map.or("maxUnavailable", Count::default(), count);
    let min_ready_seconds = map.or("minReadySeconds", Seconds::ZERO, |field| {
        match field.node.value {
            // As in Kubernetes, where the name comes from.
            Value::Number(_) => field.number(0, 86_400).map(Seconds::new),
            _ => field.time(),
        }
    });
    let partition = map.or("partition", 0, |field| field.number(0, 4_096));
    let analysis = map.present("analysis").and_then(|field| analysis(&field));
    Some(Rolling { max_unavailable, min_ready_seconds, partition, analysis })
}

fn count(field: &Field<'_>) -> Option<Count> {
    match field.node.value {
        Value::Number(_) => field.number(1, 4_096).map(Count::Number),
        _ => share(field).map(Count::Share),
    }
}
