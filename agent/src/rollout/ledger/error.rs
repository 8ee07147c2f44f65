//! What a store can refuse, and what to do then.

use super::{Fence, Version};
use crate::store;

/// Why a store did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It did not answer in time, or could not be reached. If a change was asked for, it may have
    /// been made or not: load before the next one.
    #[error("{store} cannot be reached to {action}: {reason}")]
    Unavailable {
        /// Which store.
        store: String,
        /// What was wanted of it.
        action: &'static str,
        /// What was said.
        reason: String,
    },
    /// It answers, and does not allow it: a wrong password, a certificate, a missing right.
    #[error("{store} does not allow this coordinator to {action}: {reason}")]
    Denied {
        /// Which store.
        store: String,
        /// What was wanted of it.
        action: &'static str,
        /// What was said.
        reason: String,
    },
    /// The options of the store are wrong.
    #[error("{option}: {reason}")]
    Option {
        /// Which one.
        option: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// This coordinator leads no longer, or never did: nothing was changed.
    #[error(
        "fence {fence} leads no longer ({}): nothing was changed; whoever leads goes on",
        match .leads {
            Some(leads) => format!("{leads} does"),
            None => "nobody does".to_owned(),
        }
    )]
    Fenced {
        /// The fence of the refused write.
        fence: Fence,
        /// The one that leads.
        leads: Option<Fence>,
    },
    /// The entry is another than the one that the change was worked out from.
    #[error(
        "the entry has {}, the change was worked out from {}: load it again",
        version(*.found), version(*.read)
    )]
    Conflict {
        /// What the writer has read.
        read: Option<Version>,
        /// What there is.
        found: Option<Version>,
    },
    /// Something is longer than it may be.
    #[error("{what} has {length} bytes as JSON; at most {limit} are kept")]
    TooLarge {
        /// What.
        what: &'static str,
        /// How long it is, in bytes.
        length: usize,
        /// How long it may be.
        limit: usize,
    },
    /// There are too many of something.
    #[error("there are too many {what}: at most {limit} are kept")]
    Full {
        /// Of what.
        what: &'static str,
        /// How many there may be.
        limit: usize,
    },
    /// Something cannot be written as JSON.
    #[error("{what} cannot be written: {reason}")]
    Unwritable {
        /// What.
        what: &'static str,
        /// Why.
        reason: String,
    },
    /// What is kept is not what was written, and there is no good one before it.
    #[error("{at} is damaged: {reason}; put a copy back from a backup, or remove it")]
    Damaged {
        /// Where.
        at: String,
        /// What is wrong.
        reason: String,
    },
    /// The same, of the files of a directory.
    #[error(transparent)]
    File(#[from] store::Error),
}

fn version(version: Option<Version>) -> String {
    version.map_or_else(|| "no version".to_owned(), |version| format!("version {version}"))
}

impl Error {
    /// Whether the store itself is what fails, not what was asked: weights hold until it is back.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        match self {
            Self::Unavailable { .. }
            | Self::Denied { .. }
            | Self::Damaged { .. }
            | Self::File(_) => true,
            Self::Option { .. }
            | Self::Fenced { .. }
            | Self::Conflict { .. }
            | Self::TooLarge { .. }
            | Self::Full { .. }
            | Self::Unwritable { .. } => false,
        }
    }
}
