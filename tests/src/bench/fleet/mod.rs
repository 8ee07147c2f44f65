//! A rollout over many agents: how long a change takes until it is verified on all of them, how many
//! connections a canary that serves nobody harms, and whether connections that stay open do.
//!
//! The agents, their clients and backends are in namespaces of this machine, and share its processors.

mod changes;
mod follow;
mod lasting;
mod outages;
mod report;

use std::time::Duration;

use anyhow::Result;

use super::host::Host;
use crate::fleet::Release;
use crate::fleet::release::small_lab;
use crate::interrupt::Interrupt;
use follow::Follower;
pub use report::{Change, Lasting, Outage, Report};

/// No wait of a measurement is longer.
const LIMIT: Duration = Duration::from_secs(60);

/// What to measure.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Agents.
    pub agents: usize,
    /// Releases whose changes of weights are timed.
    pub rounds: u32,
    /// New connections a second, through all agents together.
    pub rate: u32,
    /// Connections that stay open, through all agents together.
    pub connections: u32,
}

/// Measures. Needs root.
///
/// # Errors
///
/// Something does not start, a rollout does not end as it should, or it was interrupted.
pub fn measure(plan: Plan, interrupt: &Interrupt, progress: &dyn Fn(&str)) -> Result<Report> {
    progress(&format!("{} agents, each in a lab of its own", plan.agents));
    let mut release = Release::start(plan.agents, small_lab(), &[])?;
    let (changes, rate) = changes::measure(&release, plan, interrupt, progress)?;
    let outages = outages::measure(&mut release, plan, interrupt, progress)?;
    drop(release);
    let lasting = lasting::measure(plan, interrupt, progress)?;
    let Plan { agents, connections, .. } = plan;
    Ok(Report { host: Host::here(), agents, rate, connections, changes, outages, lasting })
}

/// New connections a second through each agent.
fn each(plan: Plan) -> u32 {
    let agents = u32::try_from(plan.agents).unwrap_or(1);
    plan.rate.div_ceil(agents.max(1))
}

/// Milliseconds.
fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
