//! What changes the fake node.

use std::time::{Duration, SystemTime};

use weir::model::{
    LeaseTerms, Observed, PerVersion, Rule, SampleRatio, Service, ServiceName, TableShare, Version,
    Violation, Weight, resolve, steering::revise, validate_set,
};
use weir::node::Error;
use weir::node::events::{Event, Kind};
use weir::node::messages::{
    Apply, Change, ChangeOptions, Changed, Commit, Delete, LeaseStatus, Move, RenewLease, RollBack,
    SetBackend, Settle, Settled, Shift, Steer, Steered, VersionChange,
};

use super::node::{Node, SLOTS};

impl Node {
    pub(super) fn apply(&mut self, apply: Apply) -> Result<Changed, Error> {
        let existing: Vec<&Service> = self.services.values().map(|(_, service)| service).collect();
        validate_set(&apply.services, &existing).map_err(Error::Invalid)?;
        Ok(self.change(apply.services, &apply.options))
    }

    pub(super) fn delete(&mut self, delete: &Delete) -> Result<Commit, Error> {
        if let Some(missing) = delete.services.iter().find(|name| !self.services.contains_key(name))
        {
            return Err(Error::NotFound(missing.clone()));
        }
        for name in &delete.services {
            self.services.remove(name);
        }
        self.generation += 1;
        Ok(Commit {
            generation: self.generation,
            dry_run: false,
            duration: Duration::from_micros(900),
        })
    }

    pub(super) fn shift(&mut self, shift: Shift) -> Result<Changed, Error> {
        let mut services = Vec::new();
        for (index, one) in shift.shifts.into_iter().enumerate() {
            let (generation, service) = self
                .services
                .get(&one.service)
                .ok_or_else(|| Error::NotFound(one.service.clone()))?;
            if let Some(expected) =
                one.expected_generation.filter(|expected| expected != generation)
            {
                return Err(Error::GenerationMismatch {
                    service: one.service,
                    expected,
                    actual: *generation,
                });
            }
            let weights = resolve(service.weights(), &one.set, one.remainder).map_err(|error| {
                let message = error.to_string();
                Error::Invalid(vec![Violation { field: format!("shifts[{index}].set"), message }])
            })?;
            let service = service.clone().with_weights(weights);
            if let Some(version) = service.unserved().next().filter(|_| !shift.options.force) {
                return Err(Error::NoReadyBackend { service: one.service, version });
            }
            services.push(service);
        }
        for service in &services {
            self.lease(service.name(), shift.lease);
        }
        Ok(self.change(services, &shift.options))
    }

    /// Nothing runs out here: all of the time is left.
    fn lease(&mut self, name: &ServiceName, terms: Option<LeaseTerms>) {
        let weights = self.services.get(name).map(|(_, service)| *service.weights());
        self.leases.remove(name);
        if let (Some(LeaseTerms { length, on_expiry }), Some(revert_to)) = (terms, weights) {
            let deadline = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
            let left = length.duration();
            let lease = LeaseStatus { left, deadline, length, on_expiry, revert_to };
            self.leases.insert(name.clone(), lease);
        }
    }

    pub(super) fn renew(&mut self, renew: &RenewLease) -> Result<LeaseStatus, Error> {
        self.get(&renew.service)?;
        let lease = self.leases.get_mut(&renew.service);
        let lease = lease.ok_or_else(|| Error::NoLease(renew.service.clone()))?;
        lease.length = renew.length.unwrap_or(lease.length);
        lease.left = lease.length.duration();
        Ok(*lease)
    }

    pub(super) fn roll_back(&mut self, roll_back: &RollBack) -> Result<Changed, Error> {
        let found = self.services.get(&roll_back.service);
        let (_, service) = found.ok_or_else(|| Error::NotFound(roll_back.service.clone()))?;
        let weights = self.before.get(&roll_back.service).filter(|old| *old != service.weights());
        let weights = *weights.ok_or_else(|| Error::NothingToRollBack {
            service: roll_back.service.clone(),
            weights: *service.weights(),
        })?;
        let service = service.clone().with_weights(weights);
        self.leases.remove(&roll_back.service);
        let answer = self.change(vec![service], &roll_back.options);
        if !roll_back.options.dry_run {
            self.before.insert(roll_back.service.clone(), weights);
        }
        Ok(answer)
    }

    pub(super) fn set_backend(&mut self, set: &SetBackend) -> Result<Changed, Error> {
        let found = self.services.get(&set.service);
        let (_, service) = found.ok_or_else(|| Error::NotFound(set.service.clone()))?;
        let service = service.clone();
        Ok(self.change(vec![service], &set.options))
    }

