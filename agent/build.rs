//! Builds the BPF objects and tells the crate where they are: `WEIR_BPF_OBJECT` (the balancer) and
//! `WEIR_DECAP_OBJECT` (the decapsulator).

use std::env;
use std::path::Path;
use std::process::ExitCode;

#[path = "../xtask/src/bpf.rs"]
#[allow(dead_code, reason = "xtask uses the rest")]
mod bpf;

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("cargo::error={error}");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<(), String> {
    // Asked at run time: the checkout may have moved since this script was compiled.
    let here = env::var_os("CARGO_MANIFEST_DIR").ok_or("cargo runs this, nobody else")?;
    let root = Path::new(&here).join("..");
    let root = root.canonicalize().map_err(|e| format!("{}: {e}", root.display()))?;
    for input in ["ebpf/src", "ebpf/Cargo.toml", "Cargo.toml"] {
        println!("cargo::rerun-if-changed={}", root.join(input).display());
    }
    let toolchain = bpf::Toolchain::find(&root)?;
    for tool in [&toolchain.compiler.rustc, &toolchain.linker] {
        println!("cargo::rerun-if-changed={}", tool.display());
    }
    let objects = toolchain.build(&root)?;
    println!("cargo::rustc-env=WEIR_BPF_OBJECT={}", objects.balancer.display());
    println!("cargo::rustc-env=WEIR_DECAP_OBJECT={}", objects.decap.display());
    Ok(())
}
