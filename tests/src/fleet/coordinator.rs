//! A running `weir coordinator`, and calls of `weir rollout` against it.

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::agent;
use crate::lab::{Namespace, bounded};
use crate::pace;

/// How long it may take until it answers.
const START_LIMIT: Duration = Duration::from_secs(20);
/// How much of the log a failure shows.
const LOG_LINES: usize = 80;

/// The coordinator's process. Dropping it kills it, and shows its log if the test is failing.
#[derive(Debug)]
pub struct Coordinator {
    child: Child,
    socket: PathBuf,
    log: PathBuf,
}

impl Coordinator {
    /// Starts `weir coordinator ARGUMENTS…` with its socket and log in `directory`, under the name
    /// `name`, and waits until it answers.
    pub fn start(directory: &Path, name: &str, arguments: &[&str]) -> Result<Self> {
        Self::start_by(Command::new(agent::binary()?), directory, name, arguments)
    }

    /// The same in a namespace.
    pub fn start_in(
        namespace: &Namespace,
        directory: &Path,
        name: &str,
        arguments: &[&str],
    ) -> Result<Self> {
        Self::start_by(namespace.daemon(agent::binary()?), directory, name, arguments)
    }

    /// The same by a command that becomes another binary, or has an environment of its own.
    pub fn start_by(
        mut command: Command,
        directory: &Path,
        name: &str,
        arguments: &[&str],
    ) -> Result<Self> {
        let (socket, log) =
            (directory.join(format!("{name}.sock")), directory.join(format!("{name}.log")));
        // A socket left by a killed coordinator would look like an answer.
        if socket.exists() {
            fs::remove_file(&socket).context("removing the last coordinator's socket")?;
        }
        let output = File::options().create(true).append(true).open(&log)?;
        command.args(["coordinator", "--coordinator"]).arg(&socket).args(arguments);
        command.env("WEIR_LOG_FORMAT", "text");
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        // A Ctrl-C in the terminal is for us alone.
        command.process_group(0);
        let child = command.spawn().with_context(|| format!("starting {command:?}"))?;
        let mut coordinator = Self { child, socket, log };
        let deadline = Instant::now() + pace::wait(START_LIMIT);
        while UnixStream::connect(&coordinator.socket).is_err() {
            if let Some(status) = coordinator.child.try_wait()? {
                bail!("it ended at its start ({status}); its log:\n{}", coordinator.log_tail());
            }
            if Instant::now() > deadline {
                bail!("it does not answer; its log:\n{}", coordinator.log_tail());
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(coordinator)
    }

    /// Where it listens.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).context("the process id")?);
        kill(pid, signal).with_context(|| format!("sending {signal} to the coordinator"))
    }

    /// Kills it by SIGKILL, as a crash would.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill().context("killing the coordinator")?;
        self.child.wait().context("waiting for the killed coordinator")?;
        Ok(())
    }

    /// Waits until it ends by itself, for so long at most; `None` if it still runs.
    pub fn ends(&mut self, limit: Duration) -> Result<Option<ExitStatus>> {
        let deadline = Instant::now() + pace::wait(limit);
        loop {
            let ended = self.child.try_wait()?;
            if ended.is_some() || Instant::now() > deadline {
                return Ok(ended);
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// The last lines of its log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }

    /// Runs `weir rollout ARGUMENTS…` against it to its end, whether it succeeds or not.
    pub fn output(&self, arguments: &[&str]) -> Result<Output> {
        output(&self.socket, arguments)
    }

    /// The same, and gives what it printed; an error if it fails.
    pub fn rollout(&self, arguments: &[&str]) -> Result<String> {
        let output = self.output(arguments)?;
        let [out, err] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
        if !output.status.success() {
            bail!("weir rollout {arguments:?}: {}: {out}{err}", output.status);
        }
        Ok(out.into_owned())
    }

    /// Waits until it leads.
    pub fn leads(&self) -> Result<()> {
        let deadline = Instant::now() + pace::wait(START_LIMIT);
        loop {
            let list: Value = serde_json::from_str(&self.rollout(&["get", "-o", "json"])?)?;
            if list["leading"] == true {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("it does not lead; its log:\n{}", self.log_tail());
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// What it says of a rollout.
    pub fn get(&self, service: &str) -> Result<Value> {
        let text = self.rollout(&["get", service, "-o", "json"])?;
        serde_json::from_str(&text).with_context(|| text)
    }

    /// Waits until the rollout is as `done` says, for so long at most, and gives it then.
    pub fn wait(
        &self,
        service: &str,
        limit: Duration,
        done: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let deadline = Instant::now() + pace::wait(limit);
        loop {
            // One that has just started may not know of it yet.
            let rollout = self.get(service);
            if rollout.as_ref().is_ok_and(&done) {
                return rollout;
            }
            if Instant::now() > deadline {
                bail!("not within {limit:?}: {:#}", rollout?);
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// The same for a phase, such as `healthy`.
    pub fn wait_for(&self, service: &str, phase: &str, limit: Duration) -> Result<Value> {
        self.wait(service, limit, |rollout| rollout["phase"] == phase)
    }
}

/// Runs `weir rollout ARGUMENTS…` against the coordinator at a socket.
pub fn output(socket: &Path, arguments: &[&str]) -> Result<Output> {
    let mut command = bounded(agent::binary()?);
    command.args(["rollout", "--coordinator"]).arg(socket).args(arguments);
    command.output().with_context(|| format!("running {command:?}"))
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        // Errors here mean that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("the coordinator's log ends with:\n{}", self.log_tail());
        }
    }
}
