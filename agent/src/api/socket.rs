//! The agent's Unix socket: mode 0660, and of one agent at a time.

use std::{
    fs::{self, File, Permissions, TryLockError},
    io,
    os::unix::{
        fs::{FileTypeExt as _, PermissionsExt as _},
        net::{UnixListener as StdListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use tokio::net::UnixListener;

/// Who may use the socket: owner and group.
const MODE: u32 = 0o660;

/// Why the socket cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another agent listens.
    #[error("another agent listens at {}: stop it, or choose another --socket", .0.display())]
    InUse(PathBuf),
    /// Something else stands there.
    #[error("{} exists and is not a socket: remove it, or choose another --socket", .0.display())]
    NotASocket(PathBuf),
    /// A file operation failed.
    #[error("socket {}: cannot {action}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What failed.
        action: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// The right to the socket's path: keep it until the agent has let go of everything.
///
/// When dropped, the file is removed and another agent may start.
#[derive(Debug)]
pub struct SocketGuard {
    path: PathBuf,
    _lock: File,
}

impl SocketGuard {
    /// Removes the file, so that no new client finds it. Another agent still may not start.
    pub fn unlink(&self) {
        // Nothing is left to do if it fails: the next agent removes the file.
        let _ = fs::remove_file(&self.path);
    }
}

impl Drop for SocketGuard {
    fn drop(&mut self) {
        self.unlink();
    }
}

/// Binds `path`, making its directory if need be. Must be called within a tokio runtime.
///
/// The file of an agent that died is removed, that of one that lives is left alone: a lock beside the file
/// (`PATH.lock`, given back by the kernel when its holder dies) settles it between agents, and a connection
/// is tried in case the socket belongs to another program. The file appears with its final mode, by a rename.
pub fn bind(path: &Path) -> Result<(UnixListener, SocketGuard), SocketError> {
    let fail = |action| move |source| SocketError::Io { path: path.to_owned(), action, source };
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(fail("create its directory"))?;
    }
    let lock = lock(path)?;
    refuse_foreign(path)?;
    let new = beside(path, "new");
    if new.exists() {
        fs::remove_file(&new).map_err(fail("remove a leftover"))?;
    }
    let listener = StdListener::bind(&new).map_err(fail("bind"))?;
    fs::set_permissions(&new, Permissions::from_mode(MODE)).map_err(fail("set its mode"))?;
    fs::rename(&new, path).map_err(fail("put it in place"))?;
    let guard = SocketGuard { path: path.to_owned(), _lock: lock };
    listener.set_nonblocking(true).map_err(fail("make it non-blocking"))?;
    let listener = UnixListener::from_std(listener).map_err(fail("listen"))?;
    Ok((listener, guard))
}

/// `PATH.suffix`.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

fn lock(path: &Path) -> Result<File, SocketError> {
    let name = beside(path, "lock");
    let fail = |source| SocketError::Io { path: name.clone(), action: "lock", source };
    let file =
        File::options().create(true).write(true).truncate(false).open(&name).map_err(fail)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(SocketError::InUse(path.to_owned())),
        Err(TryLockError::Error(source)) => Err(fail(source)),
    }
}

/// Lets pass what may be replaced: nothing, or a socket that nobody answers at.
fn refuse_foreign(path: &Path) -> Result<(), SocketError> {
    let kind = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => {
            return Err(SocketError::Io { path: path.to_owned(), action: "look at it", source });
        }
    };
    if !kind.is_socket() {
        return Err(SocketError::NotASocket(path.to_owned()));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        // Also if its queue is full, or if it is a socket of another type: it is not ours to remove.
        _ => Err(SocketError::InUse(path.to_owned())),
    }
}
