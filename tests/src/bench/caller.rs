//! An agent in a lab with a [`Crowd`], and a client whose calls are timed.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;
use tokio::runtime::{self, Runtime};
use weir::client::Client;
use weir::model::{ServiceName, SpecFile, Version, Weight};
use weir::node::messages::{
    ChangeOptions, Changed, InFlight, NextHop, ServiceShift, Shift, VersionStatus,
};

use super::crowd::Crowd;
use super::host::{pin, pin_process};
use super::probe::Probe;
use crate::agent::{Agent, AgentOptions, socket};
use crate::lab::addresses::Family;
use crate::lab::{Lab, LabBuilder};

/// Where the agent runs while shifts are watched, and where the packets.
pub const AGENT: usize = 0;
/// The other one.
pub const PACKETS: usize = 1;

/// How long the agent may take to find the way to all backends.
const RESOLVED_WITHIN: Duration = Duration::from_secs(60);

/// What was seen of a shift, from just before the client sent it.
#[derive(Clone, Copy, Debug)]
pub struct Watched {
    /// Until every packet was decided by the new tables.
    pub effect: Duration,
    /// Until the call had returned.
    pub returned: Duration,
    /// Packets decided by the old tables after one by the new ones.
    pub back: u32,
}

/// A lab, its agent with all of a crowd applied, and a client.
pub struct Caller {
    client: Client,
    runtime: Runtime,
    agent: Option<Agent>,
    options: AgentOptions,
    /// From the start of the agent's process until it had answered.
    started: Duration,
    lab: Lab,
    /// On a disk, unlike the rest of the lab: storing the state is part of what takes time.
    state: TempDir,
}

impl Caller {
    /// Starts it, without any service.
    ///
    /// # Errors
    ///
    /// The lab or the agent does not start.
    pub fn start() -> Result<Self> {
        let lab = LabBuilder::new().clients(1).backends(1).families(&[Family::V4]).start()?;
        Crowd::route(&lab)?;
        let state = tempfile::tempdir_in("/var/tmp").context("a directory for the state")?;
        // A data plane that outlives the agent, so that it can be started again.
        let options = AgentOptions::new(&lab)
            .mode("tc")
            .state_dir(state.path())
            .argument("--on-exit=keep")
            .argument("--http=off");
        let began = Instant::now();
        let agent = Agent::start(&lab, &options)?;
        // A thread less to wake up for each call.
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let client = runtime.block_on(connect(&lab))?;
        let started = began.elapsed();
        Ok(Self { client, runtime, agent: Some(agent), options, started, lab, state })
    }

    /// From the start of the agent's process until it had answered, with nothing stored and nothing
    /// in the kernel.
    #[must_use]
    pub fn started(&self) -> Duration {
        self.started
    }

    /// The lab.
    #[must_use]
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// Runs calls of the client to their end.
    pub fn wait<T>(&mut self, calls: impl AsyncFnOnce(&mut Client) -> T) -> T {
        self.runtime.block_on(calls(&mut self.client))
    }

    /// How long a call takes: the median of so many, each after the other.
    ///
    /// # Errors
    ///
    /// A call fails.
    pub fn time_of(
        &mut self,
        calls: usize,
        mut call: impl AsyncFnMut(&mut Client) -> Result<()>,
    ) -> Result<Duration> {
        let mut times = Vec::new();
        for _ in 0..calls.max(1) {
            let began = Instant::now();
            self.runtime.block_on(call(&mut self.client))?;
            times.push(began.elapsed());
        }
        times.sort();
        Ok(times[times.len() / 2])
    }

    /// The agent's process id.
    ///
    /// # Errors
    ///
    /// It is not running.
    pub fn pid(&self) -> Result<u32> {
        Ok(self.agent.as_ref().context("the agent is not running")?.pid())
    }

    /// Waits until the agent knows the next hops of all backends; gives how long that took.
    ///
    /// # Errors
    ///
    /// They are not known in time.
    pub fn resolve(&mut self) -> Result<Duration> {
        let began = Instant::now();
        while began.elapsed() < RESOLVED_WITHIN {
            let services = self.wait(async |client| client.list().await)?;
            let mut versions = services.iter().flat_map(|service| service.versions.iter());
            let known = |(_, one): (_, &VersionStatus)| {
                one.backends.iter().all(|backend| backend.next_hop != NextHop::Unresolved)
            };
            if versions.all(known) {
                return Ok(began.elapsed());
            }
            thread::sleep(Duration::from_millis(100));
        }
        bail!("the agent does not know all next hops after {RESOLVED_WITHIN:?}")
    }

