//! Next hops and interfaces, as the resolver tells of them: what the owner makes of that.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use super::devices;
use super::owner::Owner;
use super::state::State;
use crate::dataplane::{DataPlane, Devices, next_hop};
use crate::store::Store;

impl<P: DataPlane, S: Store> Owner<P, S> {
    /// Takes note of next hops and of interfaces.
    pub fn follow(&mut self, changes: Vec<next_hop::Change>) {
        let mut told = HashMap::new();
        for change in changes {
            match change {
                // What was asked for before a backend went may still be answered after.
                next_hop::Change::Hop(address, hop) if self.addresses.contains(&address) => {
                    match hop {
                        Some(hop) => self.hops.insert(address, hop),
                        None => self.hops.remove(&address),
                    };
                    told.insert(address, hop);
                }
                next_hop::Change::Devices(devices) => self.take_devices(devices),
                next_hop::Change::Hop(..) | next_hop::Change::Locals(_) => {}
            }
        }
        let directory = Arc::clone(&self.state.directory);
        for (_, key, place) in directory.all() {
            if let Some(hop) = told.get(&key.address) {
                self.place_hop(place.index, *hop);
            }
        }
        self.explain();
    }

    /// Lets XDP send through those interfaces that can take it.
    pub(super) fn take_devices(&mut self, devices: BTreeMap<u32, next_hop::Device>) {
        self.devices = devices;
        let attached = &self.identity.interfaces;
        let redirect = devices::redirectable(&self.devices, attached);
        let in_buffers = devices::in_buffers(&self.devices);
        let back = devices::returning(&self.devices, attached);
        if let Err(error) = self.plane.set_devices(&Devices { redirect, in_buffers, back }) {
            tracing::warn!(%error, "some packets leave through TC that XDP could send");
        }
    }

    /// Why XDP cannot send through interfaces that it should, by their index.
    pub(super) fn slow_devices(&self) -> BTreeMap<u32, String> {
        let outputs = self.hops.values().map(|hop| hop.lower).collect();
        devices::slow(&self.devices, &self.identity.interfaces, &outputs)
    }

    /// Says of each of these interfaces once why it is slow.
    fn explain(&mut self) {
        self.explained.retain(|index| self.devices.contains_key(index));
        for (index, warning) in self.slow_devices() {
            if self.explained.insert(index) {
                tracing::warn!("{warning}");
            }
        }
    }

    /// Gives backends that are new since `before` the next hops that are known already, and drops
    /// those that nobody needs.
    pub(super) fn place_hops(&mut self, before: &State) {
        let directory = Arc::clone(&self.state.directory);
        for (name, key, place) in directory.all() {
            if before.directory.get(name, key).is_none()
                && let Some(hop) = self.hops.get(&key.address)
            {
                self.place_hop(place.index, Some(*hop));
            }
        }
        let addresses: BTreeSet<IpAddr> = directory.all().map(|(_, key, _)| key.address).collect();
        if *self.addresses != addresses {
            self.hops.retain(|address, _| addresses.contains(address));
            self.addresses = Arc::new(addresses);
        }
    }

    fn place_hop(&mut self, index: u16, hop: Option<next_hop::NextHop>) {
        if let Err(error) = self.plane.set_next_hop(index, hop) {
            tracing::warn!(index, %error, "next hop not written; the kernel finds the way");
        }
    }
}
