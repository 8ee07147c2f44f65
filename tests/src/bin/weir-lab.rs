//! `cargo xtask lab`: the lab with a running agent and four services, until Ctrl-C.

#![forbid(unsafe_code)]

use std::env;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use weir::model::AttachMode;
use weir_tests::agent::{self, Agent, AgentOptions};
use weir_tests::identity::Version;
use weir_tests::interrupt::Interrupt;
use weir_tests::lab::addresses::{CLIENT_SIDE, ECHO_PORT, Family, HTTP_PORT, vip};
use weir_tests::lab::spec::{Protocol, ServiceSpec, yaml};
use weir_tests::lab::{Lab, LabBuilder, Offloads};
use weir_tests::load::fresh::{Close, Fresh, FreshPlan};

/// Brings up clients, a balancer with a running agent, and backends of three versions, and prints
/// commands to try. Needs root; Ctrl-C removes everything.
#[derive(Debug, Parser)]
#[command(name = "weir-lab", bin_name = "cargo xtask lab --")]
struct Arguments {
    /// How the program is attached: auto, tc, xdp or xdp-generic
    #[arg(long, default_value = "auto")]
    mode: AttachMode,
    /// New connections to `web` a second, as long as the lab is up
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=5_000))]
    traffic: u32,
    /// Backends in each version
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=50))]
    backends: u8,
    /// Check the health of the backends of `web`
    #[arg(long)]
    health: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let interrupt = Interrupt::install()?;
    let outcome = stay(&arguments, &interrupt);
    if outcome.is_err() && interrupt.wait(Duration::ZERO) {
        // What it was doing has met the signal too.
        println!("\ninterrupted: everything is removed");
        return Ok(());
    }
    outcome
}

fn stay(arguments: &Arguments, interrupt: &Interrupt) -> Result<()> {
    let mode = arguments.mode;
    let binary = agent::binary()?;
    println!("building the lab ...");
    let offloads = match mode {
        AttachMode::Auto | AttachMode::Tc => Offloads::On,
        AttachMode::Xdp | AttachMode::XdpGeneric => Offloads::Off,
    };
    let lab = LabBuilder::new().offloads(offloads).backends(arguments.backends).start()?;
    println!("starting the agent ...");
    let options = AgentOptions::new(&lab).binary(&binary).mode(mode.name());
    let agent = Agent::start(&lab, &options)?;
    let file = lab.directory().join("services.yaml");
    fs::write(&file, yaml(&services(&lab, arguments.health)))
        .with_context(|| format!("writing {}", file.display()))?;
    print!("{}", lab.weir(&["apply", "-f", &file.to_string_lossy()])?);

    let target = SocketAddr::new(vip(Family::V4, 0), HTTP_PORT);
    let plan = FreshPlan::new(target, lab.client_addresses(Family::V4)).close(Close::Reset);
    let traffic = match arguments.traffic {
        0 => None,
        rate => Some(Fresh::start(lab.clients(), plan.rate(rate))?),
    };
    println!("{}", guide(&lab, binary.parent().unwrap_or(Path::new("."))));
    while !interrupt.wait(Duration::from_secs(3600)) {}
    println!("\ncleaning up ...");
    if let Some(traffic) = traffic {
        println!("traffic: {}", traffic.stop()?);
    }
    agent.stop()?;
    Ok(())
}

fn services(lab: &Lab, health: bool) -> Vec<ServiceSpec> {
    let at = |family, port| SocketAddr::new(vip(family, 0), port);
    let weights = [9_500, 0, 500];
    let mut web = lab.service("web", at(Family::V4, HTTP_PORT), Protocol::Tcp).weights(weights);
    if health {
        web = web.with("health: { type: http, interval: 500ms, rise: 1, fall: 2 }");
    }
    vec![
        web,
        lab.service("web6", at(Family::V6, HTTP_PORT), Protocol::Tcp).weights(weights),
        lab.service("echo", at(Family::V4, ECHO_PORT), Protocol::Tcp).weights(weights),
        lab.service("echo-udp", at(Family::V4, ECHO_PORT), Protocol::Udp).weights(weights),
    ]
}

/// Commands that work as they are printed, in any order.
fn guide(lab: &Lab, binaries: &Path) -> String {
    let (web, web6) = (vip(Family::V4, 0), vip(Family::V6, 0));
    let (clients, lb) = (lab.clients().name(), lab.lb().name());
    let [blue, green, canary] = Version::ALL.map(|version| lab.version(version).name());
    let (socket, directory) = (agent::socket(lab), lab.directory().display());
    let (socket, binaries) = (socket.display(), binaries.display());
    let shift = r#"{"shifts": [{"service": "web", "set": [{"version": "VERSION_GREEN", "weight_bp": 5000}, {"version": "VERSION_CANARY", "weight_bp": 0}]}]}"#;
    format!(
        "
The lab is up: web, web6, echo and echo-udp, 95% blue and 5% canary. Files are in {directory}.
In another terminal, as root, begin with

  export WEIR_SOCKET={socket} PATH={binaries}:$PATH
  export WEIR_COORDINATOR=unix:{directory}/coordinator.sock WEIR_ROLLOUTS={directory}/rollouts
  export BLUE={blue} GREEN={green} CANARY={canary}

and try

  clients    ip netns exec {clients} curl http://{web}/
             ip netns exec {clients} curl 'http://[{web6}]/'
             for i in $(seq 100); do ip netns exec {clients} curl -s http://{web}/; done | sort | uniq -c
  weights    weir get
             weir shift web canary=25% green=0% --dry-run
             weir shift web canary=25% green=0%
             weir shift web,web6,echo,echo-udp green=100% canary=0%
  rollouts   weir rollout run docs/examples/canary.yaml      # docs/guide-canary.md
             ip -n $CANARY route add blackhole 10.50.0.0/16   # the canary is silent; `del` ends that
  counters   weir counters
             weir counters --watch
  agent      weir status
             tail -f {directory}/agent.log
  API        grpcurl -plaintext -unix {socket} list{}
             grpcurl -plaintext -unix -d '{shift}' {socket} weir.v1.Weir/ShiftWeights
  packets    ip netns exec {lb} tcpdump -ni {CLIENT_SIDE}{}

Ctrl-C here ends the agent and removes everything.",
        missing("grpcurl"),
        missing("tcpdump"),
    )
}

/// Says of a program that it is yet to be installed.
fn missing(program: &str) -> String {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).any(|directory| directory.join(program).is_file());
    if found { String::new() } else { format!("   # needs {program}") }
}
