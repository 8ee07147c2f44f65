//! What was measured, as a table and as JSON.

use std::fmt;

use anyhow::Result;
use serde::Serialize;

use super::tables::Tables;
use crate::bench::figures::Times;
use crate::bench::host::{Host, Use};

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The machine.
    pub host: Host,
    /// By services and backends.
    pub rows: Vec<Row>,
}

/// Memory of the agent, in MiB.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Memory {
    /// Its own.
    pub own: f64,
    /// The same with the maps of the kernel and the program that it has mapped.
    pub resident: f64,
    /// The maps in the kernel.
    pub maps: f64,
}

impl Memory {
    pub(super) fn of(pid: u32) -> Result<Self> {
        let Use { own, resident, maps, .. } = Use::of(pid)?;
        #[allow(clippy::cast_precision_loss, reason = "a machine has less than 2^52 bytes")]
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        Ok(Self { own: mib(own), resident: mib(resident), maps: mib(maps) })
    }
}

/// One size. Times are in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Row {
    /// Services.
    pub services: u16,
    /// Backends of all of them.
    pub backends: u32,
    /// The tables of one service.
    pub tables: Tables,
    /// The agent's start with nothing stored, until it answers.
    pub start: f64,
    /// Applying all services at once,
    pub apply: f64,
    /// until the way to all backends is known,
    pub resolve: f64,
    /// the same again, which changes nothing,
    pub apply_again: f64,
    /// and with one backend more in each version.
    pub apply_grown: f64,
    /// The agent's start with all of that stored and in the kernel, until it answers.
    pub restart: f64,
    /// A shift of one service, until every packet was decided by the new tables,
    pub effect: Times,
    /// and until the call had returned.
    pub returns: Times,
    /// Reading the counters of all services.
    pub read: f64,
    /// Asking for all services.
    pub list: f64,
    /// Share of a processor that the agent takes when nobody asks anything, in percent,
    pub idle_cpu: f64,
    /// and while it streams the counters of all services ten times a second.
    pub stream_cpu: f64,
    /// Samples of that stream a second.
    pub samples: f64,
    /// Calls a second that ask for one service, several at a time.
    pub calls: f64,
    /// Memory without any service,
    pub empty: Memory,
    /// with all of them,
    pub full: Memory,
    /// and after all had changed.
    pub grown: Memory,
    /// The stored state, and the one before it, in KiB.
    pub stored_kib: u64,
}

/// A line of the table: what it tells, and of a row with how many decimals.
type Line = (&'static str, usize, fn(&Row) -> f64);

const LINES: [Line; 29] = [
    ("tables of one service: build, ms", 3, |row| row.tables.build),
    ("  other weights, ms", 3, |row| row.tables.shift),
    #[allow(clippy::cast_precision_loss, reason = "tables are small")]
    ("  in the kernel, KiB", 0, |row| row.tables.kib as f64),
    ("start with nothing, ms", 0, |row| row.start),
    ("apply of all services, ms", 1, |row| row.apply),
    ("  until all next hops are known, ms", 0, |row| row.resolve),
    ("  again, unchanged, ms", 1, |row| row.apply_again),
    ("  with another backend each, ms", 1, |row| row.apply_grown),
    ("start with all of them, ms", 0, |row| row.restart),
    ("shift has effect, ms: p50", 3, |row| row.effect.p50),
    ("  p99", 3, |row| row.effect.p99),
    ("  max", 3, |row| row.effect.max),
    ("shift returns, ms: p50", 1, |row| row.returns.p50),
    ("  p99", 1, |row| row.returns.p99),
    ("  max", 1, |row| row.returns.max),
    ("counters of all services, ms", 2, |row| row.read),
    ("status of all services, ms", 2, |row| row.list),
    ("CPU of the agent: idle, %", 2, |row| row.idle_cpu),
    ("  counters streamed at 10 Hz, %", 2, |row| row.stream_cpu),
    ("  samples a second", 1, |row| row.samples),
    ("status calls a second, 16 at a time", 0, |row| row.calls),
    ("agent's own memory, MiB: empty", 1, |row| row.empty.own),
    ("  with all services", 1, |row| row.full.own),
    ("  after all have changed", 1, |row| row.grown.own),
    ("resident, with mapped maps, MiB", 1, |row| row.grown.resident),
    ("maps, MiB: empty", 1, |row| row.empty.maps),
    ("  with all services", 1, |row| row.full.maps),
    ("  after all have changed", 1, |row| row.grown.maps),
    #[allow(clippy::cast_precision_loss, reason = "the state is small")]
    ("stored state, with the last, KiB", 0, |row| row.stored_kib as f64),
];

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.host)?;
        let mut head = |what: &str, of: fn(&Row) -> u32| {
            write!(f, "{what:<36}")?;
            self.rows.iter().try_for_each(|row| write!(f, "{:>10}", of(row)))?;
            writeln!(f)
        };
        head("services", |row| u32::from(row.services))?;
        head("backends of all of them", |row| row.backends)?;
        for (what, decimals, of) in LINES {
            write!(f, "{what:<36}")?;
            self.rows.iter().try_for_each(|row| write!(f, "{:>10.decimals$}", of(row)))?;
            writeln!(f)?;
        }
        Ok(())
    }
}
