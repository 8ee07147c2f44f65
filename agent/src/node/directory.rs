//! Which backend has which index: the numbers by which the kernel's tables name backends. Pure.
//!
//! An index belongs to one backend of one version of one service. A backend that is taken out of
//! its service's spec keeps its index, because slots and flows may still name it: it drains.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use weir_ebpf::abi::{Address, MAX_BACKENDS};

use crate::model::{BackendState, Draining, ServerId, ServiceName, Version};
use crate::plan::identity::Identity;

/// What names a backend within its service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) version: Version,
    pub(super) address: IpAddr,
    pub(super) port: u16,
}

/// A backend's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Index of its record.
    pub(super) index: u16,
    /// Taken out of the spec: it keeps the flows it has.
    pub(super) drains: bool,
    /// Its id in QUIC connection ids.
    pub(super) server_id: Option<ServerId>,
    /// As an operator has set it by hand.
    pub(super) by_hand: BackendState,
    /// It does not answer, as its health check says.
    pub(super) failing: bool,
    /// Its drain, if it is removed or taken out by hand.
    pub(super) draining: Option<Draining>,
}

impl Place {
    /// A backend of which nothing is known but its index.
    pub(super) fn new(index: u16, server_id: Option<ServerId>) -> Self {
        Self {
            index,
            drains: false,
            server_id,
            by_hand: BackendState::Active,
            failing: false,
            draining: None,
        }
    }

    /// What it is, but for its weight.
    pub(super) fn state(self) -> BackendState {
        match self.by_hand {
            _ if self.failing => BackendState::Down,
            BackendState::Active if self.drains => BackendState::Draining,
            by_hand => by_hand,
        }
    }
}

/// All backends that have an index, by service.
#[derive(Debug, Clone, Default)]
pub(super) struct Directory {
    places: BTreeMap<ServiceName, BTreeMap<Key, Place>>,
    used: BTreeSet<u16>,
}

/// Every index is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

impl Directory {
    /// Backends that have an index.
    pub(super) fn len(&self) -> usize {
        self.used.len()
    }

    /// The place of a backend.
    pub(super) fn get(&self, service: &ServiceName, key: &Key) -> Option<Place> {
        self.places.get(service)?.get(key).copied()
    }

    /// Makes exactly `backends` the active ones of a service: new ones get an index, others drain.
    pub(super) fn set(
        &mut self,
        service: &ServiceName,
        backends: impl Iterator<Item = (Key, Option<ServerId>)>,
    ) -> Result<(), Full> {
        let places = self.places.entry(service.clone()).or_default();
        for place in places.values_mut() {
            place.drains = true;
        }
        let mut free = 0;
        for (key, server_id) in backends {
            if let Some(place) = places.get_mut(&key) {
                (place.drains, place.server_id) = (false, server_id);
                continue;
            }
            while self.used.contains(&free) {
                free += 1;
            }
            if u32::from(free) >= MAX_BACKENDS {
                return Err(Full);
            }
            self.used.insert(free);
            places.insert(key, Place::new(free, server_id));
        }
        Ok(())
    }

    /// Takes up a backend with the index it had. Says whether both were free.
    pub(super) fn adopt(&mut self, service: &ServiceName, key: Key, place: Place) -> bool {
        let places = self.places.entry(service.clone()).or_default();
        if places.contains_key(&key) || !self.used.insert(place.index) {
            return false;
        }
        places.insert(key, place);
        true
    }

    /// Forgets one backend. Its index is free.
    pub(super) fn release(&mut self, service: &ServiceName, key: Key) {
        if let Some(place) = self.places.get_mut(service).and_then(|places| places.remove(&key)) {
            self.used.remove(&place.index);
        }
    }

    /// Sets what is known of a backend, and says whether that is new.
    pub(super) fn know(&mut self, service: &ServiceName, key: &Key, known: Place) -> bool {
        let place = self.places.get_mut(service).and_then(|places| places.get_mut(key));
        place.is_some_and(|place| std::mem::replace(place, known) != known)
    }

