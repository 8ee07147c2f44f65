//! The flow tables: single entries, and walks over all of them. Which of the two tables is meant
//! follows from the flow's protocol.

use std::io;

use aya::maps::{HashMap as HashMapMap, IterableMap as _, Map, MapData, MapError};
use aya::programs::{TestRun as _, TestRunOptions};
use weir_ebpf::abi::{FORGET_BATCH, FlowEntry, FlowKey, TCP};

use super::attach::Programs;
use super::load::{LoadError, wrong};
use super::{Kernel, map_error, pins};
use crate::causes::causes;
use crate::dataplane::sys::{Batches, Place, ROOM};
use crate::dataplane::{Error, Swept, Use};

/// A table of flows.
pub(super) struct Table {
    name: &'static str,
    map: HashMapMap<MapData, FlowKey, FlowEntry>,
    capacity: u32,
    /// Entries that the last walk over all has left.
    left: u64,
    /// A walk that is under way: where it goes on, and how many entries it has left so far.
    under_way: Option<(Place, u64)>,
}

impl Table {
    /// Takes a map up, and counts what is in it.
    pub(super) fn new(name: &'static str, map: Map) -> Result<Self, LoadError> {
        let failed = |reason: String| LoadError::Map { map: name, reason };
        let capacity = pins::capacity(&map).ok_or_else(|| failed("has no size".to_owned()))?;
        let map = map.try_into().map_err(wrong(name))?;
        let mut table = Self { name, map, capacity, left: 0, under_way: None };
        table.left = table.count().map_err(|error| failed(error.to_string()))?;
        Ok(table)
    }

    /// Entries there is room for.
    pub(super) fn capacity(&self) -> u32 {
        self.capacity
    }

    /// How full the last walk has left it.
    pub(super) fn used(&self, resource: &'static str) -> Use {
        Use { resource, used: self.left, limit: u64::from(self.capacity) }
    }

    /// Shows all entries, some thousands at a time, and gives the number of them. An entry that is
    /// there all the time is shown once; but in an LRU, one that moves meanwhile may be missed.
    fn walk(
        &self,
        mut show: impl FnMut(&mut dyn Iterator<Item = (&FlowKey, &FlowEntry)>) -> Result<(), Error>,
    ) -> Result<u64, Error> {
        let failed = |error: io::Error| Error::Map { map: self.name, reason: error.to_string() };
        let mut batches = Batches::new(self.map.map(), None, ROOM).map_err(failed)?;
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
            Err(error) => Err(map_error(self.name)(error)),
        }
    }

    /// Counts the entries.
    pub(super) fn count(&self) -> Result<u64, Error> {
        self.walk(|_| Ok(()))
    }

    /// Gives a walk that is under way up.
    pub(super) fn begin_anew(&mut self) {
        self.under_way = None;
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
            Err(error) => Err(map_error(self.name)(error)),
        }
    }
}

impl Kernel {
    fn flow_table(&self, protocol: u8) -> &Table {
        if protocol == TCP { &self.flows } else { &self.udp_flows }
    }

    fn flow_table_mut(&mut self, protocol: u8) -> &mut Table {
        if protocol == TCP { &mut self.flows } else { &mut self.udp_flows }
    }

    /// The entry of a flow, if it is remembered.
    ///
    /// # Errors
    ///
    /// The map cannot be read.
    pub fn flow(&self, key: &FlowKey) -> Result<Option<FlowEntry>, Error> {
        self.flow_table(key.protocol).get(key)
    }

    /// Remembers a flow, or changes its entry. Takes no insert from the limit on inserts.
    ///
    /// # Errors
    ///
    /// The table is full.
    pub fn put_flow(&mut self, key: &FlowKey, entry: FlowEntry) -> Result<(), Error> {
        let table = self.flow_table_mut(key.protocol);
        table.map.insert(key, entry, 0).map_err(map_error(table.name))
    }

    /// Forgets a flow, and says whether it was remembered.
    ///
    /// # Errors
    ///
    /// The map cannot be written.
    pub fn remove_flow(&mut self, key: &FlowKey) -> Result<bool, Error> {
        self.flow_table_mut(key.protocol).remove(key)
    }

