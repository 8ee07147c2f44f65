//! The programs that run in the virtual machine, tests or a benchmark: which, and how they are built.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::console::BENCH;
use super::kernel::Release;
use crate::lab::{self, Profile, cargo};
use crate::programs::{self, LAB, Program};
use crate::{bpf, run};

/// Test files that run if none is named: real traffic between namespaces, and what kernels differ
/// in. The others are of matters that are the same under every kernel, and emulated they would
/// take hours; each of them can be asked for by name.
const END_TO_END: &[&str] = &[
    "any_packet",
    "atomic",
    "bulk",
    "decap_live",
    "icmp_live",
    "interfaces",
    "mode_pages",
    "modes",
    "next_hops",
    "outlives",
    "quic_live",
    "reattach",
    "segments",
    "stop_and_start",
    "udp",
    "verifier",
];

/// Single tests that run only if something is asked for by name, and why.
const SKIPPED: &[(&str, &str)] = &[
    (
        "a_kill_during_a_shift_leaves_all_of_it_or_nothing",
        "two dozen starts of the agent under load; the other kills show all that is the kernel's",
    ),
    (
        "interfaces_change_between_runs",
        "native XDP comes off a veth under load, which can crash the kernel: with GRO on, veth \
         clears the queue's device (`xdp_rxq_info_unreg`) while a program may still run there",
    ),
];

/// Single tests of what a kernel does not have, and what that is: none of them is run there.
const BEYOND: &[(Release, &str, &str)] = &[
    (
        Release::V6_1,
        "interfaces_may_have_different_programs",
        "redirects by XDP: the kernel must say which devices take them (6.3)",
    ),
    (Release::V6_1, "what_goes_back_where_it_came_from_needs_a_peer_that_takes_it_too", "the same"),
    (Release::V6_1, "xdp_leaves_to_tc_what_a_peer_cannot_receive", "the same"),
];

/// What every test program is told. One test at a time: each has clients, servers and an agent of its
/// own, enough for two processors.
const TESTS: [&str; 2] = ["--test-threads=1", "--include-ignored"];

/// The programs of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Programs {
    pub(super) weir: PathBuf,
    pub(super) tests: Vec<Program>,
}

/// Builds `weir` and the test programs, with the settings of every other build: a static or a
/// smaller build of its own would compile every dependency a second time. Their libraries are
/// those of this machine, and go along.
pub(super) fn build(root: &Path) -> Result<Programs> {
    let line = "build --workspace --bin weir";
    run::open(&format!("cargo {line}"), cargo(root, "build").args(line.split(' ').skip(1)))?;
    let mut tests = programs::build(root)?;
    tests.retain(|program| program.package == LAB && program.is_file);
    tests.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Programs { weir: bpf::target_dir(root).join("debug/weir"), tests })
}

/// Builds `weir` and the benchmarks as they are shipped.
pub(super) fn build_bench(root: &Path) -> Result<Programs> {
    let directory = lab::build(root, BENCH, Profile::Release)?;
    let bench = Program {
        package: LAB.to_owned(),
        name: BENCH.to_owned(),
        is_file: false,
        path: directory.join(BENCH),
        directory: root.to_owned(),
    };
    Ok(Programs { weir: directory.join("weir"), tests: vec![bench] })
}

/// Takes the programs that filters name, or those that are end to end; and gives the arguments for
/// each of them.
pub(super) fn select(
    mut programs: Programs,
    filters: &[String],
    kernel: Release,
) -> (Programs, Vec<String>) {
    let is_file = |filter: &String| programs.tests.iter().any(|program| program.name == *filter);
    let (files, names): (Vec<String>, Vec<String>) = filters.iter().cloned().partition(is_file);
    let mut arguments = [TESTS.map(str::to_owned).to_vec(), names].concat();
    programs.tests.retain(|program| match files[..] {
        [] => END_TO_END.contains(&program.name.as_str()),
        _ => files.contains(&program.name),
    });
    let beyond = BEYOND.iter().filter(|(release, ..)| *release == kernel).map(|(_, name, _)| name);
    let skipped = SKIPPED.iter().filter(|_| filters.is_empty()).map(|(name, _)| name);
    arguments.extend(skipped.chain(beyond).map(|name| format!("--skip={name}")));
    (programs, arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_kernel_does_not_have_is_not_tried_there() {
        let none = Programs { weir: "/weir".into(), tests: vec![] };
        let skips = |kernel| select(none.clone(), &["interfaces".into()], kernel).1.len();
        assert_eq!((skips(Release::V6_1), skips(Release::V6_12)), (BEYOND.len() + 3, 3));
    }

    fn program(name: &str) -> Program {
        Program {
            package: LAB.to_owned(),
            name: name.to_owned(),
            is_file: true,
            path: format!("/t/{name}-1").into(),
            directory: "/w/tests".into(),
        }
    }

    #[test]
    fn a_filter_names_a_file_or_tests() {
        let all = Programs { weir: "/weir".into(), tests: vec![program("modes"), program("udp")] };
        let mut more = all.clone();
        more.tests.push(program("plan"));
        let plan = Programs { tests: vec![program("plan")], ..all.clone() };
        let select = |programs, filters: &[String]| select(programs, filters, Release::V6_12);
        let told = |more: &[String]| [TESTS.map(str::to_owned).as_slice(), more].concat();
        let skips: Vec<String> = SKIPPED.iter().map(|(name, _)| format!("--skip={name}")).collect();
        assert_eq!(select(more.clone(), &[]), (all.clone(), told(&skips)));
        assert_eq!(select(more, &["plan".into()]), (plan, told(&[])));
        let name = "stays".to_owned();
        let one = Programs { tests: vec![program("udp")], ..all.clone() };
        assert_eq!(
            select(all.clone(), &["udp".into(), name.clone()]),
            (one, told(std::slice::from_ref(&name)))
        );
        let names = std::slice::from_ref(&name);
        assert_eq!(select(all.clone(), names), (all, told(names)));
    }
}
