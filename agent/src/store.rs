//! What survives the agent: the services as last asked for, kept on disk.
//!
//! A file of JSON with its own checksum, written beside the old one, flushed, and renamed over it,
//! so that a crash at any instant leaves one whole file. The one before stays beside it under
//! another name. Where the file turns out to be damaged, that one is used.
//!
//! - `sealed_file`: a file that is replaced as a whole, and the one before it
//! - `seal`: the text of such a file, and back; pure

pub(crate) mod seal;
pub(crate) mod sealed_file;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use self::seal::Unreadable;
use self::sealed_file::SealedFile;
use crate::model::{
    BackendState, Draining, Fence, Guard, LeaseLength, OnExpiry, ServiceSpec, Traffic, Version,
    Weights,
};

/// No state is longer than this, in bytes.
const MAX_LENGTH: u64 = 256 << 20;
/// Number of the form that is written. Form 1 had no checksum.
const FORM: u32 = 2;

/// What is kept.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stored {
    /// Number of the last commit.
    pub generation: u32,
    /// Since when counters count, in nanoseconds since 1970.
    pub epoch: u64,
    /// The services.
    pub services: Vec<StoredService>,
}

/// One service as kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredService {
    /// Its generation.
    pub generation: u64,
    /// Index of its record in the kernel.
    pub index: u32,
    /// What was asked for.
    pub spec: ServiceSpec,
    /// The weights it had when its tables last settled. Absent: those of its spec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled: Option<Weights>,
    /// The lease on its weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<StoredLease>,
    /// The highest fence that its changes came with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<Fence>,
    /// The limit that the agent enforces on its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guard: Option<StoredGuard>,
    /// Its backends as the kernel knows them, those that drain included.
    pub backends: Vec<StoredBackend>,
    /// What backends of each version have counted that are gone, since the epoch.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub retired: BTreeMap<Version, StoredCounts>,
    /// Drains of blue, green and canary.
    #[serde(default, skip_serializing_if = "is_default")]
    pub draining: [Option<Draining>; 3],
}

/// A guard, and whether it has tripped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredGuard {
    /// The limit.
    pub guard: Guard,
    /// What tripped it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tripped: Option<StoredTrip>,
}

/// What tripped a guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredTrip {
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// Connections that counted within its window,
    pub connections: u64,
    /// and those of them that failed.
    pub failures: u64,
    /// The weights before, in basis points,
    pub before: Weights,
    /// and those that it has set.
    pub after: Weights,
}

/// What was counted of a version.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StoredCounts {
    /// Its counters.
    #[serde(flatten)]
    pub traffic: Traffic,
    /// Its handshakes, by the bucket of their time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub handshakes: Vec<u64>,
    /// The sum of their times, in nanoseconds.
    #[serde(default, skip_serializing_if = "is_default")]
    pub handshake_ns: u64,
}

/// A lease on the weights of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredLease {
    /// When it runs out, in milliseconds since 1970.
    pub deadline_ms: u64,
    /// How long it lasts from when it is renewed, in seconds.
    pub length_s: LeaseLength,
    /// What happens then.
    pub on_expiry: OnExpiry,
    /// The weights to go back to, in basis points.
    pub revert_to: Weights,
}

/// A backend and its index in the kernel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredBackend {
    /// Index of its record.
    pub index: u16,
    /// Its version.
    pub version: Version,
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// Its id in QUIC connection ids, in hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_id: Option<String>,
    /// As an operator has set it by hand.
    #[serde(default, skip_serializing_if = "is_default")]
    pub by_hand: BackendState,
    /// It did not answer, as its health check said last.
    #[serde(default, skip_serializing_if = "is_default")]
    pub failing: bool,
    /// Its drain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draining: Option<Draining>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Loaded {
    /// The state kept last; nothing if none ever was.
    pub state: Option<Stored>,
    /// If it is not the one kept last: why, and where that one is now.
    pub warning: Option<String>,
}

/// How a state was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// It survives a crash of the machine.
    Durably,
    /// It has taken the old one's place, and every agent that starts will find it; but the machine
    /// could not be brought to say that it is on the disk, for this reason. If the machine itself
    /// goes down now, the one before may come back.
    Unflushed(String),
}

/// Why the state could not be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system refused.
    #[error("{action} {path}: {error}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What was said.
        error: io::Error,
    },
    /// The file is damaged, and so is the one before it, or there is none.
    #[error(
        "{path} is not a state of weir: {reason}; and there is no good {previous} to go back to{}: \
         put a copy of either back, or move both away to start empty",
        .other.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
        /// Where the one before is kept.
        previous: PathBuf,
        /// What is wrong with that one, if it is there.
        other: Option<String>,
    },
    /// A newer agent has written it.
    #[error(
        "{path} has form {form}, this weir knows {known}: start the newer weir that wrote it, or \
         move {path} away to go back to the state before"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its form.
        form: u32,
        /// The newest form that this program knows.
        known: u32,
    },
    /// The state cannot be written as a file.
    #[error("the state cannot be written: {0}")]
    Unwritable(String),
}

/// Where the state is kept.
pub trait Store: Send {
    /// The state as kept last. If that is damaged, the one before; then the damaged one is put
    /// aside.
    ///
    /// # Errors
    ///
    /// There is one, but none can be read. All files are as they were.
    fn load(&mut self) -> Result<Loaded, Error>;

    /// Keeps the state, and says how.
    ///
    /// # Errors
    ///
    /// The state kept before is still kept.
    fn save(&mut self, state: &Stored) -> Result<Kept, Error>;
}

/// The state in a directory of its own: `state.json`, and the one before in `state.json.prev`.
#[derive(Debug)]
pub struct Directory(SealedFile);

impl Directory {
    /// Makes the directory if there is none.
    ///
    /// # Errors
    ///
    /// It cannot be made.
    pub fn open(path: &Path) -> Result<Self, Error> {
        fs::create_dir_all(path).map_err(io_error("create directory", path))?;
        Ok(Self(SealedFile::new(path.join("state.json"), FORM, MAX_LENGTH)))
    }
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |error| Error::Io { action, path: path.to_owned(), error }
}

impl Store for Directory {
    fn load(&mut self) -> Result<Loaded, Error> {
        let found = self.0.load(state_of)?;
        Ok(Loaded { state: found.content, warning: found.warning })
    }

    fn save(&mut self, state: &Stored) -> Result<Kept, Error> {
        let text =
            serde_json::to_vec_pretty(state).map_err(|e| Error::Unwritable(e.to_string()))?;
        self.0.replace(&text)
    }
}

/// The state in a file.
fn state_of(text: &[u8]) -> Result<Stored, Unreadable> {
    match seal::open(FORM, text) {
        Ok(state) => serde_json::from_slice(state).map_err(|e| Unreadable::Damaged(e.to_string())),
        Err(Unreadable::Unsealed) => first_form(text),
        Err(error) => Err(error),
    }
}

/// A file of form 1, as agents wrote it before there was a checksum.
fn first_form(text: &[u8]) -> Result<Stored, Unreadable> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct First {
        form: u32,
        generation: u32,
        epoch: u64,
        services: Vec<StoredService>,
    }
    let First { form, generation, epoch, services } =
        serde_json::from_slice(text).map_err(|error| Unreadable::Damaged(error.to_string()))?;
    match form {
        1 => Ok(Stored { generation, epoch, services }),
        _ => Err(Unreadable::Damaged(format!("it has form {form} and no checksum"))),
    }
}

#[cfg(test)]
#[path = "store/tests.rs"]
mod tests;
