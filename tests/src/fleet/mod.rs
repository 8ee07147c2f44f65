//! A fleet: labs beside each other, each with an agent and clients of its own, and the coordinator
//! that releases on all of them.
//!
//! Each lab has the same addresses in namespaces of its own, so what one agent's clients meet is
//! what the others' meet.

pub mod clock;
pub mod coordinator;
pub mod ill;
pub mod release;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::MutexGuard;

use anyhow::{Context, Result};
use tokio::runtime::{self, Runtime};
use weir::client::Client;
use weir::model::{ServiceName, SpecFile};
use weir::node::messages::{ChangeOptions, ServiceStatus};

use crate::agent::{Agent, AgentOptions, socket};
use crate::identity::Version;
use crate::lab::spec::{ServiceSpec, yaml};
use crate::lab::{Lab, LabBuilder};
use crate::load::fresh::{Fresh, FreshPlan};
use crate::load::long_lived::{LongLived, LongLivedPlan};
use crate::node::{self, Mode};
pub use coordinator::Coordinator;
pub use release::Release;

/// One agent with its lab. Fields drop in order: the agent before its namespaces.
#[derive(Debug)]
pub struct Member {
    agent: Option<Agent>,
    options: AgentOptions,
    lab: Lab,
}

impl Member {
    fn start(lab: LabBuilder, arguments: &[&str]) -> Result<Self> {
        let lab = lab.start()?;
        let options = AgentOptions::new(&lab).mode(Mode::Tc.name());
        let options = arguments.iter().fold(options, |options, one| options.argument(one));
        let agent = Agent::start(&lab, &options)?;
        Ok(Self { agent: Some(agent), options, lab })
    }

    /// Its lab.
    #[must_use]
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// Its lab, to change it.
    #[must_use]
    pub fn lab_mut(&mut self) -> &mut Lab {
        &mut self.lab
    }

    /// Kills the agent; the data plane goes on.
    pub fn kill(&mut self) -> Result<()> {
        self.agent.take().context("the agent was killed already")?.kill()
    }

    /// Sets a variable of the environment that the agent gets when it is started again.
    pub fn environment(&mut self, name: &str, value: &str) {
        self.options = self.options.clone().environment(name, value);
    }

    /// Starts the agent again.
    pub fn restart(&mut self) -> Result<()> {
        self.agent = Some(Agent::start(&self.lab, &self.options)?);
        Ok(())
    }
}

/// Agents with their labs. Of all fleets and nodes of this process one at a time is up.
#[derive(Debug)]
pub struct Fleet {
    runtime: Runtime,
    members: Vec<Member>,
    _turn: MutexGuard<'static, ()>,
}

impl Fleet {
    /// Builds so many labs and starts an agent with further `arguments` in each.
    pub fn start(count: usize, lab: LabBuilder, arguments: &[&str]) -> Result<Self> {
        let turn = node::turn();
        let members = (0..count).map(|_| Member::start(lab, arguments)).collect::<Result<_>>()?;
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { runtime, members, _turn: turn })
    }

    /// The agents and their labs, in order: `lb1`, `lb2` …
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The same, to change them.
    #[must_use]
    pub fn members_mut(&mut self) -> &mut [Member] {
        &mut self.members
    }

    /// One lab, of those that are all alike.
    #[must_use]
    pub fn lab(&self) -> &Lab {
        self.members[0].lab()
    }

    /// The name of an agent by its place.
    #[must_use]
    pub fn name(place: usize) -> String {
        format!("lb{}", place + 1)
    }

    /// Where files of the whole fleet are kept; they go with it.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.lab().directory()
    }

    /// Writes a file into the fleet's directory.
    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.directory().join(name);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }

    /// The agents file: each by its socket.
    pub fn agents_file(&self) -> Result<PathBuf> {
        let mut text = "agents:\n".to_owned();
        for (place, member) in self.members.iter().enumerate() {
            let (name, socket) = (Self::name(place), socket(member.lab()));
            // Writing to a string cannot fail.
            let _ =
                writeln!(text, "  - {{ name: {name}, address: \"unix:{}\" }}", socket.display());
        }
        self.write("agents.yaml", &text)
    }

    /// Applies a spec file with these services to each agent.
    pub fn apply(&self, services: &[ServiceSpec]) -> Result<()> {
        self.apply_text(&yaml(services))
    }

    /// Applies the text of a spec file to each agent.
    pub fn apply_text(&self, text: &str) -> Result<()> {
        let file = SpecFile::parse(text)?;
        self.runtime.block_on(async {
            for member in &self.members {
                let mut client = Client::connect(&socket(member.lab())).await?;
                client.apply(&file.services, &ChangeOptions::default()).await?;
            }
            Ok(())
        })
    }

    /// What an agent says of a service.
    pub fn status(&self, place: usize, service: &str) -> Result<ServiceStatus> {
        let name =
            ServiceName::new(service).map_err(|error| anyhow::anyhow!("{service:?} {error}"))?;
        let socket = socket(self.members[place].lab());
        self.runtime.block_on(async { Ok(Client::connect(&socket).await?.get(&name).await?) })
    }

    /// The shares of a version in the tables of all agents, in basis points as asked.
    pub fn weights(&self, service: &str, version: Version) -> Result<Vec<u32>> {
        let places = 0..self.members.len();
        places
            .map(|place| Ok(self.status(place, service)?.versions[version.into()].asked.bp()))
            .collect()
    }

    /// New connections through each agent, by a plan for each.
    pub fn load(&self, plan: impl Fn(&Lab) -> FreshPlan) -> Result<Vec<Fresh>> {
        let start = |member: &Member| Fresh::start(member.lab.clients(), plan(&member.lab));
        self.members.iter().map(start).collect()
    }

    /// Long-lived connections through each agent.
    pub fn long_lived(&self, plan: impl Fn(&Lab) -> LongLivedPlan) -> Result<Vec<LongLived>> {
        let open = |member: &Member| LongLived::open(member.lab.clients(), plan(&member.lab));
        self.members.iter().map(open).collect()
    }
}
