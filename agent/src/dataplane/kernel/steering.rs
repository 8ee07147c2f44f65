//! Sets of steering entries: one for each service that has rules, all in one trie.
//!
//! A set that a record names does not change. Other entries are written as a new set, the swap of
//! the records switches to it together with the tables, and then the old one is removed.

use std::collections::{BTreeMap, BTreeSet};

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{MapData, MapError};
use weir_ebpf::abi::{MAX_STEERING, STEER_SET_BITS, SteerKey, SteerSlot};

use super::map_error;
use crate::dataplane::Error;
use crate::plan::steering::{Entry, Prefix, Steering};

/// The trie, and what is in it.
#[derive(Debug)]
pub(super) struct Sets {
    trie: LpmTrie<MapData, SteerKey, SteerSlot>,
    /// Ids in use.
    ids: BTreeSet<u32>,
    /// The id given out last.
    last: u32,
    /// Entries of all sets.
    used: u32,
}

fn key(set: u32, prefix: Prefix) -> Key<SteerKey> {
    let key = SteerKey { set, address: prefix.address() };
    Key::new(STEER_SET_BITS + u32::from(prefix.length()), key)
}

fn count(entries: &Steering) -> u32 {
    u32::try_from(entries.entries().len()).unwrap_or(u32::MAX)
}

impl Sets {
    /// What the trie holds is not known before [`Sets::read`].
    pub(super) fn new(trie: LpmTrie<MapData, SteerKey, SteerSlot>) -> Self {
        Self { trie, ids: BTreeSet::new(), last: 0, used: 0 }
    }

    /// Entries of all sets.
    pub(super) fn used(&self) -> u32 {
        self.used
    }

    /// An id that no set has.
    pub(super) fn fresh(&mut self) -> u32 {
        loop {
            // Ids wrap past zero, which means "none". There are more ids than sets.
            self.last = self.last.checked_add(1).unwrap_or(1);
            if !self.ids.contains(&self.last) {
                return self.last;
            }
        }
    }

    /// Writes a set. What was written of it when this fails is for [`Sets::remove`].
    pub(super) fn write(&mut self, set: u32, entries: &Steering) -> Result<(), Error> {
        self.ids.insert(set);
        self.used = self.used.saturating_add(count(entries));
        if self.used > MAX_STEERING {
            let (asked, used) = (count(entries), self.used - count(entries));
            return Err(Error::SteeringFull {
                asked,
                free: MAX_STEERING - used,
                size: MAX_STEERING,
            });
        }
        for Entry { prefix, slot } in entries.entries() {
            self.trie.insert(&key(set, *prefix), slot, 0).map_err(map_error("STEERING"))?;
        }
        Ok(())
    }

    /// Removes a set that no record names. An entry that was not there is no error; one that cannot
    /// be removed takes room until the next start of an agent.
    pub(super) fn remove(&mut self, set: u32, entries: &Steering) {
        if !self.ids.remove(&set) {
            return;
        }
        self.used = self.used.saturating_sub(count(entries));
        for entry in entries.entries() {
            let _ = self.trie.remove(&key(set, entry.prefix));
        }
    }

    /// The entry that a key matches longest.
    pub(super) fn find(&self, key: &Key<SteerKey>) -> Result<SteerSlot, MapError> {
        self.trie.get(key, 0)
    }

    /// All sets, as an earlier agent has left them.
    pub(super) fn read(&mut self) -> Result<BTreeMap<u32, Vec<Entry>>, MapError> {
        let mut sets: BTreeMap<u32, Vec<Entry>> = BTreeMap::new();
        for entry in &self.trie {
            let (key, slot) = entry?;
            let length = key.prefix_len().saturating_sub(STEER_SET_BITS);
            let SteerKey { set, address } = key.data();
            let prefix = Prefix::new(address, u8::try_from(length).unwrap_or(u8::MAX));
            sets.entry(set).or_default().push(Entry { prefix, slot });
            self.used += 1;
        }
        self.ids = sets.keys().copied().collect();
        self.last = self.ids.last().copied().unwrap_or(0);
        Ok(sets)
    }
}
