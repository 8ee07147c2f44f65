//! weir: one binary, the agent of a load-balancer host and its command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    weir::cli::main()
}
