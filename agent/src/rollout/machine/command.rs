//! What people ask for.

use serde::{Deserialize, Serialize};

use super::super::spec::Rollout;

/// What somebody asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Command {
    /// Its place in the order of all commands to the service, from 1. One is heard once: those not
    /// above [`State::heard`](super::State::heard) are passed over.
    pub id: u64,
    /// Who asks.
    pub by: String,
    /// For what.
    pub verb: Verb,
}

/// What can be asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub enum Verb {
    /// A new revision.
    Run(Box<Rollout>),
    /// End what is waited for, and take the next step.
    Promote {
        /// Leave all steps out: the candidate gets everything.
        full: bool,
    },
    /// Hold the weights.
    Pause,
    /// Go on after a pause.
    Resume,
    /// Return everything to the stable version. Accepted in every state.
    Abort,
    /// Begin again after a rollback; after a failure that froze the rollout, repeat the step.
    Retry,
    /// Return to a revision that is kept, in one write.
    Undo {
        /// Which; nothing: the one before.
        to_revision: Option<String>,
    },
}

impl Verb {
    /// The name as on the command line.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Run(_) => "run",
            Self::Promote { full: false } => "promote",
            Self::Promote { full: true } => "promote --full",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Abort => "abort",
            Self::Retry => "retry",
            Self::Undo { .. } => "undo",
        }
    }
}
