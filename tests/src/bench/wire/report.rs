//! What was measured, as a table and as JSON.

use std::fmt;

use serde::Serialize;

use crate::bench::figures::Spread;
use crate::bench::host::Host;

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The machine.
    pub host: Host,
    /// Ways that were compared with each other.
    pub sets: Vec<Set>,
}

/// Ways that took turns.
#[derive(Clone, Debug, Serialize)]
pub struct Set {
    /// In which circumstances.
    pub what: String,
    /// By way; the first is the one that the others are compared with.
    pub rows: Vec<Row>,
    /// What could not be measured, and why.
    pub skipped: Vec<String>,
}

/// One way.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Which.
    pub what: String,
    /// Requests on connections that stay.
    pub keep_alive: Figures,
    /// Connections of one request each.
    pub new: Figures,
}

/// Of one kind of load.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Figures {
    /// Answers a second.
    pub rate: Spread,
    /// One in a hundred takes longer at that rate, in milliseconds.
    pub full_p99: Spread,
    /// At the pace that every way keeps: time of an answer, with that of its connection where it has one of its own: milliseconds.
    pub p50: Spread,
    /// Likewise.
    pub p99: Spread,
    /// CPU time for an answer, of clients, servers and the way: microseconds.
    pub cpu: Spread,
    /// Requests without the right answer.
    pub failed: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.host)?;
        for Set { what, rows, skipped } in &self.sets {
            writeln!(f, "\n{what}")?;
            for (title, of) in [
                ("keep-alive requests", (|row| &row.keep_alive) as fn(&Row) -> &Figures),
                ("new connections", |row| &row.new),
            ] {
                table(f, title, rows, of)?;
            }
            skipped.iter().try_for_each(|why| writeln!(f, "  not measured: {why}"))?;
        }
        Ok(())
    }
}

fn table(
    f: &mut fmt::Formatter<'_>,
    title: &str,
    rows: &[Row],
    of: fn(&Row) -> &Figures,
) -> fmt::Result {
    writeln!(
        f,
        "  {title:<20}{:>10}{:>20}{:>7}{:>9}{:>9}{:>9}{:>11}{:>11}{:>8}",
        "a second",
        "(min - max)",
        "ratio",
        "p99 ms",
        "CPU us",
        "more us",
        "paced p50",
        "paced p99",
        "failed"
    )?;
    let Some(first) = rows.first().map(of) else { return Ok(()) };
    for row in rows {
        let Figures { rate, full_p99, p50, p99, cpu, failed } = of(row);
        writeln!(
            f,
            "  {:<20}{:>10.0}{:>20}{:>7.2}{:>9.3}{:>9.2}{:>+9.2}{:>11.3}{:>11.3}{:>8}",
            row.what,
            rate.median,
            format!("({:.0} - {:.0})", rate.min, rate.max),
            rate.median / first.rate.median,
            full_p99.median,
            cpu.median,
            cpu.median - first.cpu.median,
            p50.median,
            p99.median,
            failed
        )?;
    }
    Ok(())
}
