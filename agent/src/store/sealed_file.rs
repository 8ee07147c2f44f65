//! A sealed file that is replaced as a whole, so that a crash at any instant leaves a good one.
//!
//! The new file is written beside the old one, flushed, and renamed over it. The one before stays
//! beside it as `NAME.prev`, and is used where the file turns out to be damaged.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::seal::{self, Unreadable};
use super::{Error, Kept, io_error};
use crate::fault::{self, Point};

/// The file.
#[derive(Debug, Clone)]
pub(crate) struct SealedFile {
    path: PathBuf,
    /// Number of the form that is written, the newest that is read.
    form: u32,
    /// A longer file is damaged; in bytes.
    max_length: u64,
}

/// What was found.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Found<T> {
    /// What is in the file, or in the one before; nothing if there is neither.
    pub(crate) content: Option<T>,
    /// If it is not of the file itself: why, and where that one is now.
    pub(crate) warning: Option<String>,
}

/// What is in one file.
enum Read<T> {
    Nothing,
    Content(T),
    Damaged(String),
}

impl SealedFile {
    pub(crate) fn new(path: PathBuf, form: u32, max_length: u64) -> Self {
        Self { path, form, max_length }
    }

    #[cfg(test)]
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The file's name with `ending`.
    fn beside(&self, ending: &str) -> PathBuf {
        let mut name = OsString::from(&self.path);
        name.push(ending);
        name.into()
    }

    pub(crate) fn previous(&self) -> PathBuf {
        self.beside(".prev")
    }

    /// What `open` makes of the file; where that is damaged, of the one before. The damaged one is
    /// put aside then, so that the next [`SealedFile::replace`] does not keep it as the one before.
    ///
    /// # Errors
    ///
    /// There is one, but none can be read. All files are as they were.
    pub(crate) fn load<T>(
        &self,
        open: impl Fn(&[u8]) -> Result<T, Unreadable>,
    ) -> Result<Found<T>, Error> {
        let mut found = self.look(open)?;
        if let Some(warning) = &mut found.warning
            && self.path.exists()
        {
            let now = humantime::format_rfc3339_seconds(SystemTime::now());
            let aside = self.beside(&format!(".corrupt-{now}"));
            fs::rename(&self.path, &aside).map_err(io_error("put aside", &self.path))?;
            *warning = format!("{warning}; the damaged one is now {}", aside.display());
        }
        Ok(found)
    }

    /// The same for readers: nothing is put aside.
    ///
    /// # Errors
    ///
    /// As in [`SealedFile::load`].
    pub(crate) fn look<T>(
        &self,
        open: impl Fn(&[u8]) -> Result<T, Unreadable>,
    ) -> Result<Found<T>, Error> {
        let (path, previous) = (&self.path, self.previous());
        let reason = match self.read(path, &open)? {
            Read::Content(content) => return Ok(Found { content: Some(content), warning: None }),
            Read::Damaged(reason) => Some(reason),
            Read::Nothing => None,
        };
        let (content, reason) = match (self.read(&previous, &open)?, reason) {
            (Read::Content(content), reason) => (content, reason),
            (Read::Nothing, None) => return Ok(Found { content: None, warning: None }),
            (found, reason) => {
                let other = if let Read::Damaged(reason) = found { Some(reason) } else { None };
                let reason = reason.unwrap_or_else(|| "it is not there".to_owned());
                return Err(Error::Corrupt { path: path.clone(), reason, previous, other });
            }
        };
        let what = match reason {
            Some(reason) => format!("{} was damaged ({reason})", path.display()),
            None => format!("there was no {}", path.display()),
        };
        let warning = format!(
            "{what}; the state before it is used, from {}: the last change may be missing",
            previous.display()
        );
        Ok(Found { content: Some(content), warning: Some(warning) })
    }

    fn read<T>(
        &self,
        path: &Path,
        open: impl Fn(&[u8]) -> Result<T, Unreadable>,
    ) -> Result<Read<T>, Error> {
        let length = match fs::metadata(path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Read::Nothing),
            Err(error) => return Err(io_error("read", path)(error)),
        };
        if length > self.max_length {
            return Ok(Read::Damaged(format!("{length} bytes are too many")));
        }
        let text = fs::read(path).map_err(io_error("read", path))?;
        match open(&text) {
            Ok(content) => Ok(Read::Content(content)),
            Err(Unreadable::Damaged(reason)) => Ok(Read::Damaged(reason)),
            Err(Unreadable::Unsealed) => Ok(Read::Damaged("it has no checksum".to_owned())),
            Err(Unreadable::Newer(form)) => {
                Err(Error::Newer { path: path.to_owned(), form, known: self.form })
            }
        }
    }

    /// Seals the text and puts it in the place of the file, which becomes the one before.
    ///
    /// # Errors
    ///
    /// The file is as it was.
    pub(crate) fn replace(&self, text: &[u8]) -> Result<Kept, Error> {
        let (path, new) = (&self.path, self.beside(".new"));
        if let Err(error) = write(&new, &seal::sealed(self.form, text)) {
            // It may be what fills the disk.
            let _ = fs::remove_file(&new);
            return Err(io_error("write", &new)(error));
        }
        self.keep_previous().map_err(io_error("keep the state before as", &self.previous()))?;
        fs::rename(&new, path).map_err(io_error("replace", path))?;
        fault::point(Point::StoreRenamed);
        // The rename itself must survive, too.
        let directory = path.parent().unwrap_or(Path::new("."));
        match File::open(directory).and_then(|directory| directory.sync_all()) {
            Ok(()) => Ok(Kept::Durably),
            Err(error) => Ok(Kept::Unflushed(format!("flush {}: {error}", directory.display()))),
        }
    }

    /// Lets the file stay as the one before. There is a whole file under its name all the time.
    fn keep_previous(&self) -> io::Result<()> {
        let absent = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
        if !self.path.exists() {
            return Ok(()); // the first one, or a damaged one was put aside
        }
        fs::remove_file(self.previous()).or_else(|e| if absent(&e) { Ok(()) } else { Err(e) })?;
        fs::hard_link(&self.path, self.previous())?;
        fault::point(Point::StoreLinked);
        Ok(())
    }
}

/// Writes a file as a whole, down to the disk.
pub(crate) fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    // Seeds are in it: for the owner's eyes only.
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text)?;
    fault::point(Point::StoreWritten);
    file.sync_all()?;
    fault::point(Point::StoreFlushed);
    Ok(())
}
