//! What the agent takes by how much it has to do: from one service to as many as there can be.
//!
//! A real agent in a lab; the times of calls are the client's. Shifts are watched as in
//! [`super::shift`], on a machine with two processors.

mod report;
mod tables;

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tokio::task::JoinSet;
use tokio_stream::StreamExt as _;
use weir::client::Client;
use weir::model::{ServiceName, Version};

use super::caller::{AGENT, Caller, shift};
use super::crowd::Crowd;
use super::figures::Times;
use super::host::{Host, Use, pin};
use super::probe::Probe;
use crate::interrupt::Interrupt;
pub use report::{Memory, Report, Row};
pub use tables::Tables;

/// Services and backends, altogether.
pub const CASES: [(u16, u16); 6] =
    [(1, 3), (1, 4_096), (64, 1_536), (512, 1_536), (512, 4_096), (512, 12_288)];
/// How often counters are streamed.
const EVERY: Duration = Duration::from_millis(100);
/// Calls at a time, where calls a second are counted.
const AT_A_TIME: usize = 16;
/// Calls of a kind, whose median counts.
const CALLS: usize = 9;

/// What to measure.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Shifts of one service in each case.
    pub shifts: u32,
    /// How long each rate is measured.
    pub time: Duration,
}

/// Measures. Needs root, and two processors.
///
/// # Errors
///
/// Something does not start, a call is refused, or it was interrupted.
pub fn measure(plan: Plan, interrupt: &Interrupt, progress: &dyn Fn(&str)) -> Result<Report> {
    let host = Host::here();
    if host.processors < 2 {
        bail!("a shift is watched from a second processor, and this machine has one");
    }
    let mut rows = Vec::new();
    for (services, backends) in CASES {
        let crowd = Crowd::of(services, backends);
        progress(&format!("{services} services, {} backends", crowd.all_backends()));
        rows.push(case(crowd, plan, interrupt)?);
    }
    Ok(Report { host, rows })
}

fn case(crowd: Crowd, plan: Plan, interrupt: &Interrupt) -> Result<Row> {
    let names = crowd.names()?;
    let tables = tables::build(crowd);
    let mut caller = Caller::start()?;
    let start = caller.started();
    let empty = Memory::of(caller.pid()?)?;
    let apply = caller.apply(crowd)?;
    let resolve = caller.resolve()?;
    let apply_again = caller.apply(crowd)?;
    let full = Memory::of(caller.pid()?)?;
    interrupt.sleep(Duration::ZERO)?;

    // What the agent does on its own, and what is measured after it is let be.
    interrupt.sleep(Duration::from_millis(500))?;
    let (idle_cpu, ()) = cpu_of(&mut caller, |_| {
        thread::sleep(plan.time);
        Ok(())
    })?;
    let (stream_cpu, samples) =
        cpu_of(&mut caller, |caller| caller.wait(async |client| stream(client, plan.time).await))?;
    let read = caller.time_of(CALLS, async |client| Ok(client.counters(&[]).await.map(drop)?))?;
    let list = caller.time_of(CALLS, async |client| Ok(client.list().await.map(drop)?))?;
    let calls = caller.wait(async |client| calls(client, &names[0], plan.time).await)?;
    interrupt.sleep(Duration::ZERO)?;

    let (effect, returns) = shifts(&mut caller, crowd, &names, plan, interrupt)?;
    let apply_grown = caller.apply(crowd.grown())?;
    let grown = Memory::of(caller.pid()?)?;
    let stored = caller.stored()?;
    let restart = caller.restart()?;
    Ok(Row {
        services: crowd.services,
        backends: crowd.all_backends(),
        tables,
        start: millis(start),
        apply: millis(apply),
        resolve: millis(resolve),
        apply_again: millis(apply_again),
        apply_grown: millis(apply_grown),
        restart: millis(restart),
        effect,
        returns,
        read: millis(read),
        list: millis(list),
        idle_cpu,
        stream_cpu,
        samples,
        calls,
        empty,
        full,
        grown,
        stored_kib: stored >> 10,
    })
}

/// The share of one processor that the agent takes during something, in percent.
fn cpu_of<T>(
    caller: &mut Caller,
    during: impl FnOnce(&mut Caller) -> Result<T>,
) -> Result<(f64, T)> {
    let pid = caller.pid()?;
    let (before, began) = (Use::of(pid)?, Instant::now());
    let done = during(caller)?;
    let cpu = Use::of(pid)?.cpu.saturating_sub(before.cpu);
    Ok((100.0 * cpu.as_secs_f64() / began.elapsed().as_secs_f64(), done))
}

/// Follows the counters of all services; gives the samples that came in a second.
async fn stream(client: &mut Client, time: Duration) -> Result<f64> {
    let mut samples = client.watch_counters(&[], EVERY).await?;
    let (began, mut count) = (Instant::now(), 0);
    while began.elapsed() < time {
        samples.next().await.context("the stream of counters has ended")??;
        count += 1;
    }
    Ok(f64::from(count) / began.elapsed().as_secs_f64())
}

/// How often a second the agent says what it knows of a service, when so many ask at a time.
async fn calls(client: &Client, service: &ServiceName, time: Duration) -> Result<f64> {
    let began = Instant::now();
    let mut asking = JoinSet::new();
    for _ in 0..AT_A_TIME {
        let (mut client, service) = (client.clone(), service.clone());
        asking.spawn(async move {
            let mut answers = 0;
            while began.elapsed() < time {
                client.get(&service).await?;
                answers += 1;
            }
            anyhow::Ok(answers)
        });
    }
    let mut answers = 0;
    for one in asking.join_all().await {
        answers += one?;
    }
    Ok(f64::from(answers) / began.elapsed().as_secs_f64())
}

/// Shifts one service of all to canary and back: until it has effect, until the call returns.
fn shifts(
    caller: &mut Caller,
    crowd: Crowd,
    names: &[ServiceName],
    plan: Plan,
    interrupt: &Interrupt,
) -> Result<(Times, Times)> {
    let middle = crowd.services / 2;
    let only = &names[usize::from(middle)..][..1];
    let mut probe = Probe::of_service(caller.lab(), crowd, middle)?;
    caller.pin()?;
    let _here = pin(AGENT)?;
    let (there, back) = (shift(only, [0, 0, 10_000])?, shift(only, [10_000, 0, 0])?);
    let (mut effect, mut returns) = (Vec::new(), Vec::new());
    for _ in 0..plan.shifts {
        interrupt.sleep(Duration::from_millis(5))?;
        let watched = caller.watched(&there, Version::Canary, &mut probe)?;
        effect.push(watched.effect);
        let began = Instant::now();
        caller.send(&back)?;
        returns.extend([watched.returned, began.elapsed()]);
    }
    let times = |all: &[Duration]| Times::of(all).context("no shift was made");
    Ok((times(&effect)?, times(&returns)?))
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
