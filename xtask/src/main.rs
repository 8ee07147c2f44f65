//! What a developer of weir runs. `cargo xtask help` lists it.
#![forbid(unsafe_code)]

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use lab::Profile;

mod bench;
mod bpf;
mod build_ebpf;
mod lab;
mod programs;
mod run;
mod setup;
mod suite;
mod test;
mod vm;

/// Tasks of weir's developers. Each installs first what it needs and what is missing.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Measure what something costs, in a release build: `bench sweep`, `bench help`
    Bench {
        /// The benchmark and its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Find or install what building and running weir needs
    Setup {
        /// Only look: install nothing, fail if something is missing
        #[arg(long)]
        check: bool,
        /// Also what only some tests need: Prometheus, Chromium, etcd and libfaketime
        #[arg(long)]
        watchers: bool,
    },
    /// Build the BPF program and say what is in the object
    BuildEbpf,
    /// Build the agent that tests can tell to kill itself at a step: target/debug/weir-faulty
    BuildFaulty,
    /// Run the packet cases and say what came of each
    Cases {
        /// Write what went in and what came out, for Wireshark: a pcapng file for each topic
        #[arg(long, value_name = "DIR")]
        pcap: Option<PathBuf>,
        /// Say how many nanoseconds a packet takes at each hook
        #[arg(long)]
        measure: bool,
        /// Let tshark look for malformed packets and wrong checksums; installs it if it is missing
        #[arg(long)]
        tshark: bool,
        /// Only cases whose names contain this
        filter: Option<String>,
    },
    /// See traffic shift between blue, green and canary in a lab on this machine
    Demo {
        /// Arguments of the demo
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Bring the lab up, with an agent running, until Ctrl-C
    Lab {
        /// Arguments of the lab
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Let thousands of connections live through shifts, kills, upgrades and floods
    Soak {
        /// Arguments of the soak
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Check formatting, lints and docs, and run all tests
    Test {
        /// Of the test programs only these, by name
        programs: Vec<String>,
    },
    /// Run the end-to-end tests under a kernel of Debian's, in a virtual machine
    Vm(vm::Options),
}

fn main() -> ExitCode {
    let root = workspace();
    let task = Arguments::parse().task;
    let result = match task {
        Task::Bench { arguments } => bench::bench(&root, &arguments),
        Task::Setup { check, watchers } => setup::setup(&root, check, watchers),
        Task::BuildFaulty => build_faulty(&root),
        Task::BuildEbpf => build_ebpf::build_ebpf(&root),
        Task::Cases { pcap, measure, tshark, filter } => {
            cases(&root, pcap, measure, tshark, filter)
        }
        Task::Demo { arguments } => lab::run(&root, "weir-demo", Profile::Dev, &arguments),
        Task::Lab { arguments } => lab::run(&root, "weir-lab", Profile::Dev, &arguments),
        Task::Soak { arguments } => lab::soak(&root, arguments),
        Task::Test { programs } => test::test(&root, &programs),
        Task::Vm(options) => vm::vm(&root, &options),
    };
    report(result)
}

/// Builds the agent with fault points, and the usual one again.
fn build_faulty(root: &Path) -> Result<()> {
    let path = test::build_faulty(root)?;
    let mut usual = lab::cargo(root, "build");
    run::open("cargo build", usual.args(["--workspace", "--bin=weir"]))?;
    run::say(&format!("\nbuilt {}", path.display()));
    Ok(())
}

/// Runs the packet cases, with their own arguments.
fn cases(
    root: &Path,
    pcap: Option<PathBuf>,
    measure: bool,
    tshark: bool,
    filter: Option<String>,
) -> Result<()> {
    if tshark {
        setup::ensure_tshark(root)?;
    }
    let mut arguments: Vec<OsString> = Vec::new();
    if let Some(directory) = pcap {
        arguments.extend(["--pcap".into(), directory.into()]);
    }
    arguments.extend(measure.then(|| "--measure".into()));
    arguments.extend(tshark.then(|| "--tshark".into()));
    arguments.extend(filter.map(OsString::from));
    lab::run(root, "weir-cases", Profile::Dev, &arguments)
}

fn report(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The top of the workspace. Cargo says where it is; the checkout may have moved since the build.
fn workspace() -> PathBuf {
    let here =
        env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let mut root = PathBuf::from(here);
    root.pop();
    root
}
