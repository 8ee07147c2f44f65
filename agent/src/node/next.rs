//! The next state, as it is being made: how each service comes from what it was to what is asked.
//! Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use weir_ebpf::abi::{MAX_BACKENDS, MAX_SERVICES};

use super::directory::{Directory, Key};
use super::error::Error;
use super::guarding::Guarded;
use super::lease::Lease;
use super::state::{Entry, State};
use super::wanted::{basis_points, given_up, goal, rules, target};
use crate::model::{Backend, BackendState, Service, ServiceName, Version, Weights};
use crate::plan::goal::{Goal, Target};
use crate::plan::moved::Moved;
use crate::plan::steering::Steering;
use crate::plan::tables::ServiceTables;
use crate::plan::transition::{Moves, transition};
use crate::store::StoredService;

/// The next state, and how each service of the request comes to it.
#[derive(Debug)]
pub(super) struct Next {
    pub(super) state: State,
    pub(super) moves: BTreeMap<ServiceName, Moves>,
    /// When this happens, in seconds since boot.
    now: u32,
}

impl Next {
    /// Begins with a state, at a time in seconds since boot.
    pub(super) fn new(state: State, now: u32) -> Self {
        Self { state, moves: BTreeMap::new(), now }
    }

    /// Puts a service in place of the one with its name, or beside the others.
    pub(super) fn put(&mut self, service: &Service) -> Result<(), Error> {
        let name = service.name();
        let old = self.state.services.get(name).cloned();
        if let Some(old) = &old
            && old.service == *service
        {
            self.moves.insert(name.clone(), Moves::default());
            return Ok(());
        }
        let directory = self.number_backends(service)?;
        let goal = goal(service);
        let target = target(&goal, &directory, service);
        let index = match &old {
            Some(old) => old.index,
            None => self.free_index()?,
        };
        self.insert(old.as_deref(), service.clone(), index, goal, target);
        Ok(())
    }

    /// Puts a service as it was stored, led from the tables that the data plane still holds.
    pub(super) fn put_restored(
        &mut self,
        service: &Service,
        kept: &StoredService,
        tables: Option<&ServiceTables>,
        steering: &Steering,
    ) -> Result<(), Error> {
        let directory = self.number_backends(service)?;
        let goal = goal(service);
        let target = target(&goal, &directory, service);
        let steering = match tables {
            Some(_) => steering.lead(target.rules()).0,
            None => Steering::first(target.rules()),
        };
        let void = given_up(&directory, service);
        let led = transition(tables, &target, &|one| void.contains(&one)).tables;
        let entry = Entry {
            service: service.clone(),
            index: kept.index,
            generation: kept.generation,
            digest: OnceLock::new(),
            settled: kept.settled.unwrap_or(*service.weights()),
            asked: Vec::new(),
            lease: kept.lease.as_ref().map(Lease::from_stored),
            fence: kept.fence.clone(),
            guard: kept.guard.map(Guarded::from_stored),
            moved: Moved::all(self.now),
            draining: kept.draining,
            given_up: Arc::new(void),
            goal,
            target,
            tables: Arc::new(led),
            steering: Arc::new(steering),
        };
        self.state.services.insert(service.name().clone(), Arc::new(entry));
        Ok(())
    }

    /// Gives every backend of a service an index.
    fn number_backends(&mut self, service: &Service) -> Result<Arc<Directory>, Error> {
        let directory = Arc::make_mut(&mut self.state.directory);
        let asked = directory.len() as u64 + 1;
        let backends = service.versions().iter().flat_map(|(version, group)| {
            let key =
                move |b: &Backend| (Key { version, address: b.address, port: b.port }, b.server_id);
            group.backends.iter().map(key)
        });
        directory.set(service.name(), backends).map_err(|_| Error::Exhausted {
            what: "backends".to_owned(),
            limit: u64::from(MAX_BACKENDS),
            asked,
        })?;
        if service.health().is_none() {
            directory.take_to_be_up(service.name());
        }
        Ok(Arc::clone(&self.state.directory))
    }

