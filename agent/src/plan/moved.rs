//! When the slots of a service moved last, and which may settle by that.
//!
//! Each slot of the version table has a time of its own, so that a shift every few minutes keeps in
//! transition only what it moves. A backend table has one for all its slots: what moves these is a
//! change of backends, which is rare and concerns most of them. Where a service has steering
//! entries, version slots and entries have one time for all, as [`super::steering`] says.

use std::sync::Arc;

use weir_ebpf::abi::VERSIONS;

use super::settle::{SlotRef, settle};
use super::steering::Steering;
use super::tables::ServiceTables;
use super::transition::Moves;

/// When slots moved last, by a clock of the caller's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Moved {
    /// By version slot; empty: all at `began`.
    versions: Arc<[u32]>,
    began: u32,
    backends: [u32; VERSIONS],
    /// Any version slot or steering entry.
    last: u32,
    steering: u32,
}

impl Moved {
    /// As if everything had moved now.
    #[must_use]
    pub fn all(now: u32) -> Self {
        Self {
            versions: Arc::default(),
            began: now,
            backends: [now; VERSIONS],
            last: now,
            steering: now,
        }
    }

    /// Takes note of a transition.
    pub fn note(&mut self, before: &ServiceTables, after: &ServiceTables, moves: &Moves, now: u32) {
        if moves.versions.iter().flatten().any(|moved| *moved > 0) {
            if self.versions.is_empty() {
                self.versions = vec![self.began; before.versions().len()].into();
            }
            let slots = before.versions().iter().zip(after.versions());
            for (at, (old, new)) in Arc::make_mut(&mut self.versions).iter_mut().zip(slots) {
                *at = if old.cur() == new.cur() { *at } else { now };
            }
            self.last = now;
        }
        for (at, within) in self.backends.iter_mut().zip(&moves.backends) {
            if within.moved > 0 {
                *at = now;
            }
        }
        if moves.steered > 0 {
            (self.steering, self.last) = (now, now);
        }
    }

    /// What a slot waits for before it settles: the last move that counts for it. `steering` are
    /// the entries of its service.
    #[must_use]
    pub fn since(&self, steering: &Steering, slot: SlotRef) -> u32 {
        match slot {
            SlotRef::Version(_) if !steering.entries().is_empty() => self.last,
            // Entries that went not long ago had a say in where flows of any slot began.
            SlotRef::Version(slot) => {
                self.versions.get(slot).copied().unwrap_or(self.began).max(self.steering)
            }
            SlotRef::Backend { version, .. } => self.backends[version],
        }
    }

    /// What steering entries wait for.
    #[must_use]
    pub fn since_steering(&self) -> u32 {
        self.last
    }

    /// The last move of all.
    #[must_use]
    pub fn newest(&self) -> u32 {
        self.backends.iter().fold(self.last, |newest, at| newest.max(*at))
    }

    /// The first half of the end of a transition, for all that has not moved for as long as
    /// `quiet` says. Says whether anything changed.
    pub fn settle(
        &self,
        tables: &mut ServiceTables,
        steering: &mut Steering,
        quiet: &dyn Fn(u32) -> bool,
    ) -> bool {
        let slots = settle(tables, &|slot| quiet(self.since(steering, slot)));
        slots | (quiet(self.last) && steering.settle())
    }
}
