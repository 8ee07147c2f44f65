//! Answers, as the client reads them from the wire.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use weir_proto::v1;

use super::traffic::{read_handshakes, read_traffic};
use super::{Malformed, guard, health, lease, spec, version};
use crate::{
    model::{
        Agreement, BackendState, Fence, Observed, PerVersion, SampleRatio, ServiceName, TableShare,
        Version, Violations, Weight,
    },
    node::messages::{
        BackendCounters, BackendStatus, Capacity, Change, Commit, Counters, InterfaceStatus, Move,
        NextHop, NodeStatus, ServiceCounters, ServiceStatus, Steered, Verdict, VersionChange,
        VersionCounters, VersionStatus,
    },
};

pub(crate) type Read<T> = Result<T, Malformed>;

/// One value for each version, whatever their order; each must be there once.
pub(super) fn by_version<T, U>(
    values: Vec<T>,
    number: impl Fn(&T) -> i32,
    read: impl Fn(T) -> Read<U>,
) -> Read<PerVersion<U>> {
    let mut found: PerVersion<Option<U>> = PerVersion::new(None, None, None);
    for value in values {
        let version = version(number(&value)).ok_or(Malformed("version"))?;
        if found[version].replace(read(value)?).is_some() {
            return Err(Malformed("versions"));
        }
    }
    let mut take = |version: Version| found[version].take().ok_or(Malformed("versions"));
    Ok(PerVersion::new(take(Version::Blue)?, take(Version::Green)?, take(Version::Canary)?))
}

pub(crate) fn all<T, U>(values: Vec<T>, read: impl Fn(T) -> Read<U>) -> Read<Vec<U>> {
    values.into_iter().map(read).collect()
}

pub(super) fn weight(bp: u32) -> Read<Weight> {
    Weight::from_bp(bp).ok_or(Malformed("weight_bp"))
}

pub(super) fn service_name(name: &str) -> Read<ServiceName> {
    ServiceName::new(name).map_err(|_| Malformed("service"))
}

fn address(text: &str) -> Read<IpAddr> {
    text.parse().map_err(|_| Malformed("address"))
}

pub(super) fn small(number: u32, field: &'static str) -> Read<u16> {
    u16::try_from(number).map_err(|_| Malformed(field))
}

/// A commit.
pub fn commit(commit: Option<v1::Commit>) -> Read<Commit> {
    let commit = commit.ok_or(Malformed("commit"))?;
    Ok(Commit {
        generation: commit.generation,
        dry_run: commit.dry_run,
        duration: Duration::from_micros(commit.duration_us),
    })
}

/// What a commit did, by service.
pub fn changes(changes: Vec<v1::Change>) -> Read<Vec<Change>> {
    all(changes, |change| {
        Ok(Change {
            service: service_name(&change.service)?,
            generation: change.generation,
            created: change.created,
            versions: by_version(change.versions, |change| change.version, version_change)?,
            moves: all(change.moves, slots_moved)?,
            steering: change.steering.map(steered).unwrap_or_default(),
            digest: change.digest,
            lease: change.lease.map(lease::read_lease).transpose()?,
            sample_ratio: sample_ratio(change.sample_ratio)?,
        })
    })
}

#[allow(clippy::needless_pass_by_value, reason = "all readers of a repeated field are alike")]
fn version_change(change: v1::VersionChange) -> Read<VersionChange> {
    Ok(VersionChange {
        before: weight(change.before_bp)?,
        asked: weight(change.asked_bp)?,
        table: table(change.table),
        observed: observed(change.observed),
        backend_slots_moved: change.backend_slots_moved,
    })
}

pub(super) fn slots_moved(moved: v1::Move) -> Read<Move> {
    Ok(Move {
        from: version(moved.from).ok_or(Malformed("moves.from"))?,
        to: version(moved.to).ok_or(Malformed("moves.to"))?,
        slots: moved.slots,
    })
}

#[allow(clippy::needless_pass_by_value, reason = "all readers of a field are alike")]
fn steered(steered: v1::Steered) -> Steered {
    Steered { rules: steered.rules, moved: steered.moved }
}

/// Share and interval follow from the counts.
fn table(table: Option<v1::TableShare>) -> TableShare {
    table.map(|table| TableShare { slots: table.slots, total: table.total }).unwrap_or_default()
}

fn observed(observed: Option<v1::Observed>) -> Observed {
    observed
        .map(|seen| Observed {
            connections: seen.connections,
            total: seen.total,
            steered: seen.steered,
        })
        .unwrap_or_default()
}

/// Without one, too few to tell: an older agent does not judge.
fn sample_ratio(ratio: Option<v1::SampleRatio>) -> Read<SampleRatio> {
    let Some(ratio) = ratio else { return Ok(SampleRatio::default()) };
    let agreement = match v1::Agreement::try_from(ratio.agreement) {
        Ok(v1::Agreement::Agrees) => Agreement::Agrees,
        Ok(v1::Agreement::Differs) => Agreement::Differs,
        Ok(v1::Agreement::TooFew) => Agreement::TooFew,
        Ok(v1::Agreement::NotJudged) => Agreement::NotJudged,
        Ok(v1::Agreement::Unspecified) | Err(_) => return Err(Malformed("agreement")),
    };
    let v1::SampleRatio { connections, needed, evidence, .. } = ratio;
    Ok(SampleRatio { agreement, connections, needed, evidence })
}

