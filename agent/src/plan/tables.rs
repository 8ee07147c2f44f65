//! A service's tables as they are in the kernel: `cur`, `base` and `tracked` for each slot.
//!
//! Every slot that is not tracked has `base == cur`: `decide` reads `base` of an untracked slot
//! too, when the other table's slot is tracked.

use std::sync::Arc;

use weir_ebpf::abi::{
    BackendSlot, CANARY, Line, MAX_BACKEND_SLOTS, MIN_BACKEND_SLOTS, NO_BACKEND, VERSION_LINES,
    VERSION_SLOTS, VERSIONS, VersionSlot,
};

/// Version slots in a line.
const VERSIONS_PER_LINE: usize = 64;
/// No version has this number, nor a higher one.
const NONE: u8 = CANARY + 1;
/// Backend slots in a line.
const BACKENDS_PER_LINE: usize = 16;

/// All tables of a service. Clones share them: most changes concern one table, or a few.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServiceTables {
    pub(super) versions: Arc<[VersionSlot]>,
    pub(super) backends: [BackendTable; VERSIONS],
}

/// One version's backend table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BackendTable(pub(super) Arc<[BackendSlot]>);

/// Lines that are no tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadLines {
    /// A version table has another length.
    #[error("a version table has {VERSION_LINES} lines, not {0}")]
    VersionLines(usize),
    /// A version slot names a version that does not exist.
    #[error("version slot {0} names a version that does not exist")]
    VersionSlot(usize),
    /// A backend table has another length.
    #[error(
        "a backend table has a power of two of slots from {MIN_BACKEND_SLOTS} to \
         {MAX_BACKEND_SLOTS}, not {0}"
    )]
    BackendSlots(usize),
}

impl ServiceTables {
    /// The version slots, [`VERSION_SLOTS`] of them.
    #[must_use]
    pub fn versions(&self) -> &[VersionSlot] {
        &self.versions
    }

    /// Each version's backend table.
    #[must_use]
    pub fn backends(&self) -> &[BackendTable; VERSIONS] {
        &self.backends
    }

    /// Reads tables back from their lines.
    ///
    /// # Errors
    ///
    /// [`BadLines`] when the lines cannot be a service's tables.
    pub fn from_lines(
        version_table: &[Line],
        backend_tables: [&[Line]; VERSIONS],
    ) -> Result<Self, BadLines> {
        if version_table.len() != VERSION_LINES as usize {
            return Err(BadLines::VersionLines(version_table.len()));
        }
        let mut versions = vec![VersionSlot::default(); VERSION_SLOTS as usize];
        for (slots, line) in versions.chunks_mut(VERSIONS_PER_LINE).zip(version_table) {
            let (fours, _) = slots.as_chunks_mut();
            for (four, word) in fours.iter_mut().zip(line.words) {
                *four = word.to_le_bytes().map(VersionSlot);
            }
        }
        let known = |slot: &VersionSlot| (slot.cur() < NONE) & (slot.base() < NONE);
        // All of them first: many at a time, and there is none that is not.
        if !versions.iter().fold(true, |all, slot| all & known(slot))
            && let Some(slot) = versions.iter().position(|slot| !known(slot))
        {
            return Err(BadLines::VersionSlot(slot));
        }
        let [blue, green, canary] = backend_tables.map(BackendTable::from_lines);
        Ok(Self { versions: versions.into(), backends: [blue?, green?, canary?] })
    }

    /// The version table as lines, [`VERSION_LINES`] of them.
    #[must_use]
    pub fn version_lines(&self) -> Vec<Line> {
        let line = |slots: &[VersionSlot]| {
            let mut line = Line::default();
            let (fours, _) = slots.as_chunks();
            for (word, four) in line.words.iter_mut().zip(fours) {
                *word = u32::from_le_bytes(four.map(|slot: VersionSlot| slot.0));
            }
            line
        };
        self.versions.chunks(VERSIONS_PER_LINE).map(line).collect()
    }

    /// Versions without any `base` left.
    #[must_use]
    pub fn empty_bases(&self) -> [bool; VERSIONS] {
        self.backends.each_ref().map(|t| t.0.iter().all(|slot| slot.base() == NO_BACKEND))
    }

    /// A version slot whose `base` is a version without any `base` left belongs to `cur`: no flow
    /// of that version is alive and unremembered, and a flow that finds no room in the flow table
    /// must have somewhere to go.
    pub(super) fn leave_empty_bases(&mut self) {
        let empty = self.empty_bases();
        if empty == [false; VERSIONS] {
            return;
        }
        change(&mut self.versions, |_, slot| {
            let leaves = slot.base() != slot.cur() && empty[usize::from(slot.base())];
            if leaves { VersionSlot::new(slot.cur(), slot.cur(), slot.tracked()) } else { slot }
        });
    }
}

/// Changes the slots of a table, and says whether any is another now. If none is, the table is still
/// shared with its clones.
pub(super) fn change<T: Copy + PartialEq>(
    slots: &mut Arc<[T]>,
    to: impl Fn(usize, T) -> T,
) -> bool {
    let differs = |(i, slot): (usize, &T)| to(i, *slot) != *slot;
    let Some(first) = slots.iter().enumerate().position(differs) else { return false };
    for (i, slot) in Arc::make_mut(slots).iter_mut().enumerate().skip(first) {
        *slot = to(i, *slot);
    }
    true
}

impl BackendTable {
    /// The slots: a power of two from [`MIN_BACKEND_SLOTS`] to [`MAX_BACKEND_SLOTS`].
    #[must_use]
    pub fn slots(&self) -> &[BackendSlot] {
        &self.0
    }

    /// The slot for this hash: its low bits count.
    #[must_use]
    pub fn slot(&self, hash: u32) -> BackendSlot {
        self.0[hash as usize & (self.0.len() - 1)]
    }

    /// The table as lines.
    #[must_use]
    pub fn lines(&self) -> Vec<Line> {
        let line = |slots: &[BackendSlot]| {
            let mut line = Line::default();
            for (word, slot) in line.words.iter_mut().zip(slots) {
                *word = slot.0;
            }
            line
        };
        self.0.chunks(BACKENDS_PER_LINE).map(line).collect()
    }

    fn from_lines(lines: &[Line]) -> Result<Self, BadLines> {
        let slots: Arc<[BackendSlot]> =
            lines.iter().flat_map(|line| line.words.map(BackendSlot)).collect();
        let sizes = MIN_BACKEND_SLOTS as usize..=MAX_BACKEND_SLOTS as usize;
        if !slots.len().is_power_of_two() || !sizes.contains(&slots.len()) {
            return Err(BadLines::BackendSlots(slots.len()));
        }
        Ok(Self(slots))
    }
}

/// The shortest table, not below the smallest size, that says the same for every hash: a table
/// whose halves are equal says what either half says.
pub(super) fn folded<T: PartialEq>(mut slots: &[T]) -> &[T] {
    while slots.len() > MIN_BACKEND_SLOTS as usize {
        let (low, high) = slots.split_at(slots.len() / 2);
        if low != high {
            break;
        }
        slots = low;
    }
    slots
}
