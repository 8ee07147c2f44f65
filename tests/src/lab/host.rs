//! The machine under the lab: rights, limits, and the tools it calls.

use std::ffi::OsStr;
use std::io::Write as _;
use std::iter;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::Uid;

use crate::pace;

/// No command of the lab may take longer.
const COMMAND_LIMIT: Duration = Duration::from_secs(30);

/// Fails with one clear line unless we may make network namespaces.
pub(super) fn require_root() -> Result<()> {
    if !Uid::effective().is_root() {
        bail!("the lab makes network namespaces, which needs root: run it with sudo");
    }
    Ok(())
}

/// How many files this process may open at most.
pub(crate) fn file_limit() -> Result<u64> {
    let (_, hard) =
        getrlimit(Resource::RLIMIT_NOFILE).context("reading the limit on open files")?;
    Ok(hard)
}

/// Lets this process open as many files as it may: each connection of the load takes two.
pub(super) fn raise_file_limit() -> Result<()> {
    let hard = file_limit()?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("raising the limit on open files")
}

/// A command that is ended after [`COMMAND_LIMIT`] (it then exits with 124 or 137).
pub(crate) fn bounded(program: impl AsRef<OsStr>) -> Command {
    let limit = pace::wait(COMMAND_LIMIT).as_secs().to_string();
    let mut command = Command::new("timeout");
    command.args(["--kill-after=2", &limit]).arg(program).stdin(Stdio::null());
    command
}

/// Runs a command to its end. An error if it cannot be run or fails; with what it said.
pub(crate) fn run(mut command: Command) -> Result<Output> {
    let output = command.output().with_context(|| format!("running {command:?}"))?;
    if !output.status.success() {
        bail!("`{}` failed ({}): {}", in_words(&command), output.status, said(&output));
    }
    Ok(output)
}

/// A command as one would type it, without the bound on its time.
fn in_words(command: &Command) -> String {
    let words = iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(OsStr::to_string_lossy).collect();
    let bound = if words[0] == "timeout" { 3 } else { 0 };
    words[bound.min(words.len())..].join(" ")
}

/// Runs `ip` with a list of commands, one a line, in `namespace` or in the machine's own.
pub(crate) fn ip_batch(namespace: Option<&str>, lines: &[String]) -> Result<()> {
    let mut command = bounded("ip");
    if let Some(name) = namespace {
        command.args(["-netns", name]);
    }
    let mut child = command
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("running ip (package iproute2)")?;
    // A batch prints nothing unless it fails, and then stops: writing all before reading is safe.
    // A failed write is ip's early end, of which its own message tells more.
    let written = child.stdin.take().map(|mut input| input.write_all(lines.join("\n").as_bytes()));
    let output = child.wait_with_output().context("waiting for ip")?;
    if !output.status.success() {
        let complaint = said(&output);
        let line = failed_line(&complaint).and_then(|number| lines.get(number.checked_sub(1)?));
        bail!(
            "ip failed at {:?} in {}: {complaint}",
            line.map_or("?", String::as_str),
            namespace.unwrap_or("the machine's namespace")
        );
    }
    written.transpose().context("writing to ip")?;
    Ok(())
}

/// The line number in ip's "Command failed -:12".
fn failed_line(complaint: &str) -> Option<usize> {
    complaint.rsplit_once("Command failed -:")?.1.trim().parse().ok()
}

fn said(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&text).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_read_as_typed() {
        let mut command = bounded("ip");
        assert_eq!(in_words(command.args(["netns", "list"])), "ip netns list");
        assert_eq!(in_words(Command::new("true").arg("-x")), "true -x");
    }

    #[test]
    fn the_failing_line_of_a_batch_is_found() {
        assert_eq!(failed_line("Cannot find device \"x\"\nCommand failed -:12\n"), Some(12));
        assert_eq!(failed_line("Cannot find device"), None);
    }
}
