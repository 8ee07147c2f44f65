//! A release on an agent that is reached over TLS: the coordinator shows a certificate with the role
//! that it needs, and with less it is told so and nothing changes.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::time::{Duration, Instant};

use weir_tests::certificates::{Authority, Files};
use weir_tests::fleet::release::{SERVICE, at, served, shifts, small_lab, unbroken};
use weir_tests::fleet::{Coordinator, Fleet, Release};
use weir_tests::identity::Version::{Blue, Canary};
use weir_tests::lab::addresses::{Family, lb_for_clients};
use weir_tests::lab::spec::Protocol;

const LIMIT: Duration = Duration::from_secs(60);
const PORT: u16 = 9_443;

const SPEC: &str = "\
kind: Rollout
service: web
revision: v2
strategy:
  canary:
    steps:
      - setWeight: 20%
      - pause: { duration: 2s }
bake: 1s
drain: { idle: 1s, timeout: 2s }
";

/// A coordinator among the clients, which have a way to the agent's port. It has these options of TLS.
fn coordinator(fleet: &Fleet, role: &str, tls: &[String]) -> Coordinator {
    let host = lb_for_clients(Family::V4);
    let text = format!("agents:\n  - {{ name: lb1, address: \"https://{host}:{PORT}\" }}\n");
    let agents = fleet.write("agents.yaml", &text).unwrap();
    let state = fleet.directory().join(format!("rollouts-{role}"));
    let [agents, state] = [&agents, &state].map(|path| path.to_str().unwrap());
    let mut arguments = vec!["--agents", agents, "--state", state, "--name", role];
    arguments.extend(tls.iter().map(String::as_str));
    let clients = fleet.lab().clients();
    let coordinator = Coordinator::start_in(clients, fleet.directory(), role, &arguments).unwrap();
    coordinator.leads().unwrap();
    coordinator
}

#[test]
fn releases_go_over_tls_by_who_may_shift() {
    let host = lb_for_clients(Family::V4);
    let (files, authority) = (Files::new().unwrap(), Authority::new().unwrap());
    let ca = files.write("ca.pem", &authority.pem()).unwrap();
    // The options of one side, with a certificate for a name or an address and perhaps a role.
    let options = |name: &str, at: String, uri: Option<&str>| {
        let identity = authority.issue_to(name, &[at], uri).unwrap();
        let (certificate, key) = files.identity(name, &identity).unwrap();
        [("cert", &certificate), ("key", &key), ("ca", &ca)]
            .map(|(option, path)| format!("--tls-{option}={}", path.display()))
            .to_vec()
    };
    let [reader, shifter] = ["reader", "shifter"]
        .map(|role| options(role, format!("{role}.example"), Some(&format!("weir://role/{role}"))));
    let mut arguments = options("lb1", host.to_string(), None);
    arguments.push(format!("--listen={host}:{PORT}"));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let fleet = Fleet::start(1, small_lab(), &arguments).unwrap();
    fleet.apply(&[fleet.lab().service(SERVICE, at(0), Protocol::Tcp)]).unwrap();

    // Who may only look is refused by the agent, and says by whom and why.
    let reader = Release { coordinator: coordinator(&fleet, "reader", &reader), fleet };
    let long = reader.hold().unwrap();
    reader.run(SPEC).unwrap();
    let refused = |one: &serde_json::Value| one.to_string().contains("has the role reader");
    let rollout = reader.coordinator.wait(SERVICE, LIMIT, refused).unwrap();
    println!("{rollout:#}");
    assert_eq!(reader.weights(Blue).unwrap(), [10_000]);
    let Release { coordinator: reader, fleet } = reader;
    reader.kill().unwrap();

    let release = Release { coordinator: coordinator(&fleet, "shifter", &shifter), fleet };
    let load = release.load(100).unwrap();
    let began = Instant::now();
    release.run(SPEC).unwrap();
    release.ends("v2", "healthy", began, LIMIT).unwrap();
    assert_eq!(release.weights(Canary).unwrap(), [10_000]);
    assert_eq!(shifts(&release.fleet, 0).unwrap().len(), 2);
    let events = release.fleet.lab().weir(&["events", SERVICE, "-o", "json"]).unwrap();
    assert!(events.contains("shifter.example (shifter)"), "{events}");
    served(load).unwrap();
    unbroken(&long).unwrap();
}
