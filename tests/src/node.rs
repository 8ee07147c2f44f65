//! A lab with a running agent and a gRPC client of it: what most tests begin with.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, bail};
use tokio::runtime::{self, Runtime};
use weir::client::Client;
use weir::model::{ServiceName, SpecFile, Weight};
use weir::node::messages::{
    ChangeOptions, Changed, InFlight, NodeStatus, ServiceCounters, ServiceShift, ServiceStatus,
    Shift, Traffic,
};

use crate::agent::{Agent, AgentOptions, socket};
use crate::identity::Version;
use crate::lab::spec::{ServiceSpec, yaml};
use crate::lab::{Lab, LabBuilder, Offloads};

/// Load disturbs load: of all nodes of this process one at a time is up.
static TURN: Mutex<()> = Mutex::new(());

/// Waits until no other node of this process is up.
pub(crate) fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How weir is attached to all interfaces of the balancer host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// By TC, with packets of up to 64 KiB and partial checksums.
    Tc,
    /// By XDP in the driver.
    Xdp,
    /// By XDP in the stack.
    XdpGeneric,
}

impl Mode {
    /// As on the agent's command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tc => "tc",
            Self::Xdp => "xdp",
            Self::XdpGeneric => "xdp-generic",
        }
    }

    fn offloads(self) -> Offloads {
        match self {
            Self::Tc => Offloads::On,
            Self::Xdp | Self::XdpGeneric => Offloads::Off,
        }
    }
}

/// A lab whose balancer host runs the agent. The next node of this process starts when this one
/// is dropped; a test that starts two would wait for ever.
#[derive(Debug)]
pub struct Node {
    client: Client,
    runtime: Runtime,
    agent: Option<Agent>,
    options: AgentOptions,
    lab: Lab,
    _turn: MutexGuard<'static, ()>,
}

impl Node {
    /// Builds the lab, with the offloads that suit `mode`, and starts the agent with further
    /// `arguments`.
    pub fn start(lab: LabBuilder, mode: Mode, arguments: &[&str]) -> Result<Self> {
        let turn = turn();
        let lab = lab.offloads(mode.offloads()).start()?;
        let options = AgentOptions::new(&lab).mode(mode.name());
        let options = arguments.iter().fold(options, |options, one| options.argument(one));
        let agent = Agent::start(&lab, &options)?;
        // With a thread of its own, so that the connection ends in order when the agent stops.
        let runtime =
            runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let client = runtime
            .block_on(connect(&lab))
            .with_context(|| format!("the agent's log ends with:\n{}", agent.log_tail()))?;
        Ok(Self { client, runtime, agent: Some(agent), options, lab, _turn: turn })
    }

    /// The lab.
    #[must_use]
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// The lab, to change it.
    #[must_use]
    pub fn lab_mut(&mut self) -> &mut Lab {
        &mut self.lab
    }

    /// How the agent was started.
    #[must_use]
    pub fn options(&self) -> &AgentOptions {
        &self.options
    }

    /// The agent that runs.
    pub fn agent(&self) -> Result<&Agent> {
        self.agent.as_ref().context("the agent was taken")
    }

    /// Takes the agent, to stop or to kill it. [`Node::restart`] starts another.
    pub fn take_agent(&mut self) -> Result<Agent> {
        self.agent.take().context("the agent was taken already")
    }

    /// Starts the agent again, after [`Node::take_agent`], with the state that the last one left.
    pub fn restart(&mut self) -> Result<()> {
        self.agent = Some(Agent::start(&self.lab, &self.options)?);
        self.client = self.runtime.block_on(connect(&self.lab))?;
        Ok(())
    }

    /// The same with other options.
    pub fn restart_with(&mut self, options: AgentOptions) -> Result<()> {
        self.options = options;
        self.restart()
    }

    /// Applies a spec file with these services.
    pub fn apply(&mut self, services: &[ServiceSpec]) -> Result<Changed> {
        self.apply_text(&yaml(services))
    }

