//! What a command that goes on until it is ended takes on its log.

use clap::Args;

use crate::log::{Format, Level};

/// What is logged, and how.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct LogArgs {
    /// Which lines to log.
    #[arg(long, value_enum, default_value_t, value_name = "LEVEL")]
    pub(super) log: Level,
    /// How to log: text on a terminal and JSON otherwise, or always the one or the other.
    #[arg(
        long,
        value_enum,
        default_value_t,
        env = "WEIR_LOG_FORMAT",
        hide_env_values = true,
        value_name = "FORMAT"
    )]
    pub(super) log_format: Format,
}
