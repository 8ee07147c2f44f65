//! What a node holds, and what each request makes of it. Pure: old state + request → new state.
//!
//! A state is a value. A change builds the next one beside it; the owner task commits the
//! difference to the data plane and only then lets the new state take the old one's place.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use weir_ebpf::abi::{BY_TABLE, MAX_BACKENDS, MAX_SERVICES, VERSIONS};

use super::directory::{Directory, Key, Place, identity};
use super::draining::OfVersions;
use super::error::Error;
use super::guarding::Guarded;
use super::lease::Lease;
use super::messages::{ServiceShift, Steer};
use super::return_paths;
use crate::model::{
    Backend, BackendState, Fence, Listener, OnDown, OnEmpty, PerVersion, Rule, Service,
    ServiceName, Version, Violation, Violations, Weights, resolve, steering::revise, validate_set,
};
use crate::plan::backend_table::Candidate;
use crate::plan::digest::Digest;
use crate::plan::goal::{Goal, Target};
use crate::plan::moved::Moved;
use crate::plan::stand_in::{Member, Standing, is_served};
use crate::plan::steering::{Prefix, Rules, Steering};
use crate::plan::tables::ServiceTables;
use crate::plan::transition::{Moves, transition};
use crate::plan::version_table::lay_out;
use crate::store::StoredService;

/// Weights of the past that are kept while a service has not settled.
const MAX_ASKED: usize = 32;

/// All services of a node, with the tables that serve them.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    pub(super) services: BTreeMap<ServiceName, Arc<Entry>>,
    pub(super) directory: Arc<Directory>,
}

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

/// The next state, and how each service of the request comes to it.
#[derive(Debug)]
pub(super) struct Next {
    pub(super) state: State,
    pub(super) moves: BTreeMap<ServiceName, Moves>,
    /// When this happens, in seconds since boot.
    now: u32,
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

impl Next {
    /// Begins with a state, at a time in seconds since boot.
    pub(super) fn new(state: State, now: u32) -> Self {
        Self { state, moves: BTreeMap::new(), now }
    }

    /// Puts a service in place of the one with its name, or beside the others.
    fn put(&mut self, service: &Service) -> Result<(), Error> {
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
    fn resteer(&mut self, old: &Entry, service: Service) {
        let goal = old.goal.clone().with_rules(rules(&service));
        let target = target(&goal, &self.state.directory, &service);
        self.insert(Some(old), service, old.index, goal, target);
    }

    /// Leads a service to what is known of its backends now. Its generation stays: nobody has asked
    /// for anything else.
    fn reconsider(&mut self, old: &Entry) {
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

impl Entry {
    /// Digest of the tables that the spec asks for.
    pub(super) fn digest(&self) -> Digest {
        *self.digest.get_or_init(|| Digest::of_goal(&self.goal))
    }

    /// The weights asked for since it settled, when these are now.
    fn asked(&self, weights: Weights) -> Vec<Weights> {
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

fn basis_points(weights: Weights) -> [u16; VERSIONS] {
    Version::ALL.map(|version| u16::try_from(weights.get(version).bp()).unwrap_or(u16::MAX))
}

/// The backends of a version, and what is known of them.
fn members(service: &Service, version: Version, directory: &Directory) -> Vec<Member> {
    let member = |backend: &Backend| {
        let key = Key { version, address: backend.address, port: backend.port };
        let place = directory.get(service.name(), &key);
        Member {
            candidate: candidate(backend),
            ready: place.is_none_or(|place| place.state() == BackendState::Active),
            given_up: place.is_some_and(|place| is_given_up(service, place)),
        }
    };
    service.versions()[version].backends.iter().map(member).collect()
}

/// Whether the flows of a backend of a service are void as soon as another stands in for it.
fn is_given_up(service: &Service, place: Place) -> bool {
    let on_down = service.health().map_or(OnDown::default(), |health| health.on_down());
    place.state() == BackendState::Down && on_down == OnDown::Reset
}

/// Backends of a service whose flows are void.
fn given_up(directory: &Directory, service: &Service) -> BTreeSet<u16> {
    let mut lost = directory.of(service.name()).filter(|(_, place)| is_given_up(service, *place));
    let Some(first) = lost.next() else { return BTreeSet::new() };
    let members = Version::ALL.map(|version| members(service, version, directory));
    // Where nothing stands in, nothing moves, and no flow is better off elsewhere.
    let standing = standing(service, &members);
    let replaced = |(key, _): &(&Key, Place)| standing.replaces(key.version.index());
    std::iter::once(first).chain(lost).filter(replaced).map(|(_, place)| place.index).collect()
}

fn candidate(backend: &Backend) -> Candidate {
    Candidate {
        identity: identity(backend.address, backend.port),
        weight: u32::from(backend.weight),
    }
}

/// What a service's spec asks for.
fn goal(service: &Service) -> Goal {
    let candidates: PerVersion<Vec<Candidate>> = PerVersion::from_fn(|version| {
        service.versions()[version].backends.iter().map(candidate).collect()
    });
    let candidates = Version::ALL.map(|version| candidates[version].as_slice());
    Goal::new(service.seed().0, basis_points(*service.weights()), candidates)
        .with_rules(rules(service))
}

/// The steering rules of a service, as the plan has them.
fn rules(service: &Service) -> Rules {
    let rule = |rule: &Rule| {
        (Prefix::from(rule.source), u8::try_from(rule.version.index()).unwrap_or(BY_TABLE))
    };
    Rules::new(service.steering().iter().map(rule))
}

/// What a service's layout is for.
fn standing<'a>(service: &Service, members: &'a [Vec<Member>; VERSIONS]) -> Standing<'a> {
    Standing {
        seed: service.seed().0,
        weights: basis_points(*service.weights()),
        members: members.each_ref().map(Vec::as_slice),
        holds: service.health().is_some_and(|health| health.on_empty() == OnEmpty::Hold),
    }
}

/// The same on this node: by the indices of its backends, of which every one of the service has one,
/// with others in place of those that are not ready.
fn target(goal: &Goal, directory: &Directory, service: &Service) -> Target {
    let members = Version::ALL.map(|version| members(service, version, directory));
    let laid;
    let goal = if members.iter().flatten().all(|member| member.ready) {
        goal
    } else {
        laid = standing(service, &members).lay_over(goal);
        &laid
    };
    let indices: BTreeMap<_, u16> = directory
        .of(service.name())
        .map(|(key, place)| ((key.version.index(), identity(key.address, key.port)), place.index))
        .collect();
    goal.on_this_node(&mut |version, identity| {
        indices.get(&(version, identity)).copied().unwrap_or(weir_ebpf::abi::NO_BACKEND)
    })
}
