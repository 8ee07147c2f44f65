//! `cargo xtask bench`: what something costs.

#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand};
use weir_tests::bench::{signals, sweep};
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
    /// Each level of signals: the time that a packet takes
    Signals {
        /// Runs of each packet at each level
        #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
        runs: u32,
    },
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
        Bench::Signals { runs } => signals(runs),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
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
