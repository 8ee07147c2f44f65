//! How long a shift takes: until every packet is decided by the new tables, and until the call
//! returns; beside what others do for the same change.
//!
//! The agent and the client run on the first processor. On the second, the agent's own program runs
//! in a tight loop over packets of new connections (`BPF_PROG_TEST_RUN`; nothing is sent), and sees
//! when it decides otherwise. Times begin when the client is about to send, so they hold the
//! client's own work and the way over the Unix socket too: what the agent takes is less.
//!
//! All take turns: weir, the others, each with the first processor idle and with another thread that
//! keeps it busy with the program over established connections. And in turn with these, on the first
//! processor while it is idle, plain computing that should take as long as the effect of a shift.

mod computing;
mod moves;
mod peers;
mod report;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use weir::model::{ServiceName, Version};

use self::computing::Computing;
use super::caller::{AGENT, Caller, shift};
use super::crowd::Crowd;
use super::figures::Times;
use super::host::{Host, pin};
use super::probe::Probe;
use crate::interrupt::Interrupt;
pub use report::{Alone, Report, Row};

/// Services and backends, altogether.
pub const CASES: [(u16, u16); 4] = [(1, 3), (1, 4_096), (100, 300), (100, 4_096)];
/// Established connections that the busy processor sees.
const CONNECTIONS: u32 = 4_096;
/// What a shift to canary gives each version, and the shift back.
const CANARY: [u16; 3] = [0, 0, 10_000];
const BLUE: [u16; 3] = [10_000, 0, 0];

/// What to measure.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Shifts of each kind.
    pub shifts: u32,
}

/// Measures. Needs root, and two processors.
///
/// # Errors
///
/// Something does not start, a shift is refused, or it was interrupted.
pub fn measure(plan: Plan, interrupt: &Interrupt, progress: &dyn Fn(&str)) -> Result<Report> {
    let host = Host::here();
    if host.processors < 2 {
        bail!("a shift is watched from a second processor, and this machine has one");
    }
    let mut report = Report {
        host,
        rows: Vec::new(),
        alone: Vec::new(),
        fallbacks: 0,
        moves: None,
        skipped: Vec::new(),
    };
    for (services, backends) in CASES {
        let crowd = Crowd::of(services, backends);
        progress(&format!("{services} services, {} backends", crowd.all_backends()));
        let mut caller = Caller::start()?;
        caller.apply(crowd)?;
        caller.resolve()?;
        caller.pin()?;
        let _here = pin(AGENT)?;
        if services == 1 && backends == 3 {
            report.moves = Some(moves::measure(&mut caller, crowd, plan.shifts.min(200))?);
            caller.shift(&crowd.names()?, BLUE)?;
        }
        let (rows, alone) = case(&mut caller, crowd, plan.shifts, interrupt, &mut report.skipped)?;
        for row in &rows {
            progress(&format!("  {row}"));
        }
        report.rows.extend(rows);
        report.alone.push(alone);
        report.fallbacks += caller.fallbacks()?;
    }
    Ok(report)
}

/// Times of one way of making a change.
#[derive(Default)]
struct Taken {
    effect: Vec<Duration>,
    returns: Vec<Duration>,
    back: u32,
}

fn case(
    caller: &mut Caller,
    crowd: Crowd,
    shifts: u32,
    interrupt: &Interrupt,
    skipped: &mut Vec<String>,
) -> Result<(Vec<Row>, Alone)> {
    let names = crowd.names()?;
    let mut peers = peers::all(caller.lab(), crowd, &mut |why| {
        if !skipped.iter().any(|known| known == why) {
            skipped.push(why.to_owned());
        }
    })?;
    let (mut probe, mut load) =
        (Probe::new(caller.lab(), crowd)?, Probe::new(caller.lab(), crowd)?);
    // By how busy the first processor is; weir first.
    let mut taken: [Vec<Taken>; 2] = Default::default();
    for row in &mut taken {
        row.resize_with(1 + peers.len(), Taken::default);
    }
    let (computing, mut alone) = (Computing::here(), Vec::new());
    let (busy, stop) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        let stop = Stop(&stop);
        let loader = scope.spawn(|| {
            let _here = pin(AGENT)?;
            load.load(CONNECTIONS, &busy, stop.0)
        });
        for turn in 0..shifts {
            for is_busy in [false, true] {
                interrupt.sleep(Duration::ZERO)?;
                busy.store(is_busy, Ordering::Relaxed);
                // Shifts come when they come, not in step with anything.
                thread::sleep(Duration::from_micros(3_000 + u64::from(turn * 619 % 2_000)));
                let taken = &mut taken[usize::from(is_busy)];
                weir(caller, &mut probe, &names, &mut taken[0])?;
                if let Some(effect) = Times::of(&taken[0].effect).filter(|_| !is_busy) {
                    thread::sleep(Duration::from_millis(3));
                    alone.push(computing.takes(Duration::from_secs_f64(effect.p50 / 1e3)));
                }
                for (peer, taken) in peers.iter_mut().zip(&mut taken[1..]) {
                    for to in [Version::Canary, Version::Blue] {
                        taken.returns.push(peer.shift(caller.lab(), to)?);
                    }
                }
            }
        }
        drop(stop);
        loader.join().ok().context("the load has ended")??;
        anyhow::Ok(())
    })?;
    let what = [vec!["weir"], peers.iter().map(|peer| peer.name()).collect()].concat();
    let mut rows = Vec::new();
    for (is_busy, taken) in [false, true].into_iter().zip(taken) {
        for (what, taken) in what.iter().zip(taken) {
            rows.push(Row {
                what: (*what).to_owned(),
                services: crowd.services,
                backends: crowd.all_backends(),
                busy: is_busy,
                effect: Times::of(&taken.effect),
                returns: Times::of(&taken.returns).context("no shift was made")?,
                back: taken.back,
            });
        }
    }
    let times = Times::of(&alone).context("no shift was made")?;
    Ok((rows, Alone { services: crowd.services, backends: crowd.all_backends(), times }))
}

/// A shift to canary, of which the effect is seen, and back.
fn weir(
    caller: &mut Caller,
    probe: &mut Probe,
    names: &[ServiceName],
    taken: &mut Taken,
) -> Result<()> {
    let (there, back) = (shift(names, CANARY)?, shift(names, BLUE)?);
    let watched = caller.watched(&there, Version::Canary, probe)?;
    taken.effect.push(watched.effect);
    taken.back += watched.back;
    let began = Instant::now();
    caller.send(&back)?;
    taken.returns.extend([watched.returned, began.elapsed()]);
    Ok(())
}

/// Ends the load, however the measurement ends.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
