//! A network namespace, and threads and commands inside it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::future::Future;
use std::panic;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, anyhow};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use super::host;

/// Where `ip netns` keeps its namespaces.
pub(super) const DIRECTORY: &str = "/run/netns";

/// A network namespace of ours. Dropping it ends every process in it and removes it.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes a namespace with its loopback up.
    pub(super) fn create(name: String) -> Result<Self> {
        host::ip_batch(None, &[format!("netns add {name}")])?;
        let namespace = Self { name };
        namespace.ip(&["link set lo up".to_owned()])?;
        Ok(namespace)
    }

    /// The name under which `ip netns` knows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `ip` commands in it, one a line. Stops at the first that fails and says which.
    pub fn ip(&self, lines: &[String]) -> Result<()> {
        host::ip_batch(Some(&self.name), lines)
    }

    /// A command that will run in it, ended after half a minute.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = host::bounded("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// A command that will run in it until whoever started it ends it.
    #[must_use]
    pub fn daemon(&self, program: impl AsRef<OsStr>) -> Command {
        daemon(&self.name, program)
    }

    /// Runs a command in it to its end; an error if it fails.
    pub fn exec(&self, program: &str, arguments: &[&str]) -> Result<Output> {
        let mut command = self.command(program);
        command.args(arguments);
        host::run(command)
    }

    /// Sets sysctls of it: pairs of a path below `/proc/sys` and a value.
    pub fn sysctl(&self, settings: &[(&str, &str)]) -> Result<()> {
        self.inside(|| {
            for (key, value) in settings {
                fs::write(PathBuf::from("/proc/sys").join(key), value)
                    .with_context(|| format!("setting {key} = {value}"))?;
            }
            Ok(())
        })?
    }

    /// Runs `work` on a thread in the namespace and waits for it. Sockets that it makes stay in
    /// the namespace wherever they are used.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        thread::scope(|scope| {
            let thread = scope.spawn(|| enter(&self.name).map(|()| work()));
            thread.join().unwrap_or_else(|panic| panic::resume_unwind(panic))
        })
    }

    /// Starts a thread in the namespace that runs the future made by `work` on a runtime of its
    /// own. Tasks that it spawns end with it. Returns once the thread is in the namespace.
    pub fn spawn<F, T>(&self, work: impl FnOnce() -> F + Send + 'static) -> Result<Task<T>>
    where
        F: Future<Output = T>,
        T: Send + 'static,
    {
        let (stop, stopped) = oneshot::channel();
        let (ready, started) = mpsc::channel();
        let name = self.name.clone();
        let thread = thread::Builder::new()
            .name(name.clone())
            .spawn(move || {
                let runtime = runtime_inside(&name);
                // The receiver waits for this message, so the sending cannot fail.
                let (runtime, outcome) = match runtime {
                    Ok(runtime) => (Some(runtime), Ok(())),
                    Err(error) => (None, Err(error)),
                };
                let _ = ready.send(outcome);
                runtime?.block_on(async {
                    tokio::select! {
                        output = work() => Some(output),
                        _ = stopped => None,
                    }
                })
            })
            .context("starting a thread")?;
        started.recv().context("the thread ended at its start")??;
        Ok(Task { stop: Some(stop), thread: Some(thread) })
    }

    /// Runs the future made by `work` in the namespace to its end.
    pub fn run<F, T>(&self, work: impl FnOnce() -> F + Send + 'static) -> Result<T>
    where
        F: Future<Output = T>,
        T: Send + 'static,
    {
        self.spawn(work)?.join()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.name) {
            eprintln!("the namespace {} stays: {error:#}", self.name);
        }
    }
}

/// A command that will run in the namespace of this name, and is not bounded in time.
pub(crate) fn daemon(namespace: &str, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace]).arg(program);
    command
}

/// Ends what runs in a namespace and removes it.
pub(super) fn remove(name: &str) -> Result<()> {
    let mut list = host::bounded("ip");
    list.args(["netns", "pids", name]);
    let pids = host::run(list)?.stdout;
    for pid in String::from_utf8_lossy(&pids).lines().filter_map(|line| line.trim().parse().ok()) {
        let pid = Pid::from_raw(pid);
        if pid != Pid::this() {
            // A failure means that it has just ended by itself.
            let _ = kill(pid, Signal::SIGKILL);
        }
    }
    host::ip_batch(None, &[format!("netns del {name}")])
}

/// Moves the calling thread into a namespace, for the rest of its life.
fn enter(name: &str) -> Result<()> {
    let path = PathBuf::from(DIRECTORY).join(name);
    let file = File::open(&path).with_context(|| format!("opening {}", path.display()))?;
    setns(file, CloneFlags::CLONE_NEWNET).with_context(|| format!("entering {name}"))
}

fn runtime_inside(name: &str) -> Result<Runtime> {
    enter(name)?;
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting a runtime")
}

/// A thread in a namespace. Dropping it stops its future at its next await and joins the thread.
#[derive(Debug)]
pub struct Task<T> {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Option<T>>>,
}

impl<T> Task<T> {
    /// Waits until its future has ended by itself. Panics if that panicked, as the future would.
    pub fn join(mut self) -> Result<T> {
        let thread = self.thread.take().context("the thread has been joined")?;
        match thread.join() {
            Ok(output) => output.ok_or_else(|| anyhow!("the thread was stopped")),
            Err(panic) => panic::resume_unwind(panic),
        }
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // A failure means that the future has ended.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            // A panic in it has been printed by the thread itself.
            let _ = thread.join();
        }
    }
}
