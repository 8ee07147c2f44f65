//! `cargo xtask bench`: what something costs.

#![forbid(unsafe_code)]

use std::fmt::Display;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use serde::Serialize;
use weir_tests::bench::{figures, fleet, packet, scale, shift, signals, sweep, wire};
use weir_tests::interrupt::Interrupt;
use weir_tests::releases::report;

/// Measures what something costs on this machine. Needs root.
#[derive(Debug, Parser)]
#[command(name = "weir-bench", bin_name = "cargo xtask bench --")]
struct Arguments {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// The judge of releases, and what others use: how often good ones are rolled back, and how soon
    /// bad ones are found, by simulation
    Judge {
        /// Good releases
        #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
        good: u64,
        /// Bad releases of each kind
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=100_000))]
        bad: u64,
        /// Seconds from one look at a good release to the next; bad ones are looked at each second
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=60))]
        tick: u32,
    },
    /// The agent's rounds over the flow table, while connections come and end and every slot of
    /// their service has moved
    Sweep {
        /// New connections a second
        #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        rate: u32,
        /// Measure for so many seconds
        #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(5..=3_600))]
        seconds: u64,
        /// Room of the flow table
        #[arg(long, default_value_t = 1 << 21, value_parser = clap::value_parser!(u32).range(1..=1 << 26))]
        flows: u32,
    },
    /// The agent with 1 to 512 services and 3 to 12 288 backends: times of apply, start and shifts,
    /// memory of the agent and of its maps, CPU of counters that are streamed, calls a second
    Scale {
        /// Shifts of one service in each case
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(2..=10_000))]
        shifts: u32,
        /// Seconds to measure each rate for
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=60))]
        seconds: u64,
        #[command(flatten)]
        common: Common,
    },
    /// A packet through the loaded XDP program, beside a program with a table of connections; nothing is
    /// sent
    Packet {
        /// Numbers of flows, powers of two
        #[arg(long, value_delimiter = ',', value_parser = flows)]
        flows: Vec<usize>,
        /// Rounds, in which all take turns
        #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u16).range(1..=1_000))]
        rounds: u16,
        /// Only cases of these names, or whose names contain one of these
        cases: Vec<String>,
        #[command(flatten)]
        common: Common,
    },
    /// A shift: the time until every packet is decided by the new tables, and until the call returns,
    /// beside HAProxy's `set weight` and `nft -f`
    Shift {
        /// Shifts of each kind
        #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(2..=10_000))]
        shifts: u32,
        #[command(flatten)]
        common: Common,
    },
    /// Real connections in the lab: requests and new connections a second, their times and their CPU
    /// time, through plain routing, weir, iptables, nftables, IPVS, HAProxy and nginx
    Wire(Wire),
    /// Releases over 8 agents: changes of weights until they are verified, connections that a canary
    /// harms which serves nobody, and 10 000 connections that stay open through all of it
    Fleet {
        /// Releases whose changes are timed
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
        rounds: u32,
        /// New connections a second, through all agents together
        #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(8..=100_000))]
        rate: u32,
        #[command(flatten)]
        common: Common,
    },
    /// Each level of signals: the time that a packet takes
    Signals {
        /// Runs of each packet at each level
        #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
        runs: u32,
    },
}

#[derive(Debug, Args)]
struct Wire {
    /// Rounds, in which all take turns
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Milliseconds of each kind of load in a turn
    #[arg(long, default_value_t = 1_500, value_parser = clap::value_parser!(u64).range(100..=60_000))]
    time: u64,
    /// Clients at a time
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1_024))]
    clients: u16,
    /// Requests a second at which their times are measured; every way must keep it
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(10..=1_000_000))]
    requests: u32,
    /// New connections a second, likewise
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(10..=1_000_000))]
    connections: u32,
    /// Groups of ways that are compared, the first ones
    #[arg(long, default_value_t = wire::GROUPS, value_parser = clap::value_parser!(u8).range(1..=i64::from(wire::GROUPS)))]
    groups: u8,
    #[command(flatten)]
    common: Common,
}

/// What several benchmarks have in common.
#[derive(Debug, Args)]
struct Common {
    /// Measure little, to see that it works; the figures say less
    #[arg(long)]
    quick: bool,
    /// Write what was measured there too, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl Common {
    /// Prints a report, and writes it.
    fn report(&self, report: &(impl Serialize + Display)) -> Result<()> {
        print!("{report}");
        self.json.as_ref().map_or(Ok(()), |path| figures::write_json(path, report))
    }
}

