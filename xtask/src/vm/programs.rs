//! The test programs that run in the virtual machine: which, and how they are built.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::lab::cargo;
use crate::{bpf, run};

/// Test files that run only if they are asked for by name, and why. All others run, also those not
/// yet written.
const LEFT_OUT: &[(&str, &str)] = &[
    ("affinity", "a matter of hashes; and tens of thousands of connections"),
    ("api_live", "of the API, not of the kernel"),
    ("bad_input", "of the API, not of the kernel"),
    ("cases", "hundreds of packet cases, one by one: ten minutes, emulated"),
    ("decide_model", "no kernel in it"),
    ("kernel_decides", "a hundred thousand runs of the program: half an hour, emulated"),
    ("kill_points", "fifty starts of the agent; `outlives` kills it there, too"),
    ("lab", "of the lab itself, and how fast it is; all others use it"),
    ("left_alone", "a thousand connections a second, of which an emulated machine does a tenth"),
    ("metrics", "of the agent and of Prometheus, not of the kernel"),
    ("mutated_packets", "a million packets: an hour, emulated"),
    ("nothing_breaks", "tens of thousands of connections; `outlives` shifts under load too"),
    ("page", "of the agent and of a browser, not of the kernel"),
    ("plan", "no kernel in it"),
    ("operations", "random histories of a node; `atomic` and `outlives` show what is the kernel's"),
    ("plan_golden", "no kernel in it; and it reads files of the source tree"),
    ("plan_steering", "no kernel in it"),
    ("promises", "of the documents"),
    ("settles", "a matter of the agent's clock, which a slow machine would outrun"),
    ("shares", "a matter of tables; and tens of thousands of connections"),
    ("store", "of the disk, not of the kernel"),
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

/// A program, built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Program {
    /// The test file's name; `weir` is the command line itself.
    pub(super) name: String,
    pub(super) path: PathBuf,
}

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
    run::open("cargo build --package weir", cargo(root, "build").arg("--package=weir"))?;
    let title = "cargo test --package weir-tests --no-run";
    run::say(&format!("\n{}", run::bold(&format!("== {title}"))));
    let mut command = cargo(root, "test");
    command.args(["--package=weir-tests", "--tests", "--no-run"]);
    command.arg("--message-format=json-render-diagnostics").stderr(Stdio::inherit());
    let output = command.output().with_context(|| format!("cannot run {title}"))?;
    if !output.status.success() {
        bail!("{title}: failed ({})", output.status);
    }
    let mut tests = test_programs(&String::from_utf8_lossy(&output.stdout));
    tests.sort_by(|a, b| a.name.cmp(&b.name));
    if tests.is_empty() {
        bail!("{title} has built no test program");
    }
    Ok(Programs { weir: bpf::target_dir(root).join("debug/weir"), tests })
}

/// The test programs among cargo's messages, one a line in JSON.
fn test_programs(messages: &str) -> Vec<Program> {
    let program = |line: &str| {
        let message: Value = serde_json::from_str(line).ok()?;
        let target = message.get("target")?;
        let is_test = target.get("kind")?.get(0)? == "test";
        let name = target.get("name")?.as_str().filter(|_| is_test)?;
        let path = message.get("executable")?.as_str()?;
        Some(Program { name: name.to_owned(), path: path.into() })
    };
    messages.lines().filter_map(program).collect()
}

/// Takes the programs that filters name, or all that are not left out; and gives the arguments for
/// each of them.
pub(super) fn select(mut programs: Programs, filters: &[String]) -> (Programs, Vec<String>) {
    let is_file = |filter: &String| programs.tests.iter().any(|program| program.name == *filter);
    let (files, mut arguments): (Vec<String>, Vec<String>) =
        filters.iter().cloned().partition(is_file);
    let left_out = |name: &str| LEFT_OUT.iter().any(|(out, _)| *out == name);
    programs.tests.retain(|program| match files[..] {
        [] => !left_out(&program.name),
        _ => files.contains(&program.name),
    });
    if filters.is_empty() {
        arguments.extend(SKIPPED.iter().map(|(name, _)| format!("--skip={name}")));
    }
    (programs, arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(name: &str) -> Program {
        Program { name: name.to_owned(), path: format!("/t/{name}-1").into() }
    }

    #[test]
    fn finds_test_programs_in_cargos_messages() {
        let line = |kind: &str, name: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","target":{{"kind":["{kind}"],"name":"{name}"}},"executable":"/t/{name}-1"}}"#
            )
        };
        let messages = [
            line("bin", "weir-lab"),
            line("test", "outlives"),
            line("test", "plan"),
            r#"{"reason":"build-finished","success":true}"#.to_owned(),
            "no JSON".to_owned(),
        ];
        let expected = [program("outlives"), program("plan")];
        assert_eq!(test_programs(&messages.join("\n")), expected);
    }

    #[test]
    fn a_filter_names_a_file_or_tests() {
        let all =
            Programs { weir: "/weir".into(), tests: vec![program("packets"), program("udp")] };
        let mut more = all.clone();
        more.tests.push(program("plan"));
        let plan = Programs { tests: vec![program("plan")], ..all.clone() };
        let skips = SKIPPED.iter().map(|(name, _)| format!("--skip={name}")).collect();
        assert_eq!(select(more.clone(), &[]), (all.clone(), skips));
        assert_eq!(select(more, &["plan".into()]), (plan, vec![]));
        let name = "stays".to_owned();
        let one = Programs { tests: vec![program("udp")], ..all.clone() };
        assert_eq!(select(all.clone(), &["udp".into(), name.clone()]), (one, vec![name.clone()]));
        assert_eq!(select(all.clone(), std::slice::from_ref(&name)), (all, vec![name.clone()]));
    }
}
