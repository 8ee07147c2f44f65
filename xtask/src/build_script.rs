//! What the build scripts of the workspace do: they build BPF objects, and tell their crates where
//! these are. Each script includes this file through `#[path]`.

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[path = "bpf.rs"]
#[allow(dead_code, reason = "xtask uses the rest")]
mod bpf;

use bpf::Toolchain;

/// Builds objects in the workspace at this path. Gives each with the variable that is to name it.
type Build<const N: usize> = fn(&Toolchain, &Path) -> Result<[(&'static str, PathBuf); N], String>;

/// Finds the toolchain, builds, and sets the variables for the crate.
pub(crate) fn run<const N: usize>(build: Build<N>) -> ExitCode {
    match set(build) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("cargo::error={error}");
            ExitCode::FAILURE
        }
    }
}

fn set<const N: usize>(build: Build<N>) -> Result<(), String> {
    // Asked at run time: the checkout may have moved since the script was compiled.
    let here = env::var_os("CARGO_MANIFEST_DIR").ok_or("cargo runs this, nobody else")?;
    let root = Path::new(&here).join("..");
    let root = root.canonicalize().map_err(|e| format!("{}: {e}", root.display()))?;
    for input in ["ebpf/src", "ebpf/Cargo.toml", "Cargo.toml"] {
        println!("cargo::rerun-if-changed={}", root.join(input).display());
    }
    let toolchain = Toolchain::find(&root)?;
    for tool in [&toolchain.compiler.rustc, &toolchain.linker] {
        println!("cargo::rerun-if-changed={}", tool.display());
    }
    for (variable, object) in build(&toolchain, &root)? {
        println!("cargo::rustc-env={variable}={}", object.display());
    }
    Ok(())
}
