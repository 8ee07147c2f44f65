//! `cargo xtask lab`: the lab with a running agent and four services, until Ctrl-C.

#![forbid(unsafe_code)]

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use weir_tests::agent::{self, Agent, AgentOptions};
use weir_tests::interrupt::Interrupt;
use weir_tests::lab::addresses::{ECHO_PORT, Family, HTTP_PORT, vip};
use weir_tests::lab::spec::{Protocol, ServiceSpec, yaml};
use weir_tests::lab::{Lab, LabBuilder};

fn main() -> Result<()> {
    let interrupt = Interrupt::install()?;
    let binary = agent::binary()?;
    println!("building the lab ...");
    let lab = LabBuilder::new().start()?;
    println!("starting the agent ...");
    let agent = Agent::start(&lab, &AgentOptions::new(&lab).binary(&binary))?;
    let file = lab.directory().join("services.yaml");
    fs::write(&file, yaml(&services(&lab)))
        .with_context(|| format!("writing {}", file.display()))?;
    let path = file.to_string_lossy();
    print!("{}", lab.weir(&["apply", "-f", &path])?);

    println!(
        "{}",
        guide(&lab, &format!("{} --socket {}", binary.display(), agent::socket(&lab).display()))
    );
    while !interrupt.wait(Duration::from_secs(3600)) {}
    println!("\ncleaning up ...");
    agent.stop()?;
    Ok(())
}

fn services(lab: &Lab) -> Vec<ServiceSpec> {
    let at = |family, port| SocketAddr::new(vip(family, 0), port);
    let weights = [9_500, 0, 500];
    vec![
        lab.service("web", at(Family::V4, HTTP_PORT), Protocol::Tcp).weights(weights),
        lab.service("web6", at(Family::V6, HTTP_PORT), Protocol::Tcp).weights(weights),
        lab.service("echo", at(Family::V4, ECHO_PORT), Protocol::Tcp).weights(weights),
        lab.service("echo-udp", at(Family::V4, ECHO_PORT), Protocol::Udp).weights(weights),
    ]
}

fn guide(lab: &Lab, weir: &str) -> String {
    let (web, web6) = (vip(Family::V4, 0), vip(Family::V6, 0));
    let (clients, lb) = (lab.clients().name(), lab.lb().name());
    let socket = agent::socket(lab).display().to_string();
    let directory = lab.directory().display();
    format!(
        "
The lab is up: web, web6, echo and echo-udp, 95% blue and 5% canary. Files are in {directory}.
In another terminal, as root:

  clients      ip netns exec {clients} curl http://{web}/
               ip netns exec {clients} curl 'http://[{web6}]/'
               for i in $(seq 100); do ip netns exec {clients} curl -s http://{web}/; done | sort | uniq -c
  weights      {weir} get
               {weir} shift web canary=25% --dry-run
               {weir} shift web canary=25%
               {weir} shift web green=100%
  counters     {weir} counters
               {weir} counters --watch
  the agent    {weir} status
               tail -f {directory}/agent.log
  the API      grpcurl -plaintext -unix {socket} list
  packets      ip netns exec {lb} tcpdump -ni cli0

Ctrl-C ends the agent and removes everything."
    )
}