    /// Applies the text of a spec file.
    pub fn apply_text(&mut self, text: &str) -> Result<Changed> {
        let file = SpecFile::parse(text)?;
        let options = ChangeOptions::default();
        Ok(self.runtime.block_on(self.client.apply(&file.services, &options))?)
    }

    /// Gives these services the weights of blue, green and canary, in basis points, in one commit.
    pub fn shift(&mut self, services: &[&str], weights: [u16; 3]) -> Result<Changed> {
        let mut set = Vec::new();
        for (version, bp) in weir::model::Version::ALL.into_iter().zip(weights) {
            set.push((version, Weight::from_bp(bp.into()).context("a weight above 10000")?));
        }
        let shifts = services.iter().map(|service| {
            Ok(ServiceShift {
                service: name(service)?,
                set: set.clone(),
                remainder: weir::model::Version::Blue,
                expected_generation: None,
            })
        });
        let shifts = shifts.collect::<Result<_>>()?;
        let (in_flight, options) = (InFlight::default(), ChangeOptions::default());
        let shift = Shift { shifts, in_flight, lease: None, options };
        Ok(self.runtime.block_on(self.client.shift(&shift))?)
    }

    /// What the agent says of a service.
    pub fn status(&mut self, service: &str) -> Result<ServiceStatus> {
        Ok(self.runtime.block_on(self.client.get(&name(service)?))?)
    }

    /// What the agent says of itself.
    pub fn node_status(&mut self) -> Result<NodeStatus> {
        Ok(self.runtime.block_on(self.client.status())?)
    }

    /// How much of a bounded resource is in use.
    pub fn used(&mut self, resource: &str) -> Result<u64> {
        let capacity = self.node_status()?.capacity;
        let one = capacity.iter().find(|one| one.resource == resource);
        one.map(|one| one.used).with_context(|| format!("no capacity {resource:?}: {capacity:?}"))
    }

    /// The counters of a service.
    pub fn counters(&mut self, service: &str) -> Result<ServiceCounters> {
        let counters = self.runtime.block_on(self.client.counters(&[name(service)?]))?;
        match <[_; 1]>::try_from(counters.services) {
            Ok([only]) => Ok(only),
            Err(other) => bail!("counters of one service were asked, came: {other:?}"),
        }
    }

    /// The counters of a service's backends, by address.
    pub fn traffic(&mut self, service: &str) -> Result<BTreeMap<IpAddr, Traffic>> {
        let counters = self.counters(service)?;
        let backends = counters.versions.into_iter().flat_map(|(_, version)| version.backends);
        Ok(backends.map(|backend| (backend.address, backend.traffic)).collect())
    }

    /// The counters of a service, over all versions.
    pub fn total(&mut self, service: &str) -> Result<Traffic> {
        let mut total = Traffic::default();
        for (_, version) in self.counters(service)?.versions.iter() {
            total.add(&version.traffic);
        }
        Ok(total)
    }

    /// How many packets were counted for `reason`, at both hooks.
    pub fn verdict(&mut self, reason: &str) -> Result<u64> {
        let counters = self.runtime.block_on(self.client.counters(&[]))?;
        let rows = counters.verdicts.iter().filter(|verdict| verdict.reason == reason);
        Ok(rows.map(|verdict| verdict.packets).sum())
    }
}

/// Connects and waits for an answer: the socket is there before the program is attached.
async fn connect(lab: &Lab) -> Result<Client> {
    let mut client = Client::connect(&socket(lab)).await?;
    client.status().await?;
    Ok(client)
}

/// All that was counted, as numbers that only grow.
#[must_use]
pub fn fields(traffic: &Traffic) -> [u64; Traffic::NAMES.len()] {
    traffic.values()
}

fn name(service: &str) -> Result<ServiceName> {
    ServiceName::new(service).map_err(|error| anyhow::anyhow!("{service:?} {error}"))
}

impl From<Version> for weir::model::Version {
    fn from(version: Version) -> Self {
        match version {
            Version::Blue => Self::Blue,
            Version::Green => Self::Green,
            Version::Canary => Self::Canary,
        }
    }
}
