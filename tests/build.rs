//! Builds the benchmark's BPF object and tells the crate where it is: `WEIR_BENCH_OBJECT`.

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
    for input in ["ebpf/src/bin/bench", "ebpf/src/bench.rs", "ebpf/Cargo.toml", "Cargo.toml"] {
        println!("cargo::rerun-if-changed={}", root.join(input).display());
    }
    let toolchain = bpf::Toolchain::find(&root)?;
    for tool in [&toolchain.compiler.rustc, &toolchain.linker] {
        println!("cargo::rerun-if-changed={}", tool.display());
    }
    let object = toolchain.build_bench(&root)?;
    println!("cargo::rustc-env=WEIR_BENCH_OBJECT={}", object.display());
    Ok(())
}
