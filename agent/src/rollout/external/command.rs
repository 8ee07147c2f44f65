//! One run of a program: no shell, few variables, bounded output, and an end.

use std::env;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;
use tokio::time::timeout;

use super::contract::{Attempt, Told, exited};

/// How much of the end of the output is kept, in bytes.
const MAX_OUTPUT: usize = 4 << 10;
/// Variables of the coordinator's own that a command gets, where they are set.
const PASSED_ON: [&str; 5] = ["PATH", "HOME", "LANG", "TMPDIR", "USER"];

/// A process group that ends with this.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        // The whole group: what the program has started, too. An error: there is nobody left.
        if let Some(group) = self.0 {
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

/// Runs a program to its end, for as long as it may take; then it is killed, with all that it has
/// started.
pub(super) async fn run(words: &[String], told: &Told, within: Duration) -> Attempt {
    let Some((program, arguments)) = words.split_first() else {
        return Attempt::Failed("the command names no program".to_owned());
    };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(PASSED_ON.iter().filter_map(|name| Some((name, env::var_os(name)?))))
        .envs(told.variables())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return Attempt::Failed(format!("{program} cannot be started: {error}")),
    };
    let group = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
    let group = Group(group);
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let ended = async {
        let (out, err, status) = tokio::join!(tail(out), tail(err), child.wait());
        (if err.trim().is_empty() { out } else { err }, status)
    };
    let attempt = match timeout(within, ended).await {
        Ok((said, Ok(status))) => {
            exited(status.code(), said.trim_end().lines().last().unwrap_or_default())
        }
        Ok((_, Err(error))) => Attempt::Unclear(format!("{program}: {error}")),
        Err(_) => Attempt::Failed(format!(
            "{program} did not end within {:.1} s, and was killed",
            within.as_secs_f64()
        )),
    };
    drop(group);
    attempt
}

/// The end of an output. All of it is read, so that nobody waits for a full pipe.
async fn tail(output: Option<impl AsyncRead + Unpin>) -> String {
    let mut kept = Vec::new();
    let Some(mut output) = output else { return String::new() };
    let mut buffer = vec![0; MAX_OUTPUT];
    while let Ok(read @ 1..) = output.read(&mut buffer).await {
        kept.extend_from_slice(&buffer[..read]);
        kept.drain(..kept.len().saturating_sub(MAX_OUTPUT));
    }
    String::from_utf8_lossy(&kept).into_owned()
}
