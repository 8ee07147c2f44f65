//! What is kept, as plain data, and how much of it.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Error;
use crate::model::ServiceName;

/// How much is kept at the most. A save of all of it fits into one transaction of etcd's (1.5 MiB,
/// 128 operations).
pub mod limits {
    /// Bytes of a document, as JSON.
    pub const DOCUMENT: usize = 512 << 10;
    /// Bytes of the evidence, as JSON.
    pub const EVIDENCE: usize = 256 << 10;
    /// Bytes of a revision, as JSON.
    pub const REVISION: usize = 256 << 10;
    /// Bytes of an event, as JSON.
    pub const EVENT: usize = 4 << 10;
    /// Bytes of a command, as JSON.
    pub const COMMAND: usize = 256 << 10;
    /// Services that have an entry.
    pub const SERVICES: usize = 1024;
    /// Events in one save.
    pub const EVENTS_A_SAVE: usize = 64;
    /// Bytes of what a save keeps in one file: a document, its evidence and events, and ids.
    pub const STATE: usize = DOCUMENT + EVIDENCE + EVENTS_A_SAVE * EVENT + (64 << 10);
    /// Events of a service; the oldest go.
    pub const EVENTS: u64 = 1000;
    /// Revisions of a service; the oldest go.
    pub const REVISIONS: u64 = 20;
    /// Commands that wait for one service.
    pub const COMMANDS: usize = 32;
    /// Ids of answered commands that are remembered of a service, so that one put again is known.
    pub const HANDLED: usize = 128;
}

/// Which state of an entry it is. Each save gives another; they grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Version(pub(super) u64);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What is kept of a service.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Which state of it this is.
    pub version: Version,
    /// The state of the rollout.
    pub document: Value,
    /// What the judge knows.
    pub evidence: Value,
    /// If it is not the entry saved last: why, and what to do. To be told to people.
    pub warning: Option<String>,
}

/// One save.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Change {
    /// The new state of the rollout.
    pub document: Value,
    /// What the judge knows now.
    pub evidence: Value,
    /// What is to be appended to the event log.
    pub events: Vec<Event>,
    /// A revision to keep, to which one can go back.
    pub revision: Option<Revision>,
    /// The commands that this state answers.
    pub handled: Vec<CommandId>,
}

/// A line of the event log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// Who did it: a person, or the coordinator's own name.
    pub who: String,
    /// What was done.
    pub verb: String,
    /// Why.
    pub reason: String,
    /// What was before.
    pub before: String,
    /// What is now.
    pub after: String,
}

/// A state to which one can go back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Revision {
    /// When it was reached, in milliseconds since 1970.
    pub at_ms: u64,
    /// As the user calls it.
    pub name: String,
    /// What is needed to go back.
    pub document: Value,
}

/// Something with the number that the store has given it: one more than the one before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numbered<T> {
    /// From 1 on.
    pub number: u64,
    /// The thing.
    #[serde(flatten)]
    pub item: T,
}

/// What somebody asks of whoever leads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Command {
    /// Its id, from whoever put it.
    pub id: CommandId,
    /// The service that it is for.
    pub service: ServiceName,
    /// When it was put, in milliseconds since 1970.
    pub at_ms: u64,
    /// Who put it.
    pub who: String,
    /// What is asked.
    pub request: Value,
}

/// The id of a command. It is part of a key and of a file's name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CommandId(String);

impl CommandId {
    /// The most characters.
    pub const MAX: usize = 64;

    /// The id, or what is wrong with it.
    ///
    /// # Errors
    ///
    /// It is empty, too long, or holds something other than letters, digits, `-` and `_`.
    pub fn new(id: &str) -> Result<Self, String> {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if (1..=Self::MAX).contains(&id.len()) && id.bytes().all(good) {
            Ok(Self(id.to_owned()))
        } else {
            Err(format!(
                "the id of a command is 1 to {} of a-z, A-Z, 0-9, - and _, not {id:?}",
                Self::MAX
            ))
        }
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for CommandId {
    type Error = String;

    fn try_from(id: String) -> Result<Self, String> {
        Self::new(&id)
    }
}

impl From<CommandId> for String {
    fn from(id: CommandId) -> Self {
        id.0
    }
}

impl fmt::Display for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Something as JSON, if that is not longer than `limit` bytes.
pub(super) fn within(
    what: &'static str,
    thing: &impl Serialize,
    limit: usize,
) -> Result<Vec<u8>, Error> {
    let text = serde_json::to_vec(thing)
        .map_err(|error| Error::Unwritable { what, reason: error.to_string() })?;
    if text.len() > limit {
        return Err(Error::TooLarge { what, length: text.len(), limit });
    }
    Ok(text)
}

impl Change {
    /// That it is within the limits of what is counted; lengths are told where texts are made.
    pub(super) fn check(&self) -> Result<(), Error> {
        let limit = limits::EVENTS_A_SAVE;
        if self.events.len() > limit {
            return Err(Error::Full { what: "events in one save", limit });
        }
        let handled: BTreeSet<_> = self.handled.iter().collect();
        if handled.len() > limits::COMMANDS {
            return Err(Error::Full { what: "commands in one save", limit: limits::COMMANDS });
        }
        Ok(())
    }
}
