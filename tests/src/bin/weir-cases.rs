//! `cargo xtask cases`: the packet cases, what comes of each, and files of them for Wireshark.

#![forbid(unsafe_code)]

use std::io::{IsTerminal as _, Write as _, stdout};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Parser;
use weir_tests::cases::{self, pcapng, run, table, tshark};

/// Runs the packet cases through the loaded programs: each input, several times in a row, at each
/// hook. Needs root.
#[derive(Debug, Parser)]
#[command(name = "weir-cases", bin_name = "cargo xtask cases")]
struct Arguments {
    /// Write what went in and what came out, a pcapng file for each topic
    #[arg(long, value_name = "DIR")]
    pcap: Option<PathBuf>,
    /// Say how many nanoseconds a packet takes at each hook
    #[arg(long)]
    measure: bool,
    /// Let tshark look for malformed packets and wrong checksums
    #[arg(long)]
    tshark: bool,
    /// Only cases whose names contain this
    filter: Option<String>,
}

fn main() -> ExitCode {
    match work(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Says whether all is well.
fn work(arguments: &Arguments) -> Result<bool> {
    let mut cases = cases::all();
    if let Some(filter) = &arguments.filter {
        cases.retain(|case| case.name.contains(filter));
        if cases.is_empty() {
            bail!("no case's name contains {filter:?}; without a filter all are listed");
        }
    }
    eprintln!("{} cases ...", cases.len());
    let reports = run::run(&cases, arguments.measure)?;
    let colour =
        stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let mut out = stdout().lock();
    out.write_all(table::table(&cases, &reports, colour).as_bytes())?;
    let mut well = reports.iter().all(run::Report::is_well);

    if let Some(directory) = &arguments.pcap {
        for (path, frames) in pcapng::write(directory, &cases, &reports)? {
            writeln!(out, "{frames:>5} frames in {}", path.display())?;
        }
    }
    if arguments.tshark {
        eprintln!("tshark reads what went in and came out ...");
        let found = tshark::look(&pcapng::file(&cases, &reports, None))?;
        well &= found.is_well();
        writeln!(out, "{found}")?;
    }
    Ok(well)
}