    /// The remembered flows of a protocol.
    ///
    /// # Errors
    ///
    /// The map cannot be read.
    pub fn flows(&self, protocol: u8) -> Result<Vec<(FlowKey, FlowEntry)>, Error> {
        let mut flows = Vec::new();
        self.flow_table(protocol).walk(|entries| {
            flows.extend(entries.map(|(key, entry)| (*key, *entry)));
            Ok(())
        })?;
        Ok(flows)
    }

    /// Goes on with a walk over the table of TCP flows, or begins one: shows so many flows, or some
    /// more, to `keep`, and forgets those it does not keep.
    pub(super) fn sweep_on(
        &mut self,
        limit: u64,
        keep: &mut dyn FnMut(&FlowKey, &FlowEntry) -> bool,
    ) -> Result<Swept, Error> {
        let failed = |error: io::Error| Error::Map { map: "FLOWS", reason: error.to_string() };
        // What fails ends the walk: the next one begins anew.
        let (place, mut left) = self.flows.under_way.take().unzip();
        let room = usize::try_from(limit).map_or(ROOM, |limit| limit.min(ROOM));
        let mut batches = Batches::new(self.flows.map.map(), place, room).map_err(failed)?;
        let (mut ended, mut seen, mut forgotten) = (Vec::new(), 0, 0);
        // A call ends before a bucket that has more than is left of its room.
        while seen <= limit / 2 {
            let Some((keys, flows)) = batches.next().map_err(failed)? else {
                self.flows.left = left.unwrap_or_default() + seen - forgotten;
                return Ok(Swept { forgotten, ended: true });
            };
            seen += keys.len() as u64;
            ended.clear();
            let gone = keys.iter().zip(flows).filter(|(key, flow)| !keep(key, flow));
            ended.extend(gone.map(|(key, flow)| (*key, *flow)));
            forgotten += forget(&self.programs, &ended)?;
        }
        *left.get_or_insert_default() += seen - forgotten;
        self.flows.under_way = batches.place().zip(left);
        Ok(Swept { forgotten, ended: false })
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

    /// Forgets TCP flows whose entries are still what they were, and gives the number of them. A
    /// flow that has begun anew under its key in the meantime stays.
    ///
    /// # Errors
    ///
    /// The program that does it cannot be run.
    pub fn forget_flows(&self, flows: &[(FlowKey, FlowEntry)]) -> Result<u64, Error> {
        forget(&self.programs, flows)
    }
}

/// Forgets TCP flows whose entries are still what they were.
fn forget(programs: &Programs, flows: &[(FlowKey, FlowEntry)]) -> Result<u64, Error> {
    let records: Vec<u8> = flows.iter().flat_map(|(key, entry)| record(key, *entry)).collect();
    forget_records(programs, &records)
}

/// Runs the program that forgets TCP flows, over so many [`Forget`](weir_ebpf::abi::Forget)s.
pub(super) fn forget_records(programs: &Programs, records: &[u8]) -> Result<u64, Error> {
    let failed = |reason: String| Error::Map { map: "FLOWS", reason };
    let program = programs.forget().map_err(|error| failed(causes(&error)))?;
    let mut forgotten = 0;
    for batch in records.chunks(FORGET_BATCH * RECORD) {
        let mut options = TestRunOptions::new();
        options.data_in = Some(batch);
        let run = program.test_run(options).map_err(|error| failed(causes(&error)))?;
        forgotten += u64::from(run.return_value);
    }
    Ok(forgotten)
}

/// Bytes of a [`Forget`](weir_ebpf::abi::Forget).
pub(super) const RECORD: usize = size_of::<weir_ebpf::abi::Forget>();

/// A [`Forget`](weir_ebpf::abi::Forget) as it lies in memory.
fn record(key: &FlowKey, entry: FlowEntry) -> [u8; RECORD] {
    let mut bytes = [0; RECORD];
    let words = key.source.0.into_iter().chain(key.destination.0);
    for (four, word) in bytes.chunks_exact_mut(4).zip(words) {
        four.copy_from_slice(&word.to_ne_bytes());
    }
    bytes[32..34].copy_from_slice(&key.source_port.to_ne_bytes());
    bytes[34..36].copy_from_slice(&key.destination_port.to_ne_bytes());
    bytes[36] = key.protocol;
    bytes[40..].copy_from_slice(&entry.word().to_ne_bytes());
    bytes
}
