//! What the page is told: JSON, from a look and from earlier ones. Pure.

use std::net::SocketAddr;
use std::time::{Duration, UNIX_EPOCH};

use hyper::body::Bytes;
use serde::Serialize;

use super::collect::{Seen, Snapshot};
use crate::model::spec::ListenerSpec;
use crate::model::{
    BackendState, Forwarding, Handshakes, Observed, PerVersion, SampleRatio, Traffic, Version,
};
use crate::node::events::Recorded;
use crate::node::messages::{
    BackendCounters, BackendHealth, BackendStatus, DrainStatus, NextHop, NodeStatus,
    ServiceCounters,
};

/// The newest events that the page shows.
const EVENTS: usize = 30;

/// All that the page shows without being asked for more.
#[derive(Serialize)]
struct Page<'a> {
    /// Milliseconds since 1970.
    time_ms: u64,
    /// Milliseconds until the next look, but for what that takes.
    next_ms: u128,
    host: &'a str,
    node: &'a NodeStatus,
    /// Of what time success, latency and failures are.
    window_s: f64,
    services: Vec<Service<'a>>,
    drains: &'a [DrainStatus],
    drops: Vec<Drop<'a>>,
    /// Oldest first.
    events: &'a [Recorded],
}

#[derive(Serialize)]
struct Service<'a> {
    name: &'a str,
    generation: u64,
    forwarding: Forwarding,
    listeners: Vec<String>,
    steering: usize,
    lease: Option<String>,
    /// Whether new connections are shared as the table says.
    sample_ratio: &'a SampleRatio,
    versions: Vec<VersionView<'a>>,
}

#[derive(Serialize)]
struct VersionView<'a> {
    version: Version,
    release: &'a str,
    /// Shares are fractions.
    asked: f64,
    table: f64,
    observed: Observed,
    #[serde(flatten)]
    lately: Lately,
    backends: Backends,
}

/// How many there are.
#[derive(Serialize)]
struct Backends {
    all: usize,
    active: usize,
    down: usize,
}

/// What was counted since an earlier look.
#[derive(Serialize, Clone)]
struct Lately {
    /// New connections a second, over some five seconds; nothing without an earlier look.
    rate: Option<f64>,
    /// Connections that are open, about.
    open: u64,
    /// The share of ended handshakes that were established, and how many have ended.
    success: Option<f64>,
    ended: u64,
    /// Handshake times in microseconds.
    p50_us: Option<u128>,
    p99_us: Option<u128>,
    refused: u64,
    unanswered: u64,
    early_resets: u64,
    resets: u64,
    retransmissions: u64,
}

#[derive(Serialize)]
struct Drop<'a> {
    hook: &'a str,
    reason: &'a str,
    packets: u64,
    /// Packets a second.
    rate: Option<f64>,
}

/// A service with its backends.
#[derive(Serialize)]
struct Detail<'a> {
    name: &'a str,
    window_s: f64,
    versions: PerVersion<Vec<BackendView<'a>>>,
}

#[derive(Serialize, Clone)]
struct BackendView<'a> {
    address: String,
    state: BackendState,
    weight: u16,
    /// Of the version's table.
    share: f64,
    next_hop: &'a NextHop,
    health: &'a Option<BackendHealth>,
    /// Since the epoch.
    connections: u64,
    #[serde(flatten)]
    lately: Lately,
}

/// The page's state. `quick` and `slow`: earlier looks of some five and thirty seconds ago;
/// `next`: the time until the next one.
pub(super) fn page(
    look: &Snapshot,
    quick: Option<&Snapshot>,
    slow: Option<&Snapshot>,
    next: Duration,
) -> String {
    let page = Page {
        time_ms: milliseconds(look),
        next_ms: next.as_millis(),
        host: &look.host,
        node: &look.status,
        window_s: since(look, slow),
        services: look.services.iter().map(|seen| service_view(seen, look, quick, slow)).collect(),
        drains: &look.drains,
        drops: drops(look, quick),
        events: &look.events[look.events.len().saturating_sub(EVENTS)..],
    };
    json(&page)
}

/// What the page is told when there is nothing to show.
pub(super) fn trouble(why: &str) -> String {
    json(&serde_json::json!({ "trouble": why }))
}

/// A service and its backends, if there is one of this name. `old`: an earlier look.
pub(super) fn service(look: &Snapshot, old: Option<&Snapshot>, name: &str) -> Option<Bytes> {
    let Seen { status, counters } = find(look, name)?;
    let before = old.and_then(|old| find(old, name)).map(|old| &old.counters);
    let seconds = since(look, old);
    let versions = PerVersion::from_fn(|version| {
        let all = &status.versions[version].backends;
        let slots: u32 = all.iter().map(|one| one.slots).sum();
        let view = |one| {
            let of = |counters| counted(counters, version, one);
            let now = of(counters).unwrap_or_default();
            let before = before.map(|counters| of(counters).unwrap_or_default());
            let lately = Lately::of(now, before.map(|it| (it, seconds)), before);
            backend_view(one, slots, lately)
        };
        all.iter().map(view).collect()
    });
    Some(json(&Detail { name: &status.spec.name, window_s: seconds, versions }).into())
}

fn backend_view(status: &BackendStatus, slots: u32, lately: Lately) -> BackendView<'_> {
    BackendView {
        address: SocketAddr::new(status.address, status.port).to_string(),
        state: status.state,
        weight: status.weight,
        share: f64::from(status.slots) / f64::from(slots.max(1)),
        next_hop: &status.next_hop,
        health: &status.health,
        connections: status.connections,
        lately,
    }
}