    /// Gives a service other weights, if what gets more has backends. They are nobody's lease.
    pub(super) fn shift(
        &mut self,
        old: &Entry,
        weights: Weights,
        force: bool,
    ) -> Result<(), Error> {
        let service = old.service.clone().with_weights(weights);
        // A version that had weight already keeps it: only what is given is refused.
        let given = |version: &Version| {
            weights.get(*version).bp() > old.service.weights().get(*version).bp()
        };
        let unready =
            |version: &Version| given(version) && !self.state.is_ready(&service, *version);
        if let Some(version) = Version::ALL.into_iter().find(unready).filter(|_| !force) {
            return Err(Error::NoReadyBackend { service: service.name().clone(), version });
        }
        let name = service.name().clone();
        self.reweigh(old, service);
        self.state.set_lease(&name, None);
        Ok(())
    }

    /// Gives a service other weights.
    pub(super) fn reweigh(&mut self, old: &Entry, service: Service) {
        let goal = old.goal.clone().with_weights(basis_points(*service.weights()));
        // Where every backend is ready, weights change nothing about backends.
        let ready = self
            .state
            .directory
            .of(service.name())
            .all(|(_, place)| place.drains || place.state() == BackendState::Active);
        let same = old.target.reweighed(&goal).filter(|_| ready);
        let target = same.unwrap_or_else(|| target(&goal, &self.state.directory, &service));
        self.insert(Some(old), service, old.index, goal, target);
    }

    /// Gives a service other steering rules.
    pub(super) fn resteer(&mut self, old: &Entry, service: Service) {
        let goal = old.goal.clone().with_rules(rules(&service));
        let target = target(&goal, &self.state.directory, &service);
        self.insert(Some(old), service, old.index, goal, target);
    }

    /// Leads a service to what is known of its backends now. Its generation stays: nobody has asked
    /// for anything else.
    pub(super) fn reconsider(&mut self, old: &Entry) {
        let target = target(&old.goal, &self.state.directory, &old.service);
        let (service, goal) = (old.service.clone(), old.goal.clone());
        self.insert(
            Some(&Entry { generation: old.generation - 1, ..old.clone() }),
            service,
            old.index,
            goal,
            target,
        );
    }

    fn insert(
        &mut self,
        old: Option<&Entry>,
        service: Service,
        index: u32,
        goal: Goal,
        target: Target,
    ) {
        let void = given_up(&self.state.directory, &service);
        let mut led = transition(old.map(|old| &*old.tables), &target, &|one| void.contains(&one));
        let mut steering = match old {
            Some(old) if old.target.rules() == target.rules() => Steering::clone(&old.steering),
            Some(old) => {
                let (steering, moved) = old.steering.lead(target.rules());
                led.moves.steered = moved;
                steering
            }
            None => Steering::first(target.rules()),
        };
        steering.leave_empty_bases(led.tables.empty_bases());
        let name = service.name().clone();
        let mut moved = old.map_or_else(|| Moved::all(self.now), |old| old.moved.clone());
        if let Some(old) = old {
            moved.note(&old.tables, &led.tables, &led.moves, self.now);
        }
        let weights = *service.weights();
        let entry = Entry {
            moved,
            draining: old.map(|old| old.draining).unwrap_or_default(),
            settled: old.map_or(weights, |old| old.settled),
            asked: old.map(|old| old.asked(weights)).unwrap_or_default(),
            lease: old.filter(|old| *old.service.weights() == weights).and_then(|old| old.lease),
            fence: old.and_then(|old| old.fence.clone()),
            guard: old.and_then(|old| old.guard),
            digest: OnceLock::new(),
            generation: old.map_or(0, |old| old.generation) + 1,
            tables: Arc::new(led.tables),
            steering: Arc::new(steering),
            service,
            index,
            goal,
            target,
            given_up: Arc::new(void),
        };
        self.moves.insert(name.clone(), led.moves);
        self.state.services.insert(name, Arc::new(entry));
    }

    fn free_index(&self) -> Result<u32, Error> {
        let used: BTreeSet<u32> = self.state.services.values().map(|entry| entry.index).collect();
        (0..MAX_SERVICES).find(|index| !used.contains(index)).ok_or_else(|| Error::Exhausted {
            what: "services".to_owned(),
            limit: u64::from(MAX_SERVICES),
            asked: used.len() as u64 + 1,
        })
    }
}
