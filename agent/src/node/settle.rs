//! The end of a transition: what the owner does every few seconds while slots are tracked.
//!
//! First a look at the flow table, which forgets the flows that have ended. Then the second half,
//! for slots that had settled before the look and that it found empty: they are tracked no longer.
//! Then the first half, for services whose slots have not moved for as long as a flow may be
//! silent: base becomes cur. And a backend that drains, and that neither a slot nor a flow names
//! any more, is released.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use weir_ebpf::abi::{FlowEntry, TCP, UDP};

use super::answers::traffic;
use super::difference::{endpoint, image};
use super::directory::Key;
use super::error::Error;
use super::events::{Event, Kind};
use super::owner::{Owner, plane_error};
use super::restore::named;
use super::state::{Entry, State};
use super::sweep::{Sweep, Swept};
use crate::dataplane::DataPlane;
use crate::model::ServiceName;
use crate::plan::settle::{settle, untrack};
use crate::plan::steering::Steering;
use crate::plan::tables::ServiceTables;
use crate::store::Store;

impl<P: DataPlane, S: Store> Owner<P, S> {
    /// One round, at a time in seconds since boot. In the steady state it does nothing.
    ///
    /// # Errors
    ///
    /// Something could not be read or written; nothing was settled, and the next round tries again.
    pub fn round(&mut self, now: u32) -> Result<(), Error> {
        self.note_failures(now);
        let drains = self.state.directory.all().any(|(_, _, place)| place.drains);
        let transition = self.state.services.values().any(|entry| is_in_transition(entry));
        if !drains && !transition {
            return Ok(());
        }
        let state = self.state.clone();
        let mut sweep = look(&state, now, self.idle);
        let ended = self
            .plane
            .sweep(TCP, &mut |key, entry| sweep.keep(key, *entry))
            .map_err(plane_error)?;
        let mut next = state.clone();
        let mut settled = Vec::new();
        for (entry, swept) in state.services.values().zip(&sweep.services) {
            if let Some((entry, settles)) = self.settled(entry, swept, now) {
                let name = entry.service.name().clone();
                settled.extend(settles.then(|| name.clone()));
                next.services.insert(name, Arc::new(entry));
            }
        }
        let mut named_by_flows = sweep.named;
        let released = if drains { self.released(&mut named_by_flows, now)? } else { Vec::new() };
        for (service, key, _) in &released {
            Arc::make_mut(&mut next.directory).release(service, *key);
            // Its answers are no longer turned back, so its service's paths differ.
            if let Some(entry) = next.services.get_mut(service) {
                *entry = Arc::new(Entry::clone(entry));
            }
        }
        self.finish_round(next, &released, ended)?;
        for name in &settled {
            let text = "what began before the last change has ended or is remembered";
            self.events.push(Event::new(Kind::Settled, text).of(name));
        }
        Ok(())
    }

    /// Notes whether an insert has failed since the last round.
    fn note_failures(&mut self, now: u32) {
        let counters =
            self.state.directory.all().map(|(_, _, place)| self.plane.counters(place.index));
        let failures = counters.map(|c| c.fallback_full + c.fallback_flood).sum();
        if failures != self.failures.0 {
            self.failures = (failures, now);
        }
    }

    /// The service one step further, if there is one to take, and whether it settles by that.
    fn settled(&self, entry: &Entry, swept: &Swept, now: u32) -> Option<(Entry, bool)> {
        if !is_in_transition(entry) {
            return None;
        }
        let mut tables = ServiceTables::clone(&entry.tables);
        let mut steering = Steering::clone(&entry.steering);
        let untracked = untrack(&mut tables, &|slot| swept.pinned(slot))
            | steering.untrack(&|index| swept.steers(index));
        let quiet = |since: u32| now.saturating_sub(since) > self.idle;
        let ready = quiet(entry.moved_at) && quiet(self.failures.1);
        let settled = ready
            && settle(&mut tables, &|_| true)
                | steering.settle()
                | (entry.settled != *entry.service.weights());
        if !settled && !untracked {
            return None;
        }
        let weights = if ready { *entry.service.weights() } else { entry.settled };
        let (tables, steering) = (Arc::new(tables), Arc::new(steering));
        Some((Entry { tables, steering, settled: weights, ..entry.clone() }, settled))
    }

