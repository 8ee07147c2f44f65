//! When drains begin and end, and what is given up at their end. Pure.
//!
//! A version drains from when nothing leads new connections to it, neither weight nor a steering rule,
//! until something does again; a backend from when it is removed, or taken out by hand, until it is
//! back.

use std::collections::HashMap;
use std::sync::Arc;

use weir_ebpf::abi::VERSIONS;

use super::directory::{Directory, Place};
use super::messages::InFlight;
use super::next::Next;
use super::state::{Entry, State};
use crate::model::{BackendState, Drain, Draining, ServiceName, Version};
use crate::plan::abandon::abandon;
use crate::plan::steering::Steering;
use crate::plan::tables::ServiceTables;

/// Begins and ends the drains of all services that `next` changes, at a time in seconds since 1970.
pub(super) fn begin(before: &State, next: &mut State, now: u64) {
    let differing = next.changes_from(before).into_iter();
    let names: Vec<ServiceName> =
        differing.filter_map(|(_, is)| is.map(|is| is.service.name().clone())).collect();
    for name in &names {
        let Some(entry) = next.services.get_mut(name) else { continue };
        let was = before.services.get(name);
        let drain = entry.service.drain();
        let mut draining = entry.draining;
        for version in Version::ALL {
            let one = &mut draining[version.index()];
            let had = was.is_some_and(|was| is_led_to(was, version));
            if is_led_to(entry, version) {
                *one = None;
            } else if had && one.is_none() {
                *one = Some(drain.begin(now));
            }
        }
        if draining != entry.draining {
            Arc::make_mut(entry).draining = draining;
        }
        let places = next.directory.of(name);
        let changed = |(key, place): (&_, Place)| {
            let draining = of_place(place, drain, now);
            (draining != place.draining).then_some((*key, Place { draining, ..place }))
        };
        let changed: Vec<_> = places.filter_map(changed).collect();
        for (key, place) in changed {
            Arc::make_mut(&mut next.directory).know(name, &key, place);
        }
    }
}

fn of_place(place: Place, drain: Drain, now: u64) -> Option<Draining> {
    let drains = place.drains || place.by_hand != BackendState::Active;
    drains.then(|| place.draining.unwrap_or_else(|| drain.begin(now)))
}

/// Whether new connections are led to a version, by weight, by a rule or by a listener: then what it
/// has cannot be told from what begins there now, and none of it is given up.
pub(super) fn is_led_to(entry: &Entry, version: Version) -> bool {
    let has_weight = entry.service.weights().get(version).bp() > 0;
    has_weight
        || entry.service.previews(version)
        || entry.service.steering().iter().any(|rule| rule.version == version)
}

/// Does with the flows of versions of a service that lose all their weight, or are asked for with
/// none, what a change says; not of those that rules lead to.
/// `named` are the versions that it names.
pub(super) fn in_flight(
    before: &State,
    next: &mut Next,
    (service, named): (&ServiceName, &[Version]),
    in_flight: InFlight,
    now: u64,
) {
    let (was, entry) = (before.services.get(service), next.state.services.get_mut(service));
    if let (Some(was), Some(entry)) = (was, entry) {
        let drain = entry.service.drain();
        let draining = match in_flight {
            InFlight::BySpec => return,
            InFlight::Keep => Drain::default().begin(now),
            InFlight::Reset => Draining::reset(now),
            InFlight::Drain { timeout, on_timeout } => {
                let timeout = timeout.or(drain.timeout);
                let on_timeout = on_timeout.unwrap_or(drain.on_timeout);
                Drain { timeout, on_timeout, ..drain }.begin(now)
            }
        };
        let mut new = Entry::clone(entry);
        for version in Version::ALL {
            let lost = named.contains(&version) || is_led_to(was, version);
            if lost && !is_led_to(entry, version) {
                new.draining[version.index()] = Some(draining);
            }
        }
        give_up(&mut new, &next.state.directory, now);
        *entry = Arc::new(new);
    }
}

/// Lets no slot of a service lead to what it has given up. Says whether one did.
pub(super) fn give_up(entry: &mut Entry, directory: &Directory, now: u64) -> bool {
    let versions = entry.draining.map(|one| one.is_some_and(|one| one.is_given_up(now)));
    let lost = given_up(entry, directory, now);
    if lost.is_empty() {
        return false;
    }
    let single = |index: u16| lost.get(&index).is_some_and(|lost| lost.version.is_none());
    let mut tables = ServiceTables::clone(&entry.tables);
    let mut steering = Steering::clone(&entry.steering);
    let changed = abandon(&mut tables, &mut steering, versions, &single);
    if changed {
        (entry.tables, entry.steering) = (Arc::new(tables), Arc::new(steering));
    }
    changed
}

/// Why the flows of a backend are given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lost {
    /// With its whole version, by index.
    pub(super) version: Option<u8>,
    /// All at once, not some at a time.
    pub(super) at_once: bool,
}

/// The backends of a service whose flows are given up, by index.
pub(super) fn given_up(entry: &Entry, directory: &Directory, now: u64) -> HashMap<u16, Lost> {
    let places = directory.of(entry.service.name());
    let lost = places.filter_map(|(key, place)| {
        let version = key.version.index();
        let over = |one: Option<Draining>| one.filter(|one| one.is_given_up(now));
        let lost = match (over(entry.draining[version]), over(place.draining)) {
            (Some(whole), _) => {
                Lost { version: u8::try_from(version).ok(), at_once: whole.is_at_once() }
            }
            (None, Some(one)) => Lost { version: None, at_once: one.is_at_once() },
            (None, None) => return None,
        };
        Some((place.index, lost))
    });
    lost.collect()
}

/// What drains: a version, or one backend of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subject {
    pub(super) service: ServiceName,
    pub(super) version: Version,
    pub(super) backend: Option<super::directory::Key>,
}

/// All drains of a node.
pub(super) fn all(state: &State) -> impl Iterator<Item = (Subject, Draining)> {
    let versions = state.services.iter().flat_map(|(service, entry)| {
        let drains = Version::ALL.into_iter().zip(entry.draining);
        drains.filter_map(|(version, one)| {
            let subject = Subject { service: service.clone(), version, backend: None };
            one.map(|one| (subject, one))
        })
    });
    let backends = state.directory.all().filter_map(|(service, key, place)| {
        let (version, backend) = (key.version, Some(*key));
        let subject = Subject { service: service.clone(), version, backend };
        place.draining.map(|one| (subject, one))
    });
    versions.chain(backends)
}

/// The drains of a service's versions, by index.
pub(super) type OfVersions = [Option<Draining>; VERSIONS];
