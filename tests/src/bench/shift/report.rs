//! What was measured, as a table and as JSON.

use std::fmt;

use serde::Serialize;

use super::moves::{MoveReport, Moves};
use crate::bench::figures::Times;
use crate::bench::host::Host;

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The machine.
    pub host: Host,
    /// By services and backends, and who made the change.
    pub rows: Vec<Row>,
    /// What the machine itself adds to the effect of a shift.
    pub alone: Vec<Alone>,
    /// New flows that the program sent to the older version, of all rows.
    pub fallbacks: u64,
    /// Slots that shifts moved.
    pub moves: Option<MoveReport>,
    /// What could not be measured, and why.
    pub skipped: Vec<String>,
}

/// One way of making a change. Times are in milliseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Who made it.
    pub what: String,
    /// Services in one change.
    pub services: u16,
    /// Backends of all of them.
    pub backends: u32,
    /// Whether another thread kept the processor of the agent busy with packets.
    pub busy: bool,
    /// Until every packet was decided by the new tables.
    pub effect: Option<Times>,
    /// Until the call, or the command, had returned.
    pub returns: Times,
    /// Packets that were decided by the old tables after one by the new ones.
    pub back: u32,
}

/// Plain computing for as long as the effect of such shifts took so far (the median, idle), in turn
/// with them on the same processor.
#[derive(Clone, Debug, Serialize)]
pub struct Alone {
    /// Services in one change.
    pub services: u16,
    /// Backends of all of them.
    pub backends: u32,
    /// How long that took.
    pub times: Times,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, services, backends, busy, effect, returns, .. } = self;
        let busy = if *busy { "busy" } else { "idle" };
        write!(f, "{what:<20}{services:>9}{backends:>10}{busy:>7}  ")?;
        match effect {
            Some(effect) => times(f, effect)?,
            None => write!(f, "{:>10}{:>10}{:>10}", "-", "-", "-")?,
        }
        f.write_str("  ")?;
        times(f, returns)
    }
}

fn times(f: &mut fmt::Formatter<'_>, times: &Times) -> fmt::Result {
    let Times { p50, p99, max } = times;
    write!(f, "{p50:>10.3}{p99:>10.3}{max:>10.3}")
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.host)?;
        let (effect, returns) = ("every packet by the new, ms", "returned, ms");
        writeln!(f, "{:<48}{effect:>30}  {returns:>30}", "")?;
        writeln!(
            f,
            "{:<20}{:>9}{:>10}{:>7}  {:>10}{:>10}{:>10}  {:>10}{:>10}{:>10}",
            "shift by", "services", "backends", "CPU 0", "p50", "p99", "max", "p50", "p99", "max"
        )?;
        for row in &self.rows {
            writeln!(f, "{row}")?;
        }
        for Alone { services, backends, times: took } in &self.alone {
            write!(f, "{:<20}{services:>9}{backends:>10}{:>7}  ", "computing as long", "idle")?;
            times(f, took)?;
            writeln!(f)?;
        }
        let back: u32 = self.rows.iter().map(|row| row.back).sum();
        writeln!(f, "\nPackets decided by the old tables after one by the new ones: {back}")?;
        let fallbacks = self.fallbacks;
        writeln!(f, "New flows sent to the older version, too fast or without room: {fallbacks}")?;
        if let Some(MoveReport { between_two, of_three }) = &self.moves {
            writeln!(
                f,
                "\n{:<40}{:>8}{:>10}{:>10}",
                "slots moved, by the least", "shifts", "mean", "most"
            )?;
            for (what, moves) in
                [("between two versions", between_two), ("of three versions at random", of_three)]
            {
                let Moves { shifts, mean, most } = moves;
                writeln!(f, "{what:<40}{shifts:>8}{mean:>10.3}{most:>10.3}")?;
            }
        }
        self.skipped.iter().try_for_each(|why| writeln!(f, "not measured: {why}"))
    }
}
