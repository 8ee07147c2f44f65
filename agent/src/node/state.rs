//! What a node holds, and what each request makes of it. Pure: old state + request → new state.
//!
//! A state is a value. A change builds the next one beside it; the owner task commits the
//! difference to the data plane and only then lets the new state take the old one's place.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use super::directory::{Directory, Key, Place};
use super::draining::OfVersions;
use super::error::Error;
use super::guarding::Guarded;
use super::lease::Lease;
use super::messages::{ServiceShift, Steer};
use super::next::Next;
use super::return_paths;
use super::wanted::{basis_points, members};
use crate::model::{
    Fence, Listener, Rule, Service, ServiceName, Version, Violation, Violations, Weights, resolve,
    steering::revise, validate_set,
};
use crate::plan::digest::Digest;
use crate::plan::goal::{Goal, Target};
use crate::plan::moved::Moved;
use crate::plan::stand_in::is_served;
use crate::plan::steering::Steering;
use crate::plan::tables::ServiceTables;
use crate::plan::transition::transition;
use crate::plan::version_table::lay_out;

/// Weights of the past that are kept while a service has not settled.
const MAX_ASKED: usize = 32;

/// All services of a node, with the tables that serve them.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    pub(super) services: BTreeMap<ServiceName, Arc<Entry>>,
    pub(super) directory: Arc<Directory>,
}

/// A service before and after a change, one of both at least.
pub(super) type Changed<'a> = (Option<&'a Arc<Entry>>, Option<&'a Arc<Entry>>);

/// One service.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) service: Service,
    /// Index of its record in the kernel.
    pub(super) index: u32,
    /// Counts its changes, from 1.
    pub(super) generation: u64,
    pub(super) goal: Goal,
    pub(super) target: Target,
    pub(super) tables: Arc<ServiceTables>,
    pub(super) steering: Arc<Steering>,
    /// Reckoned when it is first asked for: after the commit, which need not wait for it.
    pub(super) digest: OnceLock<Digest>,
    /// When slots and steering entries moved last, in seconds since boot. A restart counts as a move.
    pub(super) moved: Moved,
    /// Versions that drain.
    pub(super) draining: OfVersions,
    /// The weights it had when it was created or last settled: where they have put each version slot,
    /// there is its base.
    pub(super) settled: Weights,
    /// Other weights that were asked for since, the newest last, at most [`MAX_ASKED`].
    pub(super) asked: Vec<Weights>,
    /// The lease on its weights.
    pub(super) lease: Option<Lease>,
    /// The highest fence that its changes came with.
    pub(super) fence: Option<Fence>,
    /// The limit that the agent enforces on its own.
    pub(super) guard: Option<Guarded>,
    /// Backends whose flows are void, by index.
    pub(super) given_up: Arc<BTreeSet<u16>>,
}

impl State {
    /// Creates or replaces services. Unless forced, no version without a ready backend is given
    /// weight or clients.
    pub(super) fn apply(&self, services: &[Service], force: bool, now: u32) -> Result<Next, Error> {
        let existing: Vec<&Service> = self.services.values().map(|entry| &entry.service).collect();
        validate_set(services, &existing).map_err(Error::Invalid)?;
        let mut next = Next::new(self.clone(), now);
        for service in services {
            next.put(service)?;
        }
        return_paths::check(&next.state, services)?;
        self.check_previews(services)?;
        for service in services.iter().filter(|_| !force) {
            self.check_ready(service, &next.state)?;
        }
        Ok(next)
    }

    /// Changes weights, of all services or of none.
    pub(super) fn shift(
        &self,
        shifts: &[ServiceShift],
        force: bool,
        now: u32,
    ) -> Result<Next, Error> {
        let mut next = Next::new(self.clone(), now);
        for (i, shift) in shifts.iter().enumerate() {
            let entry = self.at(&shift.service, shift.expected_generation)?;
            let weights =
                resolve(entry.service.weights(), &shift.set, shift.remainder).map_err(|error| {
                    Error::Invalid(vec![Violation {
                        field: format!("shifts[{i}].set"),
                        message: error.to_string(),
                    }])
                })?;
            next.shift(entry, weights, force)?;
        }
        Ok(next)
    }

