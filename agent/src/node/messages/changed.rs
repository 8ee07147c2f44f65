//! What a change did, or would do.

use std::time::Duration;

use serde::Serialize;

use super::LeaseStatus;
use super::times::microseconds;
use crate::model::{Observed, PerVersion, SampleRatio, ServiceName, TableShare, Version, Weight};

/// The answer to [`Apply`](super::Apply), [`Shift`](super::Shift), [`RollBack`](super::RollBack) and
/// [`Steer`](super::Steer).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Changed {
    /// The commit that made the change.
    pub commit: Commit,
    /// One for each service, in the order of the request.
    pub changes: Vec<Change>,
}

/// One atomic commit of the node's tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Commit {
    /// Number of the commit; of the last one made, if `dry_run`.
    pub generation: u64,
    /// Nothing was changed.
    pub dry_run: bool,
    /// From writing the new tables to the end of the commit.
    #[serde(rename = "duration_us", serialize_with = "microseconds")]
    pub duration: Duration,
}

/// What a commit did (or would do) to one service.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// The service.
    pub service: ServiceName,
    /// Counts the service's changes, from 1.
    pub generation: u64,
    /// The service did not exist before.
    pub created: bool,
    /// By version.
    pub versions: PerVersion<VersionChange>,
    /// Whether the connections until this commit were shared as the table before it said.
    pub sample_ratio: SampleRatio,
    /// Slots of the version table that changed hands.
    pub moves: Vec<Move>,
    /// The steering rules.
    pub steering: Steered,
    /// Digest of the new tables, hexadecimal.
    pub digest: String,
    /// The lease on the weights.
    pub lease: Option<LeaseStatus>,
}

/// What changed for one version.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct VersionChange {
    /// Weight before; 0 for a service that was created.
    #[serde(rename = "before_bp")]
    pub before: Weight,
    /// Weight asked for.
    #[serde(rename = "asked_bp")]
    pub asked: Weight,
    /// Share of the new version table, read back.
    pub table: TableShare,
    /// New connections from the last change of shares to this one.
    pub observed: Observed,
    /// Slots of the version's backend table that changed hands.
    pub backend_slots_moved: u32,
}

/// What a change did to steering.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Steered {
    /// Rules the service has now.
    pub rules: u32,
    /// Prefixes whose new connections go elsewhere than before.
    pub moved: u32,
}

/// Slots of a version table that changed hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Move {
    /// Where new connections went before.
    pub from: Version,
    /// Where they go now.
    pub to: Version,
    /// How many slots.
    pub slots: u32,
}

/// The answer to [`Settle`](super::Settle).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Settled {
    /// The commit; the last one made, if there was nothing to settle.
    pub commit: Commit,
    /// Version slots, from where connections that began before belong to where new ones go.
    pub slots: Vec<Move>,
    /// Slots of backend tables.
    pub backend_slots: u32,
    /// Prefixes of steered clients.
    pub prefixes: u32,
    /// Seconds after which all of it settles by itself.
    pub by_itself_s: u32,
}

impl Settled {
    /// Whether there is nothing to settle.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.slots.is_empty() && self.backend_slots == 0 && self.prefixes == 0
    }
}
