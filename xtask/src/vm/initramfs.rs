//! The file system of the virtual machine, in one file that QEMU puts into its memory.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::kernel::Kernel;
use super::modules;
use super::programs::Programs;
use crate::run::{quietly, say};
use crate::setup::on_path;

const INIT: &str = include_str!("init.sh");
/// Programs that the lab calls. Where `busybox` has one too, its own is not enough; as a shell it
/// takes its own `ip` before ours.
const TOOLS: &[&str] = &["ip", "tc", "ethtool", "timeout", "sleep", "sh"];
/// Taken along where this machine has them: they help to look into a failure, or are
/// measured beside weir.
const HELPFUL: &[&str] = &["bpftool", "bridge", "ipvsadm", "ping", "tcpdump"];

/// Makes the file, below `directory`.
pub(super) fn make(
    directory: &Path,
    kernel: &Kernel,
    programs: &Programs,
    arguments: &[String],
    limit: Duration,
) -> Result<PathBuf> {
    let tree = directory.join("tree");
    if tree.exists() {
        fs::remove_dir_all(&tree).context("removing the last initramfs")?;
    }
    for part in ["bin", "dev", "tests", "tools"] {
        let part = tree.join(part);
        fs::create_dir_all(&part).with_context(|| format!("cannot make {}", part.display()))?;
    }
    write(&tree.join("init"), INIT)?;
    fs::set_permissions(tree.join("init"), fs::Permissions::from_mode(0o755))?;
    add_modules(&tree, kernel)?;
    let mut list = String::new();
    for test in &programs.tests {
        let _ = writeln!(list, "{} {}", test.name, arguments.join(" "));
    }
    write(&tree.join("programs"), &list)?;
    let settings = format!("LIMIT={}\n", limit.as_secs());
    write(&tree.join("settings"), &settings)?;
    add_programs(&tree, programs)?;
    pack(directory, &tree)
}

fn write(path: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))
}

/// The modules, uncompressed, as `modprobe` wants them.
fn add_modules(tree: &Path, kernel: &Kernel) -> Result<()> {
    let modules = modules::collect(kernel)?;
    let place = tree.join("lib/modules").join(&kernel.release);
    for module in modules.values() {
        write(&place.join(&module.path), &module.bytes)?;
    }
    write(&place.join("modules.dep"), modules::dependencies(&modules))?;
    let builtin = fs::read(kernel.modules.join("modules.builtin")).unwrap_or_default();
    write(&place.join("modules.builtin"), builtin)?;
    let names: Vec<&str> = modules.keys().map(String::as_str).collect();
    write(&tree.join("modules"), names.join("\n") + "\n")
}

/// All programs, and the shared libraries that they need, at the paths where they look for them.
fn add_programs(tree: &Path, programs: &Programs) -> Result<()> {
    let mut sources = vec![(programs.weir.clone(), tree.join("weir"))];
    sources.extend(
        programs.tests.iter().map(|test| (test.path.clone(), tree.join("tests").join(&test.name))),
    );
    say(&format!("  strip {} programs ...", sources.len()));
    for (source, copy) in &sources {
        // Symbols and lines of the source are two thirds of them.
        run("strip", Command::new("strip").arg("-o").arg(copy).arg(source))?;
    }
    let found = |&name: &&str| on_path(name).with_context(|| format!("there is no {name} here"));
    let mut tools = TOOLS.iter().map(found).collect::<Result<Vec<_>>>()?;
    tools.extend(HELPFUL.iter().filter_map(|name| on_path(name)));
    tools.push(found(&"busybox")?);
    for tool in tools {
        let name = tool.file_name().unwrap_or_default();
        let part = if name == "busybox" { "bin" } else { "tools" };
        let copy = tree.join(part).join(name);
        fs::copy(&tool, copy).with_context(|| format!("cannot copy {}", tool.display()))?;
        sources.push((tool.clone(), tool));
    }
    let mut libraries = BTreeSet::new();
    for (source, _) in &sources {
        // Fails for a program that is linked statically.
        let output = Command::new("ldd").arg(source).output().context("cannot run ldd")?;
        libraries.extend(library_paths(&String::from_utf8_lossy(&output.stdout)));
    }
    for library in libraries {
        let bytes = fs::read(&library).with_context(|| format!("no library {library}"))?;
        let copy = tree.join(library.trim_start_matches('/'));
        write(&copy, bytes)?;
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// The absolute paths in what `ldd` says.
fn library_paths(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
        .map(str::to_owned)
        .collect()
}

fn pack(directory: &Path, tree: &Path) -> Result<PathBuf> {
    let file = directory.join("initramfs.gz");
    // Everything in it is root's, whoever packs it. At level 1: it is read once.
    let script = "set -e; find . | busybox cpio -o -H newc -R 0:0 | gzip -1 >\"$1\"";
    let mut command = Command::new("sh");
    command.args(["-c", script, "pack"]).arg(&file).current_dir(tree);
    quietly("pack the initramfs", &mut command, &directory.join("pack.log"))?;
    let size = fs::metadata(&file).context("the initramfs is missing")?.len();
    say(&format!("  {}  {} MB", file.display(), size / 1_000_000));
    fs::remove_dir_all(tree).context("removing the unpacked initramfs")?;
    Ok(file)
}

fn run(name: &str, command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot run {name}"))?;
    if !output.status.success() {
        bail!("{name}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_libraries_that_ldd_finds() {
        let text = "\tlinux-vdso.so.1 (0x00007ffd)\n\
                    \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        assert_eq!(
            library_paths(text),
            ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"]
        );
    }
}
