//! Builds the benchmark's BPF object and tells the crate where it is: `WEIR_BENCH_OBJECT`.

use std::process::ExitCode;

#[path = "../xtask/src/build_script.rs"]
mod build_script;

fn main() -> ExitCode {
    build_script::run(|toolchain, root| Ok([("WEIR_BENCH_OBJECT", toolchain.build_bench(root)?)]))
}
