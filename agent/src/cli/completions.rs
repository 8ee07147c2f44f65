//! `weir completions`

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::{Cli, fail::Failure, output::print};

/// Print the completion script of a shell.
#[derive(Debug, Args)]
#[command(after_help = "For bash: weir completions bash > /etc/bash_completion.d/weir")]
pub(super) struct Completions {
    /// The shell.
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self) -> Result<(), Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "weir", &mut script);
        print(&String::from_utf8_lossy(&script))
    }
}
