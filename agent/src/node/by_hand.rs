//! What an operator does by hand: takes backends out and back, and ends transitions.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_ebpf::abi::VERSIONS;

use super::answers::move_list;
use super::clock;
use super::directory::{Directory, Key, Place};
use super::error::Error;
use super::events::{Event, Kind};
use super::messages::{Changed, SetBackend, Settle, Settled};
use super::next::Next;
use super::owner::Owner;
use super::repeats::Asked;
use super::state::{Entry, State};
use crate::dataplane::DataPlane;
use crate::model::{BackendState, Version, Violation};
use crate::plan::settle::{SlotRef, settle};
use crate::plan::steering::Steering;
use crate::plan::tables::ServiceTables;
use crate::store::Store;

impl<P: DataPlane, S: Store> Owner<P, S> {
    /// Sets by hand what a backend is.
    ///
    /// # Errors
    ///
    /// Why nothing was changed.
    pub fn set_backend(&mut self, set: &SetBackend) -> Result<Changed, Error> {
        let asked = Asked::SetBackend(set);
        if let Some(answer) = self.repeated(&set.options, asked)? {
            return Ok(answer);
        }
        let (key, place) = self.state.by_hand(set)?;
        let known = [(set.service.clone(), key, place)];
        let names = std::slice::from_ref(&set.service);
        // Where nothing is new, the answer still says what is.
        let next = self.state.know(&known, clock::seconds());
        let next = next.unwrap_or_else(|| Next::new(self.state.clone(), clock::seconds()));
        self.change(&next, names, &set.options, asked)
    }

    /// Ends the transition of a service now.
    pub fn settle_now(&mut self, request: &Settle) -> Result<Settled, Error> {
        let entry = Arc::clone(self.state.get(&request.service)?);
        let (names, fence) = ([&request.service], request.fence.as_ref());
        self.state.admit(&names, fence)?;
        let mut settled = self.would_settle(&entry);
        if request.dry_run || settled.is_none() {
            settled.commit = self.commit_answer(Duration::ZERO, request.dry_run);
            return Ok(settled);
        }
        let mut tables = ServiceTables::clone(&entry.tables);
        let mut steering = Steering::clone(&entry.steering);
        let _ = settle(&mut tables, &|_| true) | steering.settle();
        let (tables, steering) = (Arc::new(tables), Arc::new(steering));
        let mut next = self.state.clone();
        let (weights, asked) = (*entry.service.weights(), Vec::new());
        let entry = Entry { tables, steering, settled: weights, asked, ..Entry::clone(&entry) };
        next.services.insert(request.service.clone(), Arc::new(entry));
        next.raise(&names, fence);
        let began = Instant::now();
        self.commit(next)?;
        if let Err(error) = self.save() {
            tracing::warn!(%error, "the settled weights are not stored");
        }
        settled.commit = self.commit_answer(began.elapsed(), false);
        let past = self.state.past_fence(&request.service, fence);
        let text =
            format!("by hand: what was silent since the last change is not known any more{past}");
        self.events.push(Event::new(Kind::Settled, text).of(&request.service));
        Ok(settled)
    }

    /// What is not settled.
    fn would_settle(&self, entry: &Entry) -> Settled {
        let tables = &entry.tables;
        let (mut moves, mut since) = ([[0; VERSIONS]; VERSIONS], 0);
        for (slot, at) in tables.versions().iter().zip(0..) {
            if slot.base() != slot.cur() {
                moves[usize::from(slot.base())][usize::from(slot.cur())] += 1;
                since = since.max(entry.moved.since(&entry.steering, SlotRef::Version(at)));
            }
        }
        let mut backend_slots = 0;
        for (version, table) in tables.backends().iter().enumerate() {
            let open = table.slots().iter().filter(|slot| slot.base() != slot.cur()).count();
            if open > 0 {
                let slot = SlotRef::Backend { version, slot: 0 };
                since = since.max(entry.moved.since(&entry.steering, slot));
            }
            backend_slots += u32::try_from(open).unwrap_or(u32::MAX);
        }
        let entries = entry.steering.entries().iter();
        let open = entries.filter(|one| one.slot.base() != one.slot.cur()).count();
        let prefixes = u32::try_from(open).unwrap_or(u32::MAX);
        if prefixes > 0 {
            since = since.max(entry.moved.since_steering());
        }
        let slots = move_list(&moves);
        let commit = self.commit_answer(Duration::ZERO, false);
        let by_itself_s = if slots.is_empty() && backend_slots == 0 && prefixes == 0 {
            0
        } else {
            self.settles_at(entry)(since).saturating_sub(clock::seconds())
        };
        Settled { commit, slots, backend_slots, prefixes, by_itself_s }
    }
}

impl State {
    /// The backend that is meant, as it shall be.
    fn by_hand(&self, set: &SetBackend) -> Result<(Key, Place), Error> {
        let entry = self.get(&set.service)?;
        let backend = SocketAddr::new(set.address, set.port);
        let invalid = |message: String| {
            Error::Invalid(vec![Violation { field: "address".to_owned(), message }])
        };
        let at = |key: &Key| (key.address, key.port) == (set.address, set.port);
        let mut found: Vec<_> =
            self.directory.of(&set.service).filter(|(key, _)| at(key)).collect();
        // One that was removed from a version may be in another one now.
        found.sort_by_key(|(_, place)| place.drains);
        let Some((key, place)) = found.first() else {
            return Err(invalid(format!(
                "{backend} is no backend of {}; `weir get {}` lists them",
                set.service, set.service
            )));
        };
        if place.drains && set.state == BackendState::Active {
            return Err(invalid(format!(
                "{backend} is not in the spec of {} any more; apply one that names it",
                set.service
            )));
        }
        let last = set.state != BackendState::Active
            && entry.service.weights().get(key.version).bp() > 0
            && is_last(entry, &self.directory, key);
        if last && !set.options.force {
            let (service, version) = (set.service.clone(), key.version);
            return Err(Error::LastBackend { service, version, backend });
        }
        let draining = place.draining.filter(|_| place.by_hand == set.state);
        Ok((**key, Place { by_hand: set.state, draining, ..*place }))
    }
}

/// Whether a backend takes connections, and no other of its version does.
fn is_last(entry: &Entry, directory: &Directory, key: &Key) -> bool {
    let name = entry.service.name();
    let takes = |backend: &&crate::model::Backend| {
        let (version, address, port) = (key.version, backend.address, backend.port);
        let place = directory.get(name, &Key { version, address, port });
        backend.weight > 0 && place.is_none_or(|place| place.state() == BackendState::Active)
    };
    let version: Version = key.version;
    let mut taking = entry.service.versions()[version].backends.iter().filter(takes);
    let is_key = |one: &crate::model::Backend| (one.address, one.port) == (key.address, key.port);
    taking.next().is_some_and(is_key) && taking.next().is_none()
}
