//! Health checks: which are wanted, and what follows from what they find. The owner is told that
//! something has changed, and then looks at everything that was found; so nothing can be missed, and what
//! could not be carried out is tried again with the next look.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::directory::{Key, Place};
use super::events::{Event, Kind};
use super::messages::BackendHealth;
use super::owner::Owner;
use super::state::{Entry, State};
use crate::dataplane::DataPlane;
use crate::health::{Asked, Checks, Report, Subject, Wanted};
use crate::model::{OnDown, OnEmpty, ServiceName, Version, Weight};
use crate::store::Store;

/// So many backends of a version that change at once get an event each; more get one together.
const EACH: usize = 8;

impl<P: DataPlane, S: Store> Owner<P, S> {
    /// Relies on these checks from now on, and says which are wanted.
    pub fn rely_on(&mut self, checks: Checks) {
        self.checks = checks;
        self.checks.ask(wanted(&self.state));
    }

    /// Says which checks are wanted, if these are others than before.
    pub(super) fn ask_checks(&mut self, before: &State) {
        let same = |(was, is): (&Arc<Entry>, &Arc<Entry>)| {
            let is_same = |was: &Entry, is: &Entry| {
                was.service.health() == is.service.health()
                    && was.service.versions() == is.service.versions()
            };
            Arc::ptr_eq(was, is) || was.service.name() == is.service.name() && is_same(was, is)
        };
        let (was, is) = (&before.services, &self.state.services);
        if was.len() != is.len() || !was.values().zip(is.values()).all(same) {
            self.checks.ask(wanted(&self.state));
        }
    }

    /// Takes note of what the checks have found, in one commit.
    pub fn hear(&mut self) {
        let found = self.checks.reports(|reports| found(&self.state, reports));
        if found.is_empty() {
            return;
        }
        let before = self.state.clone();
        let known: Vec<_> =
            found.iter().map(|one| (one.service.clone(), one.key, one.place)).collect();
        match self.learn(&known) {
            Ok(_) => {
                for event in events(&before, &self.state, &found) {
                    self.events.push(event);
                }
            }
            Err(error) => {
                tracing::warn!(%error, "what health checks have found is not in the tables; it is tried again");
            }
        }
    }

    /// What the check of a backend says.
    pub(super) fn health_of(&self, service: &ServiceName, key: &Key) -> Option<BackendHealth> {
        let report = self.checks.report(&subject(service, key))?;
        Some(BackendHealth {
            failing: report.failing,
            since: report.since,
            next_check_ms: report
                .next_in()
                .map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
            error: report.error,
            against: report.against.0,
            needed: report.against.1,
        })
    }
}

fn subject(service: &ServiceName, key: &Key) -> Subject {
    let Key { version, address, port } = *key;
    Subject { service: service.clone(), version, address, port }
}

/// The backends of a state that are to be checked: those in the spec of a service with a check.
fn wanted(state: &State) -> Wanted {
    let mut wanted = Wanted::new();
    for (name, entry) in &state.services {
        let Some(health) = entry.service.health() else { continue };
        for (key, place) in state.directory.of(name).filter(|(_, place)| !place.drains) {
            let asked = Asked { health: Arc::clone(health), failing: place.failing };
            wanted.insert(subject(name, key), asked);
        }
    }
    wanted
}

/// A backend of which a check has found something new.
struct Found {
    service: ServiceName,
    key: Key,
    place: Place,
    report: Report,
}

/// What is reported and not yet known.
fn found(state: &State, reports: &BTreeMap<Subject, Report>) -> Vec<Found> {
    let one = |(subject, report): (&Subject, &Report)| {
        let Subject { service, version, address, port } = subject.clone();
        let key = Key { version, address, port };
        state.services.get(&service)?.service.health()?;
        let place = state.directory.get(&service, &key)?;
        let is_new = !place.drains && place.failing != report.failing;
        let place = Place { failing: report.failing, ..place };
        is_new.then(|| Found { service, key, place, report: report.clone() })
    };
    reports.iter().filter_map(one).collect()
}

/// What to say of it: first of backends, then of versions.
fn events(before: &State, after: &State, found: &[Found]) -> Vec<Event> {
    let mut groups: BTreeMap<(&ServiceName, Version, bool), Vec<&Found>> = BTreeMap::new();
    for one in found {
        let group = (&one.service, one.key.version, one.place.failing);
        groups.entry(group).or_default().push(one);
    }
    let mut events = Vec::new();
    for ((service, version, failing), group) in &groups {
        let Some(entry) = after.services.get(*service) else { continue };
        let kind = if *failing { Kind::BackendDown } else { Kind::BackendUp };
        let mut texts: Vec<String> =
            group.iter().take(EACH).map(|one| of_one(entry, one)).collect();
        if group.len() > EACH {
            let state = if *failing { "down" } else { "up again" };
            let first = texts.swap_remove(0);
            texts = vec![format!("{} {version} backends are {state}; {first}", group.len())];
        }
        events.extend(texts.into_iter().map(|text| Event::new(kind, text).of(service)));
    }
    for (service, version, _) in groups.keys() {
        let (Some(was), Some(is)) = (before.services.get(*service), after.services.get(*service))
        else {
            continue;
        };
        let ready = after.is_ready(&is.service, *version);
        if before.is_ready(&was.service, *version) != ready {
            let kind = if ready { Kind::VersionServed } else { Kind::VersionEmpty };
            events.push(Event::new(kind, of_version(after, is, *version)).of(service));
        }
    }
    // A version of which some go and others come stands in two groups.
    events.dedup();
    events
}

/// `blue backend 10.61.0.2:80 is down: connection refused (3 of 3)`
fn of_one(entry: &Entry, one: &Found) -> String {
    let at = SocketAddr::new(one.key.address, one.key.port);
    let version = one.key.version;
    if !one.place.failing {
        return format!("{version} backend {at} is up again");
    }
    let error = one.report.error.as_deref().unwrap_or("its checks failed");
    let health = entry.service.health();
    let fall = health.map_or(0, |health| health.fall());
    let void = entry.given_up.contains(&one.place.index);
    let reset = health.is_some_and(|health| health.on_down() == OnDown::Reset);
    let flows = match (reset, void) {
        (true, true) => "; its connections are given up",
        (true, false) => "; its connections stay, for nothing stands in for it",
        (false, _) => "",
    };
    format!("{version} backend {at} is down: {error} ({fall} of {fall}){flows}")
}

/// `version canary has no backend left: its 5% go to blue`
fn of_version(state: &State, entry: &Entry, version: Version) -> String {
    let service = &entry.service;
    let weight = service.weights().get(version);
    let has_weight = |version: &Version| service.weights().get(*version) != Weight::ZERO;
    if state.is_ready(service, version) {
        return format!("version {version} has a backend again; its weight is {weight}");
    }
    let left = format!("version {version} has no backend left");
    let takers: Vec<&str> = Version::ALL
        .into_iter()
        .filter(|other| has_weight(other) && state.is_ready(service, *other))
        .map(Version::name)
        .collect();
    let holds = service.health().is_some_and(|health| health.on_empty() == OnEmpty::Hold);
    match (weight == Weight::ZERO, holds, takers.is_empty()) {
        (true, ..) => format!("{left}; it has no weight"),
        (_, true, _) => format!("{left}: its {weight} stay (on_empty: hold)"),
        (.., true) => format!("{left}, nor has any other that has weight: its {weight} stay"),
        (.., false) => format!("{left}: its {weight} go to {}", takers.join(" and ")),
    }
}
