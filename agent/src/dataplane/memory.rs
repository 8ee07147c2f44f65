//! Tables and flows in memory: what `decide` reads in tests, and where there is no kernel.

use std::cell::RefCell;
use std::collections::HashMap;

use weir_ebpf::abi::{BackendSlot, FlowEntry, FlowKey, VersionSlot};
use weir_ebpf::decide::{Remembered, Tables};

use crate::plan::tables::ServiceTables;

/// A flow table with room for so many flows. Like the kernel's, it refuses rather than evicts.
#[derive(Clone, Debug, Default)]
pub struct FlowTable {
    /// What is remembered.
    pub entries: HashMap<FlowKey, FlowEntry>,
    /// Most entries.
    pub capacity: usize,
    /// Whether inserts are refused as in a flood. Replacing an entry is no insert.
    pub flooded: bool,
    /// The time that entries are stamped with, seconds.
    pub now: u32,
}

/// One service's tables and the flow table, as one packet of the flow `key` sees them.
pub struct MemoryTables<'a> {
    /// The service's tables.
    pub tables: &'a ServiceTables,
    /// The flow table.
    pub flows: &'a RefCell<FlowTable>,
    /// Whether a backend, by index, is given up.
    pub given_up: &'a dyn Fn(u16) -> bool,
    /// The flow in question.
    pub key: FlowKey,
}

impl Tables for MemoryTables<'_> {
    fn version_slot(&self, slot: u32) -> Option<VersionSlot> {
        self.tables.versions().get(slot as usize).copied()
    }

    fn backend_slot(&self, version: u8, hash: u32) -> Option<BackendSlot> {
        self.tables.backends().get(usize::from(version)).map(|table| table.slot(hash))
    }

    fn flow(&self) -> Option<FlowEntry> {
        self.flows.borrow().entries.get(&self.key).copied()
    }

    fn given_up(&self, backend: u16) -> bool {
        (self.given_up)(backend)
    }

    fn remember(&self, backend: u16) -> Remembered {
        let mut flows = self.flows.borrow_mut();
        if !flows.entries.contains_key(&self.key) {
            if flows.flooded {
                return Remembered::Flooded;
            }
            if flows.entries.len() >= flows.capacity {
                return Remembered::Full;
            }
        }
        let entry = FlowEntry { backend, client: 0, server: 0, seen: flows.now };
        flows.entries.insert(self.key, entry);
        Remembered::Yes
    }
}
