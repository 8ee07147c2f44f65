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
        program: impl AsRef<OsStr>,
        arguments: &[impl AsRef<OsStr>],
        log: &Path,
    ) -> Result<Self> {
        let output = File::create(log).with_context(|| format!("creating {}", log.display()))?;
        let mut command = namespace.daemon(&program);
        command.args(arguments);
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        // A group of its own: a browser has many processes, a proxy its workers.
        command.process_group(0);
        let what = || format!("starting {}", program.as_ref().display());
        let child = command.spawn().with_context(what)?;
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

    /// Waits until it has written these words, likewise.
    pub fn wait_to_say(&mut self, words: &str) -> Result<()> {
        let log = self.log.clone();
        self.wait(|| read(&log).contains(words))
    }

    /// Ends it by SIGTERM, and gives what it has written; an error with that if it does not end well.
    pub fn stop(mut self) -> Result<String> {
        self.ask_to_end();
        match self.child.try_wait()? {
            Some(status) if status.success() => Ok(self.said()),
            Some(status) => bail!("{status}: {}", self.said().trim()),
            None => bail!("it does not stop: {}", self.said().trim()),
        }
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
        read(&self.log)
    }

    /// Asks the group to end, and waits until its first has.
    fn ask_to_end(&mut self) {
        // An error means that it has ended already.
        let _ = killpg(self.group(), Signal::SIGTERM);
        let deadline = Instant::now() + pace::wait(STOP_LIMIT);
        while !self.has_ended() && Instant::now() < deadline {
            sleep(Duration::from_millis(20));
        }
    }

    fn group(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }
}

fn read(log: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(log).unwrap_or_default()).into_owned()
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.has_ended() {
            self.ask_to_end();
            // Errors mean that it has ended already.
            let _ = killpg(self.group(), Signal::SIGKILL);
        }
        let _ = self.child.wait();
        if thread::panicking() {
            let said = self.said();
            let lines: Vec<&str> = said.lines().collect();
            eprintln!("its log ends with:\n{}", lines[lines.len().saturating_sub(30)..].join("\n"));
        }
    }
}
