//! Versions and backends of a look, with the labels of their metrics. Pure.

use std::net::SocketAddr;

use super::collect::{Seen, Snapshot};
use super::exposition::Labels;
use crate::model::{Handshakes, Traffic, Version};
use crate::node::messages::{BackendStatus, VersionStatus};

/// A version or a backend: its labels, and what is known of it.
pub(super) struct Row<'a, T> {
    pub(super) labels: Labels,
    pub(super) traffic: Traffic,
    pub(super) handshakes: &'a Handshakes,
    pub(super) is: T,
}

/// Versions that there are: with weight, backends or anything counted.
pub(super) fn version_rows(look: &Snapshot) -> Vec<Row<'_, &VersionStatus>> {
    let rows = look.services.iter().flat_map(|Seen { status, counters }| {
        Version::ALL.into_iter().filter_map(|version| {
            let (is, counted) = (&status.versions[version], &counters.versions[version]);
            let exists = is.asked.bp() > 0
                || !is.backends.is_empty()
                || counted.traffic != Traffic::default();
            let labels = Labels::of([("service", &status.spec.name), ("version", version.name())]);
            exists.then_some(Row {
                labels,
                traffic: counted.traffic,
                handshakes: &counted.handshakes,
                is,
            })
        })
    });
    rows.collect()
}

/// What a backend is, and how many slots its version's backend table has.
pub(super) struct BackendIs<'a> {
    pub(super) status: Option<&'a BackendStatus>,
    pub(super) slots: u32,
}

pub(super) fn backend_rows(look: &Snapshot) -> Vec<Row<'_, BackendIs<'_>>> {
    let mut rows = Vec::new();
    for Seen { status, counters } in &look.services {
        for (version, counted) in counters.versions.iter() {
            let all = &status.versions[version].backends;
            let slots = all.iter().map(|one| one.slots).sum();
            for (place, backend) in counted.backends.iter().enumerate() {
                let is_it = |one: &&BackendStatus| {
                    (one.address, one.port) == (backend.address, backend.port)
                };
                // Both are in the directory's order, but for a change between the two answers.
                let there = all.get(place).filter(is_it);
                let known = there.or_else(|| all.iter().find(is_it));
                rows.push(Row {
                    labels: backend_labels(
                        &status.spec.name,
                        version,
                        (backend.address, backend.port).into(),
                    ),
                    traffic: backend.traffic,
                    handshakes: &backend.handshakes,
                    is: BackendIs { status: known, slots },
                });
            }
        }
    }
    rows
}

pub(super) fn backend_labels(service: &str, version: Version, address: SocketAddr) -> Labels {
    let address = address.to_string();
    Labels::of([("service", service), ("version", version.name()), ("backend", &address)])
}
