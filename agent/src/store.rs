//! What survives the agent: the services as last asked for, kept on disk.
//!
//! A file of JSON with its own checksum, written beside the old one, flushed, and renamed over it,
//! so that a crash at any instant leaves one whole file. The one before stays beside it under
//! another name. Where the file turns out to be damaged, that one is used.
//!
//! - `seal`: the text of the file, and back; pure

mod seal;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use self::seal::Unreadable;
use crate::fault::{self, Point};
use crate::model::{
    BackendState, Draining, Fence, Guard, LeaseLength, OnExpiry, ServiceSpec, Traffic, Version,
    Weights,
};

/// No state is as long as this, in bytes.
const MAX_LENGTH: u64 = 256 << 20;

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
        "{path} has form {form}, this agent knows {known}: start the newer agent that wrote it, or \
         move {path} away to go back to the state before",
        known = seal::FORM
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its form.
        form: u32,
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
pub struct Directory(PathBuf);

impl Directory {
    /// Makes the directory if there is none.
    ///
    /// # Errors
    ///
    /// It cannot be made.
    pub fn open(path: &Path) -> Result<Self, Error> {
        fs::create_dir_all(path).map_err(io_error("create directory", path))?;
        Ok(Self(path.to_owned()))
    }

    fn file(&self) -> PathBuf {
        self.0.join("state.json")
    }

    fn previous(&self) -> PathBuf {
        self.0.join("state.json.prev")
    }

    /// Writes a file as a whole, down to the disk.
    fn write(path: &Path, text: &[u8]) -> io::Result<()> {
        // Seeds are in it: for the owner's eyes only.
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
        file.write_all(text)?;
        fault::point(Point::StoreWritten);
        file.sync_all()?;
        fault::point(Point::StoreFlushed);
        Ok(())
    }

    /// Lets the state kept now stay as the one before. There is a whole `state.json` all the time.
    fn keep_previous(&self) -> io::Result<()> {
        let absent = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
        if !self.file().exists() {
            return Ok(()); // the first one, or a damaged one was put aside
        }
        fs::remove_file(self.previous()).or_else(|e| if absent(&e) { Ok(()) } else { Err(e) })?;
        fs::hard_link(self.file(), self.previous())?;
        fault::point(Point::StoreLinked);
        Ok(())
    }
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |error| Error::Io { action, path: path.to_owned(), error }
}

/// What is in a file of a state.
enum Found {
    Nothing,
    State(Stored),
    Damaged(String),
}

/// Reads a file.
fn read(path: &Path) -> Result<Found, Error> {
    let length = match fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(io_error("read", path)(error)),
    };
    if length > MAX_LENGTH {
        return Ok(Found::Damaged(format!("{length} bytes are too many")));
    }
    let text = fs::read(path).map_err(io_error("read", path))?;
    match seal::open(&text) {
        Ok(state) => Ok(Found::State(state)),
        Err(Unreadable::Damaged(reason)) => Ok(Found::Damaged(reason)),
        Err(Unreadable::Newer(form)) => Err(Error::Newer { path: path.to_owned(), form }),
    }
}

impl Store for Directory {
    fn load(&mut self) -> Result<Loaded, Error> {
        let (path, previous) = (self.file(), self.previous());
        let reason = match read(&path)? {
            Found::State(state) => return Ok(Loaded { state: Some(state), warning: None }),
            Found::Damaged(reason) => Some(reason),
            Found::Nothing => None,
        };
        let (state, reason) = match (read(&previous)?, reason) {
            (Found::State(state), reason) => (state, reason),
            (Found::Nothing, None) => return Ok(Loaded::default()),
            (found, reason) => {
                let other = if let Found::Damaged(reason) = found { Some(reason) } else { None };
                let reason = reason.unwrap_or_else(|| "it is not there".to_owned());
                return Err(Error::Corrupt { path, reason, previous, other });
            }
        };
        let warning = match reason {
            Some(reason) => {
                let now = humantime::format_rfc3339_seconds(SystemTime::now());
                let aside = self.0.join(format!("state.json.corrupt-{now}"));
                fs::rename(&path, &aside).map_err(io_error("put aside", &path))?;
                format!(
                    "{} was damaged ({reason}) and is now {}; the state before it is used, from {}: \
                     the last change may be missing",
                    path.display(),
                    aside.display(),
                    previous.display()
                )
            }
            None => format!(
                "there was no {}; the state before it is used, from {}: the last change may be \
                 missing",
                path.display(),
                previous.display()
            ),
        };
        Ok(Loaded { state: Some(state), warning: Some(warning) })
    }

    fn save(&mut self, state: &Stored) -> Result<Kept, Error> {
        let (path, new) = (self.file(), self.0.join("state.json.new"));
        let text = seal::close(state).map_err(|error| Error::Unwritable(error.to_string()))?;
        if let Err(error) = Self::write(&new, &text) {
            // It may be what fills the disk.
            let _ = fs::remove_file(&new);
            return Err(io_error("write", &new)(error));
        }
        self.keep_previous().map_err(io_error("keep the state before as", &self.previous()))?;
        fs::rename(&new, &path).map_err(io_error("replace", &path))?;
        fault::point(Point::StoreRenamed);
        // The rename itself must survive, too.
        match File::open(&self.0).and_then(|directory| directory.sync_all()) {
            Ok(()) => Ok(Kept::Durably),
            Err(error) => Ok(Kept::Unflushed(format!("flush {}: {error}", self.0.display()))),
        }
    }
}

#[cfg(test)]
#[path = "store/tests.rs"]
mod tests;