    /// Adds and removes steering rules of one service.
    pub(super) fn steer(&self, steer: &Steer, now: u32) -> Result<Next, Error> {
        let entry = self.at(&steer.service, steer.expected_generation)?;
        let rules = revise(&entry.service, &steer.add, &steer.remove).map_err(Error::Invalid)?;
        let service = entry.service.clone().with_steering(rules);
        let given = |rule: &&Rule| !self.is_ready(&service, rule.version);
        if let Some(rule) = steer.add.iter().find(given).filter(|_| !steer.options.force) {
            let (service, version) = (steer.service.clone(), rule.version);
            return Err(Error::NoReadyBackend { service, version });
        }
        let others: Vec<&Service> = self.services.values().map(|entry| &entry.service).collect();
        validate_set(std::slice::from_ref(&service), &others).map_err(|violations| {
            let field = "add".to_owned();
            let violations = violations.into_iter();
            Error::Invalid(violations.map(|v| Violation { field: field.clone(), ..v }).collect())
        })?;
        let mut next = Next::new(self.clone(), now);
        next.resteer(entry, service);
        Ok(next)
    }

    /// Whether a backend of a version of a service takes new flows.
    pub(super) fn is_ready(&self, service: &Service, version: Version) -> bool {
        is_served(&members(service, version, &self.directory))
    }

    /// Refuses what would give weight or clients to a version whose backends are known to be down.
    fn check_ready(&self, service: &Service, next: &Self) -> Result<(), Error> {
        let old = self.services.get(service.name()).map(|entry| &entry.service);
        let weight = |service: &Service, version| service.weights().get(version).bp();
        let given = |version: Version| {
            let rules = service.steering().iter().filter(|rule| rule.version == version);
            let is_new = |rule: &Rule| old.is_none_or(|old| !old.steering().contains(rule));
            weight(service, version) > old.map_or(0, |old| weight(old, version))
                || rules.into_iter().any(is_new)
                || service.previews(version) && !old.is_some_and(|old| old.previews(version))
        };
        let unready = |version: &Version| !next.is_ready(service, *version) && given(*version);
        match Version::ALL.into_iter().find(unready) {
            Some(version) => {
                Err(Error::NoReadyBackend { service: service.name().clone(), version })
            }
            None => Ok(()),
        }
    }

    /// Refuses to lead the connections of a listener to another version than before: nothing is
    /// remembered of them.
    fn check_previews(&self, services: &[Service]) -> Result<(), Error> {
        let mut violations = Violations::default();
        for (s, service) in services.iter().enumerate() {
            let Some(old) = self.services.get(service.name()) else { continue };
            for (l, new) in service.listeners().iter().enumerate() {
                let at = |one: &Listener| (one.address, one.port, one.protocol);
                let old = old.service.listeners().iter().find(|old| at(old) == at(new));
                if let Some(old) = old.filter(|old| old.version != new.version) {
                    let led = |one: &Listener| {
                        one.version.map_or("by the weights".to_owned(), |to| format!("to {to}"))
                    };
                    let message = format!(
                        "leads {} instead of {}, which would break its connections: take the \
                         listener out, then put it back",
                        led(new),
                        led(old)
                    );
                    violations.push(format!("services[{s}].listeners[{l}].version"), message);
                }
            }
        }
        violations.into_result().map_err(Error::Invalid)
    }

    /// Takes note of what is known of backends now. Those that have no index any more are skipped;
    /// nothing, if none of it is new.
    pub(super) fn know(&self, known: &[(ServiceName, Key, Place)], now: u32) -> Option<Next> {
        let mut next = Next::new(self.clone(), now);
        let mut changed = BTreeSet::new();
        for (service, key, place) in known {
            if Arc::make_mut(&mut next.state.directory).know(service, key, *place) {
                changed.insert(service);
            }
        }
        for name in &changed {
            if let Some(entry) = self.services.get(*name) {
                next.reconsider(entry);
            }
        }
        (!changed.is_empty()).then_some(next)
    }

