//! The log of the verbs that stay: the agent and the decapsulator.

use std::io::IsTerminal as _;

use clap::ValueEnum;
use tracing_subscriber::filter::LevelFilter;

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// Text on a terminal, else JSON.
    #[default]
    Auto,
    /// For people.
    Text,
    /// One JSON object a line, for programs.
    Json,
}

/// Which lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Level {
    /// What has failed.
    Error,
    /// And what somebody should look at.
    Warn,
    /// And what has changed.
    #[default]
    Info,
    /// And how.
    Debug,
    /// And everything else.
    Trace,
}

/// Logs to standard error from here on; text is in colour on a terminal.
pub(crate) fn start(format: Format, level: Level) {
    let terminal = std::io::stderr().is_terminal();
    let level = match level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    };
    let log = tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr);
    let log = log.with_target(false);
    // A second start in one process, as in tests, keeps the first log.
    let _ = match format {
        Format::Auto if !terminal => log.json().flatten_event(true).try_init(),
        Format::Json => log.json().flatten_event(true).try_init(),
        Format::Auto | Format::Text => log.with_ansi(terminal).try_init(),
    };
}
