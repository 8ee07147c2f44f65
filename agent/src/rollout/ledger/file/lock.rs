//! A lock on a file, which the kernel takes back from a process that ends.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// The lock, as long as it lives. Another open of the same file in the same process does not have
/// it.
#[derive(Debug)]
pub(super) struct Lock {
    _held: Flock<File>,
}

impl Lock {
    /// The lock, unless somebody has it.
    pub(super) fn take(path: &Path) -> io::Result<Option<Self>> {
        Ok(lock(path, FlockArg::LockExclusiveNonblock)?.map(|held| Self { _held: held }))
    }

    /// Whether somebody has it.
    pub(super) fn is_taken(path: &Path) -> io::Result<bool> {
        Ok(lock(path, FlockArg::LockSharedNonblock)?.is_none())
    }
}

fn lock(path: &Path, how: FlockArg) -> io::Result<Option<Flock<File>>> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(false).mode(0o600).open(path)?;
    match Flock::lock(file, how) {
        Ok(held) => Ok(Some(held)),
        Err((_, Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, errno)) => Err(errno.into()),
    }
}
