//! Answers, for the wire.

use weir_proto::v1;

use super::traffic::{handshakes, traffic};
use super::{guard, health, lease, request, spec, version_number};
use crate::{
    model::{Agreement, BackendState, Observed, PerVersion, SampleRatio, TableShare, Version},
    node::messages::{
        BackendCounters, BackendStatus, Capacity, Change, Commit, Counters, InterfaceStatus, Move,
        NextHop, NodeStatus, ServiceCounters, ServiceStatus, Verdict, VersionChange,
        VersionCounters, VersionStatus,
    },
};

/// All three versions, each with its number.
fn by_version<T, U>(values: PerVersion<T>, convert: impl Fn(i32, T) -> U) -> Vec<U> {
    values
        .into_iter()
        .map(|(version, value): (Version, T)| convert(version_number(version), value))
        .collect()
}

/// A commit.
#[must_use]
pub fn commit(commit: Commit) -> v1::Commit {
    v1::Commit {
        generation: commit.generation,
        dry_run: commit.dry_run,
        duration_us: u64::try_from(commit.duration.as_micros()).unwrap_or(u64::MAX),
    }
}

/// What a commit did to one service.
#[must_use]
pub fn change(change: Change) -> v1::Change {
    v1::Change {
        service: change.service.to_string(),
        generation: change.generation,
        created: change.created,
        versions: by_version(change.versions, version_change),
        moves: change.moves.into_iter().map(slots_moved).collect(),
        steering: Some(v1::Steered { rules: change.steering.rules, moved: change.steering.moved }),
        digest: change.digest,
        lease: change.lease.map(lease::lease),
        sample_ratio: Some(sample_ratio(change.sample_ratio)),
    }
}

fn version_change(version: i32, change: VersionChange) -> v1::VersionChange {
    v1::VersionChange {
        version,
        before_bp: change.before.bp(),
        asked_bp: change.asked.bp(),
        table: Some(table(change.table)),
        observed: Some(observed(change.observed)),
        backend_slots_moved: change.backend_slots_moved,
    }
}

pub(super) fn slots_moved(moved: Move) -> v1::Move {
    v1::Move { from: version_number(moved.from), to: version_number(moved.to), slots: moved.slots }
}

fn table(table: TableShare) -> v1::TableShare {
    v1::TableShare { slots: table.slots, total: table.total, share: table.share() }
}

fn observed(observed: Observed) -> v1::Observed {
    let (low, high) = observed.interval();
    v1::Observed {
        connections: observed.connections,
        total: observed.total,
        share: observed.share(),
        low,
        high,
        steered: observed.steered,
    }
}

fn sample_ratio(ratio: SampleRatio) -> v1::SampleRatio {
    let agreement = match ratio.agreement {
        Agreement::Agrees => v1::Agreement::Agrees,
        Agreement::Differs => v1::Agreement::Differs,
        Agreement::TooFew => v1::Agreement::TooFew,
        Agreement::NotJudged => v1::Agreement::NotJudged,
    };
    v1::SampleRatio {
        agreement: agreement.into(),
        connections: ratio.connections,
        needed: ratio.needed,
        evidence: ratio.evidence,
    }
}

/// A service: asked, table, observed.
#[must_use]
pub fn service_status(status: ServiceStatus) -> v1::ServiceStatus {
    v1::ServiceStatus {
        spec: Some(spec::to_proto(&status.spec)),
        generation: status.generation,
        digest: status.digest,
        versions: by_version(status.versions, version_status),
        settled: lease::weights(status.settled),
        lease: status.lease.map(lease::lease),
        sample_ratio: Some(sample_ratio(status.sample_ratio)),
        fence: request::fence_to_proto(status.fence.as_ref()),
        guard: status.guard.as_ref().map(guard::status),
    }
}

