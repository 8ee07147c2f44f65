//! The end of a transition, by what a round's look at the flow table has found.
//!
//! First the second half, for slots that had settled before the look and that it found empty: they
//! are tracked no longer. Then the first half, for slots that have not moved for as long as a flow
//! may be silent: base becomes cur. And a backend that drains, and that neither a slot nor a flow
//! names any more, is released.
//!
//! A drain whose time is over, and that shall be reset then, is given up in the same rounds: first no
//! slot leads there, then what is remembered of it is forgotten, some flows a round.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use super::commit::plane_error;
use super::counted::Counted;
use super::directory::Key;
use super::error::Error;
use super::events::{Event, Kind};
use super::owner::Owner;
use super::restore::named;
use super::state::{Entry, State};
use super::sweep::{Named, Swept};
use crate::dataplane::DataPlane;
use crate::fault::{self, Point};
use crate::model::{Service, ServiceName};
use crate::plan::settle::{SlotRef, settle, untrack};
use crate::plan::steering::Steering;
use crate::plan::tables::ServiceTables;
use crate::store::Store;

impl<P: DataPlane, S: Store> Owner<P, S> {
    /// Seconds of silence that end a flow of a service.
    pub(super) fn idle_of(&self, service: &Service) -> u32 {
        service.drain().idle.unwrap_or(self.idle)
    }

    /// Notes for each service whether an insert has failed since the last round.
    pub(super) fn note_failures(&mut self, now: u32) {
        for name in self.state.services.keys() {
            let gone = self.retired.iter().filter(|((service, _), _)| service == name);
            let gone = gone
                .map(|(_, gone)| gone.traffic.fallback_full + gone.traffic.fallback_flood)
                .sum::<u64>();
            let places = self.state.directory.of(name).map(|(_, place)| place.index);
            let counters = places.map(|index| self.plane.counters(index));
            let failed = counters.map(|c| c.fallback_full + c.fallback_flood).sum::<u64>() + gone;
            let known = self.failures.get(name);
            if known.is_none_or(|(before, _)| *before != failed) {
                // What was counted before the first look may have been counted just now.
                let at = if known.is_none() && failed == 0 { 0 } else { now };
                self.failures.insert(name.clone(), (failed, at));
            }
        }
    }

    /// Until when the slots of a service wait that moved last at the time given. Asked for each slot: so what
    /// is the service's own is looked up once.
    pub(super) fn settles_at(&self, entry: &Entry) -> impl Fn(u32) -> u32 + use<P, S> {
        let failed = self.failures.get(entry.service.name()).map_or(0, |(_, at)| *at);
        let idle = self.idle_of(&entry.service);
        move |since| since.max(failed).saturating_add(idle)
    }

    /// The service one step further, if there is one to take, and whether all of it settles by that.
    pub(super) fn settled(&self, entry: &Entry, swept: &Swept, now: u32) -> Option<(Entry, bool)> {
        if !is_in_transition(entry) {
            return None;
        }
        let mut tables = ServiceTables::clone(&entry.tables);
        let mut steering = Steering::clone(&entry.steering);
        let untracked = untrack(&mut tables, &|slot| swept.pinned(slot))
            | steering.untrack(&|index| swept.steers(index));
        let settles_at = self.settles_at(entry);
        let quiet = |since| now > settles_at(since);
        let whole = quiet(entry.moved.newest());
        let settles = settle_quiet(entry, (&mut tables, &mut steering), whole, &quiet);
        let mut next = entry.clone();
        if whole {
            (next.settled, next.asked) = (*entry.service.weights(), Vec::new());
        } else if let Some(weights) = entry.weights_of_bases(&tables) {
            next.settled = weights;
        }
        let news = settles || next.settled != entry.settled;
        if !news && !untracked {
            return None;
        }
        (next.tables, next.steering) = (Arc::new(tables), Arc::new(steering));
        Some((next, news && whole))
    }

