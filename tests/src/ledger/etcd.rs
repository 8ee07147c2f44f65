//! A real etcd on loopback, or in a namespace, with a directory of its own, that ends with its handle.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::{panicking, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::lab::{Namespace, daemon};
use crate::pace;
use crate::watch::require;

/// How long it may take until it answers.
const START_LIMIT: Duration = Duration::from_secs(20);
/// Its ports where nobody else has any.
const PORTS: [u16; 2] = [2_379, 2_380];
/// How often free ports are looked for: somebody else may take them first.
const TRIES: usize = 5;

/// The server. Dropping it ends it, and shows its log if the test is failing.
#[derive(Debug)]
pub struct Etcd {
    child: Child,
    directory: TempDir,
    place: Place,
}

/// Where it runs, and how.
#[derive(Debug, Clone)]
struct Place {
    /// The namespace; ours if there is none.
    namespace: Option<String>,
    clients: SocketAddr,
    /// The port for its like, on loopback.
    peers: u16,
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
            let [clients, peers] = free_ports()?;
            let clients = (Ipv4Addr::LOCALHOST, clients).into();
            let place = Place { namespace: None, clients, peers, more: more.to_owned() };
            match Self::start_at(place) {
                Ok(etcd) => return Ok(etcd),
                Err(error) => said = format!("{error:#}"),
            }
        }
        bail!("etcd does not start: {said}")
    }

    /// Starts one in a namespace, for clients at one of its addresses.
    ///
    /// # Errors
    ///
    /// As in [`Etcd::start`].
    pub fn start_in(namespace: &Namespace, address: IpAddr) -> Result<Self> {
        require("etcd")?;
        let [clients, peers] = PORTS;
        let (namespace, clients) = (Some(namespace.name().to_owned()), (address, clients).into());
        Self::start_at(Place { namespace, clients, peers, more: Vec::new() })
    }

    fn start_at(place: Place) -> Result<Self> {
        let directory = tempfile::tempdir().context("making a directory")?;
        let mut etcd = Self { child: spawn(&directory, &place)?, directory, place };
        etcd.wait()?;
        Ok(etcd)
    }

    /// Where clients reach it.
    #[must_use]
    pub fn endpoint(&self) -> String {
        self.place.url()
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
        self.child = spawn(&self.directory, &self.place)?;
        self.wait()
    }

    /// Lets it hang: it takes connections, and answers nothing.
    ///
    /// # Errors
    ///
    /// It has ended.
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)?;
        // A signal is not there at once, least of all in each of its threads.
        match waitpid(self.pid()?, Some(WaitPidFlag::WUNTRACED))? {
            WaitStatus::Stopped(..) => Ok(()),
            other => bail!("etcd does not stop: {other:?}"),
        }
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
        Ok(kill(self.pid()?, signal)?)
    }

    fn pid(&self) -> Result<Pid> {
        Ok(Pid::from_raw(i32::try_from(self.child.id())?))
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
            let listens =
                self.place.namespace.is_some() || TcpStream::connect(self.place.clients).is_ok();
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

impl Place {
    /// Where clients reach it.
    fn url(&self) -> String {
        let scheme = if self.more.is_empty() { "http" } else { "https" };
        format!("{scheme}://{}", self.clients)
    }
}

fn spawn(directory: &TempDir, place: &Place) -> Result<Child> {
    let log = File::create(log(directory))?;
    let (clients, peers) = (place.url(), format!("http://127.0.0.1:{}", place.peers));
    let mut command = match &place.namespace {
        None => Command::new("etcd"),
        Some(namespace) => daemon(namespace, "etcd"),
    };
    command
        .arg("--data-dir")
        .arg(directory.path().join("data"))
        .args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients])
        .args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers])
        .args(["--initial-cluster", &format!("default={peers}")])
        .args(["--log-outputs", "stderr", "--logger", "zap"])
        .args(&place.more)
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
