//! What the verifier makes of the programs: each stays well below its limit, on every kernel.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::time::Instant;

use aya::programs::loaded_programs;
use weir::dataplane::OuterSource;
use weir::dataplane::kernel::{Kernel, Options};

/// Instructions that the verifier walks at most, over all paths (Linux 5.2).
const LIMIT: u32 = 1_000_000;

/// Half of the limit: kernels differ in how well they see that two paths are one.
#[test]
fn every_program_is_far_from_the_limit() {
    let before: Vec<u32> = ids().into_keys().collect();
    let start = Instant::now();
    // With tunnels: without a source of their headers, the verifier leaves them out.
    let outer = OuterSource { v4: Some([192, 0, 2, 1].into()), v6: Some([0xfd; 16].into()) };
    let options =
        Options { pool_lines: 2_048, flows: 16, udp_flows: 16, outer, ..Options::default() };
    let kernel = Kernel::load(options).unwrap();
    println!("loaded in {:.1?}", start.elapsed());
    // Other tests load programs of the same names at the same time: they are as good.
    let programs = ids().into_iter().filter(|(id, _)| !before.contains(id));
    let of_weir: BTreeMap<_, _> = programs
        .map(|(_, program)| program)
        .filter(|(name, _)| name.starts_with("weir_"))
        .collect();
    for (name, walked) in &of_weir {
        println!("{name:16} {walked:>8} instructions walked");
        assert!(*walked < LIMIT / 2, "{name}: {walked} of {LIMIT}");
    }
    assert!(of_weir.len() >= 7, "{of_weir:?}");
    drop(kernel);
}

/// Programs in the kernel, by id: the first 15 characters of their names, and instructions walked.
fn ids() -> BTreeMap<u32, (String, u32)> {
    let programs = loaded_programs().filter_map(Result::ok);
    programs
        .map(|program| {
            let name = program.name_as_str().unwrap_or_default().to_owned();
            (program.id(), (name, program.verified_instruction_count().unwrap_or(0)))
        })
        .collect()
}
