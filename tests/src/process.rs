//! A program that stays, in a namespace, until it is dropped.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::lab::Namespace;
use crate::pace;

/// How long it may take until it serves.
const START_LIMIT: Duration = Duration::from_secs(20);
/// How long it may take from SIGTERM to its end.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// The process, the first of a group of its own. Dropping it ends the group, and shows its log if
/// the test is failing.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program in `namespace`, with its output in `log`.
    pub fn start(
        namespace: &Namespace,
        program: &str,
        arguments: &[impl AsRef<OsStr>],
        log: &Path,
    ) -> Result<Self> {
        let output = File::create(log).with_context(|| format!("creating {}", log.display()))?;
        let mut command = namespace.daemon(program);
        command.args(arguments);
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        // A group of its own: a browser has many processes, a proxy its workers.
        command.process_group(0);
        let child = command.spawn().with_context(|| format!("starting {program}"))?;
        Ok(Self { child, log: log.to_owned() })
    }

    /// Waits until `serves` says that it does; an error with what it has written if it ends before
    /// that, or takes too long.
    pub fn wait(&mut self, serves: impl Fn() -> bool) -> Result<()> {
        let deadline = Instant::now() + pace::wait(START_LIMIT);
        while !serves() {
            if self.has_ended() || Instant::now() > deadline {
                bail!("it does not serve: {}", self.said().trim());
            }
            sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Its process, of which others may be children.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended by itself.
    fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// What it has written.
    fn said(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Errors mean that it has ended already.
        let group = i32::try_from(self.child.id()).map(Pid::from_raw);
        if let (Ok(group), false) = (group, self.has_ended()) {
            let _ = killpg(group, Signal::SIGTERM);
            let deadline = Instant::now() + pace::wait(STOP_LIMIT);
            while !self.has_ended() && Instant::now() < deadline {
                sleep(Duration::from_millis(20));
            }
            let _ = killpg(group, Signal::SIGKILL);
        }
        let _ = self.child.wait();
        if thread::panicking() {
            let said = self.said();
            let lines: Vec<&str> = said.lines().collect();
            eprintln!("its log ends with:\n{}", lines[lines.len().saturating_sub(30)..].join("\n"));
        }
    }
}
