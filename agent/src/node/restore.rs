//! From what is stored and what the data plane still holds to a state: how an agent starts.
//!
//! The stored spec says what shall be; the tables in the kernel, if an earlier agent left them, say
//! which flows are where. So each service is led from its tables to its spec by a transition, which
//! moves nothing where the two agree, and keeps every flow where they do not (a crash between
//! commit and store).

use std::collections::{BTreeSet, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use weir_ebpf::abi::{self, FlowEntry, NO_BACKEND};

use super::clock;
use super::commit::{next_generation, plane_error};
use super::difference::difference;
use super::directory::{Key, Place};
use super::error::Error;
use super::events::{Event, Kind};
use super::next::Next;
use super::owner::Owner;
use super::state::State;
use crate::dataplane::DataPlane;
use crate::model::{ServerId, Service, ServiceSpec, Version, parse_services};
use crate::plan::tables::ServiceTables;
use crate::store::{Store, Stored, StoredBackend, StoredCounts, StoredService};

impl<P: DataPlane, S: Store> Owner<P, S> {
    /// Leads the data plane to what is stored, from whatever an earlier agent left there.
    pub(super) fn restore(&mut self, stored: &Stored) -> Result<(), Error> {
        let carried = self.plane.carried();
        let specs: Vec<ServiceSpec> = stored.services.iter().map(|s| s.spec.clone()).collect();
        // What was forced once stays forced.
        let services = match specs.as_slice() {
            [] => Vec::new(),
            specs => parse_services(specs, true).map_err(Error::Invalid)?,
        };
        let next = state(&services, &stored.services, &self.plane, clock::seconds())?;
        let generation = next_generation(stored.generation);
        let mut commit = difference(&State::default(), &next, generation);
        commit.backends.retain_mut(|(index, record)| {
            let there = self.plane.backend(*index);
            let same = (there.address, there.port) == (record.address, record.port);
            if same && there.flags != record.flags {
                commit.flags.push((*index, record.flags));
            }
            if same {
                // Only that an agent which knew of no signals has not said whose it is.
                *record = abi::Backend { of: record.of, ..there };
            }
            *record != there
        });
        let kept: BTreeSet<u32> = next.services.values().map(|entry| entry.index).collect();
        let gone: Vec<u32> =
            carried.services.iter().copied().filter(|index| !kept.contains(index)).collect();
        // Their backends are numbered anew, so what is remembered of them must go.
        let orphans = orphans(&self.plane, &gone);
        commit.services.extend(gone.iter().map(|index| (*index, None)));
        let listeners: HashSet<_> = commit.listeners.iter().map(|(at, _)| *at).collect();
        commit.closed = carried.listeners.into_iter().filter(|e| !listeners.contains(e)).collect();
        let returns: HashSet<_> = commit.returns.iter().map(|(at, _)| *at).collect();
        commit.severed = carried.returns.into_iter().filter(|e| !returns.contains(e)).collect();
        let ids: HashSet<_> = commit.server_ids.iter().map(|(id, _)| *id).collect();
        commit.retired_ids =
            carried.server_ids.into_iter().filter(|id| !ids.contains(id)).collect();
        self.generation = stored.generation;
        if !commit.services.is_empty() {
            self.plane.commit(&commit).map_err(plane_error)?;
            let orphan = |_: &_, flow: &FlowEntry| orphans.contains(&flow.backend);
            self.plane.forget(&orphan).map_err(plane_error)?;
            self.generation = generation;
        }
        // Counters that were carried over go on; new ones begin a new epoch.
        if !carried.services.is_empty() {
            self.epoch = stored.epoch;
            for (service, kept) in services.iter().zip(&stored.services) {
                let of = |(version, gone): (&Version, &StoredCounts)| {
                    ((service.name().clone(), *version), gone.into())
                };
                self.retired.extend(kept.retired.iter().map(of));
            }
        }
        let before = std::mem::replace(&mut self.state, next);
        self.clean_up(&before);
        self.mark_all();
        for warning in self.tunnel_warnings() {
            tracing::warn!("{warning}");
        }
        if !self.state.services.is_empty() {
            let (services, taken_up) = (self.state.services.len(), carried.services.len());
            self.events.push(Event::new(
                Kind::Restored,
                format!(
                    "services: {services} applied as stored, {taken_up} found in the data plane"
                ),
            ));
        }
        Ok(())
    }
}

/// The state that `stored` asks for, with the flows that `plane` still serves.
fn state(
    services: &[Service],
    stored: &[StoredService],
    plane: &impl DataPlane,
    now: u32,
) -> Result<State, Error> {
    let mut next = Next::new(State::default(), now);
    for (service, kept) in services.iter().zip(stored) {
        let name = service.name();
        let tables = plane.tables(kept.index).map_err(|e| Error::DataPlane(e.to_string()))?;
        let directory = Arc::make_mut(&mut next.state.directory);
        for backend in &kept.backends {
            let StoredBackend { index, version, address, port, .. } = *backend;
            let server_id = backend.server_id.as_deref().and_then(ServerId::from_hex);
            let key = Key { version, address, port };
            let (by_hand, failing, draining) = (backend.by_hand, backend.failing, backend.draining);
            let known = Place { by_hand, failing, draining, ..Place::new(index, server_id) };
            directory.adopt(name, key, Place { drains: true, ..known });
        }
        // A commit that was not stored may have brought backends that only the kernel knows.
        for (version, index) in tables.iter().flat_map(named) {
            if !directory.indices().contains(&index) {
                let record = plane.backend(index);
                let (address, port) = (ip(record.address), u16::from_be(record.port));
                directory.adopt(
                    name,
                    Key { version, address, port },
                    Place { drains: true, ..Place::new(index, None) },
                );
            }
        }
        let steering = plane.steering(kept.index);
        next.put_restored(service, kept, tables.as_ref(), &steering)?;
    }
    Ok(next.state)
}

/// The backends that tables name, each with its version.
pub(super) fn named(tables: &ServiceTables) -> Vec<(Version, u16)> {
    let mut named: Vec<(Version, u16)> = Version::ALL
        .into_iter()
        .flat_map(|version| {
            let slots = tables.backends()[version.index()].slots();
            slots.iter().flat_map(move |slot| [(version, slot.cur()), (version, slot.base())])
        })
        .filter(|(_, index)| *index != NO_BACKEND)
        .collect();
    named.sort_unstable();
    named.dedup();
    named
}

/// An address as the kernel's program has it, back as people write it.
fn ip(address: abi::Address) -> IpAddr {
    let mut bytes = [0; 16];
    for (four, word) in bytes.chunks_exact_mut(4).zip(address.0) {
        four.copy_from_slice(&word.to_ne_bytes());
    }
    if address.is_v4() {
        let [.., a, b, c, d] = bytes;
        return IpAddr::V4(Ipv4Addr::new(a, b, c, d));
    }
    IpAddr::V6(Ipv6Addr::from(bytes))
}

/// Backends that the tables of services name which are not kept.
fn orphans(plane: &impl DataPlane, gone: &[u32]) -> BTreeSet<u16> {
    let tables = gone.iter().filter_map(|index| plane.tables(*index).ok().flatten());
    tables.flat_map(|tables| named(&tables)).map(|(_, index)| index).collect()
}
