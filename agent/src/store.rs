//! What survives the agent: the services as last asked for, kept on disk.
//!
//! A file of JSON, written beside the old one, flushed, and renamed over it, so that a crash at any
//! instant leaves one whole file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::model::{BackendState, Draining, LeaseLength, OnExpiry, ServiceSpec, Version, Weights};

/// Number of the file's form.
const FORM: u32 = 1;
/// No state is as long as this, in bytes.
const MAX_LENGTH: u64 = 256 << 20;

/// What is kept.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stored {
    /// Number of this form.
    form: u32,
    /// Number of the last commit.
    pub generation: u32,
    /// Since when counters count, in nanoseconds since 1970.
    pub epoch: u64,
    /// The services.
    pub services: Vec<StoredService>,
}

impl Stored {
    /// The state after commit `generation`.
    #[must_use]
    pub fn new(generation: u32, epoch: u64, services: Vec<StoredService>) -> Self {
        Self { form: FORM, generation, epoch, services }
    }
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
    /// Its backends as the kernel knows them, those that drain included.
    pub backends: Vec<StoredBackend>,
    /// Drains of blue, green and canary.
    #[serde(default, skip_serializing_if = "is_default")]
    pub draining: [Option<Draining>; 3],
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
    /// The file is not a state.
    #[error("{path} is not a state of weir: {reason}; move it away to start empty")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// Where the state is kept.
pub trait Store: Send {
    /// The state as kept last, or nothing if none ever was.
    ///
    /// # Errors
    ///
    /// There is one, but it cannot be read.
    fn load(&self) -> Result<Option<Stored>, Error>;

    /// Keeps the state. When this returns, it survives a crash.
    ///
    /// # Errors
    ///
    /// The state kept before is still kept.
    fn save(&mut self, state: &Stored) -> Result<(), Error>;
}

/// The state in a directory of its own.
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
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |error| Error::Io { action, path: path.to_owned(), error }
}

impl Store for Directory {
    fn load(&self) -> Result<Option<Stored>, Error> {
        let path = self.file();
        let length = match fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error("read", &path)(error)),
        };
        let corrupt = |reason: String| Error::Corrupt { path: path.clone(), reason };
        if length > MAX_LENGTH {
            return Err(corrupt(format!("{length} bytes are too many")));
        }
        let text = fs::read(&path).map_err(io_error("read", &path))?;
        let state: Stored =
            serde_json::from_slice(&text).map_err(|error| corrupt(error.to_string()))?;
        if state.form != FORM {
            return Err(corrupt(format!("it has form {}, this agent knows {FORM}", state.form)));
        }
        Ok(Some(state))
    }

    fn save(&mut self, state: &Stored) -> Result<(), Error> {
        let (path, new) = (self.file(), self.0.join("state.json.new"));
        let text = serde_json::to_vec_pretty(state)
            .map_err(|error| Error::Corrupt { path: new.clone(), reason: error.to_string() })?;
        let write = || -> io::Result<()> {
            let mut options = OpenOptions::new();
            // Seeds are in it: for the owner's eyes only.
            let mut file =
                options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            file.write_all(&text)?;
            file.sync_all()
        };
        write().map_err(io_error("write", &new))?;
        fs::rename(&new, &path).map_err(io_error("replace", &path))?;
        // The rename itself must survive, too.
        File::open(&self.0)
            .and_then(|directory| directory.sync_all())
            .map_err(io_error("flush", &self.0))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Directory::open(&dir.path().join("deep/state")).unwrap();
        assert_eq!(store.load().unwrap(), None);
        let state = Stored::new(7, 1, Vec::new());
        store.save(&state).unwrap();
        assert_eq!(store.load().unwrap(), Some(state));
    }

    #[test]
    fn a_torn_file_is_refused_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Directory::open(dir.path()).unwrap();
        store.save(&Stored::new(7, 1, Vec::new())).unwrap();
        let whole = fs::read(store.file()).unwrap();
        fs::write(store.file(), &whole[..whole.len() / 2]).unwrap();
        let said = store.load().unwrap_err().to_string();
        assert!(said.contains("state.json is not a state of weir"), "{said}");
        assert_eq!(fs::read(store.file()).unwrap(), &whole[..whole.len() / 2]);
    }

    #[test]
    fn a_failed_save_keeps_the_old_state() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Directory::open(dir.path()).unwrap();
        let old = Stored::new(7, 1, Vec::new());
        store.save(&old).unwrap();
        fs::create_dir(dir.path().join("state.json.new")).unwrap();
        assert!(store.save(&Stored::new(8, 1, Vec::new())).is_err());
        assert_eq!(store.load().unwrap(), Some(old));
    }
}
