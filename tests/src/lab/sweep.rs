//! Removes what labs of dead processes have left: those that were killed before they could.

use std::fs;
use std::path::{Path, PathBuf};

use super::names::LabName;
use super::namespace;

/// Where each lab keeps its files: the agent's socket, state and log.
pub(super) const FILES: &str = "/run/weir-lab";

/// Removes namespaces and directories whose process no longer exists. What cannot be removed is
/// left to the next sweep: another process may be sweeping at the same moment.
pub(super) fn sweep() {
    for name in orphans(Path::new(namespace::DIRECTORY)) {
        let _ = namespace::remove(&name);
    }
    for name in orphans(Path::new(FILES)) {
        let _ = fs::remove_dir_all(PathBuf::from(FILES).join(name));
    }
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
