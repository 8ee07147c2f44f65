//! The kernel's modules that the tests need, with those that these need in their turn.
//!
//! Debian's packages hold no `modules.dep` (it is made at installation), so dependencies are read
//! from the modules themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use object::{Object, ObjectSection};

use super::kernel::Kernel;

/// What tests may ask for by name. What a kernel has built in needs no module.
const WANTED: &[&str] = &[
    "8021q",
    "act_bpf",
    "act_gact",
    "act_mirred",
    "bonding",
    "bridge",
    "cls_bpf",
    "cls_flower",
    "cls_matchall",
    "cls_u32",
    "dummy",
    "fou",
    "fou6",
    "ifb",
    "inet_diag",
    "ip_vs",
    "ip_vs_rr",
    "ip6_tunnel",
    "ipip",
    "macvlan",
    "sch_fq",
    "sch_ingress",
    "sch_netem",
    "sit",
    "tcp_diag",
    "udp_diag",
    "veth",
    "vxlan",
];

/// A module as it goes into the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Module {
    /// Its path below the directory of modules, uncompressed: `kernel/net/ipv4/ipip.ko`.
    pub(super) path: PathBuf,
    pub(super) bytes: Vec<u8>,
    /// Names of the modules that it needs itself.
    needs: Vec<String>,
}

/// All modules wanted and all that they need, by name.
pub(super) fn collect(kernel: &Kernel) -> Result<BTreeMap<String, Module>> {
    let mut files = BTreeMap::new();
    list(&kernel.modules.join("kernel"), &mut files)?;
    let mut found = BTreeMap::new();
    let mut queue: Vec<String> = WANTED.iter().map(|&name| name.to_owned()).collect();
    while let Some(name) = queue.pop() {
        if found.contains_key(&name) {
            continue;
        }
        if let Some(file) = files.get(&name) {
            let module = read(file, &kernel.modules)
                .with_context(|| format!("cannot read the module {}", file.display()))?;
            queue.extend(module.needs.iter().cloned());
            found.insert(name, module);
        }
    }
    if !found.contains_key("veth") {
        bail!("the kernel {} has no module veth", kernel.release);
    }
    Ok(found)
}

/// The text of `modules.dep`: a line a module, with everything that it needs, the last one first
/// to be loaded.
pub(super) fn dependencies(modules: &BTreeMap<String, Module>) -> String {
    let line = |name: &String| {
        let mut order = Vec::new();
        visit(name, modules, &mut BTreeSet::new(), &mut order);
        let paths = order.iter().rev().map(|module| module.path.display().to_string());
        let paths: Vec<String> = paths.collect();
        paths.join(" ").replacen(".ko", ".ko:", 1) + "\n"
    };
    modules.keys().map(line).collect()
}

/// Adds a module after everything that it needs.
fn visit<'a>(
    name: &'a str,
    modules: &'a BTreeMap<String, Module>,
    seen: &mut BTreeSet<&'a str>,
    order: &mut Vec<&'a Module>,
) {
    let Some(module) = modules.get(name).filter(|_| seen.insert(name)) else { return };
    for need in &module.needs {
        visit(need, modules, seen, order);
    }
    order.push(module);
}

/// Module files below a directory, by name as the kernel writes it: with underscores.
fn list(directory: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    let entries =
        fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            list(&path, files)?;
        } else if let Some((stem, _)) = entry.file_name().to_string_lossy().split_once(".ko") {
            files.insert(stem.replace('-', "_"), path);
        }
    }
    Ok(())
}

fn read(file: &Path, below: &Path) -> Result<Module> {
    let bytes = if file.extension().is_some_and(|extension| extension == "xz") {
        let output = Command::new("busybox").args(["xzcat"]).arg(file).output()?;
        if !output.status.success() {
            bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
        }
        output.stdout
    } else {
        fs::read(file)?
    };
    let path = file.strip_prefix(below)?;
    let path =
        if path.extension() == Some("xz".as_ref()) { path.with_extension("") } else { path.into() };
    let needs = needs(&bytes)?;
    Ok(Module { path, bytes, needs })
}

/// What a module's own description says that it needs.
fn needs(module: &[u8]) -> Result<Vec<String>> {
    let file = object::File::parse(module).context("it is no ELF file")?;
    let section = file.section_by_name(".modinfo").context("it has no .modinfo")?;
    let mut fields = section.data()?.split(|&byte| byte == 0);
    let needs = fields.find_map(|field| field.strip_prefix(b"depends=")).unwrap_or(b"");
    let needs = String::from_utf8_lossy(needs).replace('-', "_");
    Ok(needs.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_module_needs_comes_after_it() {
        let module = |name: &str, needs: &[&str]| {
            let needs = needs.iter().map(|&name| name.to_owned()).collect();
            let module = Module { path: format!("{name}.ko").into(), bytes: Vec::new(), needs };
            (name.to_owned(), module)
        };
        let modules = BTreeMap::from([
            module("sit", &["tunnel", "fou"]),
            module("fou", &["tunnel", "udp"]),
            module("tunnel", &["udp", "builtin"]),
            module("udp", &[]),
        ]);
        let text = dependencies(&modules);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "fou.ko: tunnel.ko udp.ko");
        assert_eq!(lines[1], "sit.ko: fou.ko tunnel.ko udp.ko");
        assert_eq!(lines[3], "udp.ko:");
    }
}
