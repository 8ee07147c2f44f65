//! Single entries of the flow tables, and walks over them. Which of the two tables is meant follows
//! from the flow's protocol.

use std::io;

use aya::maps::{HashMap as HashMapMap, MapData, MapError};
use weir_ebpf::abi::{FORGET_BATCH, FlowEntry, FlowKey, TCP};

use super::load::chain;
use super::run::run;
use super::{Kernel, map_error};
use crate::dataplane::Error;

type Flows = HashMapMap<MapData, FlowKey, FlowEntry>;

impl Kernel {
    fn flow_map(&self, protocol: u8) -> (&Flows, &'static str) {
        if protocol == TCP { (&self.flows, "FLOWS") } else { (&self.udp_flows, "UDP_FLOWS") }
    }

    fn flow_map_mut(&mut self, protocol: u8) -> (&mut Flows, &'static str) {
        if protocol == TCP {
            (&mut self.flows, "FLOWS")
        } else {
            (&mut self.udp_flows, "UDP_FLOWS")
        }
    }

    /// The entry of a flow, if it is remembered.
    ///
    /// # Errors
    ///
    /// The map cannot be read.
    pub fn flow(&self, key: &FlowKey) -> Result<Option<FlowEntry>, Error> {
        let (map, name) = self.flow_map(key.protocol);
        match map.get(key, 0) {
            Ok(entry) => Ok(Some(entry)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(map_error(name)(error)),
        }
    }

    /// Remembers a flow, or changes its entry. Takes no insert from the limit on inserts.
    ///
    /// # Errors
    ///
    /// The table is full.
    pub fn put_flow(&mut self, key: &FlowKey, entry: FlowEntry) -> Result<(), Error> {
        let (map, name) = self.flow_map_mut(key.protocol);
        map.insert(key, entry, 0).map_err(map_error(name))
    }

    /// Forgets a flow, and says whether it was remembered.
    ///
    /// # Errors
    ///
    /// The map cannot be written.
    pub fn remove_flow(&mut self, key: &FlowKey) -> Result<bool, Error> {
        let (map, name) = self.flow_map_mut(key.protocol);
        match map.remove(key) {
            Ok(()) => Ok(true),
            Err(MapError::SyscallError(error))
                if error.io_error.kind() == io::ErrorKind::NotFound =>
            {
                Ok(false)
            }
            Err(error) => Err(map_error(name)(error)),
        }
    }

    /// The remembered flows of a protocol. A flow that comes or goes meanwhile may be missed or
    /// seen twice. Two system calls for each entry: for a look, not for a sweep under load.
    ///
    /// # Errors
    ///
    /// The map cannot be read.
    pub fn flows(&self, protocol: u8) -> Result<Vec<(FlowKey, FlowEntry)>, Error> {
        let (map, name) = self.flow_map(protocol);
        // A key that is removed under the walk sends it back to the start: bounded by what fits.
        let limit = self.options.flows.max(self.options.udp_flows) as usize;
        map.iter()
            .take(limit)
            .filter(|entry| !matches!(entry, Err(MapError::KeyNotFound)))
            .collect::<Result<_, _>>()
            .map_err(map_error(name))
    }

    /// Forgets TCP flows whose entries are still what they were, and gives the number of them. A
    /// flow that has begun anew under its key in the meantime stays.
    ///
    /// # Errors
    ///
    /// The program that does it cannot be run.
    pub fn forget_flows(&self, flows: &[(FlowKey, FlowEntry)]) -> Result<u64, Error> {
        let failed = |reason: String| Error::Map { map: "FLOWS", reason };
        let program = self.programs.forget().map_err(|error| failed(chain(&error)))?;
        let mut forgotten = 0;
        for batch in flows.chunks(FORGET_BATCH) {
            let list: Vec<u8> = batch.iter().flat_map(|(key, entry)| record(key, *entry)).collect();
            let run = run(program, &list, 1).map_err(|error| failed(chain(&error)))?;
            forgotten += u64::from(run.verdict.cast_unsigned());
        }
        Ok(forgotten)
    }
}

/// A [`Forget`](weir_ebpf::abi::Forget) as it lies in memory.
fn record(key: &FlowKey, entry: FlowEntry) -> [u8; 48] {
    let mut bytes = [0; 48];
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
