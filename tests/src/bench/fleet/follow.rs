//! A client of the coordinator that follows one rollout, and notes when it hears of what.

use std::fmt::{self, Debug};
use std::pin::Pin;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use tokio::runtime::{self, Runtime};
use tokio::time::timeout;
use tokio_stream::{Stream, StreamExt as _};
use weir::client::{Address, ClientError};
use weir::model::ServiceName;
use weir::rollout::api::Remote;
use weir_proto::rollout::v1;

use crate::fleet::Coordinator;
use crate::fleet::release::SERVICE;

type Told = Pin<Box<dyn Stream<Item = Result<v1::Rollout, ClientError>>>>;

/// The client. What it hears is of the rollout that it began last.
pub(super) struct Follower {
    runtime: Runtime,
    remote: Remote,
    service: ServiceName,
    told: Option<Told>,
    revision: String,
}

impl Follower {
    /// Connects.
    pub(super) fn of(coordinator: &Coordinator) -> Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let address = Address::from(coordinator.socket());
        let remote = runtime.block_on(Remote::connect(&address))?;
        let service = ServiceName::new(SERVICE).map_err(|error| anyhow!("{error}"))?;
        Ok(Self { runtime, remote, service, told: None, revision: String::new() })
    }

    /// Begins a rollout, and follows it.
    pub(super) fn start(&mut self, document: &str) -> Result<Instant> {
        let request =
            v1::StartRequest { document: document.to_owned(), ..v1::StartRequest::default() };
        let began = Instant::now();
        let answer = self.runtime.block_on(self.remote.start(request))?;
        self.follow(&answer.revision)?;
        Ok(began)
    }

    /// Follows a rollout that is under way.
    pub(super) fn follow(&mut self, revision: &str) -> Result<()> {
        revision.clone_into(&mut self.revision);
        let told = self.runtime.block_on(self.remote.watch(&self.service))?;
        self.told = Some(Box::pin(told));
        Ok(())
    }

    /// Tells what a person wants; gives the moment just before.
    pub(super) fn command(&mut self, verb: &str) -> Result<Instant> {
        let request = v1::CommandRequest {
            service: SERVICE.to_owned(),
            verb: verb.to_owned(),
            ..v1::CommandRequest::default()
        };
        let began = Instant::now();
        self.runtime.block_on(self.remote.command(request))?;
        Ok(began)
    }

    /// Waits until the rollout is as `done` says; gives the moment at which that was heard.
    pub(super) fn until(
        &mut self,
        limit: Duration,
        mut done: impl FnMut(&v1::Rollout) -> bool,
    ) -> Result<Instant> {
        let told = self.told.as_mut().context("no rollout was begun")?;
        let revision = &self.revision;
        let mut last = String::from("nothing was heard");
        let hear = async {
            while let Some(rollout) = told.next().await {
                let rollout = rollout?;
                if rollout.revision == *revision && done(&rollout) {
                    return Ok(Instant::now());
                }
                last = format!("{} {}: {}", rollout.phase, rollout.activity, rollout.reason);
            }
            bail!("the coordinator tells no more")
        };
        let heard = self.runtime.block_on(async { timeout(limit, hear).await });
        heard.unwrap_or_else(|_| bail!("not within {limit:?}: {last}"))
    }

    /// Waits for the end of the rollout, which must be `phase`.
    pub(super) fn ends(&mut self, phase: &str, limit: Duration) -> Result<Instant> {
        let (mut end, mut reason) = (String::new(), String::new());
        let at = self.until(limit, |one| {
            let over = ["healthy", "degraded"].contains(&one.phase.as_str());
            if over {
                (end, reason) = (one.phase.clone(), one.reason.clone());
            }
            over
        })?;
        if end != phase {
            bail!("{end} instead of {phase}: {reason}");
        }
        Ok(at)
    }

    /// What happened to the service, oldest first.
    pub(super) fn events(&mut self) -> Result<Vec<v1::Event>> {
        Ok(self.runtime.block_on(self.remote.history(&self.service))?.events)
    }
}

impl Debug for Follower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follower").field("revision", &self.revision).finish_non_exhaustive()
    }
}