    /// Draining backends that nothing names any more.
    pub(super) fn released(
        &self,
        named_by_flows: &HashMap<u16, Named>,
        reached: &[u16],
    ) -> Vec<(ServiceName, Key, u16)> {
        let by_flows = |index: u16| named_by_flows.contains_key(&index) || reached.contains(&index);
        let drained =
            self.state.directory.all().filter(|(.., one)| one.drains && !by_flows(one.index));
        let mut drained: Vec<_> =
            drained.map(|(service, key, place)| (service.clone(), *key, place.index)).collect();
        if drained.is_empty() {
            return drained;
        }
        // Settling only makes fewer: what the tables name after this round, they name now.
        let tables = self.state.services.values().map(|entry| &entry.tables);
        let by_tables: BTreeSet<u16> =
            tables.flat_map(|tables| named(tables)).map(|(_, index)| index).collect();
        drained.retain(|(.., index)| !by_tables.contains(index));
        drained
    }

    /// Draining backends that datagrams may still name by their server id: no flow is remembered of
    /// these, so the backend's count of packets tells whether there are any.
    pub(super) fn reached_by_id(&mut self, now: u32) -> Vec<u16> {
        let mut reached = BTreeMap::new();
        for (name, key, place) in self.state.directory.all() {
            let entry = self.state.services.get(name);
            let whole = entry.is_some_and(|entry| entry.draining[key.version.index()].is_some());
            if (whole || place.draining.is_some()) && place.server_id.is_some() {
                let packets = self.plane.counters(place.index).packets_in;
                let before = self.reached.get(&place.index).filter(|(count, _)| *count == packets);
                reached.insert(place.index, (packets, before.map_or(now, |(_, since)| *since)));
            }
        }
        self.reached = reached;
        // The longest of all services' times: of a backend that is gone nobody knows its own.
        let services = self.state.services.values();
        let idle = services.map(|entry| self.idle_of(&entry.service)).fold(self.idle, u32::max);
        let lately = |(_, (_, since)): &(&u16, &(u64, u32))| now.saturating_sub(*since) <= idle;
        self.reached.iter().filter(lately).map(|(index, _)| *index).collect()
    }

    /// Commits what the round has found.
    pub(super) fn finish_round(
        &mut self,
        next: State,
        released: &[(ServiceName, Key, u16)],
        point: Point,
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
        fault::point(point);
        for (service, key, index) in released {
            let counted = Counted::of(&self.plane, *index);
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
            fault::point(Point::Released);
        }
        if settled || !released.is_empty() {
            self.save_or_note();
        }
        tracing::debug!(released = released.len(), "a transition went on");
        Ok(())
    }
}

/// Settles what is quiet, and says whether anything was. Of the version table either all that is, or
/// nothing: only so much that some weights which were asked for put each slot where its `base` is
/// then. To these weights a rollback goes, and it must need nothing of the flow table.
fn settle_quiet(
    entry: &Entry,
    (tables, steering): (&mut ServiceTables, &mut Steering),
    whole: bool,
    quiet: &dyn Fn(u32) -> bool,
) -> bool {
    let (mut all, mut rules) = (tables.clone(), steering.clone());
    let settles = entry.moved.settle(&mut all, &mut rules, quiet);
    if whole || settles && entry.weights_of_bases(&all).is_some() {
        (*tables, *steering) = (all, rules);
        return settles;
    }
    let backends = |slot| match slot {
        SlotRef::Version(_) => false,
        SlotRef::Backend { .. } => quiet(entry.moved.since(steering, slot)),
    };
    settles && settle(tables, &backends)
}

/// Whether a service has not come to the end of its last change. Also one whose tables are new, and
/// so settled, because the data plane of an earlier agent is gone.
pub(super) fn is_in_transition(entry: &Entry) -> bool {
    is_tracked(entry) || entry.settled != *entry.service.weights()
}

/// Whether any slot must still be looked up.
pub(super) fn is_tracked(entry: &Entry) -> bool {
    let tables = &entry.tables;
    entry.steering.is_tracked()
        || tables.versions().iter().any(|slot| slot.tracked())
        || tables.backends().iter().any(|table| table.slots().iter().any(|slot| slot.tracked()))
}