    /// A service by name, if it has the generation that is expected.
    pub(super) fn at(
        &self,
        name: &ServiceName,
        expected: Option<u64>,
    ) -> Result<&Arc<Entry>, Error> {
        let entry = self.get(name)?;
        match expected.filter(|expected| *expected != entry.generation) {
            None => Ok(entry),
            Some(expected) => Err(Error::GenerationMismatch {
                service: name.clone(),
                expected,
                actual: entry.generation,
            }),
        }
    }

    /// Removes services.
    pub(super) fn delete(&self, names: &[ServiceName]) -> Result<Self, Error> {
        let mut state = self.clone();
        for name in names {
            self.get(name)?;
            state.services.remove(name);
            Arc::make_mut(&mut state.directory).remove(name);
        }
        Ok(state)
    }

    /// A service by name.
    pub(super) fn get(&self, name: &ServiceName) -> Result<&Arc<Entry>, Error> {
        self.services.get(name).ok_or_else(|| Error::NotFound(name.clone()))
    }

    /// What differs from another state, in the order of names. A walk over both side by side: a change
    /// of one service in hundreds should not look up all of them.
    pub(super) fn changes_from<'a>(&'a self, before: &'a Self) -> Vec<Changed<'a>> {
        let (mut old, mut new) = (before.services.values(), self.services.values());
        let (mut was, mut is) = (old.next(), new.next());
        let mut changes = Vec::new();
        loop {
            let order = match (was, is) {
                (None, None) => return changes,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(was), Some(is)) if Arc::ptr_eq(was, is) => Ordering::Equal,
                (Some(was), Some(is)) => was.service.name().cmp(is.service.name()),
            };
            let pair = (was.filter(|_| order.is_le()), is.filter(|_| order.is_ge()));
            was = if order.is_le() { old.next() } else { was };
            is = if order.is_ge() { new.next() } else { is };
            match pair {
                (Some(was), Some(is)) if Arc::ptr_eq(was, is) => {}
                pair => changes.push(pair),
            }
        }
    }

    /// The state that leads back from `failed` to this one: the same services, by tables that keep
    /// every flow which began meanwhile. Backends that `failed` has brought drain, for such flows
    /// may be theirs.
    pub(super) fn back_from(&self, failed: &Self) -> Self {
        let mut state = self.clone();
        for (name, entry) in &mut state.services {
            Arc::make_mut(&mut state.directory).drain_those_of(name, &failed.directory);
            if let Some(failed) = failed.services.get(name).filter(|f| !Arc::ptr_eq(f, entry)) {
                let back = transition(Some(&failed.tables), &entry.target, &|_| false);
                let (steering, _) = failed.steering.lead(entry.target.rules());
                let (tables, steering) = (Arc::new(back.tables), Arc::new(steering));
                let mut moved = failed.moved.clone();
                moved.note(&failed.tables, &tables, &back.moves, failed.moved.newest());
                *entry = Arc::new(Entry { tables, steering, moved, ..Entry::clone(entry) });
            }
        }
        state
    }
}

impl Entry {
    /// Digest of the tables that the spec asks for.
    pub(super) fn digest(&self) -> Digest {
        *self.digest.get_or_init(|| Digest::of_goal(&self.goal))
    }

    /// The weights asked for since it settled, when these are now.
    pub(super) fn asked(&self, weights: Weights) -> Vec<Weights> {
        let mut asked = self.asked.clone();
        if *self.service.weights() != weights {
            asked.push(*self.service.weights());
        }
        let beyond = asked.len().saturating_sub(MAX_ASKED);
        asked.drain(..beyond);
        asked
    }

    /// The weights of those asked for that put each version slot where its `base` is in `tables`.
    pub(super) fn weights_of_bases(&self, tables: &ServiceTables) -> Option<Weights> {
        let bases = || tables.versions().iter().map(|slot| slot.base());
        let asked = self.asked.iter().rev();
        let mut all = [&self.settled].into_iter().chain(asked).chain([self.service.weights()]);
        let is_it =
            |weights: &&Weights| lay_out(basis_points(**weights)).iter().copied().eq(bases());
        all.find(is_it).copied()
    }
}
