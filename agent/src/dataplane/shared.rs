//! A data plane that a test holds beside the owner, to look at what the owner has done.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use weir_ebpf::abi::{
    Address, Backend, Counters, Endpoint, FlowEntry, FlowKey, Link, Return, Service, Signals,
    SteerSlot,
};

use super::inspect::{FlowTable, Inspect, Room};
use super::next_hop::NextHop;
use super::{Carried, Commit, DataPlane, Devices, Error, OuterSource, ReasonCounts, Use};
use crate::model::Handshakes;
use crate::plan::steering::Steering;
use crate::plan::tables::ServiceTables;

/// One data plane in several hands.
#[derive(Debug, Default)]
pub struct Shared<P>(Arc<Mutex<P>>);

impl<P> Shared<P> {
    /// Shares a data plane.
    #[must_use]
    pub fn new(plane: P) -> Self {
        Self(Arc::new(Mutex::new(plane)))
    }

    /// The data plane itself, for as long as the guard lives.
    pub fn lock(&self) -> MutexGuard<'_, P> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<P> Clone for Shared<P> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<P: DataPlane> DataPlane for Shared<P> {
    fn commit(&mut self, commit: &Commit) -> Result<(), Error> {
        self.lock().commit(commit)
    }

    fn tables(&self, service: u32) -> Result<Option<ServiceTables>, Error> {
        self.lock().tables(service)
    }

    fn steering(&self, service: u32) -> Arc<Steering> {
        self.lock().steering(service)
    }

    fn set_next_hop(&mut self, backend: u16, hop: Option<NextHop>) -> Result<(), Error> {
        self.lock().set_next_hop(backend, hop)
    }

    fn set_devices(&mut self, devices: &Devices) -> Result<(), Error> {
        self.lock().set_devices(devices)
    }

    fn counters(&self, backend: u16) -> Counters {
        self.lock().counters(backend)
    }

    fn signals(&self, backend: u16) -> Signals {
        self.lock().signals(backend)
    }

    fn handshakes(&self, backend: u16) -> Handshakes {
        self.lock().handshakes(backend)
    }

    fn clear_counters(&mut self, backends: &BTreeSet<u16>) {
        self.lock().clear_counters(backends);
    }

    fn end_some_handshakes(&mut self) {
        self.lock().end_some_handshakes();
    }

    fn carried(&self) -> Carried {
        self.lock().carried()
    }

    fn backend(&self, index: u16) -> Backend {
        self.lock().backend(index)
    }

    fn sweep(
        &mut self,
        protocol: u8,
        keep: &mut dyn FnMut(&FlowKey, &FlowEntry) -> bool,
    ) -> Result<u64, Error> {
        self.lock().sweep(protocol, keep)
    }

    fn reasons(&self) -> ReasonCounts {
        self.lock().reasons()
    }

    fn outer_source(&self) -> OuterSource {
        self.lock().outer_source()
    }

    fn uses(&self) -> Vec<Use> {
        self.lock().uses()
    }
}

impl<P: DataPlane> Inspect for Shared<P> {
    fn listener(&self, at: &Endpoint) -> Result<Option<u32>, Error> {
        self.lock().listener(at)
    }

    fn way_back(&self, from: &Endpoint) -> Result<Option<Return>, Error> {
        self.lock().way_back(from)
    }

    fn record(&self, service: u32) -> Result<Option<Service>, Error> {
        self.lock().record(service)
    }

    fn steer(&self, service: u32, client: Address) -> Result<Option<SteerSlot>, Error> {
        self.lock().steer(service, client)
    }

    fn remembered(&self, table: FlowTable, key: &FlowKey) -> Result<Option<FlowEntry>, Error> {
        self.lock().remembered(table, key)
    }

    fn room(&self, key: &FlowKey) -> Result<Room, Error> {
        self.lock().room(key)
    }

    fn link(&self, index: u32) -> Link {
        self.lock().link(index)
    }
}