fn service_view<'a>(
    Seen { status, counters }: &'a Seen,
    look: &Snapshot,
    quick: Option<&'a Snapshot>,
    slow: Option<&'a Snapshot>,
) -> Service<'a> {
    let spec = &status.spec;
    let of = |old: Option<&'a Snapshot>, version| {
        let seen = old.and_then(|old| find(old, &spec.name))?;
        let counted = &seen.counters.versions[version];
        Some(Counted { traffic: counted.traffic, handshakes: Some(&counted.handshakes) })
    };
    let versions = Version::ALL.into_iter().map(|version| {
        let (is, counted) = (&status.versions[version], &counters.versions[version]);
        let now = Counted { traffic: counted.traffic, handshakes: Some(&counted.handshakes) };
        let quick = of(quick, version).map(|before| (before, since(look, quick)));
        let state = |state| is.backends.iter().filter(|one| one.state == state).count();
        VersionView {
            version,
            release: &is.release,
            asked: f64::from(is.asked.bp()) / 10_000.0,
            table: is.table.share(),
            observed: is.observed,
            lately: Lately::of(now, quick, of(slow, version)),
            backends: Backends {
                all: is.backends.len(),
                active: state(BackendState::Active),
                down: state(BackendState::Down),
            },
        }
    });
    let listener = |one: &ListenerSpec| {
        let ListenerSpec { address, port, protocol, version } = one;
        let address = if address.contains(':') { format!("[{address}]") } else { address.clone() };
        let version = version.map(|version| format!(" ({version})")).unwrap_or_default();
        format!("{address}:{port}/{protocol}{version}")
    };
    Service {
        name: &spec.name,
        generation: status.generation,
        forwarding: spec.forwarding,
        listeners: spec.listeners.iter().map(listener).collect(),
        steering: spec.steering.len(),
        lease: status.lease.map(|lease| lease.to_string()),
        sample_ratio: &status.sample_ratio,
        versions: versions.collect(),
    }
}

/// What was counted of a version or a backend.
#[derive(Debug, Clone, Copy, Default)]
struct Counted<'a> {
    traffic: Traffic,
    handshakes: Option<&'a Handshakes>,
}

fn counted<'a>(
    counters: &'a ServiceCounters,
    version: Version,
    backend: &BackendStatus,
) -> Option<Counted<'a>> {
    let all = &counters.versions[version].backends;
    let is_it = |one: &&BackendCounters| (one.address, one.port) == (backend.address, backend.port);
    let found = all.iter().find(is_it)?;
    Some(Counted { traffic: found.traffic, handshakes: Some(&found.handshakes) })
}

impl Lately {
    /// From what was counted now, some seconds before, and before that.
    #[allow(clippy::cast_precision_loss, reason = "rates need no more than 53 bits")]
    fn of(now: Counted<'_>, quick: Option<(Counted<'_>, f64)>, slow: Option<Counted<'_>>) -> Self {
        let rate = quick.filter(|(_, seconds)| *seconds > 0.0).map(|(before, seconds)| {
            now.traffic.since(&before.traffic).connections as f64 / seconds
        });
        let none = Handshakes::default();
        let old = slow.unwrap_or(now);
        let traffic = now.traffic.since(&old.traffic);
        let handshakes = now.handshakes.unwrap_or(&none).since(old.handshakes.unwrap_or(&none));
        let quantile = |q| handshakes.quantile(q).map(|time| time.as_micros());
        Self {
            rate,
            open: now.traffic.open(),
            success: traffic.success(),
            ended: traffic.established + traffic.refused + traffic.unanswered,
            p50_us: quantile(0.5),
            p99_us: quantile(0.99),
            refused: traffic.refused,
            unanswered: traffic.unanswered,
            early_resets: traffic.early_resets,
            resets: traffic.resets_out,
            retransmissions: traffic.retransmissions,
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "rates need no more than 53 bits")]
fn drops<'a>(look: &'a Snapshot, quick: Option<&Snapshot>) -> Vec<Drop<'a>> {
    let dropped = look.verdicts.iter().filter(|one| one.reason.starts_with("drop-"));
    let drops = dropped.map(|now| {
        let rate = quick.map(|old| {
            let before = old
                .verdicts
                .iter()
                .find(|one| (&one.hook, &one.reason) == (&now.hook, &now.reason));
            let before = before.map_or(0, |one| one.packets);
            now.packets.saturating_sub(before) as f64 / since(look, quick).max(0.001)
        });
        let reason = now.reason.trim_start_matches("drop-");
        Drop { hook: &now.hook, reason, packets: now.packets, rate }
    });
    drops.collect()
}

/// The service of a name; services are ordered by it.
fn find<'a>(look: &'a Snapshot, name: &str) -> Option<&'a Seen> {
    let place = look.services.binary_search_by(|seen| seen.status.spec.name.as_str().cmp(name));
    look.services.get(place.ok()?)
}

/// Seconds from an earlier look.
fn since(look: &Snapshot, old: Option<&Snapshot>) -> f64 {
    old.map_or(0.0, |old| (look.at - old.at).as_secs_f64())
}

fn milliseconds(look: &Snapshot) -> u64 {
    let time = look.time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn json(value: &impl Serialize) -> String {
    // Plain data with text for keys: this cannot fail.
    serde_json::to_string(value).unwrap_or_default()
}
