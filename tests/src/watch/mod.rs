//! Programs of others that look at an agent: a Prometheus, a browser. They run in the network
//! namespace of the balancer host, as people would on a host of theirs.

pub mod browser;
pub mod http;
pub mod prometheus;

use anyhow::{Result, bail};

/// Fails with the remedy unless there is this program.
///
/// # Errors
///
/// There is none.
pub fn require(program: &str) -> Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&path).any(|directory| directory.join(program).is_file()) {
        return Ok(());
    }
    bail!(
        "there is no {program}: run `cargo xtask setup --watchers` (on Debian, `apt-get install` it)"
    )
}
