//! A running `weir agent` on the lab's balancer host, and calls of the command line.

use std::env;
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

use crate::lab::{Lab, bounded, run};
use crate::pace;

/// How long the agent may take until it answers.
const START_LIMIT: Duration = Duration::from_secs(20);

/// How long the agent may take from SIGTERM to its end.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// How much of the log a failure shows.
const LOG_LINES: usize = 60;

/// How to start the agent. `AgentOptions::new(&lab)` takes all of the lab's interfaces, bare.
#[derive(Clone, Debug)]
pub struct AgentOptions {
    binary: Option<PathBuf>,
    state_dir: PathBuf,
    interfaces: Vec<String>,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
}

impl AgentOptions {
    /// All interfaces of the lab's balancer host, in the agent's own choice of mode.
    #[must_use]
    pub fn new(lab: &Lab) -> Self {
        Self {
            binary: None,
            state_dir: lab.directory().join("state"),
            interfaces: lab.interfaces().map(str::to_owned).to_vec(),
            arguments: Vec::new(),
            environment: Vec::new(),
        }
    }

    /// Attaches to all interfaces in `mode`: `tc`, `xdp` or `xdp-generic`.
    #[must_use]
    pub fn mode(mut self, mode: &str) -> Self {
        for interface in &mut self.interfaces {
            let name = interface.split(':').next().unwrap_or_default();
            *interface = format!("{name}:{mode}");
        }
        self
    }

    /// Attaches to one of the interfaces in `mode`.
    #[must_use]
    pub fn mode_of(mut self, interface: &str, mode: &str) -> Self {
        self = self.without(interface);
        self.with(&format!("{interface}:{mode}"))
    }

    /// Attaches to this interface too: `NAME` or `NAME:MODE`.
    #[must_use]
    pub fn with(mut self, interface: &str) -> Self {
        self.interfaces.push(interface.to_owned());
        self
    }

    /// Attaches to this interface no longer.
    #[must_use]
    pub fn without(mut self, interface: &str) -> Self {
        self.interfaces.retain(|one| one.split(':').next() != Some(interface));
        self
    }

    /// Adds an argument of `weir agent`.
    #[must_use]
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Sets a variable of the agent's environment.
    #[must_use]
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Keeps the state there instead of in the lab's own directory.
    #[must_use]
    pub fn state_dir(mut self, path: &Path) -> Self {
        path.clone_into(&mut self.state_dir);
        self
    }

    /// Takes this binary instead of the one that [`binary`] finds.
    #[must_use]
    pub fn binary(mut self, path: &Path) -> Self {
        self.binary = Some(path.to_owned());
        self
    }
}

/// The agent's process. Dropping it stops it, and shows its log if the test is failing.
#[derive(Debug)]
pub struct Agent {
    child: Child,
    log: PathBuf,
}

impl Agent {
    /// Starts the agent and waits until it answers on the lab's socket. Its state directory and its
    /// pins are the lab's too, so an agent that starts again finds what the last one left.
    pub fn start(lab: &Lab, options: &AgentOptions) -> Result<Self> {
        let binary = options.binary.clone().map_or_else(binary, Ok)?;
        let (socket, log) = (socket(lab), lab.directory().join("agent.log"));
        // A socket left by a killed agent would look like an answer.
        if socket.exists() {
            fs::remove_file(&socket).context("removing the last agent's socket")?;
        }
        let output = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .context("opening the agent's log")?;

        let mut command = lab.lb().daemon(&binary);
        command.arg("--socket").arg(&socket).arg("agent");
        command.arg("--state-dir").arg(&options.state_dir);
        // For whoever reads what a test shows.
        command.env("WEIR_LOG_FORMAT", "text");
        command.envs(options.environment.iter().map(|(name, value)| (name, value)));
        command.arg("--bpffs").arg(pins(lab));
        for interface in &options.interfaces {
            command.args(["--interface", interface]);
        }
        command.args(&options.arguments);
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        // A Ctrl-C in the terminal is for us alone; the agent is stopped in its turn.
        command.process_group(0);
        let child = command.spawn().with_context(|| format!("starting {}", binary.display()))?;
        let mut agent = Self { child, log };
        agent.wait_for_answer(&socket)?;
        Ok(agent)
    }

