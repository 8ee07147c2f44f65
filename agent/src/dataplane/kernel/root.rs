//! Where packets begin: the word that says which records and which listeners count. To replace it is the
//! commit.
//!
//! Of records and listeners there is room for two. What is new is written to the place that the word does
//! not name, which no program reads: since the word was replaced last, the kernel has waited for all that ran.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use aya::maps::{Array, ArrayOfMaps, MapData, MapError};
use weir_ebpf::abi::{Endpoint, ListenerBucket, MAX_SERVICES, Root as Word, Service};
use weir_ebpf::listener_table::{self, Key};

use super::listeners::Layout;
use super::map_error;
use crate::dataplane::Error;
use crate::dataplane::sys::{Mapped, set_all};

/// Words of 64 bits of an element of `LISTENERS`.
const BUCKET_WORDS: usize = size_of::<ListenerBucket>() / 8;

/// The maps `ROOT`, `SERVICES` and `LISTENERS`.
pub(super) struct Root {
    word: Mapped,
    services: Array<MapData, Service>,
    /// All records of each place; empty where that is not known.
    held: [Vec<Service>; 2],
    listeners: Mapped,
    fence: Fence,
    /// The kernel has waited since the word was replaced.
    waited: bool,
}

/// The kernel waits for all running programs.
pub(super) struct Fence {
    map: ArrayOfMaps<MapData, Array<MapData, u32>>,
    /// What is put there.
    nothing: Array<MapData, u32>,
}

impl Fence {
    pub(super) fn new(map: ArrayOfMaps<MapData, Array<MapData, u32>>) -> Result<Self, MapError> {
        Ok(Self { map, nothing: Array::create(1, 0)? })
    }

    /// When this returns, no program runs that began before it was called: `maybe_wait_bpf_programs`
    /// in Linux's `kernel/bpf/syscall.c`, since 4.20.
    fn wait(&mut self) -> Result<(), MapError> {
        self.map.set(0, &self.nothing, 0)
    }
}

impl Root {
    /// Takes up what the maps hold. New ones hold nothing.
    pub(super) fn take_up(
        word: Mapped,
        services: Array<MapData, Service>,
        listeners: Mapped,
        fence: Fence,
    ) -> Result<Self, MapError> {
        // Whoever replaced the word may have been killed before the kernel had waited.
        let waited = false;
        let mut root = Self { word, services, held: Default::default(), listeners, fence, waited };
        let first = root.current().services();
        let records = (0..MAX_SERVICES).map(|index| root.services.get(&(first + index), 0));
        root.held[place(root.current())] = records.collect::<Result<_, _>>()?;
        Ok(root)
    }

    fn current(&self) -> Word {
        Word(self.place().load(Ordering::Acquire))
    }

    fn place(&self) -> &AtomicU64 {
        &self.word.long_words()[0]
    }

    /// The record of a service, read from the kernel.
    pub(super) fn record(&self, service: u32) -> Result<Option<Service>, MapError> {
        if service >= MAX_SERVICES {
            return Ok(None);
        }
        let record = self.services.get(&(self.current().services() + service), 0)?;
        Ok(Some(record).filter(|record| record.generation != 0))
    }

    /// The word of the listener at an endpoint.
    pub(super) fn listener(&self, at: &Endpoint) -> Option<u32> {
        let bucket = |element| self.bucket(element);
        listener_table::find(self.current(), Key::of(at), bucket).map(|found| found.service)
    }

    /// All listeners.
    pub(super) fn listeners(&self) -> HashMap<Endpoint, u32> {
        let first = self.current().listeners();
        let elements = first..=first + self.current().listener_mask();
        let places = elements.filter_map(|element| self.bucket(element)).flat_map(|one| one.places);
        places.filter_map(listener_table::listener).map(|(at, to)| (at, to.service)).collect()
    }

    fn bucket(&self, element: u32) -> Option<ListenerBucket> {
        let start = element as usize * BUCKET_WORDS;
        let words = self.listeners.long_words().get(start..start + BUCKET_WORDS)?;
        let word = |at: usize| words[at].load(Ordering::Relaxed);
        let places = std::array::from_fn(|place| std::array::from_fn(|at| word(3 * place + at)));
        Some(ListenerBucket { places, ..ListenerBucket::default() })
    }

    /// Writes all records, and all listeners if they are others than before, to where no program reads.
    /// Gives the word that names them.
    pub(super) fn write(
        &mut self,
        records: Vec<Service>,
        listeners: Option<&HashMap<Endpoint, u32>>,
    ) -> Result<Word, Error> {
        let next = self.write_records(records)?;
        match listeners {
            Some(listeners) => self.write_listeners(next, listeners),
            None => Ok(next),
        }
    }

    fn write_records(&mut self, records: Vec<Service>) -> Result<Word, Error> {
        let next = self.current().with_other_services();
        // Not known from here on, should something fail.
        let held = std::mem::take(&mut self.held[place(next)]);
        let (indices, changed): (Vec<u32>, Vec<Service>) = (0..)
            .zip(&records)
            .filter(|(index, record)| held.get(*index as usize) != Some(record))
            .map(|(index, record)| (next.services() + index, *record))
            .unzip();
        set_all(&self.services, &indices, &changed)
            .map_err(|error| Error::Map { map: "SERVICES", reason: error.to_string() })?;
        self.held[place(next)] = records;
        Ok(next)
    }

    fn write_listeners(
        &self,
        next: Word,
        listeners: &HashMap<Endpoint, u32>,
    ) -> Result<Word, Error> {
        let full = || Error::Map { map: "LISTENERS", reason: "is full".to_owned() };
        let layout = Layout::of(listeners).ok_or_else(full)?;
        let count = u32::try_from(layout.buckets.len()).map_err(|_| full())?;
        let next = next.with_other_listeners(count, layout.seed);
        let start = next.listeners() as usize * BUCKET_WORDS;
        let words = layout
            .buckets
            .iter()
            .flat_map(|bucket| bucket.places.into_iter().flatten().chain(bucket.pad));
        for (place, word) in self.listeners.long_words()[start..].iter().zip(words) {
            place.store(word, Ordering::Relaxed);
        }
        Ok(next)
    }

    /// When this returns, no program reads what the word does not name. Before anything is written that one
    /// may have read before.
    ///
    /// # Errors
    ///
    /// The kernel does not wait.
    pub(super) fn wait(&mut self) -> Result<(), Error> {
        if !self.waited {
            self.fence.wait().map_err(map_error("FENCE"))?;
            self.waited = true;
        }
        Ok(())
    }

    /// The commit. When it returns, no program runs that has seen the word before.
    ///
    /// # Errors
    ///
    /// The kernel does not wait. The word is what it was.
    pub(super) fn replace(&mut self, next: Word) -> Result<(), Error> {
        let before = self.place().swap(next.0, Ordering::AcqRel);
        self.waited = false;
        let waited = self.wait();
        if waited.is_err() {
            self.place().store(before, Ordering::Release);
        }
        waited
    }
}

/// Which of the two places of records a word names.
fn place(word: Word) -> usize {
    usize::from(word.services() != 0)
}
