//! `weir agent`

use std::{
    collections::HashSet,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use clap::Args;

use super::{fail::Failure, log_args::LogArgs};
use crate::{
    agent::{self, DEFAULT_BPFFS, OnExit, Options},
    dataplane::kernel::BpfLog,
    model::InterfaceSpec,
    node::DEFAULT_IDLE,
    observe::{self, Listen},
    outer_source,
    tls::Files,
};

/// Run the agent of this host, until SIGTERM or Ctrl-C.
#[derive(Debug, Args)]
pub(super) struct Agent {
    /// Attach to this interface; repeat for more. MODE is xdp (native), xdp-generic or tc; without it, native XDP
    /// where the driver has it, and tc on veth and other virtual devices. Of a bond or a bridge, name the master
    /// rather than its ports.
    #[arg(short, long = "interface", required = true, value_name = "NAME[:MODE]")]
    interfaces: Vec<InterfaceSpec>,
    /// Serve the API at this TCP address and port too, with mutual TLS: by the certificate in --tls-cert and
    /// --tls-key, to clients with a certificate of an authority in --tls-ca that names a role (docs/tls.md).
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// Keep the desired state here.
    #[arg(long, default_value = "/var/lib/weir", value_name = "DIR")]
    state_dir: PathBuf,
    /// Flows that the flow table has room for: it takes 110 bytes of memory for each. Only flows in slots that moved
    /// are kept in it; those that find no room keep to where they were, and new ones go there too.
    #[arg(long, default_value_t = 1 << 20, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1 << 26))]
    flows: u32,
    /// Pin the data plane here, in a BPF file system, so that it outlives the agent: when it is killed, forwarding goes
    /// on, and the next agent takes up every flow and counter.
    #[arg(long, default_value = DEFAULT_BPFFS, value_name = "DIR")]
    bpffs: PathBuf,
    /// What becomes of the data plane when the agent stops cleanly.
    #[arg(long, value_enum, default_value_t, value_name = "WHAT")]
    on_exit: OnExit,
    /// How many seconds a connection may be silent without being forgotten. A shift has settled when this has passed
    /// since the slots moved last.
    #[arg(long, default_value_t = DEFAULT_IDLE, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    drain_idle: u32,
    /// Send packets in tunnels (dsr-ipip, dsr-gue) from this address; give one of each family at most. Without it, the
    /// first global address of the attached interfaces, else of the host, that is not a /32 or /128.
    #[arg(long = "outer-source", value_name = "ADDRESS", value_parser = outer_source::parse)]
    outer_sources: Vec<IpAddr>,
    /// Serve metrics (/metrics), health (/healthz, /readyz) and a page for people (/) here, read-only, over HTTP
    /// without any protection; or `off`. If the port is taken the agent starts all the same, and says so.
    #[arg(long, default_value = observe::DEFAULT, value_name = "ADDRESS:PORT")]
    http: Listen,
    /// Let --http be an address that other hosts can reach. Whoever reaches it can read names, addresses and counters.
    #[arg(long)]
    http_anywhere: bool,
    #[command(flatten)]
    log: LogArgs,
    /// Which lines the program in the kernel adds to the log: none, or packets it drops though that should never be,
    /// or all packets it drops, or also flows it remembers. At off, the program has none of it and pays for none.
    #[arg(long, value_enum, default_value_t, value_name = "LEVEL")]
    bpf_log: BpfLog,
}

impl Agent {
    pub(super) fn run(self, socket: PathBuf, tls: Option<Files>) -> Result<(), Failure> {
        let mut names = HashSet::new();
        if let Some(twice) = self.interfaces.iter().find(|interface| !names.insert(&interface.name))
        {
            return Err(Failure::Usage(format!("--interface names {} twice", twice.name)));
        }
        let listen = match (self.listen, tls) {
            (None, _) => None,
            (Some(address), Some(files)) => Some((address, files)),
            (Some(address), None) => {
                return Err(Failure::Usage(format!(
                    "--listen {address} takes --tls-cert, --tls-key and --tls-ca: over TCP the API is served \
                     with mutual TLS only"
                )));
            }
        };
        let outer_source = outer_source::given(&self.outer_sources).map_err(Failure::Usage)?;
        let options = Options {
            interfaces: self.interfaces,
            socket,
            listen,
            state_dir: self.state_dir,
            flows: self.flows,
            bpffs: self.bpffs,
            on_exit: self.on_exit,
            drain_idle: self.drain_idle,
            outer_source,
            http: self.http.allowed(self.http_anywhere).map_err(Failure::Usage)?,
            log: self.log.log,
            log_format: self.log.log_format,
            bpf_log: self.bpf_log,
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        Ok(runtime.block_on(agent::run(options))?)
    }
}
