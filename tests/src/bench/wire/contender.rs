//! Ways from the clients to the backends, each in a lab of its own: rules and programs of one would
//! cost the others something, even where they do not use them.

use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, SocketAddr, TcpStream};

use anyhow::{Context as _, Result, bail};

use super::server::{self, PORT};
use crate::agent::{Agent, AgentOptions};
use crate::bench::crowd::Crowd;
use crate::bench::host::group_cpu;
use crate::bench::peer;
use crate::identity::Version;
use crate::lab::addresses::{self, Family};
use crate::lab::spec::{Protocol, ServiceSpec, yaml};
use crate::lab::{Lab, LabBuilder, Offloads, Task};
use crate::process::Process;

/// A way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To the backends' own addresses, by the balancer host's routes.
    Plain,
    /// weir, attached so, with this forwarding.
    Weir(&'static str, &'static str),
    /// iptables, a rule for each backend with a probability.
    Iptables,
    /// nftables, a hash of the connection.
    Nftables,
    /// IPVS, which takes backends in turn.
    Ipvs,
    /// `HAProxy`, which ends connections and begins others.
    HaProxy,
    /// nginx, likewise.
    Nginx,
}

impl Way {
    /// What it is called.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Plain => "plain routing".to_owned(),
            Self::Weir(hook, forwarding) => format!("weir {hook} {forwarding}"),
            Self::Iptables => "iptables statistic".to_owned(),
            Self::Nftables => "nftables jhash".to_owned(),
            Self::Ipvs => "IPVS rr".to_owned(),
            Self::HaProxy => "HAProxy tcp".to_owned(),
            Self::Nginx => "nginx stream".to_owned(),
        }
    }

    /// The program that it needs, and its package.
    fn needs(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Plain | Self::Weir(..) => None,
            Self::Iptables => Some(("iptables-restore", "iptables")),
            Self::Nftables => Some(("nft", "nftables")),
            Self::Ipvs => Some(("ipvsadm", "ipvsadm")),
            Self::HaProxy => Some(("haproxy", "haproxy")),
            Self::Nginx => Some(("nginx", "nginx-light and libnginx-mod-stream")),
        }
    }
}

/// A way that is set up. Fields drop in order: what runs in the lab before the lab.
pub(super) struct Contender {
    pub(super) way: Way,
    /// Where clients connect to.
    pub(super) targets: Vec<SocketAddr>,
    runs: Runs,
    _servers: Vec<Task<()>>,
    pub(super) lab: Lab,
}

enum Runs {
    Nothing,
    Agent(Agent),
    Peer(Process),
}

impl Contender {
    /// Sets it up with so many backends a version.
    ///
    /// # Errors
    ///
    /// It cannot be: a program or a feature of the kernel is missing.
    pub(super) fn start(way: Way, backends: u16, offloads: Offloads) -> Result<Self> {
        if let Some((program, package)) =
            way.needs().filter(|(program, _)| !peer::installed(program))
        {
            bail!("{program} is not installed (package {package})");
        }
        let lab = LabBuilder::new().clients(100).backends(1).families(&[Family::V4]);
        let lab = lab.offloads(offloads).direct().start()?;
        let crowd = Crowd::of(1, backends);
        Crowd::route(&lab)?;
        for version in Version::ALL {
            let network = Crowd::network(version.into());
            lab.version(version).ip(&[format!("route add local {network} dev lo")])?;
        }
        let servers = Version::ALL.map(|version| server::start(lab.version(version)));
        let servers = servers.into_iter().collect::<Result<_>>()?;
        let of = |version: Version| -> Vec<IpAddr> {
            crowd.addresses(0, version.into()).map(IpAddr::from).collect()
        };
        let by_version = Version::ALL.map(of);
        let all = by_version.concat();
        let vip: SocketAddr = (addresses::vip(Family::V4, 0), PORT).into();
        let mut targets = vec![vip];
        let runs = match way {
            Way::Plain => {
                targets = all.iter().map(|&ip| (ip, PORT).into()).collect();
                Runs::Nothing
            }
            Way::Weir(hook, forwarding) => {
                Runs::Agent(weir(&lab, vip, hook, forwarding, by_version)?)
            }
            Way::Iptables => iptables(&lab, vip, &all)?,
            Way::Nftables => nftables(&lab, vip, &all)?,
            Way::Ipvs => ipvs(&lab, vip, &all)?,
            Way::HaProxy => Runs::Peer(haproxy(&lab, vip, &all)?),
            Way::Nginx => Runs::Peer(nginx(&lab, vip, &all)?),
        };
        Ok(Self { way, targets, runs, _servers: servers, lab })
    }

    /// Time on processors of its own processes, in seconds. What the kernel does for it is done by
    /// those who send.
    pub(super) fn cpu(&self) -> Result<f64> {
        let group = match &self.runs {
            Runs::Nothing => return Ok(0.0),
            Runs::Agent(agent) => agent.pid(),
            Runs::Peer(peer) => peer.pid(),
        };
        Ok(group_cpu(group)?.as_secs_f64())
    }
}

