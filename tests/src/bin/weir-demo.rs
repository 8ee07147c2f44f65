//! `cargo xtask demo`: a release under load in the lab, seen as it happens, with a verdict.

#![forbid(unsafe_code)]

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use weir::model::AttachMode;
use weir_tests::demo::{self, Options, Screen, Verdict};
use weir_tests::interrupt::Interrupt;

/// As a shell says it of a program that SIGINT has ended.
const INTERRUPTED: u8 = 130;

/// Shows a canary release, its rollback and a blue-green release on this machine, under load, and
/// says whether a connection broke or a share was wrong. Needs root; everything is removed at its
/// end.
#[derive(Debug, Parser)]
#[command(name = "weir-demo", bin_name = "cargo xtask demo --")]
struct Arguments {
    /// How the program is attached: auto, tc, xdp or xdp-generic
    #[arg(long, default_value = "auto")]
    mode: AttachMode,
    /// Length of each of the six steps
    #[arg(long, default_value_t = 8, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds_per_step: u64,
    /// New connections a second
    #[arg(long, default_value_t = 600, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,
    /// Long-lived connections, half of them silent until the end
    #[arg(long, default_value_t = 200, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: u32,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let options = Options {
        mode: arguments.mode,
        step: Duration::from_secs(arguments.seconds_per_step),
        rate: arguments.rate,
        connections: arguments.connections,
    };
    let interrupt = match Interrupt::install() {
        Ok(interrupt) => interrupt,
        Err(error) => {
            eprintln!("error: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let mut screen = Screen::new();
    let outcome = demo::run(options, &interrupt, &mut screen);
    let interrupted = outcome.is_err() && interrupt.wait(Duration::ZERO);
    // If the output is closed, the exit code is all that can be said.
    match say(&mut screen, outcome, interrupted) {
        _ if interrupted => ExitCode::from(INTERRUPTED),
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) | Err(_) => ExitCode::FAILURE,
    }
}

/// The last line. Says whether all was well.
fn say(screen: &mut Screen, outcome: Result<Verdict>, interrupted: bool) -> io::Result<bool> {
    let paint = screen.paint();
    let (line, pass) = match outcome {
        _ if interrupted => ("interrupted: everything is removed".to_owned(), false),
        Err(error) => (format!("{} {error:#}", paint.bad("FAIL:")), false),
        Ok(Verdict { tried, complaints }) if complaints.is_empty() => {
            (format!("{} {tried}: none broke; shares exact", paint.good("PASS:")), true)
        }
        Ok(Verdict { tried, complaints }) => {
            (format!("{} {tried}: {}", paint.bad("FAIL:"), shortened(&complaints)), false)
        }
    };
    screen.say(&format!("\n{line}\n"))?;
    Ok(pass)
}

/// The first complaints. All of them have been shown above.
fn shortened(complaints: &[String]) -> String {
    const SHOWN: usize = 2;
    let first = complaints[..complaints.len().min(SHOWN)].join("; ");
    match complaints.len().saturating_sub(SHOWN) {
        0 => first,
        more => format!("{first}; and {more} more, see above"),
    }
}