/// A service: asked, table, observed.
pub fn service_status(status: v1::ServiceStatus) -> Read<ServiceStatus> {
    let mut violations = Violations::default();
    let spec = spec::from_proto(status.spec.ok_or(Malformed("spec"))?, "spec", &mut violations);
    violations.into_result().map_err(|_| Malformed("spec"))?;
    Ok(ServiceStatus {
        spec,
        generation: status.generation,
        digest: status.digest,
        versions: by_version(status.versions, |status| status.version, version_status)?,
        settled: lease::read_weights(status.settled)?,
        lease: status.lease.map(lease::read_lease).transpose()?,
        sample_ratio: sample_ratio(status.sample_ratio)?,
        fence: match status.fence {
            Some(fence) => {
                Some(Fence::new(&fence.holder, fence.number).map_err(|_| Malformed("fence"))?)
            }
            None => None,
        },
        guard: status.guard.map(guard::read_status).transpose()?,
    })
}

/// Services, in their order.
pub fn service_statuses(statuses: Vec<v1::ServiceStatus>) -> Read<Vec<ServiceStatus>> {
    all(statuses, service_status)
}

fn version_status(status: v1::VersionStatus) -> Read<VersionStatus> {
    Ok(VersionStatus {
        release: status.release,
        asked: weight(status.asked_bp)?,
        table: table(status.table),
        observed: observed(status.observed),
        backends: all(status.backends, backend_status)?,
    })
}

/// A backend's state, unless it is unspecified or unknown.
pub(super) fn state(number: i32) -> Option<BackendState> {
    match v1::BackendState::try_from(number).ok()? {
        v1::BackendState::Unspecified => None,
        v1::BackendState::Active => Some(BackendState::Active),
        v1::BackendState::Draining => Some(BackendState::Draining),
        v1::BackendState::Down => Some(BackendState::Down),
    }
}

fn backend_status(status: v1::BackendStatus) -> Read<BackendStatus> {
    Ok(BackendStatus {
        address: address(&status.address)?,
        port: small(status.port, "port")?,
        weight: small(status.weight, "weight")?,
        state: state(status.state).ok_or(Malformed("state"))?,
        slots: status.slots,
        connections: status.connections,
        next_hop: match status.next_hop {
            Some(next_hop) if next_hop.resolved => {
                NextHop::Resolved { interface: next_hop.interface }
            }
            _ => NextHop::Unresolved,
        },
        health: status.health.map(health::read_backend).transpose()?,
    })
}

/// All counters.
pub fn counters(counters: Option<v1::Counters>) -> Read<Counters> {
    let counters = counters.ok_or(Malformed("counters"))?;
    Ok(Counters {
        epoch: counters.epoch,
        time: counters.time.and_then(|time| time.try_into().ok()).ok_or(Malformed("time"))?,
        services: all(counters.services, service_counters)?,
        verdicts: all(counters.verdicts, |verdict| {
            Ok(Verdict { hook: verdict.hook, reason: verdict.reason, packets: verdict.packets })
        })?,
    })
}

fn service_counters(counters: v1::ServiceCounters) -> Read<ServiceCounters> {
    Ok(ServiceCounters {
        service: service_name(&counters.service)?,
        versions: by_version(counters.versions, |counters| counters.version, version_counters)?,
    })
}

fn version_counters(counters: v1::VersionCounters) -> Read<VersionCounters> {
    Ok(VersionCounters {
        traffic: read_traffic(counters.traffic),
        handshakes: read_handshakes(counters.handshakes),
        backends: all(counters.backends, |backend| {
            Ok(BackendCounters {
                address: address(&backend.address)?,
                port: small(backend.port, "port")?,
                traffic: read_traffic(backend.traffic),
                handshakes: read_handshakes(backend.handshakes),
            })
        })?,
    })
}

/// The agent itself.
pub fn node_status(status: v1::NodeStatusResponse) -> Read<NodeStatus> {
    let interface = |interface: v1::Interface| {
        Ok(InterfaceStatus {
            name: interface.name,
            index: interface.index,
            asked: interface.asked.parse().map_err(|_| Malformed("asked"))?,
            actual: match interface.actual.as_str() {
                "" => None,
                hook => Some(hook.parse().map_err(|_| Malformed("actual"))?),
            },
            state: interface.state,
        })
    };
    let capacity = |capacity: v1::Capacity| {
        Ok(Capacity { resource: capacity.resource, used: capacity.used, limit: capacity.limit })
    };
    Ok(NodeStatus {
        version: status.version,
        abi: status.abi,
        kernel: status.kernel,
        epoch: status.epoch,
        generation: status.generation,
        uptime: Duration::from_secs(status.uptime_s),
        interfaces: all(status.interfaces, interface)?,
        capacity: all(status.capacity, capacity)?,
        outer_sources: all(status.outer_sources, |address| {
            address.parse().map_err(|_| Malformed("outer_sources"))
        })?,
        state_dir: status.state_dir,
        bpf_log: status.bpf_log,
        health: status.health.map(health::read_counts).unwrap_or_default(),
        http: listener(&status.http_address).ok_or(Malformed("http_address"))?,
        listen: listener(&status.listen_address).ok_or(Malformed("listen_address"))?,
        warnings: status.warnings,
    })
}

/// Where something listens, if it does; nothing, if the text is no address.
#[allow(clippy::option_option, reason = "absent and wrong are two things")]
fn listener(text: &str) -> Option<Option<SocketAddr>> {
    if text.is_empty() { Some(None) } else { text.parse().ok().map(Some) }
}
