//! What a service's spec asks of the tables, and what this node makes of it: by the indices of its
//! backends, with others in place of those that are not ready. Pure.

use std::collections::{BTreeMap, BTreeSet};

use weir_ebpf::abi::{BY_TABLE, NO_BACKEND, VERSIONS};

use super::directory::{Directory, Key, Place, identity};
use crate::model::{
    Backend, BackendState, OnDown, OnEmpty, PerVersion, Rule, Service, Version, Weights,
};
use crate::plan::backend_table::Candidate;
use crate::plan::goal::{Goal, Target};
use crate::plan::stand_in::{Member, Standing};
use crate::plan::steering::{Prefix, Rules};

/// Weights, as the plan has them.
pub(super) fn basis_points(weights: Weights) -> [u16; VERSIONS] {
    Version::ALL.map(|version| u16::try_from(weights.get(version).bp()).unwrap_or(u16::MAX))
}

/// The backends of a version, and what is known of them.
pub(super) fn members(service: &Service, version: Version, directory: &Directory) -> Vec<Member> {
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
pub(super) fn given_up(directory: &Directory, service: &Service) -> BTreeSet<u16> {
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
pub(super) fn goal(service: &Service) -> Goal {
    let candidates: PerVersion<Vec<Candidate>> = PerVersion::from_fn(|version| {
        service.versions()[version].backends.iter().map(candidate).collect()
    });
    let candidates = Version::ALL.map(|version| candidates[version].as_slice());
    Goal::new(service.seed().0, basis_points(*service.weights()), candidates)
        .with_rules(rules(service))
}

/// The steering rules of a service, as the plan has them.
pub(super) fn rules(service: &Service) -> Rules {
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

/// What a goal is on this node: by the indices of its backends, of which every one of the service has one,
/// with others in place of those that are not ready.
pub(super) fn target(goal: &Goal, directory: &Directory, service: &Service) -> Target {
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
        indices.get(&(version, identity)).copied().unwrap_or(NO_BACKEND)
    })
}
