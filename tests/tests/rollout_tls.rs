//! A release on an agent that is reached over TLS: the coordinator shows a certificate with the role
//! that it needs, and with less it is told so and nothing changes.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use weir_tests::certificates::{Authority, Identity};
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

/// Certificates as files.
struct Files {
    directory: TempDir,
    authority: Authority,
}

impl Files {
    fn new() -> Self {
        let (directory, authority) = (TempDir::new().unwrap(), Authority::new().unwrap());
        fs::write(directory.path().join("ca.pem"), authority.pem()).unwrap();
        Self { directory, authority }
    }

    fn keep(&self, name: &str, identity: &Identity) {
        self.keep_at(name, "pem", &identity.certificate);
        self.keep_at(name, "key", &identity.key);
    }

    fn keep_at(&self, name: &str, extension: &str, text: &str) {
        fs::write(self.path(name, extension), text).unwrap();
    }

    fn path(&self, name: &str, extension: &str) -> PathBuf {
        self.directory.path().join(format!("{name}.{extension}"))
    }

    /// The options that name this side's files.
    fn options(&self, name: &str) -> Vec<String> {
        let option = |option: &str, path: &Path| format!("--{option}={}", path.display());
        vec![
            option("tls-cert", &self.path(name, "pem")),
            option("tls-key", &self.path(name, "key")),
            option("tls-ca", &self.path("ca", "pem")),
        ]
    }
}

/// A coordinator among the clients, which have a way to the agent's port.
fn coordinator(fleet: &Fleet, files: &Files, role: &str) -> Coordinator {
    let host = lb_for_clients(Family::V4);
    let text = format!("agents:\n  - {{ name: lb1, address: \"https://{host}:{PORT}\" }}\n");
    let agents = fleet.write("agents.yaml", &text).unwrap();
    let state = fleet.directory().join(format!("rollouts-{role}"));
    let [agents, state] = [&agents, &state].map(|path| path.to_str().unwrap().to_owned());
    let name = role.to_owned();
    let mut arguments: Vec<String> =
        ["--agents", &agents, "--state", &state, "--name", &name].map(str::to_owned).into();
    arguments.extend(files.options(role));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let clients = fleet.lab().clients();
    let coordinator = Coordinator::start_in(clients, fleet.directory(), role, &arguments).unwrap();
    coordinator.leads().unwrap();
    coordinator
}

#[test]
fn releases_go_over_tls_by_who_may_shift() {
    let host = lb_for_clients(Family::V4);
    let files = Files::new();
    files.keep("agent", &files.authority.issue_to("lb1", &[host.to_string()], None).unwrap());
    for role in ["reader", "shifter"] {
        let uri = format!("weir://role/{role}");
        let identity = files.authority.issue_to(role, &[format!("{role}.example")], Some(&uri));
        files.keep(role, &identity.unwrap());
    }
    let mut arguments = files.options("agent");
    arguments.push(format!("--listen={host}:{PORT}"));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let fleet = Fleet::start(1, small_lab(), &arguments).unwrap();
    fleet.apply(&[fleet.lab().service(SERVICE, at(0), Protocol::Tcp)]).unwrap();

    // Who may only look is refused by the agent, and says by whom and why.
    let reader = Release { coordinator: coordinator(&fleet, &files, "reader"), fleet };
    let long = reader.hold().unwrap();
    reader.run(SPEC).unwrap();
    let refused = |one: &serde_json::Value| one.to_string().contains("has the role reader");
    let rollout = reader.coordinator.wait(SERVICE, LIMIT, refused).unwrap();
    println!("{rollout:#}");
    assert_eq!(reader.weights(Blue).unwrap(), [10_000]);
    let Release { coordinator: reader, fleet } = reader;
    reader.kill().unwrap();

    let release = Release { coordinator: coordinator(&fleet, &files, "shifter"), fleet };
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
