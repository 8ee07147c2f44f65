//! What it costs the agent to forget flows while connections come and end at a high rate and every
//! slot of their service has moved, so that each is remembered.
//!
//! One thread plays the network: it runs the loaded TC program over each connection's SYN and RST,
//! as packets would (`BPF_PROG_TEST_RUN`; nothing is sent). So every entry is made, and ended, by
//! the program itself. The other thread is the owner, with the steps of its rounds and the pauses
//! between them as in the agent; what is measured is the CPU time of this thread
//! (`CLOCK_THREAD_CPUTIME_ID`), system calls included.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use nix::time::{ClockId, clock_gettime};
use weir::dataplane::DataPlane as _;
use weir::dataplane::kernel::{Kernel, Options, Runner};
use weir::node::Owner;
use weir::store::Directory;

use crate::frames::{Frame, RST, SYN};
use crate::moved::{self, LISTENER};
use crate::program;

/// Ports of a client that connections come from.
const PORTS: u64 = 60_000;
/// Where the client's address, its port and TCP's flags are in a frame.
const SOURCE: usize = 26;
const SOURCE_PORT: usize = 34;
const FLAGS: usize = 47;

/// What to measure.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// New connections a second.
    pub rate: u32,
    /// For how long, once as many flows end as begin.
    pub time: Duration,
    /// Room of the flow table.
    pub flows: u32,
}

/// What was measured.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Connections made.
    pub connections: u64,
    /// Time measured: whole rounds.
    pub time: Duration,
    /// CPU time of the owner's thread in it.
    pub cpu: Duration,
    /// The longest time that a request would have waited for.
    pub longest: Duration,
    /// Flows that were forgotten.
    pub forgotten: u64,
    /// The most flows that a round has left.
    pub left: u64,
    /// Connections that found no room, from the beginning.
    pub refused: u64,
}

/// One round.
#[derive(Debug, Clone, Copy, Default)]
pub struct Round {
    /// Its steps.
    pub steps: u32,
    /// CPU time of the owner's thread.
    pub cpu: Duration,
    /// Flows that were forgotten in it, and since the one before.
    pub forgotten: u64,
    /// Flows that it has left.
    pub left: u64,
}

impl Report {
    fn connections_a_second(&self) -> u64 {
        let milliseconds = u64::try_from(self.time.as_millis()).unwrap_or(u64::MAX).max(1);
        self.connections.saturating_mul(1_000) / milliseconds
    }

    /// CPU time of the rounds by the time they were made in.
    #[must_use]
    pub fn share(&self) -> f64 {
        self.cpu.as_secs_f64() / self.time.as_secs_f64()
    }
}

