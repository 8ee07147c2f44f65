//! How a state takes effect: commit, store, and back again where the store fails.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::clock;
use super::difference::{difference, lost_flows};
use super::draining;
use super::error::Error;
use super::events::{Event, Kind};
use super::guarding::Guarded;
use super::lease::Lease;
use super::owner::Owner;
use super::state::State;
use crate::dataplane::{self, DataPlane};
use crate::fault::{self, Point};
use crate::model::{ServiceSpec, Version};
use crate::store::{self, Kept, Store, Stored, StoredBackend, StoredService};

impl<P: DataPlane, S: Store> Owner<P, S> {
    /// Commits and stores the next state, or leaves everything as it was.
    pub(super) fn carry_out(&mut self, next: State) -> Result<Duration, Error> {
        let began = Instant::now();
        // A backend begins with nothing counted, whoever had its index before.
        if !Arc::ptr_eq(&next.directory, &self.state.directory) {
            let new = next.directory.indices().difference(self.state.directory.indices());
            self.plane.clear_counters(&new.copied().collect());
        }
        let before = self.commit(next)?;
        let took = began.elapsed();
        if let Err(error) = self.save() {
            return Err(self.take_back(&before, &error));
        }
        fault::point(Point::Stored);
        self.clean_up(&before);
        Ok(took)
    }

    /// Stores the state as it is.
    ///
    /// # Errors
    ///
    /// What was stored before still is; until this succeeds, each round tries it again.
    pub(super) fn save(&mut self) -> Result<(), store::Error> {
        let stored = self.stored();
        let unsaved = match self.store.save(&stored) {
            Ok(Kept::Durably) => None,
            Ok(Kept::Unflushed(why)) => Some(format!(
                "the state is stored, but not flushed to the disk ({why}): if the machine goes down \
                 now, the state before the last change may come back"
            )),
            Err(error) => {
                self.unsaved = Some(format!("the state could not be stored: {error}"));
                return Err(error);
            }
        };
        if let Some(warning) = unsaved.as_ref().filter(|_| self.unsaved != unsaved) {
            tracing::warn!("{warning}");
        }
        self.unsaved = unsaved;
        Ok(())
    }

    /// The same for what has happened already, stored or not.
    pub(super) fn save_or_note(&mut self) {
        let known = self.unsaved.is_some();
        if let Err(error) = self.save()
            && !known
        {
            tracing::warn!(%error, "the state could not be stored; it is tried again");
        }
    }

    /// The state as it is stored.
    fn stored(&self) -> Stored {
        let services = self.state.services.values().map(|entry| StoredService {
            generation: entry.generation,
            index: entry.index,
            settled: (entry.settled != *entry.service.weights()).then_some(entry.settled),
            lease: entry.lease.map(Lease::stored),
            fence: entry.fence.clone(),
            guard: entry.guard.map(Guarded::stored),
            spec: ServiceSpec::from(&entry.service),
            backends: self
                .state
                .directory
                .of(entry.service.name())
                .map(|(key, place)| StoredBackend {
                    index: place.index,
                    version: key.version,
                    address: key.address,
                    port: key.port,
                    server_id: place.server_id.map(|id| id.to_string()),
                    by_hand: place.by_hand,
                    failing: place.failing,
                    draining: place.draining,
                })
                .collect(),
            draining: entry.draining,
            retired: Version::ALL
                .into_iter()
                .filter_map(|version| {
                    let gone = self.retired.get(&(entry.service.name().clone(), version))?;
                    Some((version, gone.into()))
                })
                .collect(),
        });
        Stored { generation: self.generation, epoch: self.epoch, services: services.collect() }
    }

    /// Leads the data plane to another state, and gives the one before.
    pub(super) fn commit(&mut self, mut next: State) -> Result<State, Error> {
        draining::begin(&self.state, &mut next, clock::wall());
        let generation = next_generation(self.generation);
        let commit = difference(&self.state, &next, generation);
        self.plane.commit(&commit).map_err(plane_error)?;
        self.generation = generation;
        Ok(std::mem::replace(&mut self.state, next))
    }

    /// Leads the data plane back to `before`, because the store failed. Gives the error to answer.
    fn take_back(&mut self, before: &State, error: &store::Error) -> Error {
        // If this is refused too, then what the tables say is what holds.
        let said = match self.commit(before.back_from(&self.state)) {
            Ok(failed) => {
                self.clean_up(&failed);
                format!("{error}; nothing was changed")
            }
            Err(refused) => {
                self.clean_up(before);
                format!(
                    "{error}; the change is in the tables all the same, for it could not be taken \
                     back: {refused}"
                )
            }
        };
        self.events.push(Event::new(Kind::StoreFailed, said.clone()));
        Error::Store(said)
    }

    /// What follows a commit and cannot undo it: forgets flows that have lost their service; tells
    /// backends that are new their next hops.
    pub(super) fn clean_up(&mut self, before: &State) {
        self.ask_checks(before);
        if let Some(lost) = lost_flows(before, &self.state)
            && let Err(error) = self.plane.forget(&lost)
        {
            tracing::warn!(%error, "flows of services that are gone are still remembered");
        }
        let now = &self.state.directory;
        if Arc::ptr_eq(&before.directory, now) {
            return;
        }
        self.place_hops(before);
    }
}

/// Commit numbers wrap past zero, which means "no service".
pub(super) fn next_generation(generation: u32) -> u32 {
    generation.checked_add(1).unwrap_or(1)
}

pub(super) fn plane_error(error: dataplane::Error) -> Error {
    match error {
        dataplane::Error::PoolFull { asked, free, size } => Error::Exhausted {
            what: "lines of the pool of tables".to_owned(),
            limit: u64::from(size),
            asked: u64::from(size - free) + u64::from(asked),
        },
        dataplane::Error::SteeringFull { asked, free, size } => Error::Exhausted {
            what: "steering entries".to_owned(),
            limit: u64::from(size),
            asked: u64::from(size - free) + u64::from(asked),
        },
        other => Error::DataPlane(other.to_string()),
    }
}
