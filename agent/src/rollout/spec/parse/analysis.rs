//! How the candidate is judged.

use std::time::Duration;

use super::super::external::{ExternalMetric, Source};
use super::super::reader::{Field, Map};
use super::{hooks, policy};
use crate::rollout::judge::{Config, External, Metric, OnInsufficient};
use crate::rollout::time::Seconds;

/// The most metrics in a list.
const MAX_METRICS: usize = 64;
/// How often a metric of another system is asked for, if nothing is said.
const INTERVAL: Seconds = Seconds::new(10);

/// The judge's configuration, and where metrics of others come from. What their values may be, the
/// judge says: `lint` asks it.
pub(super) fn config(field: Option<&Field<'_>>) -> (Config, Vec<ExternalMetric>) {
    let default = Config::default();
    let Some(mut map) = field.and_then(Field::map) else { return (default, Vec::new()) };
    let series = map.or("external", Vec::new(), |field| {
        Some(field.list(MAX_METRICS).iter().filter_map(external).collect::<Vec<_>>())
    });
    let (external, sources) = series.into_iter().unzip();
    let config = Config {
        alpha: map.or("alpha", default.alpha, Field::real),
        metrics: map.or("metrics", default.metrics, |field| Some(metrics(field))),
        watch: map.or("watch", default.watch, |field| Some(metrics(field))),
        external,
        min_samples: map.or("minSamples", default.min_samples, |field| {
            field.number(1, 1_000_000_000).map(u64::from)
        }),
        on_insufficient_data: map.or(
            "onInsufficientData",
            default.on_insufficient_data,
            on_insufficient,
        ),
        fail_above: map.or("failAbove", default.fail_above, Field::real),
        max_ratio: map.or("maxRatio", default.max_ratio, Field::real),
        max_slower: map.or("maxSlower", default.max_slower, Field::real),
        slack: map.or("slack", default.slack, short_time),
        sample_ratio: map.or("sampleRatio", default.sample_ratio, Field::bool),
        ..default
    };
    (config, sources)
}

fn metrics(field: &Field<'_>) -> Vec<Metric> {
    let words = Metric::ALL.map(|metric| (metric.name(), metric));
    field.list(MAX_METRICS).iter().filter_map(|item| item.word(&words)).collect()
}

fn on_insufficient(field: &Field<'_>) -> Option<OnInsufficient> {
    field.word(&[
        ("extend", OnInsufficient::Extend),
        ("pause", OnInsufficient::Pause),
        ("proceed", OnInsufficient::Proceed),
        ("abort", OnInsufficient::Abort),
    ])
}

/// A time that may be shorter than a second.
fn short_time(field: &Field<'_>) -> Option<Duration> {
    let text = field.text()?;
    let time = humantime::parse_duration(&text).ok().filter(|time| time.as_secs() < 60);
    if time.is_none() {
        field.wrong(format!("{text:?} is not a time below 60s; write it as 500us or 2ms"));
    }
    time
}

/// One series of another system.
fn external(field: &Field<'_>) -> Option<(External, ExternalMetric)> {
    let mut map = field.map()?;
    let name = map.need("name").and_then(|field| name(&field));
    let source = source(&mut map);
    let interval = map.or("interval", INTERVAL, Field::time);
    let success = map.get("successCondition").and_then(|field| policy::condition(&field));
    let failure = map.get("failureCondition").and_then(|field| policy::condition(&field));
    let count = map.or("count", 1, |field| field.number(1, 1_000_000));
    let failure_limit = map.or("failureLimit", 0, |field| field.number(0, 1_000_000));
    if interval == Seconds::ZERO {
        field.wrong("has an interval of nothing; write at least 1s");
    }
    let (name, source) = (name?, source?);
    let judged = External { name: name.clone(), count, failure_limit };
    Some((judged, ExternalMetric { name, source, interval, success, failure }))
}

fn name(field: &Field<'_>) -> Option<String> {
    let text = field.text()?;
    let good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if text.is_empty() || text.len() > 63 || !text.chars().all(good) {
        field.wrong(format!("{text:?} is not 1 to 63 of letters, digits and - _ ."));
        return None;
    }
    Some(text)
}

/// Either `prometheus` or `webhook`.
fn source(map: &mut Map<'_>) -> Option<Source> {
    let prometheus = map.get("prometheus").map(|field| {
        let mut map = field.map()?;
        let address = map.need("address").and_then(|field| hooks::address(&field));
        let query = map.need("query").and_then(|field| field.text());
        Some(Source::Prometheus { address: address?, query: query? })
    });
    let webhook = map.get("webhook").map(|field| {
        let mut map = field.map()?;
        Some(Source::Webhook { url: map.need("url").and_then(|field| hooks::address(&field))? })
    });
    match (prometheus, webhook) {
        (Some(source), None) | (None, Some(source)) => source,
        _ => {
            map.field.wrong("names not exactly one of prometheus and webhook");
            None
        }
    }
}
