//! A look at the node as text for Prometheus. Pure.

use std::time::{Duration, UNIX_EPOCH};

use weir_ebpf::latency;

use super::collect::{Seen, Snapshot};
use super::exposition::{Family, Format, Kind, Labels, Text};
use super::families as f;
use super::rows::{BackendIs, Row, backend_labels, backend_rows, version_rows};
use crate::model::{BackendState, Traffic};
use crate::node::events::Kind as EventKind;
use crate::node::hooks_and_reasons;
use crate::node::messages::{Capacity, DrainStatus, MayStop, NextHop, VersionStatus};

/// Bounds of the latency buckets: 2^15 to 2^32 ns, 33 µs to 4.3 s, one a doubling. Each is a bound of
/// the kernel's own buckets, so the counts are exact.
const BOUNDS: std::ops::RangeInclusive<u32> = 15..=32;

/// How a counter of [`Traffic`] is told: of a version, of a backend, and by which further label.
type Told = (&'static Family, &'static Family, Option<(&'static str, &'static str)>);

/// By the counters' names, those of a family one after the other.
const TOLD: [(&str, Told); 21] = [
    ("connections", (&f::CONNECTIONS, &f::BACKEND_CONNECTIONS, None)),
    ("packets_in", (&f::RECEIVED_PACKETS, &f::BACKEND_RECEIVED_PACKETS, None)),
    ("bytes_in", (&f::RECEIVED_BYTES, &f::BACKEND_RECEIVED_BYTES, None)),
    ("packets_out", (&f::SENT_PACKETS, &f::BACKEND_SENT_PACKETS, None)),
    ("bytes_out", (&f::SENT_BYTES, &f::BACKEND_SENT_BYTES, None)),
    ("tracked", (&f::TRACKED, &f::BACKEND_TRACKED, None)),
    ("fallback_full", (&f::FALLBACK, &f::BACKEND_FALLBACK, Some(("reason", "full")))),
    ("fallback_flood", (&f::FALLBACK, &f::BACKEND_FALLBACK, Some(("reason", "flood")))),
    ("retransmissions", (&f::RETRANSMISSIONS, &f::BACKEND_RETRANSMISSIONS, None)),
    ("established", (&f::HANDSHAKES, &f::BACKEND_HANDSHAKES, Some(("outcome", "established")))),
    ("refused", (&f::HANDSHAKES, &f::BACKEND_HANDSHAKES, Some(("outcome", "refused")))),
    ("unanswered", (&f::HANDSHAKES, &f::BACKEND_HANDSHAKES, Some(("outcome", "unanswered")))),
    ("abandoned", (&f::HANDSHAKES, &f::BACKEND_HANDSHAKES, Some(("outcome", "abandoned")))),
    ("lost_samples", (&f::HANDSHAKES, &f::BACKEND_HANDSHAKES, Some(("outcome", "lost")))),
    ("resets_in", (&f::RESETS, &f::BACKEND_RESETS, Some(("side", "client")))),
    ("resets_out", (&f::RESETS, &f::BACKEND_RESETS, Some(("side", "server")))),
    ("early_resets", (&f::EARLY_RESETS, &f::BACKEND_EARLY_RESETS, None)),
    ("fins_in", (&f::FINS, &f::BACKEND_FINS, Some(("side", "client")))),
    ("fins_out", (&f::FINS, &f::BACKEND_FINS, Some(("side", "server")))),
    ("failing_clients", (&f::FAILING_CLIENTS, &f::BACKEND_FAILING_CLIENTS, None)),
    ("steered", (&f::STEERED, &f::BACKEND_STEERED, None)),
];

const _: () = assert!(TOLD.len() == Traffic::NAMES.len(), "every counter is told");

/// The whole text.
#[must_use]
pub fn render(look: &Snapshot, format: Format) -> String {
    let mut text = Text::new(format);
    let epoch = Duration::from_nanos(look.status.epoch).as_secs_f64();
    let versions = version_rows(look);
    counters(&mut text, &versions, |told| told.0, Some(epoch));
    text.family(&f::HANDSHAKE_SECONDS);
    for row in &versions {
        distribution(&mut text, &f::HANDSHAKE_SECONDS, row);
        text.created(&f::HANDSHAKE_SECONDS, &row.labels, epoch);
    }
    shares(&mut text, &versions);
    drains(&mut text, look);
    services(&mut text, look);

    let backends = backend_rows(look);
    counters(&mut text, &backends, |told| told.1, None);
    text.family(&f::BACKEND_HANDSHAKE_SECONDS);
    for row in &backends {
        distribution(&mut text, &f::BACKEND_HANDSHAKE_SECONDS, row);
    }
    states(&mut text, &backends);
    backend_drains(&mut text, look);
    verdicts(&mut text, look);
    node(&mut text, look);
    text.end()
}

