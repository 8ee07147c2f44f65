//! `cargo xtask bench`: what something costs.

#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand};
use weir_tests::bench::{signals, sweep};

/// Measures what something costs on this machine. Needs root.
#[derive(Debug, Parser)]
#[command(name = "weir-bench", bin_name = "cargo xtask bench --")]
struct Arguments {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Debug, Subcommand)]
enum Bench {
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
