//! Files and directories, with errors that name them.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::super::Error;
use crate::store::sealed_file::SealedFile;
use crate::store::{self, seal};

/// Number of the form of all files.
pub(super) const FORM: u32 = 1;
/// The longest file, in bytes: an entry with its last events, and what JSON and the seal add.
const MAX_LENGTH: u64 = 2 << 20;

pub(super) fn sealed(path: PathBuf) -> SealedFile {
    SealedFile::new(path, FORM, MAX_LENGTH)
}

/// What is in a sealed file.
pub(super) fn unsealed<T: DeserializeOwned>(text: &[u8]) -> Result<T, seal::Unreadable> {
    let text = seal::open(FORM, text)?;
    serde_json::from_slice(text).map_err(|e| seal::Unreadable::Damaged(e.to_string()))
}

/// A file; empty if there is none.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, Error> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        read => read.map_err(io_error("read", path)),
    }
}

/// The names in a directory; none if there is none.
pub(super) fn list(directory: &Path) -> Result<Vec<String>, Error> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(io_error("list", directory))?,
    };
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect())
}

pub(super) fn make_directory(path: &Path) -> Result<(), Error> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(io_error("create directory", path))
}

pub(super) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |error| Error::File(store::Error::Io { action, path: path.to_owned(), error })
}