    /// Keeps the agent on its processor.
    ///
    /// # Errors
    ///
    /// It is not running.
    pub fn pin(&self) -> Result<()> {
        pin_process(self.pid()?, AGENT)
    }

    /// Stops the agent, keeps the data plane, and starts another; gives the time from its start
    /// until it has answered.
    ///
    /// # Errors
    ///
    /// It does not stop, or not start.
    pub fn restart(&mut self) -> Result<Duration> {
        self.agent.take().context("the agent is not running")?.stop()?;
        let began = Instant::now();
        self.agent = Some(Agent::start(&self.lab, &self.options)?);
        self.client = self.runtime.block_on(connect(&self.lab))?;
        Ok(began.elapsed())
    }

    /// Applies all services; gives the time of the call.
    ///
    /// # Errors
    ///
    /// The agent refuses.
    pub fn apply(&mut self, crowd: Crowd) -> Result<Duration> {
        let file = SpecFile::parse(&crowd.yaml())?;
        let options = ChangeOptions::default();
        let began = Instant::now();
        self.runtime.block_on(self.client.apply(&file.services, &options))?;
        Ok(began.elapsed())
    }

    /// Gives these services the weights of blue, green and canary in one commit.
    ///
    /// # Errors
    ///
    /// The agent refuses.
    pub fn shift(&mut self, services: &[ServiceName], weights: [u16; 3]) -> Result<Changed> {
        let shift = shift(services, weights)?;
        self.send(&shift)
    }

    /// Sends a shift that was made before.
    ///
    /// # Errors
    ///
    /// The agent refuses.
    pub fn send(&mut self, shift: &Shift) -> Result<Changed> {
        Ok(self.runtime.block_on(self.client.shift(shift))?)
    }

    /// Shifts services away from blue with the program running over packets of new connections on
    /// another processor, and sees when all of these go to `to`.
    ///
    /// Before such a shift nothing is remembered in the services, so that the packets that are to see
    /// it leave nothing behind.
    ///
    /// # Errors
    ///
    /// The agent refuses, or nothing changes.
    pub fn watched(&mut self, shift: &Shift, to: Version, probe: &mut Probe) -> Result<Watched> {
        let ready = AtomicBool::new(false);
        thread::scope(|scope| {
            let (lab, ready) = (&self.lab, &ready);
            // In the balancer host's namespace, as its packets are.
            let watcher = scope.spawn(move || {
                lab.lb().inside(|| {
                    let _there = pin(PACKETS)?;
                    probe.watch(to, ready)
                })
            });
            while !ready.load(Ordering::Acquire) && !watcher.is_finished() {
                thread::sleep(Duration::from_micros(200));
            }
            let began = Instant::now();
            let changed = self.runtime.block_on(self.client.shift(shift));
            let returned = began.elapsed();
            let seen = watcher.join().ok().context("the watcher has ended")???;
            changed?;
            Ok(Watched {
                effect: seen.at.saturating_duration_since(began),
                returned,
                back: seen.back,
            })
        })
    }

    /// New flows that the program sent to the older version: there was no room for them, or they came too
    /// fast.
    ///
    /// # Errors
    ///
    /// The agent does not say.
    pub fn fallbacks(&mut self) -> Result<u64> {
        let counters = self.wait(async |client| client.counters(&[]).await)?;
        let versions = counters.services.iter().flat_map(|service| service.versions.iter());
        Ok(versions.map(|(_, one)| one.traffic.fallback_full + one.traffic.fallback_flood).sum())
    }

    /// Bytes of the stored state.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn stored(&self) -> Result<u64> {
        let mut sum = 0;
        for entry in fs::read_dir(self.state.path())? {
            sum += entry?.metadata()?.len();
        }
        Ok(sum)
    }
}

/// The request that gives services these weights, in basis points.
///
/// # Errors
///
/// A weight is above 10 000.
pub fn shift(services: &[ServiceName], weights: [u16; 3]) -> Result<Shift> {
    let mut set = Vec::new();
    for (version, bp) in Version::ALL.into_iter().zip(weights) {
        set.push((version, Weight::from_bp(bp.into()).context("a weight above 10000")?));
    }
    let shifts = services.iter().map(|service| ServiceShift {
        service: service.clone(),
        set: set.clone(),
        remainder: Version::Blue,
        expected_generation: None,
    });
    Ok(Shift {
        shifts: shifts.collect(),
        in_flight: InFlight::default(),
        lease: None,
        options: ChangeOptions::default(),
    })
}

async fn connect(lab: &Lab) -> Result<Client> {
    let mut client = Client::connect(&socket(lab)).await?;
    client.status().await?;
    Ok(client)
}
