//! A real etcd on loopback, with a directory of its own, that ends with its handle.

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::{panicking, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::pace;
use crate::watch::require;

/// How long it may take until it answers.
const START_LIMIT: Duration = Duration::from_secs(20);
/// How often free ports are looked for: somebody else may take them first.
const TRIES: usize = 5;

/// The server. Dropping it ends it, and shows its log if the test is failing.
#[derive(Debug)]
pub struct Etcd {
    child: Child,
    directory: TempDir,
    ports: [u16; 2],
    /// More arguments, as for TLS.
    more: Vec<String>,
}

impl Etcd {
    /// Starts one, and waits until it answers.
    ///
    /// # Errors
    ///
    /// There is no etcd, or it does not answer.
    pub fn start() -> Result<Self> {
        Self::start_with(&[])
    }

    /// Starts one that asks clients for TLS, with these arguments.
    ///
    /// # Errors
    ///
    /// As in [`Etcd::start`].
    pub fn start_with(more: &[String]) -> Result<Self> {
        require("etcd")?;
        let mut said = String::new();
        for _ in 0..TRIES {
            let directory = tempfile::tempdir().context("making a directory")?;
            let ports = free_ports()?;
            let child = spawn(&directory, ports, more)?;
            let mut etcd = Self { child, directory, ports, more: more.to_owned() };
            match etcd.wait() {
                Ok(()) => return Ok(etcd),
                Err(error) => said = format!("{error:#}"),
            }
        }
        bail!("etcd does not start: {said}")
    }

    /// Where clients reach it.
    #[must_use]
    pub fn endpoint(&self) -> String {
        let scheme = if self.more.is_empty() { "http" } else { "https" };
        format!("{scheme}://127.0.0.1:{}", self.ports[0])
    }

    /// Kills it, as a power cut does.
    ///
    /// # Errors
    ///
    /// It cannot be killed.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Starts it again, with all that it has kept.
    ///
    /// # Errors
    ///
    /// As in [`Etcd::start`].
    pub fn restart(&mut self) -> Result<()> {
        let _ = self.kill();
        self.child = spawn(&self.directory, self.ports, &self.more)?;
        self.wait()
    }

    /// Lets it hang: it takes connections, and answers nothing.
    ///
    /// # Errors
    ///
    /// It has ended.
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// Lets it go on.
    ///
    /// # Errors
    ///
    /// It has ended.
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill(Pid::from_raw(i32::try_from(self.child.id())?), signal)?)
    }

    fn log(&self) -> PathBuf {
        log(&self.directory)
    }

    fn wait(&mut self) -> Result<()> {
        let deadline = Instant::now() + pace::wait(START_LIMIT);
        // 3.4 and later say it so.
        let ready = "serving client traffic";
        loop {
            let said = std::fs::read_to_string(self.log()).unwrap_or_default();
            let listens = TcpStream::connect(("127.0.0.1", self.ports[0])).is_ok();
            if listens && said.contains(ready) {
                return Ok(());
            }
            if self.child.try_wait()?.is_some() || Instant::now() > deadline {
                bail!("{said}");
            }
            sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.kill();
        if panicking() {
            let said = std::fs::read_to_string(self.log()).unwrap_or_default();
            let lines: Vec<&str> = said.lines().collect();
            let last = &lines[lines.len().saturating_sub(20)..];
            eprintln!("etcd's log ends with:\n{}", last.join("\n"));
        }
    }
}

fn log(directory: &TempDir) -> PathBuf {
    directory.path().join("log")
}

fn spawn(directory: &TempDir, ports: [u16; 2], more: &[String]) -> Result<Child> {
    let log = File::create(log(directory))?;
    let scheme = if more.is_empty() { "http" } else { "https" };
    let [clients, peers] = ports;
    let clients = format!("{scheme}://127.0.0.1:{clients}");
    let peers = format!("http://127.0.0.1:{peers}");
    let mut command = Command::new("etcd");
    command
        .arg("--data-dir")
        .arg(directory.path().join("data"))
        .args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients])
        .args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers])
        .args(["--initial-cluster", &format!("default={peers}")])
        .args(["--log-outputs", "stderr", "--logger", "zap"])
        .args(more)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    command.spawn().context("starting etcd")
}

/// Two ports that nobody has now.
fn free_ports() -> Result<[u16; 2]> {
    let [one, two] = [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?];
    Ok([one.local_addr()?.port(), two.local_addr()?.port()])
}
