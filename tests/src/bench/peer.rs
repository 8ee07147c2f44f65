//! Programs that a user would run instead of weir, on the lab's balancer host.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use anyhow::{Context as _, Result};

use crate::lab::{Namespace, run};

/// Whether a program is installed: on the path, or where root's programs are.
#[must_use]
pub fn installed(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut directories = env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    directories.any(|directory| directory.join(program).is_file())
}

/// Runs `nft -f` on a text in a namespace.
///
/// # Errors
///
/// It fails.
pub fn nft(namespace: &Namespace, directory: &Path, text: &str) -> Result<Output> {
    let file = directory.join("rules.nft");
    fs::write(&file, text).with_context(|| file.display().to_string())?;
    let mut command = namespace.command("nft");
    command.arg("-f").arg(&file);
    run(command)
}
