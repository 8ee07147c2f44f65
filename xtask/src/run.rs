//! Running other programs: in the open, or quietly with a line of progress.

use std::fs::File;
use std::io::{IsTerminal, Write, stderr, stdout};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How often a quiet run says, where there is no terminal, that it goes on.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);
/// How much of a quiet run's output is shown when it fails.
const LAST_LINES: usize = 25;

/// Runs `command` with its output in the open, under a headline, and says how long it took.
pub(crate) fn open(title: &str, command: &mut Command) -> Result<()> {
    say(&format!("\n{}", bold(&format!("== {title}"))));
    let start = Instant::now();
    let status = command.status().with_context(|| cannot_run(command))?;
    let took = seconds(start.elapsed());
    if !status.success() {
        bail!("{title}: failed after {took} ({status})");
    }
    say(&format!("   {took}"));
    Ok(())
}

/// Runs `command` with its output in the file `log`, and shows that it goes on. Its last lines
/// are shown if it fails.
pub(crate) fn quietly(title: &str, command: &mut Command, log: &Path) -> Result<()> {
    let file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
    let start = Instant::now();
    let status = wait_with_progress(title, command, start)?;
    let took = seconds(start.elapsed());
    if !status.success() {
        say(&format!("  {title}: failed after {took}"));
        let text = std::fs::read_to_string(log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        for line in &lines[lines.len().saturating_sub(LAST_LINES)..] {
            say(&format!("    {line}"));
        }
        bail!("{title}: {status}; all of its output is in {}", log.display());
    }
    say(&format!("  {title}: done in {took}"));
    Ok(())
}

/// On a terminal one line that counts the seconds, elsewhere a line now and then.
fn wait_with_progress(title: &str, command: &mut Command, start: Instant) -> Result<ExitStatus> {
    let terminal = stderr().is_terminal();
    if !terminal {
        say(&format!("  {title} ..."));
    }
    let mut child = command.spawn().with_context(|| cannot_run(command))?;
    let mut next = SIGN_OF_LIFE;
    loop {
        if let Some(status) = child.try_wait()? {
            if terminal {
                eprint!("\r\x1b[K");
            }
            return Ok(status);
        }
        if terminal {
            eprint!("\r\x1b[K  {title} ... {} s", start.elapsed().as_secs());
        } else if start.elapsed() >= next {
            say(&format!("  {title} ... {} s", start.elapsed().as_secs()));
            next += SIGN_OF_LIFE;
        }
        sleep(Duration::from_millis(100));
    }
}

/// One line to stderr, where cargo's own lines go, so that the order stays.
pub(crate) fn say(line: &str) {
    let _ = stdout().flush();
    eprintln!("{line}");
}

/// `text` in bold on a terminal.
pub(crate) fn bold(text: &str) -> String {
    if stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        format!("\x1b[1m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

/// A time such as `0.4 s`.
pub(crate) fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

fn cannot_run(command: &Command) -> String {
    format!("cannot run {}", command.get_program().display())
}
