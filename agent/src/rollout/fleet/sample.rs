//! Two samples of an agent's counters as a tick for the judge. Pure.

use std::{collections::BTreeSet, net::SocketAddr};

use crate::{
    model::{Handshakes, ServiceName, TableShare, Traffic, Version},
    node::{
        interval::{Interval, VersionInterval},
        messages::BackendStatus,
    },
    rollout::{
        fleet::seen::Sampled,
        judge::{Arm, BackendArm, Tick},
        name::AgentName,
    },
};

/// What is compared with what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compare {
    /// Two versions.
    Versions {
        /// The one that is tried.
        candidate: Version,
        /// The one that it is held against.
        stable: Version,
        /// Backends that were taken out: what comes late of theirs, such as handshakes that are
        /// given up only now, speaks of neither.
        ejected: BTreeSet<SocketAddr>,
    },
    /// Backends of a version with the rest of it.
    Backends {
        /// The version.
        version: Version,
        /// Those that were replaced so far.
        fresh: BTreeSet<SocketAddr>,
        /// Those that were replaced last: they are compared with the rest when all were replaced.
        last: BTreeSet<SocketAddr>,
    },
}

/// What was counted from one sample to a later one; nothing if the two cannot be compared.
#[must_use]
pub fn tick(
    agent: &AgentName,
    service: &ServiceName,
    compare: &Compare,
    (earlier, later): (&Sampled, &Sampled),
) -> Option<Tick> {
    let interval = Interval::between(&earlier.counters, &later.counters);
    if interval.gap {
        return None;
    }
    let versions = &interval.of(service)?.versions;
    // Where the tables changed there are no shares to hold connections against.
    let table = |version: Version| {
        let tables = later.tables.as_ref();
        tables.map_or_else(TableShare::default, |status| status.versions[version].table)
    };
    let (candidate, baseline) = match compare {
        Compare::Versions { candidate, stable, ejected } => {
            let arm = |version: Version| {
                if ejected.is_empty() {
                    whole(&versions[version], table(version))
                } else {
                    part(&versions[version], ejected, false, table(version))
                }
            };
            (arm(*candidate), arm(*stable))
        }
        Compare::Backends { version, fresh, last } => {
            let all = &versions[*version];
            let old = |one: &BackendStatus| {
                !fresh.contains(&SocketAddr::new(one.address, one.port)) && one.slots > 0
            };
            let status = later.tables.as_ref()?;
            let rest = status.versions[*version].backends.iter().any(old);
            let fresh = if rest { fresh } else { last };
            let slots = |wanted: bool| {
                let backends = status.versions[*version].backends.iter();
                let chosen = backends.filter(|one| {
                    fresh.contains(&SocketAddr::new(one.address, one.port)) == wanted
                });
                chosen.map(|one| one.slots).sum::<u32>()
            };
            let total = slots(true) + slots(false);
            let share = |wanted| TableShare { slots: slots(wanted), total };
            (part(all, fresh, true, share(true)), part(all, fresh, false, share(false)))
        }
    };
    Some(Tick { agent: agent.to_string(), length: interval.length, candidate, baseline })
}

/// A whole version.
fn whole(version: &VersionInterval, asked: TableShare) -> Arm {
    let backend = |one: &crate::node::interval::BackendInterval| BackendArm {
        address: one.address,
        port: one.port,
        traffic: one.delta.traffic,
    };
    Arm {
        traffic: version.delta.traffic,
        handshakes: version.delta.handshakes.clone(),
        backends: version.backends.iter().map(backend).collect(),
        asked,
    }
}

/// The backends of a version that are in a set, or that are not.
fn part(
    version: &VersionInterval,
    set: &BTreeSet<SocketAddr>,
    wanted: bool,
    asked: TableShare,
) -> Arm {
    let (mut traffic, mut handshakes) = (Traffic::default(), Handshakes::default());
    let mut backends = Vec::new();
    for one in &version.backends {
        if set.contains(&SocketAddr::new(one.address, one.port)) != wanted {
            continue;
        }
        traffic.add(&one.delta.traffic);
        handshakes.add(&one.delta.handshakes);
        let (address, port, traffic) = (one.address, one.port, one.delta.traffic);
        backends.push(BackendArm { address, port, traffic });
    }
    Arm { traffic, handshakes, backends, asked }
}
