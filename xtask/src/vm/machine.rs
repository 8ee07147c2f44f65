//! The virtual machine's process: its start, its console, its end.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::console::{Console, Event, Verdict};
use super::kernel::Kernel;
use crate::run::say;

/// How long a kernel may take to its first process where the processor's own virtualization works.
/// There are machines that have it and on which kernels hang.
const KVM_START: Duration = Duration::from_secs(15);
/// The same, emulated.
const TCG_START: Duration = Duration::from_secs(240);
/// How many times slower tests are to be where the machine is emulated (`tests/src/pace.rs`).
const SLOW: u32 = 8;
/// How often a long test says that it goes on.
const SIGN_OF_LIFE: Duration = Duration::from_secs(30);
/// Lines of the console that may wait to be read.
const WAITING: usize = 1024;
/// How much of the console a failure shows.
const LAST_LINES: usize = 60;

/// The process; dropping it ends it.
struct Machine {
    child: Child,
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Errors here mean that it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Boots the kernel and follows it to its end. All that it says goes to `log`; the end of that is
/// shown on a failure.
pub(super) fn run(
    kernel: &Kernel,
    initramfs: &Path,
    log: &Path,
    limit: Duration,
) -> Result<Verdict> {
    let mut verdict = None;
    if File::options().read(true).write(true).open("/dev/kvm").is_ok() {
        verdict = boot("kvm", KVM_START, kernel, initramfs, log, limit)?;
    }
    if verdict.is_none() {
        say("  KVM does not work here: the machine is emulated, which is slow");
        verdict = boot("tcg", TCG_START, kernel, initramfs, log, limit)?;
    }
    let verdict = verdict.unwrap_or(Verdict::Failed("the kernel does not start".to_owned()));
    if matches!(verdict, Verdict::Failed(_)) {
        show(log);
    }
    Ok(verdict)
}

/// Boots with an accelerator of QEMU's. Nothing if that has not begun within `begin`.
fn boot(
    accelerator: &str,
    begin: Duration,
    kernel: &Kernel,
    initramfs: &Path,
    log: &Path,
    limit: Duration,
) -> Result<Option<Verdict>> {
    // It must not outlive us, even if we are killed.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig=KILL", "qemu-system-x86_64"]);
    command.args(["-accel", accelerator, "-smp", "2", "-m", "3072", "-nographic", "-no-reboot"]);
    // No device but the console.
    command.args(["-nodefaults", "-serial", "stdio"]);
    command.arg("-kernel").arg(&kernel.image).arg("-initrd").arg(initramfs);
    // What has an equals sign and is not the kernel's own becomes a variable of its first process.
    let slow = if accelerator == "tcg" { SLOW } else { 1 };
    let line = format!("console=ttyS0 panic=-1 mitigations=off WEIR_SLOW={slow}");
    command.arg("-append").arg(line);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let log = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    command.stderr(log.try_clone()?);
    let child = command.spawn().context("cannot run setpriv (package util-linux)")?;
    let mut machine = Machine { child };
    let console = machine.child.stdout.take().context("QEMU has no console")?;
    follow(&listen(console), log, begin, limit)
}

/// The lines of the console. They end when the machine does.
fn listen(console: ChildStdout) -> Receiver<String> {
    let (sender, lines) = sync_channel(WAITING);
    thread::spawn(move || {
        let mut console = BufReader::new(console);
        let mut line = Vec::new();
        while console.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                return;
            }
            line.clear();
        }
    });
    lines
}

fn follow(
    lines: &Receiver<String>,
    mut log: File,
    begin: Duration,
    limit: Duration,
) -> Result<Option<Verdict>> {
    let start = Instant::now();
    let mut console = Console::default();
    while start.elapsed() < limit {
        let patience =
            if console.is_up() { SIGN_OF_LIFE } else { begin.saturating_sub(start.elapsed()) };
        match lines.recv_timeout(patience.min(limit)) {
            Ok(line) => {
                log.write_all(line.as_bytes()).context("writing the console's log")?;
                if let Some(event) = console.line(&line) {
                    tell(start, &event);
                }
            }
            Err(_) if !console.is_up() => return Ok(None),
            Err(RecvTimeoutError::Disconnected) => return Ok(Some(console.verdict())),
            Err(RecvTimeoutError::Timeout) => {
                let running = console.running().unwrap_or("the machine");
                tell(start, &Event::Note(format!("{running} goes on")));
            }
        }
    }
    Ok(Some(Verdict::Failed(format!("not done after {} min", limit.as_secs() / 60))))
}

fn show(log: &Path) {
    say("  the end of the console:");
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    for line in &lines[lines.len().saturating_sub(LAST_LINES)..] {
        say(&format!("    {}", line.trim_end()));
    }
}

fn tell(start: Instant, event: &Event) {
    let time = format!("{:>4} s", start.elapsed().as_secs());
    match event {
        Event::Begin(name) => say(&format!("  {time}  {name}")),
        Event::Test(line) => say(&format!("  {time}    {line}")),
        Event::Said(line) => say(line),
        Event::End(_, 0) => {}
        Event::End(name, code) => say(&format!("  {time}  {name} failed (exit code {code})")),
        Event::Note(text) => say(&format!("  {time}  {text}")),
    }
}