fn main() -> ExitCode {
    let done = match Arguments::parse().bench {
        Bench::Judge { good, bad, tick } => {
            judge(report::Plan { good, bad, tick: f64::from(tick) });
            Ok(())
        }
        Bench::Sweep { rate, seconds, flows } => {
            sweep(&sweep::Plan { rate, time: Duration::from_secs(seconds), flows })
        }
        Bench::Scale { shifts, seconds, common } => scale(shifts, seconds, &common),
        Bench::Shift { shifts, common } => shift(shifts, &common),
        Bench::Wire(arguments) => wire(&arguments),
        Bench::Fleet { rounds, rate, common } => fleet(rounds, rate, &common),
        Bench::Signals { runs } => signals(runs),
        Bench::Packet { flows, rounds, cases, common } => packet(flows, rounds, cases, &common),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A number of flows that can be measured.
fn flows(text: &str) -> Result<usize, String> {
    let [.., most] = packet::FLOWS;
    match text.parse::<usize>() {
        Ok(count) if count.is_power_of_two() && count <= most => Ok(count),
        _ => Err(format!("not a power of two up to {most}")),
    }
}

fn packet(flows: Vec<usize>, rounds: u16, only: Vec<String>, common: &Common) -> Result<()> {
    let quick = common.quick;
    let usual = if quick { vec![1, 65_536] } else { packet::FLOWS.to_vec() };
    let flows = if flows.is_empty() { usual } else { flows };
    let rounds = usize::from(if quick { rounds.min(7) } else { rounds });
    let plan = packet::Plan { flows, rounds, packets: 100_000, quick, only };
    eprintln!(
        "The loaded XDP program and others run over frames of many flows. All take turns, {rounds} rounds\n\
         of each case."
    );
    let report = packet::measure(&plan, &|what| eprintln!("  {what}"))?;
    common.report(&report)
}

fn judge(plan: report::Plan) {
    eprintln!(
        "{} good releases of half an hour, one to four agents, with ramps, incidents and storms of \n\
         retries, looked at every {} s; then {} bad ones of each kind, at 2000 connections a second \n\
         (or 20), 5% of them the candidate's, of which one in 500 fails at the baseline.",
        plan.good, plan.tick, plan.bad
    );
    let report = report::measure(plan, &|line| eprintln!("  {line}"));
    print!("{report}");
}

fn sweep(plan: &sweep::Plan) -> Result<()> {
    eprintln!(
        "One thread runs the loaded program over a SYN and a RST of {} connections a second; the\n\
         other is the agent's owner with its rounds, of which the CPU time is measured.",
        plan.rate
    );
    let report = sweep::measure(plan, &|round| {
        eprintln!(
            "  a round of {:>2} steps: {:>4} ms of CPU time, {:>7} forgotten, {:>7} left",
            round.steps,
            round.cpu.as_millis(),
            round.forgotten,
            round.left
        );
    })?;
    print!("{report}");
    Ok(())
}

fn signals(runs: u32) -> Result<()> {
    eprintln!(
        "The loaded programs run over single frames, {runs} times each; all levels take turns."
    );
    let report = signals::measure(runs, &|row| eprintln!("  {}: measured", row.what))?;
    print!("{report}");
    Ok(())
}

fn shift(shifts: u32, common: &Common) -> Result<()> {
    let plan = shift::Plan { shifts: if common.quick { 30.min(shifts) } else { shifts } };
    eprintln!(
        "{} shifts of each kind. The agent and its client are on processor 0; on processor 1 its\n\
         program runs over packets of new connections, and sees when it decides otherwise. Times are\n\
         from just before the client sends. `busy`: another thread keeps processor 0 at work with the\n\
         program over packets of established connections.",
        plan.shifts
    );
    let interrupt = Interrupt::install()?;
    let report = shift::measure(plan, &interrupt, &|line| eprintln!("  {line}"))?;
    common.report(&report)
}

fn scale(shifts: u32, seconds: u64, common: &Common) -> Result<()> {
    let (shifts, seconds) = if common.quick { (10.min(shifts), 1) } else { (shifts, seconds) };
    let plan = scale::Plan { shifts, time: Duration::from_secs(seconds) };
    eprintln!(
        "An agent in a lab, with its state on a disk. Times are the client's; memory of the maps is as\n\
         the kernel reckons it (fdinfo). In each case {shifts} shifts of one service are watched by its\n\
         program, which runs on processor 1, and rates are measured for {seconds} s."
    );
    let interrupt = Interrupt::install()?;
    let report = scale::measure(plan, &interrupt, &|line| eprintln!("  {line}"))?;
    common.report(&report)
}

fn wire(arguments: &Wire) -> Result<()> {
    let &Wire { rounds, time, clients, requests, connections, groups, ref common } = arguments;
    let (rounds, time) = if common.quick { (2.min(rounds), 300.min(time)) } else { (rounds, time) };
    let plan = wire::Plan {
        rounds,
        time: Duration::from_millis(time),
        clients: u32::from(clients),
        requests,
        connections,
        groups,
    };
    eprintln!(
        "{clients} clients at a time, {rounds} rounds of {time} ms; medians. Each way has a lab of its own.\n\
         `ratio`: of the rate of plain routing. `CPU us`: of an answer, on all processors, for client,\n\
         way and server; `more us`: than by plain routing. `paced`: times where all ways have the same\n\
         load, {requests} requests or {connections} connections a second."
    );
    let interrupt = Interrupt::install()?;
    let report = wire::measure(plan, &interrupt, &|line| eprintln!("  {line}"))?;
    common.report(&report)
}

fn fleet(rounds: u32, rate: u32, common: &Common) -> Result<()> {
    let (agents, rounds, connections) =
        if common.quick { (3, 1, 600) } else { (8, rounds, 10_000) };
    let plan = fleet::Plan { agents, rounds, rate, connections };
    eprintln!(
        "{agents} agents in namespaces of this machine, a coordinator, {rate} new connections a second over\n\
         all of them, and then {connections} that stay open."
    );
    let interrupt = Interrupt::install()?;
    let report = fleet::measure(plan, &interrupt, &|line| eprintln!("  {line}"))?;
    common.report(&report)
}
