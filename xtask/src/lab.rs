//! `cargo xtask demo`, `lab`, `cases` and `bench`: build, then become the program.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, anyhow, bail};

use crate::setup::{self, Rights};
use crate::{bpf, run};

/// How to build.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Quickly.
    Dev,
    /// As it is shipped.
    Release,
}

/// Builds `weir` and `binary` of package `weir-tests`, and runs the latter as root with the path
/// of `weir` in `WEIR_BIN`. It takes this process's place, so signals and its exit code are its own.
pub(crate) fn run(
    root: &Path,
    binary: &str,
    profile: Profile,
    arguments: &[impl AsRef<OsStr>],
) -> Result<()> {
    let machine = setup::ensure(root)?;
    if let Some(lack) = machine.lacks().first() {
        bail!("{lack}");
    }
    let directory = build(root, binary, profile)?;
    let weir = format!("WEIR_BIN={}", directory.join("weir").display());
    let mut command = match machine.rights {
        Rights::Sudo => {
            run::say(&format!(
                "{binary} makes network namespaces, which needs root: sudo may ask for your password"
            ));
            Command::new("sudo")
        }
        Rights::Root | Rights::None => Command::new("env"),
    };
    if machine.rights == Rights::Sudo {
        command.arg("env");
    }
    command.arg(weir).arg(directory.join(binary)).args(arguments);
    Err(anyhow!(command.exec()).context(format!("cannot run {binary}")))
}

/// Builds `weir` and `binary` of package `weir-tests`, and gives the directory that they are in.
pub(crate) fn build(root: &Path, binary: &str, profile: Profile) -> Result<PathBuf> {
    let mut build = cargo(root, "build");
    build.args(["--package=weir", "--package=weir-tests", "--bin=weir", "--bin", binary]);
    let directory = match profile {
        Profile::Dev => "debug",
        Profile::Release => {
            build.arg("--release");
            "release"
        }
    };
    run::open(&format!("cargo build ({binary})"), &mut build)?;
    Ok(bpf::target_dir(root).join(directory))
}

/// Runs the soak with another build of `weir`, optimized, to take over from this one and back.
pub(crate) fn soak(root: &Path, mut arguments: Vec<String>) -> Result<()> {
    setup::ensure(root)?;
    let mut build = cargo(root, "build");
    build.args(["--package=weir", "--bin=weir", "--release"]);
    run::open("cargo build --release (weir)", &mut build)?;
    let other = bpf::target_dir(root).join("release").join("weir");
    arguments.extend(["--other".to_owned(), other.display().to_string()]);
    run(root, "weir-soak", Profile::Dev, &arguments)
}

/// The cargo that runs us, at the top of the workspace.
pub(crate) fn cargo(root: &Path, verb: &str) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root).arg(verb);
    command
}
