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

use anyhow::{Context as _, Result, anyhow, ensure};
use nix::time::{ClockId, clock_gettime};
use weir::dataplane::DataPlane as _;
use weir::dataplane::kernel::{Kernel, Options, Runner};
use weir::node::Owner;
use weir::store::Directory;
use weir_ebpf::abi::FlowEntry;

use crate::frames::{Frame, RST, SYN};
use crate::moved::{self, LISTENER};
use crate::program;

/// Ports of a client that connections come from.
const PORTS: u64 = 60_000;
/// Flows that are looked up at once, and how often that is measured.
const PROBE: u32 = 64;
const PROBES: u32 = 500;
/// Of what was read so long ago most is in no cache: hundreds of thousands of connections came since.
const COOL: Duration = Duration::from_secs(4);
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
    /// Of that, for the flows that the program has told of.
    pub told_cpu: Duration,
    /// What a flow costs at the least, however it was found that it may go.
    pub by_key: ByKey,
    /// The longest time that a request would have waited for.
    pub longest: Duration,
    /// Flows that were forgotten.
    pub forgotten: u64,
    /// Of those, the ones that the program has told of, so that no round looked for them.
    pub told: u64,
    /// The most flows that a round has left.
    pub left: u64,
    /// Connections that found no room, from the beginning.
    pub refused: u64,
}

/// CPU time of the program that forgets flows, by flow, `PROBE` of them a run.
#[derive(Debug, Clone, Copy, Default)]
pub struct ByKey {
    /// One look-up by key of a flow that was used some seconds ago.
    pub cold: Duration,
    /// The same at once again, when all that it reads is in the caches.
    pub hot: Duration,
    /// A look-up and the removal, of a flow that was used some seconds ago.
    pub forget: Duration,
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
    /// Of those, the ones that the program has told of.
    pub told: u64,
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
    let measured = rounds(&mut owner, warm_up, plan.time, &made, progress).and_then(|report| {
        // Reset a second ago.
        let passed = u64::from(plan.rate) + report.connections_a_second();
        let oldest = made.load(Ordering::Relaxed).saturating_sub(passed);
        Ok(Report { by_key: by_key(owner.plane(), oldest)?, ..report })
    });
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
    let (mut next_step, mut next_closed) = (start, start);
    let mut measured = None;
    loop {
        let (before, began) = (cpu()?, Instant::now());
        let telling = next_closed <= next_step;
        let ended = if telling {
            let step = owner.forget_closed(now()?).map_err(|error| anyhow!("{error}"))?;
            next_closed = Instant::now() + step.pause;
            round.forgotten += step.forgotten;
            round.told += step.forgotten;
            false
        } else {
            let step = owner.step(now()?).map_err(|error| anyhow!("{error}"))?;
            next_step = Instant::now() + step.pause;
            round.steps += 1;
            round.forgotten += step.forgotten;
            step.ended
        };
        let (cpu, took) = (cpu()?.saturating_sub(before), began.elapsed());
        round.cpu += cpu;
        if let Some((since, before)) = measured {
            report.cpu += cpu;
            report.told_cpu += if telling { cpu } else { Duration::ZERO };
            report.longest = report.longest.max(took);
            report.connections = made.load(Ordering::Relaxed) - before;
            report.time = Instant::now().duration_since(since);
        }
        if ended {
            round.left = left(owner.plane());
            report.left = report.left.max(round.left);
            report.forgotten += round.forgotten;
            report.told += round.told;
            progress(&std::mem::take(&mut round));
            // Whole rounds, or the share would be that of a part of one.
            if report.time > time {
                report.refused = refused(owner.plane());
                return Ok(report);
            }
            if measured.is_none() && start.elapsed() > warm_up {
                measured = Some((Instant::now(), made.load(Ordering::Relaxed)));
                (report.left, report.forgotten, report.told) = (0, 0, 0);
            }
        }
        sleep(next_step.min(next_closed).saturating_duration_since(Instant::now()));
    }
}

/// What flows cost by key, of connections from this one on: see [`ByKey`].
fn by_key(kernel: &Kernel, oldest: u64) -> Result<ByKey> {
    let flows = (oldest..).take(2 * (PROBE * PROBES) as usize).map(|connection| {
        let key = Frame::tcp(client(connection)?.into(), LISTENER.parse()?, SYN).key();
        let entry = kernel.flow(&key)?.with_context(|| format!("{key:?} is not remembered"))?;
        Ok((key, entry))
    });
    let flows = flows.collect::<Result<Vec<_>>>()?;
    // Until all that this has read is out of the caches again.
    sleep(COOL);
    let (looked_at, removed) = flows.split_at(flows.len() / 2);
    let mut sum = ByKey::default();
    let timed = |took: &mut Duration, flows: &[_], wanted: u64| {
        let before = cpu()?;
        let forgotten = kernel.forget_flows(flows)?;
        *took += cpu()?.saturating_sub(before);
        ensure!(forgotten == wanted, "{forgotten} flows were forgotten, not {wanted}");
        Ok(())
    };
    for flows in looked_at.chunks(PROBE as usize) {
        // The program that forgets is given entries that none has, so it only looks.
        let others: Vec<_> = flows.iter().map(|(key, _)| (*key, FlowEntry::default())).collect();
        timed(&mut sum.cold, &others, 0)?;
        timed(&mut sum.hot, &others, 0)?;
    }
    for flows in removed.chunks(PROBE as usize) {
        timed(&mut sum.forget, flows, flows.len() as u64)?;
    }
    let each = |all: Duration| all / (PROBE * PROBES);
    Ok(ByKey { cold: each(sum.cold), hot: each(sum.hot), forget: each(sum.forget) })
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
        row("of these, told of", self.told.to_string())?;
        row("most flows remembered", self.left.to_string())?;
        row("connections without room", self.refused.to_string())?;
        row("longest step", format!("{:.0} ms", self.longest.as_secs_f64() * 1e3))?;
        row("CPU time for all that", format!("{:.2} s", self.cpu.as_secs_f64()))?;
        row("of that, for those told of", format!("{:.2} s", self.told_cpu.as_secs_f64()))?;
        row("share of one core", format!("{:.1} %", self.share() * 100.0))?;
        let ByKey { cold, hot, forget } = self.by_key;
        row("one look-up by key", format!("{} ns", cold.as_nanos()))?;
        row("the same at once again", format!("{} ns", hot.as_nanos()))?;
        row("one look-up, and removal", format!("{} ns", forget.as_nanos()))
    }
}
