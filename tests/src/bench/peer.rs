//! Programs that a user would run instead of weir, on the lab's balancer host.

use std::fs;
use std::path::Path;
use std::process::Output;

use anyhow::{Context as _, Result};

use crate::lab::{Namespace, run};

/// Whether a program is installed. `why` is said otherwise.
#[must_use]
pub fn installed(program: &str) -> bool {
    let found = |directory: &str| Path::new(directory).join(program).is_file();
    ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].into_iter().any(found)
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
