//! What was seen of an agent, as the machine looks at it. Pure.

use std::{
    net::SocketAddr,
    time::{SystemTime, UNIX_EPOCH},
};

use super::seen::{Reach, Seen};
use crate::{
    model::{
        self, Agreement, BackendState, PerVersion, Rule, TableShare, Version, Weight,
        spec::RuleSpec, steering,
    },
    node::messages::{
        BackendStatus, DrainStatus, GuardStatus, MayStop, ServiceStatus, VersionStatus,
    },
    rollout::{
        machine::{AgentView, BackendView, LeaseView, ShareView, Tripped},
        spec::Guard,
        time::{Seconds, Timestamp},
    },
};

/// A moment in milliseconds since 1970.
#[must_use]
pub fn timestamp(time: SystemTime) -> Timestamp {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// The view of an agent. One that has not shown the service yet is not reachable.
#[must_use]
pub fn view(seen: &Seen) -> AgentView {
    let silent_ms = match seen.reach {
        Reach::Reached { .. } => 0,
        Reach::Lost { at, .. } => u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX),
    };
    let Some(status) = &seen.status else {
        return AgentView { silent_ms, ..AgentView::default() };
    };
    let of_version = |version| {
        seen.drains.iter().find(move |one| one.backend.is_none() && one.version == version)
    };
    AgentView {
        reachable: seen.is_reached(),
        silent_ms,
        pending: seen.pending,
        weights: PerVersion::from_fn(|version| weight(&status.versions[version])),
        generation: status.generation,
        share: share(status),
        previews: PerVersion::from_fn(|version| {
            status.spec.listeners.iter().any(|listener| listener.version == Some(version))
        }),
        ready: PerVersion::from_fn(|version| ready(&status.versions[version])),
        in_flight: PerVersion::from_fn(|version| of_version(version).map_or(0, |one| one.flows)),
        may_stop: PerVersion::from_fn(|version| match of_version(version) {
            Some(drain) => drain.may_stop == MayStop::Yes,
            // What has no weight and is not listed is named by nothing.
            None => status.versions[version].table.slots == 0,
        }),
        backends: backends(status, &seen.drains),
        steering: status.spec.steering.iter().filter_map(rule).collect(),
        guard: status.guard.map(|guard| limit(&guard.guard)),
        tripped: status.guard.and_then(|guard| tripped(&guard)),
        lease: status.lease.map(|lease| LeaseView {
            left_ms: u64::try_from(lease.left.as_millis()).unwrap_or(u64::MAX),
        }),
    }
}

/// A version's weight by the kernel's table. What is within a slot of what was asked for is that.
fn weight(version: &VersionStatus) -> Weight {
    let TableShare { slots, total } = version.table;
    let asked = u64::from(version.asked.bp()) * u64::from(total);
    if (u64::from(slots) * 10_000).abs_diff(asked) < 10_000 {
        return version.asked;
    }
    let bp = (u64::from(slots) * 10_000 + u64::from(total) / 2) / u64::from(total.max(1));
    u32::try_from(bp).ok().and_then(Weight::from_bp).unwrap_or(Weight::FULL)
}

/// Whether new connections are shared as the table says.
fn share(status: &ServiceStatus) -> ShareView {
    let off = |version: Version| {
        let row = &status.versions[version];
        (row.observed.share() - row.table.share()).abs()
    };
    match status.sample_ratio.agreement {
        Agreement::Agrees => ShareView::Agrees,
        Agreement::TooFew | Agreement::NotJudged => ShareView::TooLittle,
        Agreement::Differs => {
            let furthest = |one: &Version, other: &Version| off(*one).total_cmp(&off(*other));
            let version = Version::ALL.into_iter().max_by(furthest).unwrap_or(Version::Blue);
            let row = &status.versions[version];
            ShareView::Differs {
                version,
                observed: row.observed.share(),
                expected: row.table.share(),
                // By Ville's inequality.
                p: 10_f64.powf(-status.sample_ratio.evidence).min(1.0),
            }
        }
    }
}

fn ready(version: &VersionStatus) -> usize {
    version.backends.iter().filter(|one| one.state == BackendState::Active).count()
}

fn backends(status: &ServiceStatus, drains: &[DrainStatus]) -> Vec<BackendView> {
    let all = status
        .versions
        .iter()
        .flat_map(|(version, row)| row.backends.iter().map(move |one| (version, one)));
    all.map(|(version, one)| backend(version, one, drains)).collect()
}

fn backend(version: Version, one: &BackendStatus, drains: &[DrainStatus]) -> BackendView {
    let address = SocketAddr::new(one.address, one.port);
    let healthy = one.health.as_ref().is_none_or(|health| !health.failing);
    let drain = drains.iter().find(|drain| drain.backend == Some(address));
    BackendView {
        address,
        version,
        // Down by its check, or set down by hand: the agent tells these apart by the check.
        state: if healthy || one.state != BackendState::Down {
            one.state
        } else {
            BackendState::Active
        },
        healthy,
        flows: drain.map_or(0, |drain| drain.flows),
        may_stop: drain.is_some_and(|drain| drain.may_stop == MayStop::Yes),
    }
}

/// A guard, as a rollout names it.
fn limit(guard: &model::Guard) -> Guard {
    let seconds = u32::try_from(guard.window.milliseconds() / 1_000).unwrap_or(u32::MAX);
    Guard {
        connect_success: guard.least,
        min_connections: guard.min_connections,
        window: Seconds::new(seconds),
    }
}

/// What tripped it.
fn tripped(guard: &GuardStatus) -> Option<Tripped> {
    let tripped = guard.tripped?;
    let (version, least) = (guard.guard.version, guard.guard.least);
    let (failures, connections) = (tripped.failures, tripped.connections);
    Some(Tripped {
        at: timestamp(tripped.since),
        version,
        reason: format!(
            "{failures} of {connections} connections to {version} failed; less than {least} succeeded"
        ),
    })
}

fn rule(spec: &RuleSpec) -> Option<Rule> {
    // The agent has read it before, so it is right.
    Some(Rule { source: steering::prefix(&spec.source).ok()?, version: spec.version })
}