fn counters<T>(
    text: &mut Text,
    rows: &[Row<'_, T>],
    family: fn(&Told) -> &'static Family,
    created: Option<f64>,
) {
    let mut last = None;
    for (place, (_, told)) in TOLD.iter().enumerate() {
        let family = family(told);
        if last.replace(family) != Some(family) {
            text.family(family);
        }
        for row in rows {
            let labels = match told.2 {
                Some((name, value)) => &row.labels.with(name, value),
                None => &row.labels,
            };
            text.sample(family, labels, row.traffic.values()[place]);
            if let Some(seconds) = created {
                text.created(family, labels, seconds);
            }
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "bounds are powers of two")]
fn distribution<T>(text: &mut Text, family: &Family, row: &Row<'_, T>) {
    let counts = row.handshakes.buckets();
    let (mut below, mut next, mut buckets) = (0, 0, Vec::new());
    if family.kind == Kind::Histogram {
        for bound in BOUNDS.map(|exponent| 1_u64 << exponent) {
            while next < counts.len() && latency::lower_bound(next) < bound {
                below += counts[next];
                next += 1;
            }
            buckets.push((bound as f64 / 1e9, below));
        }
    }
    let all = (row.handshakes.count(), row.handshakes.sum().as_secs_f64());
    text.distribution(family, &row.labels, &buckets, all);
}

fn shares(text: &mut Text, rows: &[Row<'_, &VersionStatus>]) {
    gauge(text, &f::OPEN, rows, |row| Some(row.traffic.open()));
    gauge(text, &f::WEIGHT, rows, |row| Some(f64::from(row.is.asked.bp()) / 10_000.0));
    gauge(text, &f::TABLE_SHARE, rows, |row| Some(row.is.table.share()));
    let observed = |row: &Row<'_, &VersionStatus>| {
        let observed = row.is.observed;
        (observed.total > 0).then(|| (observed.share(), observed.interval()))
    };
    gauge(text, &f::OBSERVED_SHARE, rows, |row| observed(row).map(|(share, _)| share));
    gauge(text, &f::OBSERVED_LOW, rows, |row| observed(row).map(|(_, (low, _))| low));
    gauge(text, &f::OBSERVED_HIGH, rows, |row| observed(row).map(|(_, (_, high))| high));
    text.family(&f::RELEASE);
    for row in rows.iter().filter(|row| !row.is.release.is_empty()) {
        text.sample(&f::RELEASE, &row.labels.with("release", &row.is.release), 1);
    }
}

/// A family with one sample a row, or none where there is no value.
fn gauge<'a, T, V: std::fmt::Display>(
    text: &mut Text,
    family: &Family,
    rows: &[Row<'a, T>],
    value: impl Fn(&Row<'a, T>) -> Option<V>,
) {
    text.family(family);
    for row in rows {
        if let Some(value) = value(row) {
            text.sample(family, &row.labels, value);
        }
    }
}

fn drains(text: &mut Text, look: &Snapshot) {
    let versions: Vec<(Labels, &DrainStatus)> = look
        .drains
        .iter()
        .filter(|drain| drain.backend.is_none())
        .map(|drain| {
            let pairs = [("service", drain.service.as_str()), ("version", drain.version.name())];
            (Labels::of(pairs), drain)
        })
        .collect();
    each(text, &f::DRAIN_FLOWS, &versions, |drain| Some(drain.flows));
    each(text, &f::DRAIN_AGE, &versions, |drain| drain.age_s);
    each(text, &f::DRAIN_MAY_STOP, &versions, may_stop);
    each(text, &f::DRAIN_LEFT, &versions, |drain| drain.deadline_in_s);
}

fn backend_drains(text: &mut Text, look: &Snapshot) {
    let labelled = |drain: &DrainStatus| {
        Some(backend_labels(drain.service.as_str(), drain.version, drain.backend?))
    };
    let backends: Vec<(Labels, &DrainStatus)> =
        look.drains.iter().filter_map(|drain| Some((labelled(drain)?, drain))).collect();
    each(text, &f::BACKEND_DRAIN_FLOWS, &backends, |drain| Some(drain.flows));
    each(text, &f::BACKEND_DRAIN_MAY_STOP, &backends, may_stop);
}

#[allow(clippy::unnecessary_wraps, reason = "as `each` wants it")]
fn may_stop(drain: &DrainStatus) -> Option<u8> {
    Some(u8::from(drain.may_stop == MayStop::Yes))
}

fn each<V: std::fmt::Display>(
    text: &mut Text,
    family: &Family,
    drains: &[(Labels, &DrainStatus)],
    value: impl Fn(&DrainStatus) -> Option<V>,
) {
    text.family(family);
    for (labels, drain) in drains {
        if let Some(value) = value(drain) {
            text.sample(family, labels, value);
        }
    }
}

fn services(text: &mut Text, look: &Snapshot) {
    text.family(&f::GENERATION);
    for Seen { status, .. } in &look.services {
        text.sample(
            &f::GENERATION,
            &Labels::of([("service", &status.spec.name)]),
            status.generation,
        );
    }
    text.family(&f::LEASE);
    for Seen { status, .. } in &look.services {
        if let Some(lease) = &status.lease {
            let labels = Labels::of([("service", &status.spec.name)]);
            text.sample(&f::LEASE, &labels, lease.left.as_secs_f64());
        }
    }
}

fn states(text: &mut Text, rows: &[Row<'_, BackendIs<'_>>]) {
    gauge(text, &f::BACKEND_OPEN, rows, |row| Some(row.traffic.open()));
    text.family(&f::BACKEND_STATE);
    for row in rows {
        let Some(status) = row.is.status else { continue };
        for (state, name) in [
            (BackendState::Active, "active"),
            (BackendState::Draining, "draining"),
            (BackendState::Down, "down"),
        ] {
            let labels = row.labels.with("state", name);
            text.sample(&f::BACKEND_STATE, &labels, u8::from(status.state == state));
        }
    }
    gauge(text, &f::BACKEND_CHECK, rows, |row| {
        row.is.status?.health.as_ref().map(|health| u8::from(!health.failing))
    });
    gauge(text, &f::BACKEND_SHARE, rows, |row| {
        let total = f64::from(row.is.slots.max(1));
        row.is.status.map(|status| f64::from(status.slots) / total)
    });
    gauge(text, &f::BACKEND_RESOLVED, rows, |row| {
        row.is.status.map(|status| u8::from(status.next_hop != NextHop::Unresolved))
    });
}

/// With those that are zero, so that the first packet is an increase.
fn verdicts(text: &mut Text, look: &Snapshot) {
    text.family(&f::VERDICTS);
    let (hooks, reasons) = hooks_and_reasons();
    for hook in hooks {
        for whole in &reasons {
            let seen = look.verdicts.iter().find(|one| one.hook == *hook && one.reason == *whole);
            let (verdict, reason) = whole.split_once('-').unwrap_or(("", whole));
            let labels = Labels::of([("hook", hook), ("verdict", verdict), ("reason", reason)]);
            text.sample(&f::VERDICTS, &labels, seen.map_or(0, |one| one.packets));
        }
    }
}

fn node(text: &mut Text, look: &Snapshot) {
    let status = &look.status;
    for (family, value) in [
        (f::CAPACITY_USED, (|one| one.used) as fn(&Capacity) -> u64),
        (f::CAPACITY_LIMIT, |one| one.limit),
    ] {
        text.family(&family);
        for one in &status.capacity {
            text.sample(&family, &Labels::of([("resource", &one.resource)]), value(one));
        }
    }
    let mut one = |family: Family, value: &dyn std::fmt::Display| {
        text.family(&family);
        text.sample(&family, &Labels::default(), value);
    };
    one(f::CHECKED, &status.health.backends);
    one(f::CHECKS_FAILING, &status.health.failing);
    one(f::CHECKS, &status.health.made);
    one(f::CHECKS_WAITED, &status.health.waited);
    text.family(&f::INTERFACE);
    for interface in &status.interfaces {
        let mode = interface.actual.map_or("none", |hook| hook.name());
        let labels = Labels::of([("interface", &interface.name), ("mode", mode)]);
        text.sample(&f::INTERFACE, &labels, u8::from(interface.actual.is_some()));
    }
    text.family(&f::EVENTS);
    for kind in EventKind::ALL {
        let total = look.event_totals.get(kind).copied().unwrap_or(0);
        text.sample(&f::EVENTS, &Labels::of([("kind", kind.name())]), total);
    }
    let mut one = |family: Family, labels: Labels, value: &dyn std::fmt::Display| {
        text.family(&family);
        text.sample(&family, &labels, value);
    };
    let none = Labels::default;
    one(f::WARNINGS, none(), &status.warnings.len());
    one(f::NODE_GENERATION, none(), &status.generation);
    one(f::EPOCH, none(), &Duration::from_nanos(status.epoch).as_secs_f64());
    one(f::COLLECTION, none(), &look.took.as_secs_f64());
    let (abi, kernel) = (status.abi.to_string(), &status.kernel);
    let facts = Labels::of([("version", &status.version), ("abi", &abi), ("kernel", kernel)]);
    one(f::BUILD, facts, &1);
    one(f::START, none(), &started(look));
}

/// When the agent started, in seconds since 1970: the same in every text, as long as nobody sets the
/// clock.
fn started(look: &Snapshot) -> f64 {
    let started = look.started.duration_since(UNIX_EPOCH).unwrap_or_default();
    Duration::from_millis(u64::try_from(started.as_millis()).unwrap_or(0)).as_secs_f64()
}
