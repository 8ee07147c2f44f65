//! What is judged, as lines of JSON that `weir rollout replay` reads.

use std::{
    fs::File,
    io::{self, Write as _},
    path::Path,
    sync::{Mutex, PoisonError},
};

use serde::Serialize;

use crate::{model::ServiceName, rollout::judge::Tick};

/// The most bytes of a record; then it ends.
pub const MAX_BYTES: u64 = 1 << 30;

/// A file that is appended to.
#[derive(Debug)]
pub struct Record(Mutex<Option<Open>>);

#[derive(Debug)]
struct Open {
    file: File,
    bytes: u64,
}

#[derive(Serialize)]
struct Line<'a> {
    service: &'a ServiceName,
    ticks: &'a [Tick],
}

impl Record {
    /// Appends to a file, which is made if there is none.
    ///
    /// # Errors
    ///
    /// It cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::options().create(true).append(true).open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self(Mutex::new(Some(Open { file, bytes }))))
    }

    /// Writes the ticks of a service, if there are any. What fails ends the record, and not the
    /// rollout.
    pub(super) fn write(&self, service: &ServiceName, ticks: &[Tick]) {
        if ticks.is_empty() {
            return;
        }
        let mut guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(open) = guard.as_mut() else { return };
        let line = serde_json::to_vec(&Line { service, ticks }).map_err(io::Error::from);
        let written = line.and_then(|mut line| {
            line.push(b'\n');
            open.bytes += line.len() as u64;
            if open.bytes > MAX_BYTES {
                return Err(io::Error::other("it is full"));
            }
            open.file.write_all(&line)
        });
        if let Err(error) = written {
            tracing::warn!(%error, "the record of what is judged ends");
            *guard = None;
        }
    }
}
