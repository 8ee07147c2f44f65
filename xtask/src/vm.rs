//! `cargo xtask vm`: weir's end-to-end tests, or a benchmark, under a kernel of Debian's, in a virtual
//! machine.
//!
//! [`kernel`] gets the kernel as a package, [`programs`] builds the tests, [`initramfs`] puts
//! together what the machine needs and no more, [`machine`] boots it, and [`console`] reads what it
//! says. Nothing of it needs root.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::{bpf, run, setup};

mod console;
mod initramfs;
mod kernel;
mod machine;
mod modules;
mod programs;

use console::Verdict;
use kernel::Release;

/// What the task needs on this machine: (program, Debian's package of it).
const TOOLS: &[(&str, &str)] = &[
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("busybox", "busybox-static"),
    ("dpkg-deb", "dpkg"),
    ("strip", "binutils"),
    ("gzip", "gzip"),
    ("ip", "iproute2"),
    ("tc", "iproute2"),
    ("ethtool", "ethtool"),
];

/// What may be said on the command line.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The kernel's release
    #[arg(long, value_enum, default_value = "6.1")]
    kernel: Release,
    /// Minutes after which the machine is ended
    #[arg(long, default_value = "60", value_name = "MIN", value_parser = clap::value_parser!(u64).range(1..=600))]
    timeout: u64,
    /// Run a benchmark with these arguments, such as `wire --groups 1`, and no test
    #[arg(long, value_name = "ARGUMENTS", conflicts_with = "filters")]
    bench: Option<String>,
    /// A file of tests/tests, such as `outlives`, or a part of tests' names; all if none is given
    #[arg(value_name = "TEST-FILTER")]
    filters: Vec<String>,
}

/// Runs the tests, and fails unless all of them pass.
pub(crate) fn vm(root: &Path, options: &Options) -> Result<()> {
    if std::env::consts::ARCH != "x86_64" {
        bail!("the virtual machine is of this machine's kind, and only x86-64 has been tried");
    }
    setup::ensure_with(root, TOOLS)?;
    let start = Instant::now();
    let directory = bpf::target_dir(root).join("vm").join(options.kernel.name());
    let kernel = kernel::get(options.kernel, &directory)?;
    let (programs, arguments) = match &options.bench {
        Some(arguments) => {
            let arguments = arguments.split_whitespace().map(str::to_owned).collect();
            (programs::build_bench(root)?, arguments)
        }
        None => programs::select(programs::build(root)?, &options.filters, options.kernel),
    };
    let limit = Duration::from_secs(options.timeout * 60);
    let initramfs = initramfs::make(&directory, &kernel, &programs, &arguments, limit)?;

    let what = options.bench.as_deref().unwrap_or("the tests");
    run::say(&format!("\n{}", run::bold(&format!("== {what} under Linux {}", kernel.release))));
    let log = directory.join("console.log");
    let booted = Instant::now();
    let verdict = machine::run(&kernel, &initramfs, &log, limit)?;
    let (total, inside) = (run::seconds(start.elapsed()), run::seconds(booted.elapsed()));
    match verdict {
        Verdict::Passed { tests } => {
            let done = match options.bench {
                Some(_) => format!("measured under Linux {}: {total}", kernel.release),
                None => format!("passed under Linux {}: {tests} tests in {total}", kernel.release),
            };
            let done = format!("{done}, of these {inside} in the virtual machine");
            run::say(&format!("\n{}", run::bold(&done)));
            Ok(())
        }
        Verdict::Failed(why) => bail!(
            "under Linux {}, after {inside}: {why}; all that the machine said is in {}",
            kernel.release,
            log.display()
        ),
    }
}
