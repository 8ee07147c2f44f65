//! `cargo xtask build-ebpf`: builds the BPF objects and says what is in them.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};

use crate::{bpf, setup};

/// Bytes of a BPF instruction.
const INSTRUCTION: u64 = 8;

/// Prints each object's path and size, and each program with its section.
pub(crate) fn build_ebpf(root: &Path) -> Result<()> {
    setup::ensure(root)?;
    let toolchain = bpf::Toolchain::find(root).map_err(|e| anyhow!(e))?;
    let objects = toolchain.build(root).map_err(|e| anyhow!(e))?;
    let bench = toolchain.build_bench(root).map_err(|e| anyhow!(e))?;
    for path in [objects.balancer, objects.decap, bench] {
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        println!("{}  {} bytes", path.display(), bytes.len());
        for (name, section, instructions) in programs(&bytes)? {
            println!("  {name:<24} {section:<16} {instructions:>6} instructions");
        }
    }
    Ok(())
}

/// (name, section, instructions) of each program: the functions outside `.text`, which holds
/// what programs call.
fn programs(object: &[u8]) -> Result<Vec<(String, String, u64)>> {
    let file = object::File::parse(object).context("the object is no ELF file")?;
    let mut programs = Vec::new();
    for symbol in file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text) {
        let Some(index) = symbol.section_index() else {
            continue;
        };
        let section = file.section_by_index(index)?;
        if section.name()? != ".text" {
            programs.push((
                symbol.name()?.to_owned(),
                section.name()?.to_owned(),
                symbol.size() / INSTRUCTION,
            ));
        }
    }
    programs.sort();
    Ok(programs)
}
