//! The soak: thousands of connections that live through everything an operator and a machine can do
//! to a balancer, for as long as one likes.
//!
//! - `load`: the connections, new and long-lived, and what became of them
//! - `trouble`: shifts, steering, kills, upgrades, floods: what happens when
//! - `counts`: the agent's counters, watched: none may fall, and at the end they are exact
//! - `deaths`: backends that die and come back
//! - `flood`: SYNs from addresses that nobody has

mod counts;
mod deaths;
mod flood;
mod load;
mod trouble;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::demo::{Paint, Screen};
use crate::interrupt::Interrupt;
use crate::lab::{LabBuilder, file_limit};
use crate::node::{Mode, Node};
use counts::Counts;
use load::Load;
use trouble::Trouble;

/// How often a line is printed.
const REPORT: Duration = Duration::from_secs(10);

/// What can be chosen.
#[derive(Clone, Debug)]
pub struct Options {
    /// How the program is attached.
    pub mode: Mode,
    /// How long it goes on.
    pub length: Duration,
    /// Long-lived TCP connections, a third of them silent for long.
    pub connections: u32,
    /// New connections a second.
    pub rate: u32,
    /// Chance follows from it.
    pub seed: u64,
    /// Another build of `weir`, which takes the other's place and gives it back.
    pub other: Option<PathBuf>,
}

/// Files beside those of the long-lived connections.
const OTHER_FILES: u64 = 2_000;

/// Runs it and gives what was wrong: nothing, if all is well.
pub fn run(options: &Options, interrupt: &Interrupt, screen: &mut Screen) -> Result<Vec<String>> {
    let paint = screen.paint();
    let later = options.length.as_secs() / REPORT.as_secs() * load::LATER_IN_ALL;
    let (limit, others) = (file_limit()?, later + OTHER_FILES);
    let wanted = u64::from(options.connections) + others;
    if wanted > limit {
        bail!(
            "{} connections take {wanted} open files by the end, and the limit is {limit} (ulimit -Hn): \
             raise it, or ask for --connections {}",
            options.connections,
            limit.saturating_sub(others)
        );
    }
    screen.say(&title(paint, options))?;
    let mut node = Node::start(
        LabBuilder::new().backends(4).files_apart(),
        options.mode,
        &["--on-exit=keep"],
    )?;
    let services = load::services(node.lab());
    node.apply(&services)?;
    let mut load = Load::start(node.lab(), options)?;
    let mut counts = Counts::start(&mut node)?;
    let mut trouble = Trouble::new(options, services);
    screen.say(&paint.bold(trouble::HEADER))?;
    let begun = Instant::now();
    let (mut report, mut refresh) = (begun + REPORT, begun + REPORT);
    while begun.elapsed() < options.length {
        interrupt.sleep_until(trouble.next())?;
        trouble.happen(&mut node)?;
        if Instant::now() >= report {
            report += REPORT;
            counts.look(&mut node)?;
            let seen = load.seen(node.lab());
            screen.say(&trouble.line(begun.elapsed(), &seen, &mut node)?)?;
        }
        if Instant::now() >= refresh && !trouble.is_fresh_death() {
            refresh += REPORT;
            load.refresh(node.lab())?;
        }
    }
    let seen = load.seen(node.lab());
    screen.say(&trouble.line(begun.elapsed(), &seen, &mut node)?)?;
    counts.look(&mut node)?;
    trouble.end(&node)?;
    let mut wrong = load.verify(node.lab());
    wrong.extend(counts.verify(&mut node)?);
    node.take_agent()?.stop()?;
    Ok(wrong)
}

fn title(paint: Paint, options: &Options) -> String {
    let Options { connections, rate, seed, .. } = options;
    format!(
        "{}   {} s of trouble, in mode {}, by chance {seed}\n\n  \
         {connections} long-lived TCP connections, a third of them silent; {} UDP flows; {rate} new \
         connections a second\n  \
         a random shift each 500 ms, steering each 5 s, a death or a return of a backend each 6 s,\n  \
         kill -9 of the agent each 20 s, a flood of SYNs and {} each minute\n",
        paint.bold("weir soak"),
        options.length.as_secs(),
        options.mode.name(),
        load::UDP_FLOWS,
        if options.other.is_some() { "another build of the agent" } else { "a clean restart" },
    )
}
