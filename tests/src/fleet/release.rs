//! What most tests of rollouts begin with: a fleet with one service, and a coordinator.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;

use super::{Coordinator, Fleet};
use crate::agent;
use crate::identity::Version;
use crate::lab::addresses::{ECHO_PORT, Family, HTTP_PORT, vip};
use crate::lab::spec::Protocol;
use crate::lab::{Lab, LabBuilder};
use crate::load::fresh::{Fresh, FreshPlan};
use crate::load::long_lived::{LongLived, LongLivedPlan};

/// The service. It takes every port, so that short and long connections are of one service.
pub const SERVICE: &str = "web";

/// A fleet with a coordinator. Fields drop in order.
#[derive(Debug)]
pub struct Release {
    /// The coordinator.
    pub coordinator: Coordinator,
    /// The agents and their labs.
    pub fleet: Fleet,
}

/// Long-lived connections that every release must leave whole, through all agents together.
const HELD: usize = 2_000;
/// What [`HELD`] connections say is not what a test is to measure: half of them are silent, the others
/// talk so often.
const PACE: Duration = Duration::from_secs(2);

/// A lab that is small enough to have several of.
#[must_use]
pub fn small_lab() -> LabBuilder {
    LabBuilder::new().families(&[Family::V4]).clients(100)
}

/// Where clients connect to.
#[must_use]
pub fn at(port: u16) -> SocketAddr {
    SocketAddr::new(vip(Family::V4, 0), port)
}

/// Short connections, so many a second.
#[must_use]
pub fn short(lab: &Lab, rate: u32) -> FreshPlan {
    let clients = lab.client_addresses(Family::V4);
    FreshPlan::new(at(HTTP_PORT), clients).rate(rate)
}

/// Long-lived connections to the service.
fn long(lab: &Lab, connections: u32) -> LongLivedPlan {
    let clients = lab.client_addresses(Family::V4);
    LongLivedPlan::new(at(ECHO_PORT), clients, connections).talking(connections / 2, PACE)
}

/// The connections that a release is to leave whole, as many through each agent.
pub fn hold(fleet: &Fleet) -> Result<Vec<LongLived>> {
    let each = u32::try_from(HELD.div_ceil(fleet.members().len()))?;
    let held = fleet.long_lived(|lab| long(lab, each))?;
    held.iter().try_for_each(|some| some.state().check())?;
    Ok(held)
}

/// How often each change of weights was made at an agent, by its events.
pub fn shifts(fleet: &Fleet, place: usize) -> Result<BTreeMap<String, usize>> {
    let events = fleet.members()[place].lab().weir(&["events", SERVICE, "-o", "json"])?;
    let events: Value = serde_json::from_str(&events)?;
    let mut shifts = BTreeMap::new();
    for event in events["events"].as_array().context("no events")? {
        if event["kind"] == "shifted" {
            *shifts.entry(event["text"].as_str().context("no text")?.to_owned()).or_default() += 1;
        }
    }
    Ok(shifts)
}

impl Release {
    /// So many agents with the service, everything on blue, and further lines of its spec.
    pub fn start(agents: usize, lab: LabBuilder, more: &[&str]) -> Result<Self> {
        let fleet = Fleet::start(agents, lab, &[])?;
        let spec = fleet.lab().service(SERVICE, at(0), Protocol::Tcp);
        let spec = more.iter().fold(spec, |spec, line| spec.with(line));
        fleet.apply(&[spec])?;
        let coordinator = Self::coordinator(&fleet, "coordinator", &[])?;
        coordinator.leads()?;
        Ok(Self { coordinator, fleet })
    }

    /// Starts a coordinator with the fleet's agents and a directory for its state.
    pub fn coordinator(fleet: &Fleet, name: &str, more: &[&str]) -> Result<Coordinator> {
        Self::coordinator_by(Command::new(agent::binary()?), fleet, name, more)
    }

    /// The same by a command that becomes another binary, or has an environment of its own.
    pub fn coordinator_by(
        command: Command,
        fleet: &Fleet,
        name: &str,
        more: &[&str],
    ) -> Result<Coordinator> {
        let (agents, state) = (fleet.agents_file()?, fleet.directory().join("rollouts"));
        let [agents, state] = [&agents, &state].map(|path| path.to_str().context("a path"));
        let arguments = ["--agents", agents?, "--state", state?, "--name", name];
        let arguments = [&arguments[..], more].concat();
        Coordinator::start_by(command, fleet.directory(), name, &arguments)
    }

    /// Short connections through each agent, so many a second.
    pub fn load(&self, rate: u32) -> Result<Vec<Fresh>> {
        self.fleet.load(|lab| short(lab, rate))
    }

    /// The connections that the release is to leave whole, see [`hold`].
    pub fn hold(&self) -> Result<Vec<LongLived>> {
        hold(&self.fleet)
    }

    /// Further long-lived connections, so many through each agent.
    pub fn long_lived(&self, connections: u32) -> Result<Vec<LongLived>> {
        self.fleet.long_lived(|lab| long(lab, connections))
    }

    /// Begins a rollout.
    pub fn run(&self, spec: &str) -> Result<Instant> {
        let file = self.fleet.write("rollout.yaml", spec)?;
        let file = file.to_str().context("a path")?;
        self.coordinator.rollout(&["run", "--detach", file])?;
        Ok(Instant::now())
    }

    /// Waits until the rollout of `revision` is in `phase`, shows it, and gives it.
    pub fn ends(
        &self,
        revision: &str,
        phase: &str,
        began: Instant,
        limit: Duration,
    ) -> Result<Value> {
        let done = |rollout: &Value| rollout["revision"] == revision && is_over(rollout, phase);
        let rollout = self.coordinator.wait(SERVICE, limit, done)?;
        let took = began.elapsed();
        println!("{revision} is {} after {took:.1?}: {}", rollout["phase"], rollout["reason"]);
        print!("{}", self.coordinator.rollout(&["get", SERVICE])?);
        if rollout["phase"] != phase {
            anyhow::bail!(
                "{} instead of {phase}:\n{}\n{}",
                rollout["phase"],
                self.coordinator.rollout(&["history", SERVICE])?,
                self.coordinator.log_tail()
            );
        }
        Ok(rollout)
    }

    /// The weights of a version on all agents, in basis points.
    pub fn weights(&self, version: Version) -> Result<Vec<u32>> {
        self.fleet.weights(SERVICE, version)
    }
}

/// Whether it is in the phase that is waited for, or nothing more will happen.
fn is_over(rollout: &Value, phase: &str) -> bool {
    let now = rollout["phase"].as_str().unwrap_or_default();
    now == phase || ["healthy", "degraded"].contains(&now)
}

/// An error if a connection has broken.
pub fn unbroken(connections: &[LongLived]) -> Result<()> {
    connections.iter().try_for_each(|some| some.verify().check())
}

/// Ends the load. An error if not every connection was served.
pub fn served(load: Vec<Fresh>) -> Result<()> {
    load.into_iter().try_for_each(|one| one.stop()?.check())
}
