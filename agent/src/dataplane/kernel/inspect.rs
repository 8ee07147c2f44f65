//! Single look-ups in the kernel's maps.

use aya::maps::MapError;
use aya::maps::lpm_trie::Key;
use weir_ebpf::abi::{
    Address, Endpoint, FlowEntry, FlowKey, Link, Return, STEER_SET_BITS, Service, SteerKey,
    SteerSlot,
};

use super::{Kernel, map_error};
use crate::dataplane::Error;
use crate::dataplane::inspect::{FlowTable, Inspect, Room};

/// What was found, if anything was.
fn found<T>(map: &'static str, looked: Result<T, MapError>) -> Result<Option<T>, Error> {
    match looked {
        Ok(value) => Ok(Some(value)),
        Err(MapError::KeyNotFound) => Ok(None),
        Err(error) => Err(map_error(map)(error)),
    }
}

impl Inspect for Kernel {
    fn listener(&self, at: &Endpoint) -> Result<Option<u32>, Error> {
        Ok(self.root.listener(at))
    }

    fn way_back(&self, from: &Endpoint) -> Result<Option<Return>, Error> {
        found("RETURNS", self.returns.get(from, 0))
    }

    fn record(&self, service: u32) -> Result<Option<Service>, Error> {
        self.root.record(service).map_err(map_error("SERVICES"))
    }

    fn steer(&self, service: u32, client: Address) -> Result<Option<SteerSlot>, Error> {
        match self.record(service)? {
            Some(record) if record.steering != 0 => {
                let key = SteerKey { set: record.steering, address: client };
                found("STEERING", self.steering.find(&Key::new(STEER_SET_BITS + 128, key)))
            }
            _ => Ok(None),
        }
    }

    fn remembered(&self, table: FlowTable, key: &FlowKey) -> Result<Option<FlowEntry>, Error> {
        match table {
            FlowTable::Moved => Ok(self.flows.get(key)),
            FlowTable::Datagrams => self.udp_flows.get(key),
        }
    }

    fn room(&self, key: &FlowKey) -> Result<Room, Error> {
        let allowances = self.flood.get(&0, 0).map_err(map_error("FLOOD"))?;
        let (used, capacity) = self.flows.places(key);
        Ok(Room {
            used,
            capacity,
            rate: self.options.inserts_per_second,
            allowances: allowances.to_vec(),
        })
    }

    fn link(&self, index: u32) -> Link {
        self.links.get(&index, 0).unwrap_or_default()
    }
}