/// Measures. Needs root.
///
/// # Errors
///
/// The program cannot be loaded, or a round fails.
pub fn measure(plan: &Plan, progress: &dyn Fn(&Round)) -> Result<Report> {
    // Entries go ten seconds after their RST, when a round comes by.
    let warm_up = Duration::from_secs(25);
    let directory = tempfile::tempdir()?;
    let options = Options { flows: plan.flows, ..program::SMALL };
    let mut owner = moved::everything(options, directory.path())?;
    let runner = owner.plane().runner()?;
    let (made, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let network = {
        let (rate, made, stop) = (plan.rate, Arc::clone(&made), Arc::clone(&stop));
        thread::spawn(move || play(&runner, rate, &made, &stop))
    };
    let measured = rounds(&mut owner, warm_up, plan.time, &made, progress);
    stop.store(true, Ordering::Relaxed);
    network.join().map_err(|_| anyhow!("the thread that plays the network has ended"))??;
    measured
}

/// The steps of rounds, of which those after the time to warm up count.
fn rounds(
    owner: &mut Owner<Kernel, Directory>,
    warm_up: Duration,
    time: Duration,
    made: &AtomicU64,
    progress: &dyn Fn(&Round),
) -> Result<Report> {
    let (mut report, mut round) = (Report::default(), Round::default());
    let start = Instant::now();
    let mut measured = None;
    loop {
        let (before, began) = (cpu()?, Instant::now());
        let step = owner.step(now()?).map_err(|error| anyhow!("{error}"))?;
        let next_step = Instant::now() + step.pause;
        round.steps += 1;
        round.forgotten += step.forgotten;
        let (cpu, took) = (cpu()?.saturating_sub(before), began.elapsed());
        round.cpu += cpu;
        if let Some((since, before)) = measured {
            report.cpu += cpu;
            report.longest = report.longest.max(took);
            report.connections = made.load(Ordering::Relaxed) - before;
            report.time = Instant::now().duration_since(since);
        }
        if step.ended {
            round.left = left(owner.plane());
            report.left = report.left.max(round.left);
            report.forgotten += round.forgotten;
            progress(&std::mem::take(&mut round));
            // Whole rounds, or the share would be that of a part of one.
            if report.time > time {
                report.refused = refused(owner.plane());
                return Ok(report);
            }
            if measured.is_none() && start.elapsed() > warm_up {
                measured = Some((Instant::now(), made.load(Ordering::Relaxed)));
                (report.left, report.forgotten) = (0, 0);
            }
        }
        sleep(next_step.saturating_duration_since(Instant::now()));
    }
}

/// The client of a connection.
fn client(connection: u64) -> Result<SocketAddrV4> {
    let [.., a, b, c] = u32::try_from(connection / PORTS)?.to_be_bytes();
    let port = 1_024 + u16::try_from(connection % PORTS)?;
    Ok(SocketAddrV4::new(Ipv4Addr::new(10, 128 | a, b, c), port))
}

/// Opens connections at this rate, and resets each a second later, until it is to stop.
fn play(runner: &Runner, rate: u32, made: &AtomicU64, stop: &AtomicBool) -> Result<()> {
    let listener: SocketAddr = LISTENER.parse()?;
    let mut frame = Frame::tcp("10.9.0.1:1024".parse()?, listener, SYN).bytes();
    let mut send = |connection: u64, flags: u8| {
        // The program has no reason to look at checksums.
        let client = client(connection)?;
        frame[SOURCE..SOURCE + 4].copy_from_slice(&client.ip().octets());
        frame[SOURCE_PORT..SOURCE_PORT + 2].copy_from_slice(&client.port().to_be_bytes());
        frame[FLAGS] = flags;
        runner.run_tc(&frame, 1).map(drop).context("the program cannot be run")
    };
    let (start, rate) = (Instant::now(), u64::from(rate));
    let mut next = 0;
    while !stop.load(Ordering::Relaxed) {
        let due = u64::try_from(start.elapsed().as_micros())? * rate / 1_000_000;
        for connection in next..due {
            // More may be due than the program can be run for.
            if stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            made.store(connection, Ordering::Relaxed);
            send(connection, SYN)?;
            if let Some(ends) = connection.checked_sub(rate) {
                send(ends, RST)?;
            }
        }
        next = next.max(due);
        sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Flows that the last look has left.
fn left(kernel: &Kernel) -> u64 {
    kernel.uses().iter().find(|one| one.resource == "flows").map_or(0, |one| one.used)
}

/// Connections that found no room in the table, or came too fast.
fn refused(kernel: &Kernel) -> u64 {
    let counters = (0..2).map(|backend| kernel.counters(backend));
    counters.map(|counted| counted.fallback_full + counted.fallback_flood).sum()
}

/// CPU time of this thread.
fn cpu() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}

/// Seconds since boot.
fn now() -> Result<u32> {
    Ok(u32::try_from(clock_gettime(ClockId::CLOCK_MONOTONIC)?.tv_sec())?)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut row = |what: &str, value: String| writeln!(f, "{what:<26} {value:>10}");
        row("new connections a second", self.connections_a_second().to_string())?;
        row("measured", format!("{:.1} s", self.time.as_secs_f64()))?;
        row("flows forgotten", self.forgotten.to_string())?;
        row("most flows remembered", self.left.to_string())?;
        row("connections without room", self.refused.to_string())?;
        row("longest step", format!("{:.0} ms", self.longest.as_secs_f64() * 1e3))?;
        row("CPU time for all that", format!("{:.2} s", self.cpu.as_secs_f64()))?;
        row("share of one core", format!("{:.1} %", self.share() * 100.0))
    }
}
