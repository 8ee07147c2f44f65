//! What was measured, as tables and as JSON.

use std::fmt;

use serde::Serialize;

use crate::bench::figures::Times;
use crate::bench::host::Host;

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The machine.
    pub host: Host,
    /// Agents.
    pub agents: usize,
    /// New connections a second that were served while weights changed.
    pub rate: f64,
    /// Connections that stay open.
    pub connections: u32,
    /// Changes of weights.
    pub changes: Vec<Change>,
    /// Canaries that serve nobody.
    pub outages: Vec<Outage>,
    /// Connections that stay open.
    pub lasting: Vec<Lasting>,
}

/// A change of weights, from just before a person promoted. Times are in milliseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Change {
    /// The candidate's share after it, in percent.
    pub share: u32,
    /// New connections that each agent must have seen since.
    pub needed: u32,
    /// Until all agents had read the tables back.
    pub tables: Times,
    /// Until new connections had agreed on each agent, too.
    pub verified: Times,
}

/// A canary at 5 % that serves nobody.
#[derive(Clone, Debug, Serialize)]
pub struct Outage {
    /// What is wrong with it, and since when.
    pub case: String,
    /// Who watched it.
    pub watched_by: &'static str,
    /// Connections a second that began.
    pub rate: f64,
    /// Connections that failed.
    pub harmed: u64,
    /// Seconds from its first weight, or from its fault, until it was aborted.
    pub found: f64,
    /// The same until all agents had shown that it has none.
    pub back: f64,
    /// Why it was aborted.
    pub reason: String,
}

/// Connections that stay open, after something was done.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Lasting {
    /// What was done.
    pub what: String,
    /// How long that took, in seconds.
    pub seconds: f64,
    /// Connections that were opened so far.
    pub open: usize,
    /// Of these, whole: each has just echoed a line.
    pub whole: usize,
    /// Of these, reset.
    pub resets: usize,
    /// Whole ones on blue, green and canary.
    pub by_version: [usize; 3],
}

impl fmt::Display for Outage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { case, watched_by, rate, harmed, found, back, reason } = self;
        write!(
            f,
            "{case:<28}{watched_by:<16}{rate:>8.0}{harmed:>8}{found:>9.1}{back:>9.1}  {reason}"
        )
    }
}

impl fmt::Display for Lasting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, seconds, open, whole, resets, by_version: [blue, _, canary] } = self;
        write!(f, "{what:<48}{seconds:>8.1}{open:>8}{whole:>8}{resets:>8}{blue:>8}{canary:>8}")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, agents, rate, .. } = self;
        writeln!(f, "{host}; {agents} agents\n")?;
        writeln!(
            f,
            "A change of weights, ms from `promote`; {rate:.0} new connections a second\n"
        )?;
        writeln!(
            f,
            "{:<8}{:>13}{:>22}{:>22}",
            "", "connections", "read back on all", "verified on all"
        )?;
        writeln!(
            f,
            "{:<8}{:>13}{:>11}{:>11}{:>11}{:>11}",
            "share", "an agent", "p50", "max", "p50", "max"
        )?;
        for Change { share, needed, tables, verified } in &self.changes {
            let share = format!("{share}%");
            write!(f, "{share:<8}{needed:>13}{:>11.0}{:>11.0}", tables.p50, tables.max)?;
            writeln!(f, "{:>11.0}{:>11.0}", verified.p50, verified.max)?;
        }
        writeln!(f, "\nA canary at 5 % that serves nobody; found and back in seconds\n")?;
        writeln!(
            f,
            "{:<28}{:<16}{:>8}{:>8}{:>9}{:>9}  why",
            "it", "watched by", "conn/s", "harmed", "found", "back"
        )?;
        self.outages.iter().try_for_each(|row| writeln!(f, "{row}"))?;
        writeln!(f, "\nConnections that stay open\n")?;
        writeln!(
            f,
            "{:<48}{:>8}{:>8}{:>8}{:>8}{:>8}{:>8}",
            "after", "s", "open", "whole", "reset", "blue", "canary"
        )?;
        self.lasting.iter().try_for_each(|row| writeln!(f, "{row}"))
    }
}