    /// Draining backends that nothing names any more.
    fn released(
        &mut self,
        named_by_flows: &mut BTreeSet<u16>,
        now: u32,
    ) -> Result<Vec<(ServiceName, Key, u16)>, Error> {
        let idle = self.state.services.values().map(|entry| entry.service.udp_idle()).max();
        // Only a look: the table of UDP flows evicts by itself.
        let keep_udp = &mut |_: &_, entry: &FlowEntry| {
            if now.saturating_sub(entry.seen) <= u32::from(idle.unwrap_or_default()) {
                named_by_flows.insert(entry.backend);
            }
            true
        };
        self.plane.sweep(UDP, keep_udp).map_err(plane_error)?;
        named_by_flows.extend(self.reached_by_id(now));
        // Settling only makes fewer: what the tables name after this round, they name now.
        let tables = self.state.services.values().map(|entry| &entry.tables);
        let by_tables: BTreeSet<u16> =
            tables.flat_map(|tables| named(tables)).map(|(_, index)| index).collect();
        let free = |index: u16| !by_tables.contains(&index) && !named_by_flows.contains(&index);
        let drained =
            self.state.directory.all().filter(|(.., place)| place.drains && free(place.index));
        Ok(drained.map(|(service, key, place)| (service.clone(), *key, place.index)).collect())
    }

    /// Draining backends that datagrams may still name by their server id: no flow is remembered of
    /// these, so the backend's count of packets tells whether there are any.
    fn reached_by_id(&mut self, now: u32) -> Vec<u16> {
        let mut reached = BTreeMap::new();
        for (_, _, place) in self.state.directory.all() {
            if place.drains && place.server_id.is_some() {
                let packets = self.plane.counters(place.index).packets_in;
                let before = self.reached.get(&place.index).filter(|(count, _)| *count == packets);
                reached.insert(place.index, (packets, before.map_or(now, |(_, since)| *since)));
            }
        }
        self.reached = reached;
        let lately =
            |(_, (_, since)): &(&u16, &(u64, u32))| now.saturating_sub(*since) <= self.idle;
        self.reached.iter().filter(lately).map(|(index, _)| *index).collect()
    }

    /// Commits what the round has found.
    fn finish_round(
        &mut self,
        next: State,
        released: &[(ServiceName, Key, u16)],
        ended: u64,
    ) -> Result<(), Error> {
        let same =
            |name, entry| self.state.services.get(name).is_some_and(|e| Arc::ptr_eq(e, entry));
        if next.services.iter().all(|(name, entry)| same(name, entry)) {
            return Ok(());
        }
        let settled = |(name, entry): (&ServiceName, &Arc<Entry>)| {
            self.state.services.get(name).is_some_and(|was| was.settled != entry.settled)
        };
        let settled = next.services.iter().any(settled);
        let before = self.commit(next)?;
        for (service, key, index) in released {
            let counted = traffic(self.plane.counters(*index));
            self.retired.entry((service.clone(), key.version)).or_default().add(&counted);
            let (version, backend) = (key.version, SocketAddr::new(key.address, key.port));
            let text = format!("{version} {backend}: no slot and no flow names it any more");
            self.events.push(Event::new(Kind::Drained, text).of(service));
        }
        self.clean_up(&before);
        if !released.is_empty() {
            // A walk over the table of UDP flows may miss one that moves within it.
            let gone: BTreeSet<u16> = released.iter().map(|(.., index)| *index).collect();
            self.plane.forget(&|_, flow| gone.contains(&flow.backend)).map_err(plane_error)?;
        }
        if settled || !released.is_empty() {
            self.save()?;
        }
        tracing::debug!(ended, released = released.len(), "a transition went on");
        Ok(())
    }
}

/// Whether a service has not come to the end of its last change. Also one whose tables are new, and
/// so settled, because the data plane of an earlier agent is gone.
fn is_in_transition(entry: &Entry) -> bool {
    is_tracked(entry) || entry.settled != *entry.service.weights()
}

/// Whether any slot must still be looked up.
fn is_tracked(entry: &Entry) -> bool {
    let tables = &entry.tables;
    entry.steering.is_tracked()
        || tables.versions().iter().any(|slot| slot.tracked())
        || tables.backends().iter().any(|table| table.slots().iter().any(|slot| slot.tracked()))
}

/// A look at the flows of all services.
fn look(state: &State, now: u32, idle: u32) -> Sweep<'_> {
    let mut sweep = Sweep::new(now, idle);
    for entry in state.services.values() {
        let record = image(entry).record;
        let listeners = entry.service.listeners().iter();
        sweep.add(
            Swept::new(&entry.tables, &entry.steering, record),
            listeners.map(|l| endpoint(l.address, l.port, l.protocol)),
        );
    }
    sweep
}
