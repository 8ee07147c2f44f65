//! `cargo xtask soak`: thousands of connections live through shifts, kills, upgrades and floods.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use weir_tests::demo::Screen;
use weir_tests::interrupt::Interrupt;
use weir_tests::node::Mode;
use weir_tests::soak::{self, Options};

/// How the program is attached.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Attach {
    Tc,
    Xdp,
    XdpGeneric,
}

/// Lets connections live through everything that operators and machines do to a balancer, and says
/// whether one broke. Needs root; everything is removed at its end.
#[derive(Debug, Parser)]
#[command(name = "weir-soak", bin_name = "cargo xtask soak --")]
struct Arguments {
    /// How the program is attached
    #[arg(long, value_enum, default_value = "tc")]
    mode: Attach,
    /// How long it goes on
    #[arg(long, default_value_t = 600, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Long-lived connections, a third of them silent until the end
    #[arg(long, default_value_t = 10_000, value_name = "N", value_parser = clap::value_parser!(u32).range(10..=20_000))]
    connections: u32,
    /// New connections a second
    #[arg(long, default_value_t = 300, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=10_000))]
    rate: u32,
    /// What chance follows from
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// Another build of `weir`, which takes over each minute
    #[arg(long, value_name = "FILE")]
    other: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let options = Options {
        mode: match arguments.mode {
            Attach::Tc => Mode::Tc,
            Attach::Xdp => Mode::Xdp,
            Attach::XdpGeneric => Mode::XdpGeneric,
        },
        length: Duration::from_secs(arguments.seconds),
        connections: arguments.connections,
        rate: arguments.rate,
        seed: arguments.seed,
        other: arguments.other,
    };
    let mut screen = Screen::new();
    let outcome = Interrupt::install().and_then(|i| soak::run(&options, &i, &mut screen));
    match say(&mut screen, outcome) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) | Err(_) => ExitCode::FAILURE,
    }
}

/// The last line. Says whether all was well.
fn say(screen: &mut Screen, outcome: Result<Vec<String>>) -> Result<bool> {
    let paint = screen.paint();
    let (line, pass) = match outcome {
        Err(error) => (format!("{} {error:#}", paint.bad("FAIL:")), false),
        Ok(wrong) if wrong.is_empty() => {
            let line = "no connection broke or stalled; counters never fell and are exact";
            (format!("{} {line}", paint.good("PASS:")), true)
        }
        Ok(wrong) => (format!("{}\n  {}", paint.bad("FAIL:"), wrong.join("\n  ")), false),
    };
    screen.say(&format!("\n{line}\n"))?;
    Ok(pass)
}
