//! How tables change: a commit.
//!
//! New tables are written to lines that no record points to, new records and listeners to where the root
//! does not point; then the root, one word, is replaced, and the kernel waits for every running program.
//! So no packet sees half a table, and none is decided by the old one afterwards.

use std::collections::HashMap;
use std::mem::offset_of;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use weir_ebpf::abi::{
    Backend, Edges, Endpoint, Line, MAX_SERVICES, Return, Root, ServerKey, Service, VERSIONS,
};

use super::{Kernel, Live, map_error};
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
        self.root.wait()?;
        let mut undo = Undo::default();
        let committed = self.stage(commit, &mut undo).and_then(|root| {
            fault::point(Point::RecordsMade);
            self.root.replace(root)
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
    fn stage(&mut self, commit: &Commit, undo: &mut Undo) -> Result<Root, Error> {
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
        for (index, flags) in &commit.flags {
            let Some(word) = self.flags(*index) else { continue };
            undo.flags.push((*index, word.fetch_and(*flags, Ordering::Relaxed)));
        }
        fault::point(Point::EndpointsWritten);
        let listeners = self.listeners(commit);
        self.root.write(self.records(&undo.next)?, listeners.as_ref())
    }

    /// All listeners, if a commit changes them.
    fn listeners(&self, commit: &Commit) -> Option<HashMap<Endpoint, u32>> {
        if commit.listeners.is_empty() && commit.closed.is_empty() {
            return None;
        }
        let mut all = self.endpoints.clone();
        for closed in &commit.closed {
            all.remove(closed);
        }
        all.extend(commit.listeners.iter().copied());
        Some(all)
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

    /// All records, with those in `next` in place of the old ones.
    fn records(&self, next: &[(u32, Option<Live>)]) -> Result<Vec<Service>, Error> {
        let mut all = vec![Service::default(); MAX_SERVICES as usize];
        let next = next.iter().map(|(index, live)| (index, live.as_ref()));
        let live = self.live.iter().map(|(index, live)| (index, Some(live)));
        for (index, live) in live.chain(next) {
            let record = all.get_mut(*index as usize).ok_or_else(|| Error::Map {
                map: "SERVICES",
                reason: format!("has no place {index}"),
            })?;
            *record = live.map_or_else(Service::default, |live| live.record);
        }
        Ok(all)
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
        if let Some(listeners) = self.listeners(commit) {
            self.endpoints = listeners;
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
