//! A rollout as data.
//!
//! - [`Rollout`]: what is to be done; complete, every default filled in; serde for the ledger
//! - [`strategy`], [`policy`], [`hook`], [`external`]: its parts
//! - [`parse`]: from a document, with every problem at its line and column
//! - [`preset`]: strategies by their names in `CodeDeploy`
//! - [`lint`]: plans that are right in form and cannot be meant
//!
//! `tree` and `reader` read YAML without stopping at the first problem.

pub mod external;
pub mod hook;
pub mod lint;
pub mod parse;
pub mod policy;
pub mod preset;
mod reader;
pub mod strategy;
mod tree;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use external::{Comparison, Condition, ExternalMetric, Source};
pub use hook::{Hook, Stage, Target};
pub use parse::parse;
pub use policy::{
    Agents, Drain, Guard, InFlightKind, Lease, OnFailure, OnNewRevision, OnTimeout, Unattended,
    Unreachable, UnreachableAction, Verify, VerifyAction,
};
pub use strategy::{
    Analysis, AutoPromotion, BlueGreen, Canary, CanaryStep, Count, Gate, GateKind, Rolling, Route,
    Share, Strategy,
};

use super::{judge, time::Seconds};
use crate::model::{ServiceName, Version};

/// One rollout: a revision of a service, and how it gets there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Rollout {
    /// The service.
    pub service: ServiceName,
    /// What is released; 1 to 128 characters, none of them a control character.
    pub revision: String,
    /// The version that gets the weight; nothing: what the strategy means by itself. Always nothing
    /// with `rolling`.
    pub candidate: Option<Version>,
    /// The version that has it now; nothing: the one with the most weight at the start.
    pub stable: Option<Version>,
    /// How the weight moves.
    pub strategy: Strategy,
    /// How the candidate is judged, from the first weight it gets until the end of the bake.
    pub analysis: judge::Config,
    /// Metrics of other systems, judged beside weir's own.
    pub external: Vec<ExternalMetric>,
    /// What each agent enforces on its own.
    pub guard: Option<Guard>,
    /// How long the candidate is watched after it got everything.
    pub bake: Seconds,
    /// How the old version's connections end.
    pub drain: Drain,
    /// When a weight counts as applied.
    pub verify: Verify,
    /// The fleet.
    pub agents: Agents,
    /// The longest that anything may take which is neither time, evidence nor a person.
    pub progress_deadline: Seconds,
    /// How long it may be paused before somebody looks after it.
    pub paused: Unattended,
    /// What a failure leads to.
    pub on_failure: OnFailure,
    /// What becomes of the candidate's connections in a rollback.
    pub rollback_in_flight: InFlightKind,
    /// What happens to a new revision that comes while this one is under way.
    pub on_new_revision: OnNewRevision,
    /// What is called on the way.
    pub hooks: Vec<Hook>,
}

/// Something that is wrong with a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Line, from 1.
    pub line: u64,
    /// Column, from 1.
    pub column: u64,
    /// What it is about, such as `strategy.canary.steps[2].setWeight`; empty: the whole.
    pub field: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: ", self.line, self.column)?;
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)
    }
}