    pub(super) fn steer(&mut self, steer: &Steer) -> Result<Changed, Error> {
        let found = self.services.get(&steer.service);
        let (generation, service) = found.ok_or_else(|| Error::NotFound(steer.service.clone()))?;
        if let Some(expected) = steer.expected_generation.filter(|expected| expected != generation)
        {
            let (service, actual) = (steer.service.clone(), *generation);
            return Err(Error::GenerationMismatch { service, expected, actual });
        }
        let rules = revise(service, &steer.add, &steer.remove).map_err(Error::Invalid)?;
        let service = service.clone().with_steering(rules);
        let unserved = |rule: &&Rule| !service.versions()[rule.version].is_served();
        if let Some(rule) = steer.add.iter().find(unserved).filter(|_| !steer.options.force) {
            let (service, version) = (steer.service.clone(), rule.version);
            return Err(Error::NoReadyBackend { service, version });
        }
        Ok(self.change(vec![service], &steer.options))
    }

    pub(super) fn settle(&self, settle: &Settle) -> Result<Settled, Error> {
        self.get(&settle.service)?;
        let (generation, duration) = (self.generation, Duration::from_micros(800));
        Ok(Settled {
            commit: Commit { generation, dry_run: settle.dry_run, duration },
            slots: vec![Move { from: Version::Canary, to: Version::Blue, slots: 819 }],
            backend_slots: 12,
            prefixes: 0,
            by_itself_s: 825,
        })
    }

    fn change(&mut self, services: Vec<Service>, options: &ChangeOptions) -> Changed {
        if let Some(done) = options.request_id.as_ref().and_then(|id| self.done.get(id)) {
            return done.clone();
        }
        let changes = services.iter().map(|service| self.describe(service)).collect();
        if !options.dry_run {
            self.generation += 1;
            for service in services {
                let event = Event::new(Kind::Applied, "as asked").of(service.name());
                self.events.push(event.asked_by(options.request_id.as_ref()));
                let entry = self
                    .services
                    .entry(service.name().clone())
                    .or_insert_with(|| (0, service.clone()));
                self.before.insert(service.name().clone(), *entry.1.weights());
                *entry = (entry.0 + 1, service);
            }
        }
        let duration = Duration::from_micros(1_340);
        let commit = Commit { generation: self.generation, dry_run: options.dry_run, duration };
        let answer = Changed { commit, changes };
        if let Some(id) = options.request_id.clone().filter(|_| !options.dry_run) {
            self.done.insert(id, answer.clone());
        }
        answer
    }

    /// What making `service` so would change.
    fn describe(&self, service: &Service) -> Change {
        let before = self.services.get(service.name());
        let weight_before =
            |version| before.map_or(Weight::ZERO, |(_, service)| service.weights().get(version));
        let slots = |weight: Weight| weight.bp() * SLOTS / 10_000;
        let mut moves = Vec::new();
        for (version, weight) in
            service.weights().iter().filter(|(version, _)| *version != Version::Blue)
        {
            let (old, new) = (slots(weight_before(version)), slots(weight));
            match (before.is_some(), new.checked_sub(old), old.checked_sub(new)) {
                (true, Some(gained @ 1..), _) => {
                    moves.push(Move { from: Version::Blue, to: version, slots: gained });
                }
                (true, _, Some(lost @ 1..)) => {
                    moves.push(Move { from: version, to: Version::Blue, slots: lost });
                }
                _ => {}
            }
        }
        Change {
            service: service.name().clone(),
            generation: before.map_or(0, |(generation, _)| *generation) + 1,
            created: before.is_none(),
            versions: PerVersion::from_fn(|version| VersionChange {
                before: weight_before(version),
                asked: service.weights().get(version),
                table: TableShare { slots: slots(service.weights().get(version)), total: SLOTS },
                observed: Observed::default(),
                backend_slots_moved: 0,
            }),
            sample_ratio: SampleRatio::default(),
            moves,
            steering: Steered {
                rules: u32::try_from(service.steering().len()).unwrap(),
                moved: before.map_or(0, |(_, old)| moved_rules(old, service)),
            },
            digest: "0123456789abcdef".into(),
            lease: self.leases.get(service.name()).copied(),
        }
    }
}

/// Rules that one of the two has and the other has not.
fn moved_rules(old: &Service, new: &Service) -> u32 {
    let missing = |a: &Service, b: &Service| {
        a.steering().iter().filter(|rule| !b.steering().contains(rule)).count()
    };
    u32::try_from(missing(old, new) + missing(new, old)).unwrap()
}
