//! Builds the BPF objects and tells the crate where they are: `WEIR_BPF_OBJECT` (the balancer) and
//! `WEIR_DECAP_OBJECT` (the decapsulator).

use std::process::ExitCode;

#[path = "../xtask/src/build_script.rs"]
mod build_script;

fn main() -> ExitCode {
    build_script::run(|toolchain, root| {
        let objects = toolchain.build(root)?;
        Ok([("WEIR_BPF_OBJECT", objects.balancer), ("WEIR_DECAP_OBJECT", objects.decap)])
    })
}
