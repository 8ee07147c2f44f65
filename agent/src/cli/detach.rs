//! `weir detach`

use std::path::PathBuf;

use clap::Args;

use super::fail::Failure;
use crate::{agent::DEFAULT_BPFFS, dataplane::kernel::Pins};

/// End the forwarding that a stopped agent has left in the kernel, and all that is remembered. To be
/// run where the agent ran: in its network namespace.
#[derive(Debug, Args)]
pub(super) struct Detach {
    /// Where the agent pinned it.
    #[arg(long, default_value = DEFAULT_BPFFS, value_name = "DIR")]
    bpffs: PathBuf,
}

impl Detach {
    pub(super) fn run(self) -> Result<(), Failure> {
        let mut links = 0;
        for pins in Pins::all(&self.bpffs).map_err(anyhow::Error::from)? {
            links += pins.remove().map_err(anyhow::Error::from)?;
        }
        let plural = if links == 1 { "" } else { "s" };
        println!("detached {links} program{plural}; nothing is left in {}", self.bpffs.display());
        Ok(())
    }
}
