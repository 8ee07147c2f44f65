//! The program's own log lines, in the agent's log.
//!
//! Lines above the level are not in the program: the level is a constant to the verifier, which
//! leaves out what cannot be reached.

use std::time::Duration;

use aya_log::EbpfLogger;
use clap::ValueEnum;
use log::{Level, Log, Metadata, Record};
use weir_ebpf::abi::Reason;

use super::Kernel;

/// Which lines the program writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum BpfLog {
    /// None.
    #[default]
    Off,
    /// Packets dropped where that should never be.
    Error,
    /// And all other packets that are dropped.
    Info,
    /// And flows that are remembered.
    Debug,
}

impl BpfLog {
    /// The name, as on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Error => "error",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }

    /// As the program has it.
    pub(super) const fn level(self) -> u8 {
        match self {
            Self::Off => 0,
            Self::Error => Level::Error as u8,
            Self::Info => Level::Info as u8,
            Self::Debug => Level::Debug as u8,
        }
    }

    /// Bytes of the ring that lines go through: the smallest there is, where there are none.
    pub(super) const fn ring(self) -> u32 {
        match self {
            Self::Off => 4_096,
            _ => 1 << 17,
        }
    }
}

/// How often lines are read.
const LOOK: Duration = Duration::from_millis(100);

/// Reads the program's lines.
pub struct Lines(pub(super) EbpfLogger<Forward>);

impl Kernel {
    /// What reads the program's lines, once; nothing, if it writes none.
    pub fn take_log(&mut self) -> Option<Lines> {
        self.log.take()
    }
}

impl Lines {
    /// Hands the program's lines on to the agent's log, as they come.
    pub async fn follow(mut self) {
        loop {
            self.0.flush();
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// From the program to the agent's log.
pub(super) struct Forward;

impl Log for Forward {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let text = named(&record.args().to_string());
        match record.level() {
            Level::Error => tracing::error!(target: "bpf", bpf = true, "{text}"),
            Level::Warn => tracing::warn!(target: "bpf", bpf = true, "{text}"),
            // What was asked for by its own level is not to be lost by the agent's.
            Level::Info | Level::Debug | Level::Trace => {
                tracing::info!(target: "bpf", bpf = true, "{text}");
            }
        }
    }

    fn flush(&self) {}
}

/// The line with the name of the reason that ends it as a number: the program has no words.
fn named(line: &str) -> String {
    let reason = line.rsplit_once("reason ").and_then(|(_, number)| number.parse::<u32>().ok());
    let reason = reason.and_then(|n| Reason::ALL.into_iter().find(|reason| *reason as u32 == n));
    reason.map_or_else(|| line.to_owned(), |reason| format!("{line} ({reason:?})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_gets_its_name() {
        assert_eq!(named("dropped: reason 8"), "dropped: reason 8 (HopLimit)");
        assert_eq!(named("dropped: reason 99"), "dropped: reason 99");
        assert_eq!(named("something else"), "something else");
    }
}