    fn wait_for_answer(&mut self, socket: &Path) -> Result<()> {
        let deadline = Instant::now() + pace::wait(START_LIMIT);
        while UnixStream::connect(socket).is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("the agent ended at its start ({status}); its log:\n{}", self.log_tail());
            }
            if Instant::now() > deadline {
                bail!(
                    "the agent does not answer at {} after {START_LIMIT:?}; its log:\n{}",
                    socket.display(),
                    self.log_tail()
                );
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// The process's id. (`ip netns exec` becomes the agent; there is no process between.)
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Stops it by SIGTERM and gives how it ended. If it does not end in time, it is killed, and
    /// that is an error.
    pub fn stop(mut self) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        let deadline = Instant::now() + pace::wait(STOP_LIMIT);
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            thread::sleep(Duration::from_millis(10));
        }
        bail!("the agent still runs {STOP_LIMIT:?} after SIGTERM; its log:\n{}", self.log_tail());
    }

    /// Waits until it ends by itself, for so long at most, and gives how.
    pub fn ends(mut self, limit: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + pace::wait(limit);
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            thread::sleep(Duration::from_millis(10));
        }
        bail!("the agent still runs after {limit:?}; its log:\n{}", self.log_tail());
    }

    /// Kills it by SIGKILL, as a crash would.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill().context("killing the agent")?;
        self.child.wait().context("waiting for the killed agent")?;
        Ok(())
    }

    /// The last lines of its log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.pid()).context("the process id")?);
        kill(pid, signal).with_context(|| format!("sending {signal} to the agent"))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Errors here mean that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("the agent's log ends with:\n{}", self.log_tail());
        }
    }
}

/// Where the agent of a lab listens.
#[must_use]
pub fn socket(lab: &Lab) -> PathBuf {
    lab.directory().join("weir.sock")
}

/// Where the agent of a lab pins its data plane.
#[must_use]
pub fn pins(lab: &Lab) -> PathBuf {
    lab.bpffs().join("weir")
}

/// The `weir` binary: `$WEIR_BIN`, else the one built beside this program.
pub fn binary() -> Result<PathBuf> {
    find("weir", "WEIR_BIN", "cargo build -p weir")
}

/// The same with fault points, see [`weir::fault`]: `$WEIR_FAULTY_BIN`, else `weir-faulty` beside
/// this program.
pub fn faulty_binary() -> Result<PathBuf> {
    find("weir-faulty", "WEIR_FAULTY_BIN", "cargo xtask build-faulty")
}

fn find(name: &str, variable: &str, make: &str) -> Result<PathBuf> {
    if let Some(path) = env::var_os(variable) {
        let path = PathBuf::from(path);
        if !path.is_file() {
            bail!("{variable} names {}, which is no file", path.display());
        }
        return Ok(path);
    }
    let program = env::current_exe().context("finding this program")?;
    // Tests are in target/PROFILE/deps, binaries in target/PROFILE.
    program
        .ancestors()
        .skip(1)
        .take(2)
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
        .with_context(|| {
            format!("no {name} beside {}: run `{make}`, or set {variable}", program.display())
        })
}

impl Lab {
    /// The command `weir --socket SOCKET ARGUMENTS…` for this lab's agent.
    pub fn weir_command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = bounded(binary()?);
        command.arg("--socket").arg(socket(self)).args(arguments);
        Ok(command)
    }

    /// Runs `weir` against this lab's agent to its end, whether it succeeds or not.
    pub fn weir_output(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = self.weir_command(arguments)?;
        command.output().with_context(|| format!("running {command:?}"))
    }

    /// Runs `weir` against this lab's agent and gives what it printed; an error if it fails.
    pub fn weir(&self, arguments: &[&str]) -> Result<String> {
        let output = run(self.weir_command(arguments)?)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}
