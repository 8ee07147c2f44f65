//! How tables change: a commit.
//!
//! New tables are written to lines that no record points to, then one element of a map-in-map is
//! replaced, and the kernel waits for every running program before that call returns. So no packet
//! sees half a table, and none is decided by the old one afterwards.

use std::mem::offset_of;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use aya::maps::{Array, MapData};
use weir_ebpf::abi::{
    Backend, Edges, Endpoint, Line, Listener, MAX_SERVICES, Return, ServerKey, Service, VERSIONS,
};

use super::{Kernel, Live, map_error};
use crate::dataplane::sys::set_all;
use crate::dataplane::{Commit, Error, Image};
use crate::fault::{self, Point};
use crate::plan::steering::Steering;
use crate::plan::tables::BackendTable;

/// How to take a commit back before it has taken effect.
#[derive(Default)]
struct Undo {
    taken: Vec<Range<u32>>,
    /// Sets of steering entries that were written, or begun.
    sets: Vec<(u32, Arc<Steering>)>,
    returns: Vec<(Endpoint, Option<Return>)>,
    listeners: Vec<(Endpoint, Option<u32>)>,
    server_ids: Vec<(ServerKey, Option<u16>)>,
    next: Vec<(u32, Option<Live>)>,
    /// Flags as they were.
    flags: Vec<(u16, u32)>,
}

/// Words of 32 bits of a backend's record, and which of them are its flags.
const RECORD_WORDS: usize = size_of::<Backend>() / 4;
const FLAGS_WORD: usize = offset_of!(Backend, flags) / 4;

impl Kernel {
    /// Makes a commit, or leaves everything as it was.
    pub(super) fn carry_out(&mut self, commit: &Commit) -> Result<(), Error> {
        let mut undo = Undo::default();
        let committed = self.stage(commit, &mut undo).and_then(|records| {
            fault::point(Point::RecordsMade);
            // The commit. The kernel waits for all running programs before this returns.
            self.services.set(0, &records, 0).map_err(map_error("SERVICES"))
        });
        match committed {
            Ok(()) => {
                fault::point(Point::CommitMade);
                self.finish(commit, undo.next);
                fault::point(Point::CommitFinished);
                Ok(())
            }
            Err(error) => {
                self.undo(undo);
                Err(error)
            }
        }
    }

    /// Puts lines where a run of the pool is, word by word.
    fn write_lines(&self, run: &Range<u32>, lines: &[Line]) {
        let start = run.start as usize * 16;
        let words = lines.iter().flat_map(|line| line.words);
        for (place, word) in self.pool_memory.words()[start..].iter().zip(words) {
            place.store(word, Ordering::Relaxed);
        }
    }

    /// Takes room for lines and writes them there.
    fn place(&mut self, lines: &[Line], taken: &mut Vec<Range<u32>>) -> Result<Range<u32>, Error> {
        let asked = u32::try_from(lines.len()).unwrap_or(u32::MAX);
        let run = self.pool.take(asked).ok_or_else(|| Error::PoolFull {
            asked,
            free: self.pool.size() - self.pool.used(),
            size: self.pool.size(),
        })?;
        taken.push(run.clone());
        self.write_lines(&run, lines);
        Ok(run)
    }

    /// Writes the tables of an image that are not in the pool already, and makes its record.
    fn prepare(
        &mut self,
        index: u32,
        image: &Image,
        generation: u32,
        undo: &mut Undo,
    ) -> Result<Live, Error> {
        let old = self.live.get(&index).cloned();
        let (version_run, edges) = match &old {
            Some(old) if old.tables.versions() == image.tables.versions() => {
                (old.version_run.clone(), old.record.edges)
            }
            _ => (
                self.place(&image.tables.version_lines(), &mut undo.taken)?,
                Edges::of(image.tables.versions()),
            ),
        };
        let mut backend_runs: [Range<u32>; VERSIONS] = Default::default();
        for (version, table) in image.tables.backends().iter().enumerate() {
            backend_runs[version] = match &old {
                Some(old) if old.tables.backends()[version] == *table => {
                    old.backend_runs[version].clone()
                }
                _ => self.place(&table.lines(), &mut undo.taken)?,
            };
        }
        let set = match &old {
            Some(old) if old.steering == image.steering => old.record.steering,
            _ => self.write_set(&image.steering, undo)?,
        };
        let mask = |table: &BackendTable| u16::try_from(table.slots().len() - 1).unwrap_or(0);
        let record = Service {
            version_table: version_run.start,
            backend_table: backend_runs.each_ref().map(|run| run.start),
            backend_mask: image.tables.backends().each_ref().map(mask),
            edges,
            steering: set,
            generation,
            ..image.record
        };
        let (tables, steering) = (Arc::clone(&image.tables), Arc::clone(&image.steering));
        Ok(Live { record, tables, steering, version_run, backend_runs })
    }

    /// Writes steering entries as a new set, and gives its id. Zero for none.
    fn write_set(&mut self, entries: &Arc<Steering>, undo: &mut Undo) -> Result<u32, Error> {
        if entries.entries().is_empty() {
            return Ok(0);
        }
        let set = self.steering.fresh();
        undo.sets.push((set, Arc::clone(entries)));
        self.steering.write(set, entries)?;
        Ok(set)
    }

