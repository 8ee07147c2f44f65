//! Old tables + target → new tables + moves: the rules by which a slot moves.
//!
//! The one thing to keep: a live flow that is not remembered is at its slots' `base`. So
//!
//! - a slot that moves keeps where it was as `base`, and the oldest one if it moves again before
//!   it has settled; it becomes tracked and stays so, also when it moves back;
//! - a `base` whose flows are void, or that never had any, becomes `cur` in the same commit.
//!   Otherwise a flow that finds no room would be sent there.
//!
//! *Sizes.* The size of a backend table is that of its target or, if that is larger, of the old
//! table, folded as long as both halves of it are equal in every bit. A slot is chosen by the low
//! bits of a hash, so repeating a table, or folding one with equal halves, changes no answer for
//! any hash: neither needs to be tracked or to wait. A table that has become too large for its
//! target is a repeated target as soon as it has settled, and the next transition folds it.

use std::sync::Arc;

use weir_ebpf::abi::{BackendSlot, NO_BACKEND, VERSIONS, VersionSlot};

use super::goal::Target;
use super::shares;
use super::tables::{BackendTable, ServiceTables, folded};

/// What a transition leads to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transition {
    /// The new tables.
    pub tables: ServiceTables,
    /// How they differ from the old ones.
    pub moves: Moves,
}

/// What gets another `cur` in a transition. A new service moves nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Moves {
    /// Version slots, by version before and version after.
    pub versions: [[u32; VERSIONS]; VERSIONS],
    /// Backend slots of each version.
    pub backends: [BackendMoves; VERSIONS],
    /// Prefixes of clients that go to another version.
    pub steered: u32,
}

impl Moves {
    /// Whether no slot and no prefix moves.
    #[must_use]
    pub fn is_none(&self) -> bool {
        let versions = self.versions.iter().flatten().all(|moved| *moved == 0);
        let backends = self.backends.iter().all(|table| table.moved == 0);
        versions && backends && self.steered == 0
    }
}

/// Moves within one backend table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BackendMoves {
    /// Slots that move.
    pub moved: u32,
    /// Slots of the new table.
    pub slots: u32,
}

/// Leads a service from its old tables, if it has any, to `target`. `given_up` says whether the
/// flows of a backend, by index, are void.
#[must_use]
pub fn transition(
    old: Option<&ServiceTables>,
    target: &Target,
    given_up: &dyn Fn(u16) -> bool,
) -> Transition {
    let fresh;
    let old = if let Some(old) = old {
        old
    } else {
        fresh = first(target);
        &fresh
    };
    let mut moves =
        Moves { versions: shares::moves(&old.versions, &target.versions), ..Moves::default() };
    let versions = if moves.versions == Moves::default().versions {
        Arc::clone(&old.versions)
    } else {
        let pairs = old.versions.iter().zip(target.versions.iter());
        pairs.map(|(slot, to)| move_version(*slot, *to)).collect()
    };
    let mut version = 0;
    let backends = old.backends.each_ref().map(|table| {
        let (table, within) = move_backends(table, &target.backends[version], given_up);
        moves.backends[version] = within;
        version += 1;
        table
    });
    let mut tables = ServiceTables { versions, backends };
    tables.leave_empty_bases();
    Transition { tables, moves }
}

/// The tables of a service that had none.
fn first(target: &Target) -> ServiceTables {
    ServiceTables {
        versions: target.versions.iter().map(|&v| VersionSlot::new(v, v, false)).collect(),
        backends: target.backends.each_ref().map(|slots| {
            BackendTable(slots.iter().map(|&b| BackendSlot::new(b, b, false)).collect())
        }),
    }
}

fn move_version(slot: VersionSlot, to: u8) -> VersionSlot {
    if slot.cur() == to {
        return slot;
    }
    VersionSlot::new(to, if slot.tracked() { slot.base() } else { slot.cur() }, true)
}

fn move_backends(
    old: &BackendTable,
    target: &[u16],
    given_up: &dyn Fn(u16) -> bool,
) -> (BackendTable, BackendMoves) {
    let (shared, old) = (old, folded(&old.0));
    let size = old.len().max(target.len());
    let mut moves = BackendMoves { moved: 0, slots: u32::try_from(size).unwrap_or(u32::MAX) };
    let at = |i: usize| (old[i & (old.len() - 1)], target[i & (target.len() - 1)]);
    if size == shared.0.len() && size == target.len() && rests(old, target) {
        return (shared.clone(), moves);
    }
    let slots = (0..size).map(|i| {
        let (slot, to) = at(i);
        moves.moved += u32::from(slot.cur() != to);
        move_backend(slot, to, given_up)
    });
    (BackendTable(slots.collect()), moves)
}

/// Whether a table is where it is to be, and nothing of it anywhere else. In pieces without a way out
/// of them, so that a processor looks at many slots at a time.
fn rests(slots: &[BackendSlot], target: &[u16]) -> bool {
    const PIECE: usize = 256;
    let rests = |slot: BackendSlot, to| BackendSlot::new(to, to, slot.tracked()) == slot;
    slots.chunks(PIECE).zip(target.chunks(PIECE)).all(|(slots, target)| {
        slots.iter().zip(target).fold(true, |all, (slot, to)| all & rests(*slot, *to))
    })
}

fn move_backend(slot: BackendSlot, to: u16, given_up: &dyn Fn(u16) -> bool) -> BackendSlot {
    let moves = slot.cur() != to;
    let base = if moves && !slot.tracked() { slot.cur() } else { slot.base() };
    let void = base != to && (base == NO_BACKEND || given_up(base));
    BackendSlot::new(to, if void { to } else { base }, slot.tracked() || moves)
}
