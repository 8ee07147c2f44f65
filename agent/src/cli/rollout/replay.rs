//! `weir rollout replay`

use std::path::PathBuf;

use clap::Args;

use crate::cli::{fail::Failure, output::Output};

/// Judge recorded counters again: lines of `weir counters SERVICE --watch -o json`.
#[derive(Debug, Args)]
pub(super) struct Replay {
    /// The lines.
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

impl Replay {
    pub(super) fn run(self, _output: Output) -> Result<(), Failure> {
        let _ = self.file;
        Ok(())
    }
}
