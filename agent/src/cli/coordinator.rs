//! `weir coordinator`

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::{Global, Tls, fail::Failure, log_args::LogArgs, rollout::At};
use crate::{
    api::{Ends, port::Port, socket},
    client::Address,
    log,
    model::Fence,
    observe::{self, Listen},
    rollout::{
        api::serve,
        external::Http,
        fleet::agents::{self, Agent},
        ledger::{self, StateStore, etcd::EtcdStore, file::FileStore},
        name::AgentName,
        observe as rollout_page,
        run::{self, Options, record::Record},
    },
};

/// Run the coordinator: it carries out rollouts over the agents of a file, until SIGTERM or Ctrl-C.
/// Several with one etcd stand in for each other.
#[derive(Debug, Args)]
#[command(after_help = "\
The agents file:
  agents:
    - { name: lb1, address: \"unix:/run/weir/weir.sock\" }
    - { name: lb2, address: \"https://10.0.0.2:7443\" }

Examples:
  weir coordinator
  weir coordinator --agents agents.yaml
  weir coordinator --agents agents.yaml --etcd http://10.0.0.5:2379 --name a")]
pub(super) struct Coordinator {
    /// The agents that it works with, instead of the one of this host.
    #[arg(long, value_name = "FILE")]
    agents: Option<PathBuf>,
    #[command(flatten)]
    state: StateArgs,
    #[command(flatten)]
    at: At,
    /// Serve the API on this port too, over mutual TLS.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// Serve a page for people (/), the rollouts (/rollouts) and series for Prometheus (/metrics) here, read-only,
    /// over HTTP without any protection; or `off`.
    #[arg(long, default_value = rollout_page::DEFAULT, value_name = "ADDRESS:PORT")]
    http: Listen,
    /// Let --http be an address that other hosts can reach. Whoever reaches it can read names and counters.
    #[arg(long)]
    http_anywhere: bool,
    /// Append what is judged to this file, as lines that `weir rollout replay` reads; at most 1 GiB.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// What it is called in event logs and when it leads; the name of the host unless said otherwise.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    log: LogArgs,
}

/// Where the states of rollouts are kept.
#[derive(Debug, Clone, Args)]
pub(super) struct StateArgs {
    /// Keep the states of rollouts in this directory.
    #[arg(
        long,
        env = "WEIR_ROLLOUTS",
        hide_env_values = true,
        default_value = "/var/lib/weir/rollouts",
        conflicts_with = "etcd",
        value_name = "DIR"
    )]
    state: PathBuf,
    /// Keep them in etcd instead; repeat for each member of the cluster.
    #[arg(long, value_name = "URL")]
    etcd: Vec<String>,
    /// With --etcd, the prefix of all keys.
    #[arg(long, requires = "etcd", default_value = "/weir/", value_name = "PREFIX")]
    etcd_prefix: String,
    /// With --etcd, how long a leader that says nothing still leads.
    #[arg(
        long,
        requires = "etcd",
        default_value = "5s",
        value_name = "TIME",
        value_parser = humantime::parse_duration
    )]
    etcd_lease: Duration,
}

impl StateArgs {
    /// Opens the store.
    pub(super) fn open(&self, name: &str) -> Result<Arc<dyn StateStore>, Failure> {
        let failed = |error: ledger::Error| Failure::Failed(error.to_string());
        let name = name.to_owned();
        if self.etcd.is_empty() {
            let directory = self.state.clone();
            let options = ledger::file::Options { directory, name };
            return Ok(Arc::new(FileStore::open(options).map_err(failed)?));
        }
        let mut options = ledger::etcd::Options::new(self.etcd.clone(), name);
        (options.prefix, options.lease) = (self.etcd_prefix.clone(), self.etcd_lease);
        Ok(Arc::new(EtcdStore::new(options).map_err(failed)?))
    }
}

impl Coordinator {
    pub(super) fn run(self, global: &Global) -> Result<(), Failure> {
        let tls = &global.tls;
        let agents = fleet(global, self.agents.as_deref())?;
        let Address::Unix(socket) = self.at.address(tls)? else {
            return Err(Failure::Usage(
                "--coordinator is where it listens on this host: unix:PATH; for TCP there is --listen".to_owned(),
            ));
        };
        let listen = self.listen.map(|address| tls.listen(address)).transpose()?;
        let name = self.name.unwrap_or_else(host_name);
        Fence::new(&name, 1)
            .map_err(|wrong| Failure::Usage(format!("--name: the fence {wrong}")))?;
        let store = self.state.open(&name)?;
        let http_at = self.http.allowed(self.http_anywhere).map_err(Failure::Usage)?;
        let record = self.record.as_deref().map(Record::open).transpose()?;
        log::start(self.log.log_format, self.log.log);
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut terminate = signal(SignalKind::terminate())?;
            let mut interrupt = signal(SignalKind::interrupt())?;
            let bound = socket::bind(&socket);
            let (listener, guard) = bound.map_err(|error| Failure::Failed(error.to_string()))?;
            let port = listen.map(|(address, files)| Port::bind(address, files)).transpose();
            let port = port.map_err(|error| Failure::Failed(error.to_string()))?;
            tracing::info!(socket = %socket.display(), agents = agents.len(), "serving");
            let coordinator =
                run::Coordinator::start(Options { name, agents, store, http: http()?, record });
            let (bound, warning) = observe::bind(http_at);
            if let Some(warning) = warning {
                tracing::warn!("{warning}");
            }
            let _page = bound.map(|bound| rollout_page::serve(bound, coordinator.clone()));
            let shutdown = async move {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                tracing::info!("stopping");
            };
            let served = serve(
                Ends { socket: listener, guard: &guard, port },
                coordinator.clone(),
                shutdown,
            )
            .await;
            coordinator.stop().await;
            served.map_err(|error| Failure::Failed(error.to_string()))
        })
    }
}

/// The agents of a file, or the one that every verb speaks to.
pub(super) fn fleet(global: &Global, agents: Option<&Path>) -> Result<Vec<Agent>, Failure> {
    if let Some(file) = agents {
        return read_agents(file, &global.tls);
    }
    let name = AgentName::new("local").map_err(Failure::Failed)?;
    Ok(vec![Agent { name, address: global.agent()? }])
}

/// Reads an agents file.
pub(super) fn read_agents(file: &Path, tls: &Tls) -> Result<Vec<Agent>, Failure> {
    let text = fs::read_to_string(file)
        .map_err(|error| Failure::Failed(format!("{}: {error}", file.display())))?;
    agents::parse(&text, tls.files().as_ref())
        .map_err(|wrong| Failure::Refused(format!("{}: {wrong}", file.display())))
}

/// How hooks and other systems are asked.
pub(super) fn http() -> Result<Http, Failure> {
    Http::new(None).map_err(Failure::Failed)
}

/// The name of this host.
pub(super) fn host_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "coordinator".to_owned() } else { name.to_owned() }
}
