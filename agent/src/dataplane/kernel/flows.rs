//! The flow tables: single entries, and walks over all of them. Which of the two tables is meant
//! follows from the flow's protocol.

use std::io;

use aya::maps::{HashMap as HashMapMap, IterableMap as _, Map, MapData, MapError};
use weir_ebpf::abi::{FlowEntry, FlowKey, TCP};

use super::load::{LoadError, wrong};
use super::{Kernel, map_error, pins};
use crate::dataplane::sys::{Batches, ROOM};
use crate::dataplane::{Error, Use};

/// The table of UDP flows.
pub(super) struct Datagrams {
    map: HashMapMap<MapData, FlowKey, FlowEntry>,
    capacity: u32,
    /// Entries that the last walk over all has left.
    left: u64,
}

const NAME: &str = "UDP_FLOWS";

impl Datagrams {
    /// Takes a map up, and counts what is in it.
    pub(super) fn new(map: Map) -> Result<Self, LoadError> {
        let failed = |reason: String| LoadError::Map { map: NAME, reason };
        let capacity = pins::capacity(&map).ok_or_else(|| failed("has no size".to_owned()))?;
        let map = map.try_into().map_err(wrong(NAME))?;
        let mut table = Self { map, capacity, left: 0 };
        table.left = table.walk(|_| Ok(())).map_err(|error| failed(error.to_string()))?;
        Ok(table)
    }

    /// Entries there is room for.
    pub(super) fn capacity(&self) -> u32 {
        self.capacity
    }

    /// How full the last walk has left it.
    pub(super) fn used(&self) -> Use {
        Use { resource: "udp_flows", used: self.left, limit: u64::from(self.capacity) }
    }

    /// Shows all entries, some thousands at a time, and gives the number of them. One that moves
    /// meanwhile, as it does when it is used, may be missed.
    fn walk(
        &self,
        mut show: impl FnMut(&mut dyn Iterator<Item = (&FlowKey, &FlowEntry)>) -> Result<(), Error>,
    ) -> Result<u64, Error> {
        let failed = |error: io::Error| Error::Map { map: NAME, reason: error.to_string() };
        let mut batches = Batches::new(self.map.map(), ROOM).map_err(failed)?;
        let mut seen = 0;
        while let Some((keys, flows)) = batches.next().map_err(failed)? {
            seen += keys.len() as u64;
            show(&mut keys.iter().zip(flows))?;
        }
        Ok(seen)
    }

    /// The entry of a flow, if there is one.
    pub(super) fn get(&self, key: &FlowKey) -> Result<Option<FlowEntry>, Error> {
        match self.map.get(key, 0) {
            Ok(entry) => Ok(Some(entry)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(map_error(NAME)(error)),
        }
    }

    /// Removes an entry, and says whether there was one.
    fn remove(&mut self, key: &FlowKey) -> Result<bool, Error> {
        match self.map.remove(key) {
            Ok(()) => Ok(true),
            Err(MapError::SyscallError(error))
                if error.io_error.kind() == io::ErrorKind::NotFound =>
            {
                Ok(false)
            }
            Err(error) => Err(map_error(NAME)(error)),
        }
    }
}

impl Kernel {
    /// The entry of a flow, if it is remembered.
    ///
    /// # Errors
    ///
    /// The map cannot be read.
    pub fn flow(&self, key: &FlowKey) -> Result<Option<FlowEntry>, Error> {
        if key.protocol == TCP { Ok(self.flows.get(key)) } else { self.udp_flows.get(key) }
    }

    /// Remembers a flow, or changes its entry. Takes no insert from the limit on inserts.
    ///
    /// # Errors
    ///
    /// The table is full.
    pub fn put_flow(&mut self, key: &FlowKey, entry: FlowEntry) -> Result<(), Error> {
        if key.protocol == TCP {
            return self.flows.put(key, entry);
        }
        self.udp_flows.map.insert(key, entry, 0).map_err(map_error(NAME))
    }

    /// Forgets a flow, and says whether it was remembered.
    ///
    /// # Errors
    ///
    /// The map cannot be written.
    pub fn remove_flow(&mut self, key: &FlowKey) -> Result<bool, Error> {
        if key.protocol == TCP {
            return Ok(self.flows.remove(key));
        }
        self.udp_flows.remove(key)
    }

    /// The remembered flows of a protocol.
    ///
    /// # Errors
    ///
    /// The map cannot be read.
    pub fn flows(&self, protocol: u8) -> Result<Vec<(FlowKey, FlowEntry)>, Error> {
        if protocol == TCP {
            return Ok(self.flows.all());
        }
        let mut flows = Vec::new();
        self.udp_flows.walk(|entries| {
            flows.extend(entries.map(|(key, entry)| (*key, *entry)));
            Ok(())
        })?;
        Ok(flows)
    }

    /// Shows every UDP flow to `keep`, and forgets those it does not keep.
    pub(super) fn sweep_udp(
        &mut self,
        keep: &mut dyn FnMut(&FlowKey, &FlowEntry) -> bool,
    ) -> Result<u64, Error> {
        // An entry of the LRU may go at any time anyway, so it is removed whatever it is by now.
        let mut ended = Vec::new();
        let seen = self.udp_flows.walk(|entries| {
            ended.extend(entries.filter(|(key, flow)| !keep(key, flow)).map(|(key, _)| *key));
            Ok(())
        })?;
        let mut removed = 0;
        for key in ended {
            removed += u64::from(self.udp_flows.remove(&key)?);
        }
        self.udp_flows.left = seen - removed;
        Ok(removed)
    }
}