fn version_status(version: i32, status: VersionStatus) -> v1::VersionStatus {
    v1::VersionStatus {
        version,
        release: status.release,
        asked_bp: status.asked.bp(),
        table: Some(table(status.table)),
        observed: Some(observed(status.observed)),
        backends: status.backends.into_iter().map(backend_status).collect(),
    }
}

/// The number of a backend's state.
pub(super) fn state_number(state: BackendState) -> i32 {
    match state {
        BackendState::Active => v1::BackendState::Active,
        BackendState::Draining => v1::BackendState::Draining,
        BackendState::Down => v1::BackendState::Down,
    }
    .into()
}

fn backend_status(status: BackendStatus) -> v1::BackendStatus {
    let next_hop = match status.next_hop {
        NextHop::Resolved { interface } => v1::NextHop { resolved: true, interface },
        NextHop::Unresolved => v1::NextHop { resolved: false, interface: String::new() },
    };
    v1::BackendStatus {
        address: status.address.to_string(),
        port: status.port.into(),
        weight: status.weight.into(),
        state: state_number(status.state),
        slots: status.slots,
        connections: status.connections,
        next_hop: Some(next_hop),
        health: status.health.map(health::backend_to_proto),
    }
}

/// All counters.
#[must_use]
pub fn counters(counters: Counters) -> v1::Counters {
    v1::Counters {
        epoch: counters.epoch,
        time: Some(counters.time.into()),
        services: counters.services.into_iter().map(service_counters).collect(),
        verdicts: counters.verdicts.into_iter().map(verdict).collect(),
    }
}

fn service_counters(counters: ServiceCounters) -> v1::ServiceCounters {
    v1::ServiceCounters {
        service: counters.service.to_string(),
        versions: by_version(counters.versions, |version, counters| {
            version_counters(version, &counters)
        }),
    }
}

fn version_counters(version: i32, counters: &VersionCounters) -> v1::VersionCounters {
    v1::VersionCounters {
        version,
        traffic: Some(traffic(&counters.traffic)),
        handshakes: Some(handshakes(&counters.handshakes)),
        backends: counters.backends.iter().map(backend_counters).collect(),
    }
}

fn backend_counters(counters: &BackendCounters) -> v1::BackendCounters {
    v1::BackendCounters {
        address: counters.address.to_string(),
        port: counters.port.into(),
        traffic: Some(traffic(&counters.traffic)),
        handshakes: Some(handshakes(&counters.handshakes)),
    }
}

fn verdict(verdict: Verdict) -> v1::Verdict {
    v1::Verdict { hook: verdict.hook, reason: verdict.reason, packets: verdict.packets }
}

/// The agent itself.
#[must_use]
pub fn node_status(status: NodeStatus) -> v1::NodeStatusResponse {
    let interface = |interface: InterfaceStatus| v1::Interface {
        name: interface.name,
        index: interface.index,
        asked: interface.asked.to_string(),
        actual: interface.actual.map(|hook| hook.to_string()).unwrap_or_default(),
        state: interface.state,
    };
    let capacity = |capacity: Capacity| v1::Capacity {
        resource: capacity.resource,
        used: capacity.used,
        limit: capacity.limit,
    };
    v1::NodeStatusResponse {
        version: status.version,
        abi: status.abi,
        kernel: status.kernel,
        epoch: status.epoch,
        generation: status.generation,
        uptime_s: status.uptime.as_secs(),
        interfaces: status.interfaces.into_iter().map(interface).collect(),
        capacity: status.capacity.into_iter().map(capacity).collect(),
        state_dir: status.state_dir,
        bpf_log: status.bpf_log,
        health: Some(health::counts_to_proto(status.health)),
        warnings: status.warnings,
        outer_sources: status.outer_sources.iter().map(ToString::to_string).collect(),
        listen_address: status.listen.map(|address| address.to_string()).unwrap_or_default(),
        http_address: status.http.map(|address| address.to_string()).unwrap_or_default(),
    }
}
