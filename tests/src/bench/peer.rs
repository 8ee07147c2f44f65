//! Programs that a user would run instead of weir, on the lab's balancer host.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::lab::{Namespace, run};

/// How long a program may take until it serves.
const START_LIMIT: Duration = Duration::from_secs(20);

/// A running program, which is killed when this is dropped.
#[derive(Debug)]
pub struct Peer {
    child: Child,
    log: std::path::PathBuf,
}

impl Peer {
    /// Starts a program in a namespace; what it says goes to `log`.
    ///
    /// # Errors
    ///
    /// It is not there.
    pub fn start(namespace: &Namespace, log: &Path, words: &[&str]) -> Result<Self> {
        let output = fs::File::create(log).with_context(|| log.display().to_string())?;
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace.name()]).args(words);
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        // A Ctrl-C in the terminal is for us alone, and so that its workers can be ended with it.
        command.process_group(0);
        let child = command.spawn().with_context(|| format!("running {words:?}"))?;
        Ok(Self { child, log: log.to_owned() })
    }

    /// Waits until `there` says that it serves.
    ///
    /// # Errors
    ///
    /// It has ended, or does not serve in time.
    pub fn wait(&mut self, there: impl Fn() -> bool) -> Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        while !there() {
            let ended = self.child.try_wait()?;
            if ended.is_some() || Instant::now() > deadline {
                let log = fs::read_to_string(&self.log).unwrap_or_default();
                bail!("it does not serve ({ended:?}): {}", log.trim());
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Its process, of which others may be children.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        use nix::sys::signal::{Signal, killpg};
        use nix::unistd::Pid;
        // Fails if it has ended already.
        if let Ok(group) = i32::try_from(self.child.id()) {
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
        let _ = self.child.wait();
    }
}

/// Whether a program is installed. `why` is said otherwise.
#[must_use]
pub fn installed(program: &str) -> bool {
    let found = |directory: &str| Path::new(directory).join(program).is_file();
    ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].into_iter().any(found)
}

/// Runs `nft -f` on a text in a namespace.
///
/// # Errors
///
/// It fails.
pub fn nft(namespace: &Namespace, directory: &Path, text: &str) -> Result<Output> {
    let file = directory.join("rules.nft");
    fs::write(&file, text).with_context(|| file.display().to_string())?;
    let mut command = namespace.command("nft");
    command.arg("-f").arg(&file);
    run(command)
}
