//! The log of the verbs that stay: the agent and the decapsulator.

use std::io::IsTerminal as _;

/// Logs to standard error from here on, in colour on a terminal.
pub(crate) fn start() {
    let filter = tracing_subscriber::filter::LevelFilter::INFO;
    let log = tracing_subscriber::fmt().with_max_level(filter).with_writer(std::io::stderr);
    // A second start in one process, as in tests, keeps the first log.
    let _ = log.with_ansi(std::io::stderr().is_terminal()).with_target(false).try_init();
}
