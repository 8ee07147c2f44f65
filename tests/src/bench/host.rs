//! The machine that a benchmark ran on, and where its threads run.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::num::NonZero;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use aya::maps::MapInfo;
use aya::programs::loaded_programs;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use serde::Serialize;

/// The machine that figures are of.
#[derive(Clone, Debug, Serialize)]
pub struct Host {
    /// The processor's name.
    pub processor: String,
    /// How many of them this process may use.
    pub processors: usize,
    /// The kernel's release.
    pub kernel: String,
}

impl Host {
    /// This one.
    #[must_use]
    pub fn here() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let model = read("/proc/cpuinfo");
        let model = model.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        Self {
            processor: model.map_or("unknown", |(_, name)| name.trim()).to_owned(),
            processors: thread::available_parallelism().map_or(1, NonZero::get),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { processor, processors, kernel } = self;
        write!(f, "{processors} processors ({processor}), Linux {kernel}")
    }
}

/// The calling thread stays on one processor for as long as this lives. Threads and processes that
/// it starts meanwhile stay there for good.
#[derive(Debug)]
pub struct Pinned(CpuSet);

/// Keeps the calling thread on one processor.
///
/// # Errors
///
/// There is no such processor.
pub fn pin(processor: usize) -> Result<Pinned> {
    let before = sched_getaffinity(Pid::from_raw(0)).context("where this thread may run")?;
    pin_thread(0, processor)?;
    Ok(Pinned(before))
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // It cannot fail: what was allowed before is.
        let _ = sched_setaffinity(Pid::from_raw(0), &self.0);
    }
}

/// Keeps every thread that a process has now on one processor.
///
/// # Errors
///
/// The process is gone, or there is no such processor.
pub fn pin_process(pid: u32, processor: usize) -> Result<()> {
    let tasks = format!("/proc/{pid}/task");
    for task in fs::read_dir(&tasks).with_context(|| tasks.clone())? {
        let name = task?.file_name();
        let thread = name.to_string_lossy().parse().with_context(|| tasks.clone())?;
        pin_thread(thread, processor)?;
    }
    Ok(())
}

/// What a process takes of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Use {
    /// Time on processors, since its start.
    pub cpu: Duration,
    /// Bytes of memory that are its own.
    pub own: u64,
    /// The same with what it has mapped: maps of the kernel, its program.
    pub resident: u64,
    /// Bytes of the maps in the kernel that it, or a program that it holds, has open.
    pub maps: u64,
}

impl Use {
    /// Of a process.
    ///
    /// # Errors
    ///
    /// It is gone.
    pub fn of(pid: u32) -> Result<Self> {
        let read = |name: &str| {
            let path = format!("/proc/{pid}/{name}");
            fs::read_to_string(&path).context(path)
        };
        let status = read("status")?;
        let kib = |name| field(&status, name).unwrap_or(0) << 10;
        Ok(Self {
            cpu: cpu_time(&read("stat")?).context("the times of a process")?,
            own: kib("RssAnon"),
            resident: kib("VmRSS"),
            maps: maps(pid)?,
        })
    }
}

/// The time on processors of all processes of a group that live.
///
/// # Errors
///
/// Processes cannot be listed.
pub fn group_cpu(group: u32) -> Result<Duration> {
    let mut sum = Duration::ZERO;
    for entry in fs::read_dir("/proc")? {
        // A process may be gone by now; most entries are none.
        let Ok(stat) = fs::read_to_string(entry?.path().join("stat")) else { continue };
        let of = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(2)?.parse().ok());
        if of == Some(group) {
            sum += cpu_time(&stat).unwrap_or_default();
        }
    }
    Ok(sum)
}

/// The number after `name:` in a file of lines.
fn field(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    value.split_whitespace().next()?.parse().ok()
}

/// User and system time in `/proc/PID/stat`, in ticks of which there are 100 a second everywhere.
fn cpu_time(stat: &str) -> Option<Duration> {
    // The name before may hold anything.
    let (_, rest) = stat.rsplit_once(") ")?;
    let ticks: Option<u64> =
        rest.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().ok()).sum();
    Some(Duration::from_millis(ticks? * 10))
}

/// Bytes of the maps that a process holds open, and of those that its programs do, each once, as the kernel
/// reckons them. What it has mapped it may have closed.
fn maps(pid: u32) -> Result<u64> {
    let directory = format!("/proc/{pid}/fdinfo");
    let (mut maps, mut programs) = (BTreeMap::new(), BTreeSet::new());
    for entry in fs::read_dir(&directory).with_context(|| directory.clone())? {
        // A file may be closed by now.
        let Ok(text) = fs::read_to_string(entry?.path()) else { continue };
        maps.extend(map(&text));
        programs.extend(field(&text, "prog_id"));
    }
    for program in loaded_programs() {
        let program = program?;
        if programs.contains(&u64::from(program.id())) {
            for id in program.map_ids()?.into_iter().flatten() {
                let open = MapInfo::from_id(id)?.fd()?;
                let info = format!("/proc/self/fdinfo/{}", open.as_fd().as_raw_fd());
                maps.extend(map(&fs::read_to_string(&info).context(info)?));
            }
        }
    }
    Ok(maps.values().sum())
}

/// Id and bytes of a map, by what the kernel says of an open one.
fn map(info: &str) -> Option<(u64, u64)> {
    Some((field(info, "map_id")?, field(info, "memlock")?))
}

fn pin_thread(thread: i32, processor: usize) -> Result<()> {
    let mut only = CpuSet::new();
    only.set(processor)?;
    sched_setaffinity(Pid::from_raw(thread), &only)
        .with_context(|| format!("keeping a thread on processor {processor}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_kernel_are_read() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 120 30 0 0 20 0 1 0";
        assert_eq!(cpu_time(stat), Some(Duration::from_millis(1_500)));
        let info = "pos:\t0\nmap_type:\t2\nmemlock:\t4096\nmap_id:\t12\n";
        assert_eq!(field(info, "memlock"), Some(4_096));
        assert_eq!(field(info, "map"), None);
        assert!(Use::of(std::process::id()).is_ok_and(|used| used.resident > 0));
    }
}
