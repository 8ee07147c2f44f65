//! Removes what labs of dead processes have left: those that were killed before they could.

use std::path::Path;
use std::{fs, io};

use nix::mount::{MntFlags, umount2};

use super::names::LabName;
use super::namespace;

/// Where each lab keeps its files: the agent's socket, state and log.
pub(super) const FILES: &str = "/run/weir-lab";

/// In a lab's directory: where its BPF file system is mounted.
pub(super) const BPFFS: &str = "bpf";

/// Removes namespaces and directories whose process no longer exists. What cannot be removed is
/// left to the next sweep: another process may be sweeping at the same moment.
pub(super) fn sweep() {
    for name in orphans(Path::new(namespace::DIRECTORY)) {
        let _ = namespace::remove(&name);
    }
    for name in orphans(Path::new(FILES)) {
        let _ = remove_files(&Path::new(FILES).join(name));
    }
}

/// Removes a lab's directory, with the BPF file system in it: what is pinned there and used by
/// nobody ends.
pub(super) fn remove_files(directory: &Path) -> io::Result<()> {
    // Fails where nothing is mounted, and then there is nothing to do.
    let _ = umount2(&directory.join(BPFFS), MntFlags::MNT_DETACH);
    fs::remove_dir_all(directory)
}

fn orphans(directory: &Path) -> Vec<String> {
    fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| {
            LabName::owner_of(name)
                .is_some_and(|lab| !Path::new("/proc").join(lab.pid.to_string()).exists())
        })
        .collect()
}