fn weir(
    lab: &Lab,
    vip: SocketAddr,
    hook: &str,
    forwarding: &'static str,
    backends: [Vec<IpAddr>; 3],
) -> Result<Agent> {
    let options = AgentOptions::new(lab).mode(hook).argument("--http=off");
    let agent = Agent::start(lab, &options)?;
    let service = lab.service("bench", vip, Protocol::Tcp).forwarding(forwarding);
    let spec = yaml(&[ServiceSpec { backends, ..service.weights([3_334, 3_333, 3_333]) }]);
    // In the direct modes backends listen where clients connect to, and have no port of their own.
    let spec = match forwarding {
        "nat" => spec,
        _ => spec.replace(&format!("\", port: {PORT} }}\n"), "\" }\n"),
    };
    let file = lab.directory().join("bench.yaml");
    fs::write(&file, spec)?;
    lab.weir(&["apply", "-f", &file.to_string_lossy()])?;
    Ok(agent)
}

fn iptables(lab: &Lab, vip: SocketAddr, all: &[IpAddr]) -> Result<Runs> {
    let mut rules = String::from("*nat\n");
    for (index, backend) in all.iter().enumerate() {
        // Each of those that are left is as likely as the others.
        let left = u32::try_from(all.len() - index)?;
        let chance = match left {
            1 => String::new(),
            _ => format!("-m statistic --mode random --probability {:.8} ", 1.0 / f64::from(left)),
        };
        writeln!(
            rules,
            "-A PREROUTING -d {} -p tcp --dport {} {chance}-j DNAT --to-destination {backend}:{PORT}",
            vip.ip(),
            vip.port()
        )?;
    }
    rules.push_str("COMMIT\n");
    let file = lab.directory().join("rules.iptables");
    fs::write(&file, rules)?;
    lab.lb().exec("iptables-restore", &[&file.to_string_lossy()])?;
    Ok(Runs::Nothing)
}

fn nftables(lab: &Lab, vip: SocketAddr, all: &[IpAddr]) -> Result<Runs> {
    let map: Vec<String> = all.iter().enumerate().map(|(i, at)| format!("{i} : {at}")).collect();
    let rules = format!(
        "table ip bench {{\n  chain in {{\n    type nat hook prerouting priority dstnat;\n    \
         ip daddr {} tcp dport {} dnat to jhash ip saddr . tcp sport mod {} map {{ {} }}\n  }}\n}}\n",
        vip.ip(),
        vip.port(),
        all.len(),
        map.join(", ")
    );
    peer::nft(lab.lb(), lab.directory(), &rules)?;
    Ok(Runs::Nothing)
}

fn ipvs(lab: &Lab, vip: SocketAddr, all: &[IpAddr]) -> Result<Runs> {
    // It takes what is for an address of the host's own.
    lab.lb().ip(&[format!("address add {}/32 dev lo", vip.ip())])?;
    let vip = vip.to_string();
    lab.lb().exec("ipvsadm", &["--add-service", "--tcp-service", &vip, "--scheduler", "rr"])?;
    for backend in all {
        let backend = SocketAddr::from((*backend, PORT)).to_string();
        let add =
            ["--add-server", "--tcp-service", &vip, "--real-server", &backend, "--masquerading"];
        lab.lb().exec("ipvsadm", &add)?;
    }
    Ok(Runs::Nothing)
}

fn haproxy(lab: &Lab, vip: SocketAddr, all: &[IpAddr]) -> Result<Process> {
    let mut text = format!(
        "global\n  maxconn 5000\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 60s\n  \
         timeout server 60s\nlisten bench\n  bind {vip} backlog 16384\n  balance roundrobin\n"
    );
    for (index, backend) in all.iter().enumerate() {
        writeln!(text, "  server b{index} {backend}:{PORT}")?;
    }
    let file = lab.directory().join("haproxy.cfg");
    fs::write(&file, text)?;
    proxy(lab, vip, &["haproxy", "-db", "-f", &file.to_string_lossy()])
}

fn nginx(lab: &Lab, vip: SocketAddr, all: &[IpAddr]) -> Result<Process> {
    let directory = lab.directory().display();
    let mut text = format!(
        "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\ndaemon off;\nuser root;\n\
         worker_processes auto;\nworker_rlimit_nofile 65536;\npid {directory}/nginx.pid;\n\
         events {{ worker_connections 8192; }}\nstream {{\n  upstream bench {{\n"
    );
    for backend in all {
        writeln!(text, "    server {backend}:{PORT};")?;
    }
    writeln!(
        text,
        "  }}\n  server {{ listen {vip} backlog=16384; proxy_pass bench; tcp_nodelay on; }}\n}}"
    )?;
    let file = lab.directory().join("nginx.conf");
    fs::write(&file, text)?;
    proxy(lab, vip, &["nginx", "-e", "stderr", "-c", &file.to_string_lossy()])
}

/// Starts a program that has the address itself, and waits until it takes connections.
fn proxy(lab: &Lab, vip: SocketAddr, words: &[&str]) -> Result<Process> {
    lab.lb().ip(&[format!("address add {}/32 dev lo", vip.ip())])?;
    let (program, arguments) = words.split_first().context("no program")?;
    let log = lab.directory().join("peer.log");
    let mut peer = Process::start(lab.lb(), program, arguments, &log)?;
    peer.wait(|| lab.lb().inside(|| TcpStream::connect(vip).is_ok()).unwrap_or(false))
        .with_context(|| (*program).to_owned())?;
    Ok(peer)
}