    /// All that can fail before the commit itself. Notes what must be undone.
    fn stage(
        &mut self,
        commit: &Commit,
        undo: &mut Undo,
    ) -> Result<Array<MapData, Service>, Error> {
        for (index, image) in &commit.services {
            let live = match image {
                Some(image) => Some(self.prepare(*index, image, commit.generation, undo)?),
                None => None,
            };
            undo.next.push((*index, live));
        }
        fault::point(Point::PoolWritten);
        for (index, backend) in &commit.backends {
            self.backends.set(u32::from(*index), *backend, 0).map_err(map_error("BACKENDS"))?;
        }
        fault::point(Point::BackendsWritten);
        for (endpoint, back) in &commit.returns {
            undo.returns.push((*endpoint, self.ways_back.get(endpoint).copied()));
            self.returns.insert(*endpoint, *back, 0).map_err(map_error("RETURNS"))?;
        }
        for (id, backend) in &commit.server_ids {
            undo.server_ids.push((*id, self.servers.get(id).copied()));
            let backend = u32::from(*backend);
            self.server_ids.insert(*id, backend, 0).map_err(map_error("SERVER_IDS"))?;
        }
        for (endpoint, service) in &commit.listeners {
            undo.listeners.push((*endpoint, self.endpoints.get(endpoint).copied()));
            let listener = Listener { service: *service };
            self.listeners.insert(*endpoint, listener, 0).map_err(map_error("LISTENERS"))?;
        }
        for (index, flags) in &commit.flags {
            let Some(word) = self.flags(*index) else { continue };
            undo.flags.push((*index, word.fetch_and(*flags, Ordering::Relaxed)));
        }
        fault::point(Point::EndpointsWritten);
        self.records(&undo.next)
    }

    /// The flags of a backend.
    fn flags(&self, index: u16) -> Option<&AtomicU32> {
        self.backend_memory.words().get(usize::from(index) * RECORD_WORDS + FLAGS_WORD)
    }

    fn set_flags(&self, all: &[(u16, u32)]) {
        for (index, flags) in all {
            if let Some(word) = self.flags(*index) {
                word.store(*flags, Ordering::Relaxed);
            }
        }
    }

    /// A new array of all records, with those in `next` in place of the old ones.
    fn records(&self, next: &[(u32, Option<Live>)]) -> Result<Array<MapData, Service>, Error> {
        let records = Array::create(MAX_SERVICES, 0).map_err(map_error("SERVICES"))?;
        let changed = |index| next.iter().find(|(i, _)| *i == index);
        let kept = self.live.iter().filter(|(index, _)| changed(**index).is_none());
        let new = next.iter().filter_map(|(index, live)| Some((index, live.as_ref()?)));
        let (indices, all): (Vec<u32>, Vec<Service>) =
            kept.chain(new).map(|(index, live)| (*index, live.record)).unzip();
        set_all(&records, &indices, &all)
            .map_err(|error| Error::Map { map: "SERVICES", reason: error.to_string() })?;
        Ok(records)
    }

    /// Takes back what a commit that failed had done. What cannot be taken back is an entry that
    /// points at the service it pointed at before, or at nothing.
    fn undo(&mut self, undo: Undo) {
        for (endpoint, before) in undo.returns.into_iter().rev() {
            let _ = match before {
                Some(back) => self.returns.insert(endpoint, back, 0),
                None => self.returns.remove(&endpoint),
            };
        }
        for (endpoint, before) in undo.listeners.into_iter().rev() {
            let _ = match before {
                Some(service) => self.listeners.insert(endpoint, Listener { service }, 0),
                None => self.listeners.remove(&endpoint),
            };
        }
        for (id, before) in undo.server_ids.into_iter().rev() {
            let _ = match before {
                Some(backend) => self.server_ids.insert(id, u32::from(backend), 0),
                None => self.server_ids.remove(&id),
            };
        }
        self.set_flags(&undo.flags);
        for run in undo.taken {
            self.pool.give_back(run);
        }
        for (set, entries) in undo.sets {
            self.steering.remove(set, &entries);
        }
    }

    /// What follows the commit: nothing here can fail so that a packet would notice.
    fn finish(&mut self, commit: &Commit, next: Vec<(u32, Option<Live>)>) {
        self.set_flags(&commit.flags);
        for endpoint in &commit.closed {
            let _ = self.listeners.remove(endpoint);
            self.endpoints.remove(endpoint);
        }
        for endpoint in &commit.severed {
            let _ = self.returns.remove(endpoint);
            self.ways_back.remove(endpoint);
        }
        for id in &commit.retired_ids {
            let _ = self.server_ids.remove(id);
            self.servers.remove(id);
        }
        self.servers.extend(commit.server_ids.iter().copied());
        self.endpoints.extend(commit.listeners.iter().copied());
        self.ways_back.extend(commit.returns.iter().copied());
        for (index, live) in next {
            let set = live.as_ref().map_or(0, |live| live.record.steering);
            let kept: Vec<Range<u32>> = live.iter().flat_map(Live::runs).cloned().collect();
            let old = match live {
                Some(live) => self.live.insert(index, live),
                None => self.live.remove(&index),
            };
            for run in old.iter().flat_map(Live::runs).filter(|run| !kept.contains(run)) {
                self.pool.give_back(run.clone());
            }
            if let Some(old) = old.filter(|old| old.record.steering != set) {
                self.steering.remove(old.record.steering, &old.steering);
            }
        }
    }
}