    /// Forgets that backends of a service have failed, for nobody checks them any more.
    pub(super) fn take_to_be_up(&mut self, service: &ServiceName) {
        let places = self.places.get_mut(service).into_iter().flat_map(BTreeMap::values_mut);
        places.for_each(|place| place.failing = false);
    }

    /// Takes over the backends that a later directory has given to a service, to drain.
    pub(super) fn drain_those_of(&mut self, service: &ServiceName, later: &Self) {
        let places = self.places.entry(service.clone()).or_default();
        for (key, place) in later.of(service) {
            places.entry(*key).or_insert(Place { drains: true, ..place });
            self.used.insert(place.index);
        }
    }

    /// Forgets all backends of a service. Their indices are free.
    pub(super) fn remove(&mut self, service: &ServiceName) {
        for place in self.places.remove(service).unwrap_or_default().values() {
            self.used.remove(&place.index);
        }
    }

    /// The indices in use.
    pub(super) fn indices(&self) -> &BTreeSet<u16> {
        &self.used
    }

    /// The backends of a service, those that drain included, in order.
    pub(super) fn of(&self, service: &ServiceName) -> impl Iterator<Item = (&Key, Place)> {
        self.places.get(service).into_iter().flatten().map(|(key, place)| (key, *place))
    }

    /// All backends.
    pub(super) fn all(&self) -> impl Iterator<Item = (&ServiceName, &Key, Place)> {
        let places = self.places.iter();
        places.flat_map(|(name, all)| all.iter().map(move |(key, place)| (name, key, *place)))
    }
}

/// An address as the kernel's program has it.
pub(super) fn address(address: IpAddr) -> Address {
    match address {
        IpAddr::V4(v4) => Address::from_v4(v4.octets()),
        IpAddr::V6(v6) => Address::from_v6(v6.octets()),
    }
}

/// A backend as the plan names it.
pub(super) fn identity(at: IpAddr, port: u16) -> Identity {
    Identity { address: address(at), port }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn plain(key: Key) -> (Key, Option<ServerId>) {
        (key, None)
    }

    fn name(name: &str) -> ServiceName {
        ServiceName::new(name).unwrap()
    }

    fn backend(last: u8) -> Key {
        key(u32::from_be_bytes([10, 0, 0, last]))
    }

    fn key(address: u32) -> Key {
        let address = std::net::Ipv4Addr::from(address).into();
        Key { version: Version::Blue, address, port: 80 }
    }

    #[test]
    fn an_index_stays_with_its_backend_while_it_drains() {
        let mut directory = Directory::default();
        let shop = name("shop");
        directory.set(&shop, [backend(1), backend(2)].map(plain).into_iter()).unwrap();
        let before: Vec<Place> = directory.of(&shop).map(|(_, place)| place).collect();
        directory.set(&shop, [backend(2), backend(3)].map(plain).into_iter()).unwrap();
        let after: Vec<Place> = directory.of(&shop).map(|(_, place)| place).collect();
        assert_eq!(after[0], Place { drains: true, ..before[0] });
        assert_eq!(after[1], before[1]);
        assert_eq!(after[2], Place::new(2, None));
        directory.set(&shop, [backend(1)].map(plain).into_iter()).unwrap();
        assert_eq!(directory.of(&shop).next().unwrap().1, before[0]);
    }

    #[test]
    fn services_do_not_share_and_give_back_what_they_had() {
        let mut directory = Directory::default();
        directory.set(&name("a"), [backend(1)].map(plain).into_iter()).unwrap();
        directory.set(&name("ab"), [backend(1)].map(plain).into_iter()).unwrap();
        assert_eq!(directory.of(&name("a")).count(), 1);
        directory.remove(&name("a"));
        assert_eq!(directory.indices(), &BTreeSet::from([1]));
        directory.set(&name("b"), [backend(9)].map(plain).into_iter()).unwrap();
        assert_eq!(directory.of(&name("b")).next().unwrap().1.index, 0);
    }

    #[test]
    fn the_last_index_is_the_last() {
        let mut directory = Directory::default();
        let many = (0..=MAX_BACKENDS).map(|i| plain(key(0x0a00_0000 + i)));
        assert_eq!(directory.set(&name("a"), many), Err(Full));
    }
}
