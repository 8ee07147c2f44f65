//! `cargo xtask test`: everything that must hold before a change lands.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow, bail};

use crate::setup::{self, Rights};
use crate::suite::Suite;
use crate::{bpf, lab, run};

/// Formatting, lints, docs and tests, in this order, up to the first that fails. `programs`: the
/// names of the test programs to run; all if there are none.
pub(crate) fn test(root: &Path, programs: &[String]) -> Result<()> {
    let start = Instant::now();
    let machine = setup::ensure(root)?;
    if let Some(lack) = machine.lacks().first() {
        bail!("{lack}");
    }
    if let Err(error) = setup::ensure_tshark(root) {
        run::say(&format!(
            "note: without tshark, its look at the packet cases is skipped: {error:#}"
        ));
    }
    setup::ensure_watchers(root)?;
    let cargo = |line: &str| {
        let mut words = line.split_whitespace();
        let mut command = lab::cargo(root, words.next().unwrap_or_default());
        command.args(words);
        command
    };
    run::open("cargo fmt --all --check", &mut cargo("fmt --all --check"))?;
    let lint = "clippy --workspace --all-targets -- -D warnings";
    run::open(&format!("cargo {lint}"), &mut cargo(lint))?;
    let bpf = lint_bpf(root)?;
    let doc = "doc --workspace --no-deps --document-private-items";
    run::open(&format!("cargo {doc}"), cargo(doc).env("RUSTDOCFLAGS", "-D warnings"))?;

    let weir = bpf::target_dir(root).join("debug/weir");
    let faulty = build_faulty(root)?;
    if machine.rights == Rights::Sudo {
        run::say(
            "the tests make network namespaces, which needs root: sudo may ask for your password",
        );
    }
    run::open("cargo test --workspace --doc", &mut cargo("test --workspace --doc"))?;
    let variables = vec![("WEIR_BIN", weir), ("WEIR_FAULTY_BIN", faulty)];
    let tests = Suite { root, rights: machine.rights, variables }.run(programs)?;

    let took = run::seconds(start.elapsed());
    run::say(&format!(
        "\n{}",
        run::bold(&format!("passed in {took}: fmt, clippy, {bpf}doc, {tests}"))
    ));
    Ok(())
}

/// Builds a `weir` that tests can tell to kill itself at a step, beside the one that cannot, and
/// gives its path. The next build, also that of the tests, puts the usual one back.
pub(crate) fn build_faulty(root: &Path) -> Result<PathBuf> {
    // Of the whole workspace, so that what it depends on is built once for this and for the tests.
    let line = "build --workspace --bin weir --features weir/fault-points";
    run::open(&format!("cargo {line}"), lab::cargo(root, "build").args(line.split(' ').skip(1)))?;
    let weir = bpf::target_dir(root).join("debug/weir");
    let faulty = weir.with_file_name("weir-faulty");
    // Not over the old one, which may be running.
    let _ = fs::remove_file(&faulty);
    fs::copy(&weir, &faulty).with_context(|| format!("cannot copy {}", weir.display()))?;
    Ok(faulty)
}

/// Lints the BPF program with the clippy of its own compiler. Says for the last line what it did.
fn lint_bpf(root: &Path) -> Result<&'static str> {
    let toolchain = bpf::Toolchain::find(root).map_err(|e| anyhow!(e))?;
    let Some(clippy) = toolchain.compiler.clippy() else {
        run::say("   no clippy beside the BPF program's compiler: its own code is not linted");
        return Ok("");
    };
    let mut command: Command = toolchain.command(&clippy, root);
    command.arg("clippy").args(toolchain.arguments(root, bpf::ALL)).args(["--", "-D", "warnings"]);
    run::open("cargo clippy, for the BPF target", &mut command)?;
    Ok("clippy for BPF, ")
}
