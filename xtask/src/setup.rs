//! `cargo xtask setup`: finds or installs what building and running weir needs.
//!
//! Three parts: [`machine`] looks, [`plan`] decides (pure), and this file acts and tells.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

mod machine;
mod plan;

pub(crate) use machine::{Machine, Rights, on_path};

use crate::bpf;
use crate::run::{quietly, say};
use machine::{Apt, BUILD_TOOLS, LAB_TOOLS, Package, WATCHERS};
use plan::Step;

/// The steps' count is bounded by what can be missing: update, packages, nightly, linker.
const MOST_STEPS: usize = 8;

/// The task itself: tells everything, and installs what is missing unless only to `check`. With
/// `watchers`, also what only the tests of metrics, of the page and of the coordinator's state need.
pub(crate) fn setup(root: &Path, check: bool, watchers: bool) -> Result<()> {
    let watchers = if watchers { WATCHERS } else { &[] };
    let tools = [BUILD_TOOLS, LAB_TOOLS, watchers].concat();
    let mut machine = Machine::look(root, &tools);
    tell(&machine);
    if !check {
        machine = install(root, &tools, machine)?;
    } else if !plan::plan(&machine).is_empty() {
        bail!("something is missing: run `cargo xtask setup`");
    }
    for lack in machine.lacks() {
        say(&format!("  note: {lack}"));
    }
    Ok(())
}

/// For the other tasks: silent when nothing is missing.
pub(crate) fn ensure(root: &Path) -> Result<Machine> {
    ensure_with(root, &[BUILD_TOOLS, LAB_TOOLS].concat())
}

/// The same with other programs than those that building and the lab call.
pub(crate) fn ensure_with(root: &Path, tools: &[Package]) -> Result<Machine> {
    let machine = Machine::look(root, tools);
    if !plan::plan(&machine).is_empty() {
        tell(&machine);
    }
    install(root, tools, machine)
}

/// For what only some tasks need: tshark, which reads packets as Wireshark does (21 MB).
pub(crate) fn ensure_tshark(root: &Path) -> Result<()> {
    ensure_with(root, &[("tshark", "tshark")]).map(drop)
}

/// For the tests of what an agent shows: Prometheus (with promtool) and a browser, 400 MB; and of the
/// coordinator's state, and of clocks that jump: etcd and libfaketime, 30 MB.
pub(crate) fn ensure_watchers(root: &Path) -> Result<()> {
    ensure_with(root, WATCHERS).map(drop)
}

/// Does the first step that the machine needs, looks again, and so on: a step's outcome, such as
/// the LLVM of a compiler just installed, decides the next.
fn install(root: &Path, tools: &[Package], mut machine: Machine) -> Result<Machine> {
    let mut done: Vec<Step> = Vec::new();
    let mut fresh = false;
    while let Some(step) = plan::plan(&machine).into_iter().next() {
        if done.contains(&step) || done.len() == MOST_STEPS {
            bail!("{step} did not help\nby hand:\n{}", by_hand(root, &machine));
        }
        let refused = || (!sudo_allows(&machine, &step)).then_some("sudo refused");
        if let Some(why) = plan::obstacle(&machine, &step).or_else(refused) {
            bail!("{step}: {why}\nby hand:\n{}", by_hand(root, &machine));
        }
        let result = act(root, &machine, &step);
        // An update that failed for one broken source need not concern us: the installation tells.
        if let (Err(error), false) = (result, step == Step::Update) {
            bail!("{error:#}\nby hand:\n{}", by_hand(root, &machine));
        }
        fresh |= step == Step::Update;
        machine = Machine::look(root, tools);
        machine.apt = machine.apt.map(|apt| Apt { fresh, ..apt });
        done.push(step);
    }
    if !done.is_empty() {
        say("  ready:");
        tell(&machine);
    }
    Ok(machine)
}

/// For an ordinary user: lets sudo ask for the password in the open, before a quiet run.
fn sudo_allows(machine: &Machine, step: &Step) -> bool {
    if !step.needs_root() || machine.rights != Rights::Sudo {
        return true;
    }
    say(&format!("  {step}: needs root, sudo may ask for your password"));
    let status = Command::new("sudo").arg("true").status();
    status.is_ok_and(|status| status.success())
}

fn act(root: &Path, machine: &Machine, step: &Step) -> Result<()> {
    let tools = bpf::tools_dir(root);
    fs::create_dir_all(&tools).with_context(|| format!("cannot make {}", tools.display()))?;
    let mut line = step.command(&tools);
    if step.needs_root() && machine.rights == Rights::Sudo {
        line.insert(0, "sudo".to_owned());
    }
    let mut command = Command::new(&line[0]);
    command.args(&line[1..]);
    quietly(&step.to_string(), &mut command, &tools.join("setup.log"))
}

/// The commands of all that is missing, one a line.
fn by_hand(root: &Path, machine: &Machine) -> String {
    let tools = bpf::tools_dir(root);
    let lines = plan::plan(machine).into_iter().map(|step| plan::by_hand(machine, &step, &tools));
    lines.map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

/// One line a thing.
fn tell(machine: &Machine) {
    for (name, state) in machine.inventory() {
        say(&format!("  {name:<18} {state}"));
    }
}
