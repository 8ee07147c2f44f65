//! What the processor counts of a thread, by `perf stat`: most virtual machines keep it to themselves.

use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Serialize;

const EVENTS: &str = "instructions,cache-misses";
/// How long it takes until `perf` counts.
const START: Duration = Duration::from_millis(200);

/// `perf`, which works here.
#[derive(Debug, Clone, Copy)]
pub struct Perf(());

/// What was counted, by packet.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Counted {
    /// Machine instructions.
    pub instructions: f64,
    /// Misses of the last cache.
    pub cache_misses: f64,
}

impl Perf {
    /// Whether it works here; else why not.
    ///
    /// # Errors
    ///
    /// A line for people.
    pub fn find() -> Result<Self, String> {
        let probe = Command::new("perf").args(["stat", "-x,", "-e", EVENTS, "true"]).output();
        let Ok(probe) = probe else { return Err("perf is not installed".to_owned()) };
        match counts(&String::from_utf8_lossy(&probe.stderr)) {
            Some(_) => Ok(Self(())),
            None => Err("perf counts neither on this machine".to_owned()),
        }
    }

    /// What this thread takes while it does something over so many packets.
    ///
    /// # Errors
    ///
    /// That fails, or `perf` says nothing.
    pub fn during(self, packets: u32, what: impl FnOnce() -> Result<()>) -> Result<Counted> {
        let thread = std::fs::read_link("/proc/thread-self")?;
        let thread = thread.file_name().context("a thread has an id")?.to_owned();
        let mut perf = Command::new("perf");
        perf.args(["stat", "-x,", "-e", EVENTS, "-t"]).arg(thread);
        let perf =
            perf.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        thread::sleep(START);
        let done = what();
        kill(Pid::from_raw(perf.id().try_into()?), Signal::SIGINT)?;
        let said = perf.wait_with_output()?;
        done?;
        let [instructions, misses] =
            counts(&String::from_utf8_lossy(&said.stderr)).context("perf has counted nothing")?;
        let packets = f64::from(packets);
        Ok(Counted { instructions: instructions / packets, cache_misses: misses / packets })
    }
}

/// The counts in the order of [`EVENTS`]: of each line, the first field and, third, the event's name.
fn counts(said: &str) -> Option<[f64; 2]> {
    let count = |event: &str| {
        let mut lines = said.lines().map(|line| line.split(',').collect::<Vec<_>>());
        let line = lines.find(|line| line.get(2).is_some_and(|name| name.starts_with(event)))?;
        line.first()?.parse().ok()
    };
    Some([count("instructions")?, count("cache-misses")?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_perf_says() {
        let said = "1250000,,instructions:u,4021,100.00,0.85,insn per cycle\n\
                    310,,cache-misses:u,4021,100.00,,\n";
        assert_eq!(counts(said), Some([1_250_000.0, 310.0]));
        let said = "<not supported>,,instructions,0,100.00,,\n<not supported>,,cache-misses,0,,,\n";
        assert_eq!(counts(said), None);
    }
}
