//! What was measured, for people and for machines.

use std::fmt;

use serde::Serialize;

use super::perf::Counted;
use crate::bench::figures::Spread;
use crate::bench::host::Host;

/// A case at a number of flows.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Cell {
    /// How many.
    pub flows: usize,
    /// Nanoseconds a packet of the harness, which are taken off.
    pub harness: Spread,
    /// Nanoseconds a packet.
    pub nanoseconds: Spread,
    /// By those of the textbook program at as many flows.
    pub ratio: Spread,
    /// What the processor has counted, the harness included.
    pub counted: Option<Counted>,
}

/// A case.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// Its name.
    pub case: String,
    /// By number of flows.
    pub cells: Vec<Cell>,
}

/// A program, as the kernel has it.
#[derive(Debug, Clone, Serialize)]
pub struct ProgramSize {
    /// Its name.
    pub name: String,
    /// Instructions that the verifier has walked.
    pub verified: u32,
    /// Its instructions.
    pub instructions: u32,
    /// Bytes of machine code.
    pub machine_bytes: u32,
}

/// All that was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Where.
    pub host: Host,
    /// On which of its processors.
    pub processor: usize,
    /// Numbers of flows.
    pub flows: Vec<usize>,
    /// Rounds of each.
    pub rounds: usize,
    /// Why the processor's own counts are missing.
    pub perf: Option<String>,
    /// The programs.
    pub programs: Vec<ProgramSize>,
    /// The cases.
    pub rows: Vec<Row>,
}

/// Columns of a case's name, and of a cell.
const NAME: usize = 41;
const CELL: usize = 26;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, processor, rounds, .. } = self;
        writeln!(f, "{host}; on processor {processor}, {rounds} rounds\n")?;
        write!(f, "{:<NAME$}", "ns a packet (min-max) x textbook")?;
        for flows in &self.flows {
            write!(f, "{:>CELL$}", format!("{flows} flow{}", if *flows == 1 { "" } else { "s" }))?;
        }
        writeln!(f)?;
        if let Some(row) = self.rows.first() {
            write!(f, "{:<NAME$}", "harness (taken off)")?;
            for cell in &row.cells {
                write!(f, "{:>CELL$}", format!("{}      ", spread(cell.harness)))?;
            }
            writeln!(f)?;
        }
        for row in &self.rows {
            write!(f, "{:<NAME$}", row.case)?;
            for cell in &row.cells {
                let text = format!("{} x{:.2}", spread(cell.nanoseconds), cell.ratio.median);
                write!(f, "{text:>CELL$}")?;
            }
            writeln!(f)?;
        }
        self.programs(f)?;
        self.counted(f)
    }
}

fn spread(spread: Spread) -> String {
    format!("{:.1} ({:.1}-{:.1})", spread.median, spread.min, spread.max)
}

impl Report {
    fn programs(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n{:<NAME$}{:>14}{:>14}{:>14}",
            "program", "verified", "instructions", "machine code"
        )?;
        for one in &self.programs {
            let ProgramSize { name, verified, instructions, machine_bytes } = one;
            let code = format!("{machine_bytes} B");
            writeln!(f, "{name:<NAME$}{verified:>14}{instructions:>14}{code:>14}")?;
        }
        Ok(())
    }

    fn counted(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(why) = &self.perf {
            return writeln!(f, "\ninstructions and cache misses a packet: {why}");
        }
        writeln!(f, "\n{:<NAME$}", "instructions, cache misses a packet, with the harness")?;
        for row in &self.rows {
            write!(f, "{:<NAME$}", row.case)?;
            for Counted { instructions, cache_misses } in
                row.cells.iter().filter_map(|cell| cell.counted)
            {
                write!(f, "{:>CELL$}", format!("{instructions:.0}, {cache_misses:.2}"))?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
