//! `weir get`

use std::fmt::Write as _;
use std::time::Duration;

use clap::Args;
use comfy_table::Cell;

use super::{
    fail::Failure,
    figures::{count, interval, long_time, observed, short_time, table_share},
    output::{Output, print, yaml},
    table::{
        Side::{Left, Right},
        Table, dim, text, version, warning,
    },
};
use crate::{
    client::Client,
    model::{
        Agreement, BackendState, SampleRatio, ServiceName, SpecFile, Version,
        spec::{CheckType, HealthSpec},
    },
    node::messages::{BackendHealth, NextHop, ServiceStatus, VersionStatus},
};

/// Show services: the weights asked for, the shares of the table, the shares observed.
#[derive(Debug, Args)]
pub(super) struct Get {
    /// One service, with its backends; without it, all services.
    #[arg(value_name = "SERVICE", value_parser = ServiceName::new)]
    service: Option<ServiceName>,
    /// Print the file that `weir apply` would make the same of.
    #[arg(long)]
    spec: bool,
}

impl Get {
    pub(super) async fn run(self, mut client: Client, output: Output) -> Result<(), Failure> {
        let services = match &self.service {
            Some(name) => vec![client.get(name).await?],
            None => client.list().await?,
        };
        if self.spec {
            let services = services.into_iter().map(|status| status.spec).collect();
            return print(&yaml(&SpecFile { services })?);
        }
        match (self.service, services.as_slice()) {
            (Some(_), [only]) => output.answer(only, render_one),
            _ => output.answer(&services, |services, colour| render_all(services, colour)),
        }
    }
}

/// Whether a version has anything to show.
fn in_use(status: &VersionStatus) -> bool {
    status.asked.bp() > 0 || status.table.slots > 0 || !status.backends.is_empty()
}

/// One line a version.
fn render_all(services: &[ServiceStatus], colour: bool) -> String {
    if services.is_empty() {
        return "no services; `weir apply -f FILE` makes some\n".to_owned();
    }
    let steered = services
        .iter()
        .any(|service| service.versions.iter().any(|(_, status)| status.observed.steered > 0));
    let mut columns = vec![
        ("SERVICE", Left),
        ("GEN", Right),
        ("VERSION", Left),
        ("RELEASE", Left),
        ("ASKED", Right),
        ("TABLE", Right),
        ("OBSERVED", Right),
        ("99.9% INTERVAL", Right),
        ("CONNECTIONS", Right),
        ("SHARES", Left),
        ("BACKENDS", Right),
    ];
    if steered {
        columns.push(("STEERED", Right));
    }
    let mut table = Table::new(&columns, colour);
    for service in services {
        let mut first = true;
        for (name, status) in service.versions.iter().filter(|(_, status)| in_use(status)) {
            let active = status
                .backends
                .iter()
                .filter(|backend| backend.state == BackendState::Active)
                .count();
            let all = status.backends.len();
            let cells = [
                text(if first { service.spec.name.as_str() } else { "" }),
                text(if first { service.generation.to_string() } else { String::new() }),
                version(name),
                text(&status.release),
                text(status.asked),
                text(table_share(status.table)),
                text(observed(status.observed)),
                dim(interval(status.observed)),
                text(count(status.observed.connections)),
                if first { shares(&service.sample_ratio) } else { text("") },
                if active == all { text(all) } else { warning(format!("{active} of {all}")) },
            ];
            let led = steered.then(|| dim(count(status.observed.steered)));
            table.row(cells.into_iter().chain(led));
            first = false;
        }
    }
    table.render()
}

/// `agree`, `differ`, or how many connections it takes yet.
fn shares(ratio: &SampleRatio) -> Cell {
    match ratio.agreement {
        Agreement::Agrees => text("agree"),
        Agreement::Differs => warning("differ"),
        Agreement::TooFew => dim(format!("{} more", count(ratio.missing()))),
        Agreement::NotJudged => dim("-"),
    }
}

/// Everything about one service.
fn render_one(service: &ServiceStatus, colour: bool) -> String {
    let spec = &service.spec;
    let listeners: Vec<String> = spec
        .listeners
        .iter()
        .map(|listener| {
            let brackets = listener.address.contains(':');
            let (open, close) = if brackets { ("[", "]") } else { ("", "") };
            format!("{open}{}{close}:{}/{}", listener.address, listener.port, listener.protocol)
        })
        .collect();
    let mut lines = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(lines, "service     {}, generation {}", spec.name, service.generation);
    let _ = writeln!(lines, "listeners   {}", listeners.join(", "));
    let _ = writeln!(lines, "forwarding  {}, affinity {}", spec.forwarding, spec.affinity);
    if !spec.udp.is_default() {
        let _ = writeln!(lines, "udp         {}", spec.udp);
    }
    if !spec.signals.is_default() {
        let _ = writeln!(lines, "signals     {}", spec.signals);
    }
    if let Some(health) = &spec.health {
        let _ = writeln!(lines, "health      {}", check(health));
    }
    if !spec.steering.is_empty() {
        let rules = count(spec.steering.len() as u64);
        let _ = writeln!(lines, "steering    {rules} rules");
    }
    let asked = service.versions.iter().map(|(version, status)| (version, status.asked));
    if !service.settled.iter().eq(asked) {
        let _ = writeln!(lines, "rollback    to {}", service.settled);
    }
    if let Some(fence) = &service.fence {
        let _ = writeln!(lines, "fence       {fence}, of the last rollout");
    }
    if let Some(guard) = &service.guard {
        let _ = writeln!(lines, "guard       {}", super::guard::line(guard));
    }
    if let Some(lease) = &service.lease {
        let _ = writeln!(lines, "lease       {lease}; renew it with `weir renew {}`", spec.name);
    }
    let _ = writeln!(lines, "digest      {}\n", service.digest);
    lines.push_str(&render_all(std::slice::from_ref(service), colour));
    lines.push('\n');
    lines.push_str(&render_backends(service, colour));
    lines
}

fn render_backends(service: &ServiceStatus, colour: bool) -> String {
    let mut columns = vec![
        ("VERSION", Left),
        ("BACKEND", Left),
        ("WEIGHT", Right),
        ("STATE", Left),
        ("SLOTS", Right),
        ("CONNECTIONS", Right),
        ("NEXT HOP", Left),
    ];
    if service.spec.health.is_some() {
        columns.push(("HEALTH", Left));
    }
    let mut table = Table::new(&columns, colour);
    let all = service
        .versions
        .iter()
        .flat_map(|(version, status)| status.backends.iter().map(move |one| (version, one)));
    for (name, backend) in all {
        let name: Version = name;
        let cells = [
            version(name),
            text(std::net::SocketAddr::new(backend.address, backend.port)),
            text(backend.weight),
            match backend.state {
                BackendState::Active => text("active"),
                BackendState::Draining => warning("draining"),
                BackendState::Down => warning("down"),
            },
            text(count(backend.slots.into())),
            text(count(backend.connections)),
            match &backend.next_hop {
                NextHop::Resolved { interface } => text(interface),
                NextHop::Unresolved => warning("unresolved"),
            },
        ];
        table.row(cells.into_iter().chain(backend.health.as_ref().map(health)));
    }
    if table.is_empty() { "no backends\n".to_owned() } else { table.render() }
}

/// `http :8080/healthz, every 2s`
fn check(spec: &HealthSpec) -> String {
    let port = spec.port.map(|port| format!(" port {port}")).unwrap_or_default();
    let (kind, what) = match spec.kind {
        CheckType::Tcp => ("tcp", None),
        CheckType::Http => ("http", Some(spec.path.as_deref().unwrap_or("/"))),
        CheckType::Grpc => ("grpc", spec.service.as_deref()),
    };
    let what = what.map(|what| format!(" {what}")).unwrap_or_default();
    format!("{kind}{port}{what}, every {}", spec.interval.as_deref().unwrap_or("2s"))
}

/// `down for 42s: connection refused; 1 of 2 good; next check in 1.2 s`
fn health(health: &BackendHealth) -> Cell {
    let since = long_time(health.since.elapsed().unwrap_or_default());
    let BackendHealth { failing, against, needed, .. } = *health;
    let error = health.error.as_deref().map(|error| format!(": {error}")).unwrap_or_default();
    let row = match (against, failing) {
        (0, false) => String::new(),
        (_, true) => format!("; {against} of {needed} good"),
        (_, false) => format!("; {against} of {needed} bad"),
    };
    let next = health.next_check_ms.map_or_else(
        || "being checked".to_owned(),
        |next| format!("next check in {}", short_time(Duration::from_millis(next))),
    );
    let line = format!("{} for {since}{error}{row}; {next}", if failing { "down" } else { "up" });
    if failing || against > 0 { warning(line) } else { text(format!("up for {since}{error}")) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::{
        model::{Observed, OnExpiry, PerVersion, TableShare, Weight, Weights},
        node::messages::{BackendStatus, LeaseStatus},
    };

    /// A service in the middle of a drain: one backend leaves, the other's way is not known.
    fn draining() -> ServiceStatus {
        let file = "services: [{ name: v6, listeners: [{ address: fd00::1, port: 53, protocol: udp }], versions: {} }]";
        let backend = |last: u16, state, next_hop| BackendStatus {
            address: std::net::Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last).into(),
            port: 53,
            weight: 100,
            state,
            slots: 512,
            connections: 1_234_567,
            next_hop,
            health: None,
        };
        let nothing = || VersionStatus {
            release: String::new(),
            asked: Weight::ZERO,
            table: TableShare::default(),
            observed: Observed::default(),
            backends: Vec::new(),
        };
        let mut versions = PerVersion::from_fn(|_| nothing());
        versions[Version::Blue] = VersionStatus {
            asked: Weight::FULL,
            backends: vec![
                backend(2, BackendState::Draining, NextHop::Resolved { interface: "eth1".into() }),
                backend(3, BackendState::Active, NextHop::Unresolved),
            ],
            ..nothing()
        };
        let spec = SpecFile::parse(file).unwrap().services.remove(0);
        let settled = Weights::all_to(Version::Blue);
        let (digest, lease) = ("ab".into(), None);
        let sample_ratio = SampleRatio { needed: 32, ..SampleRatio::default() };
        ServiceStatus {
            spec,
            generation: 12,
            digest,
            versions,
            sample_ratio,
            settled,
            lease,
            fence: None,
            guard: None,
        }
    }

    #[test]
    fn what_drains_and_what_is_unresolved_is_shown() {
        assert_eq!(
            render_one(&draining(), false),
            "\
service     v6, generation 12
listeners   [fd00::1]:53/udp
forwarding  nat, affinity connection
digest      ab

SERVICE  GEN  VERSION  RELEASE  ASKED  TABLE  OBSERVED  99.9% INTERVAL  CONNECTIONS  SHARES   BACKENDS
v6        12  blue               100%      -         -               -            0  32 more    1 of 2

VERSION  BACKEND       WEIGHT  STATE     SLOTS  CONNECTIONS  NEXT HOP
blue     [fd00::2]:53     100  draining    512    1 234 567  eth1
blue     [fd00::3]:53     100  active      512    1 234 567  unresolved
"
        );
    }

    #[test]
    fn what_would_be_rolled_back_and_the_lease_are_shown() {
        let lease = LeaseStatus {
            left: Duration::from_millis(41_900),
            deadline: SystemTime::UNIX_EPOCH,
            length: "60s".parse().unwrap(),
            on_expiry: OnExpiry::Revert,
            revert_to: Weights::all_to(Version::Canary),
        };
        let settled = Weights::all_to(Version::Green);
        let text = render_one(&ServiceStatus { settled, lease: Some(lease), ..draining() }, false);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[3..5],
            [
                "rollback    to green 100%",
                "lease       42s left of 1m, then back to canary 100%; renew it with `weir renew v6`",
            ]
        );
    }

    #[test]
    fn what_checks_find_is_shown() {
        let mut service = draining();
        let spec = HealthSpec { path: Some("/healthz".into()), ..HealthSpec::new(CheckType::Http) };
        service.spec.health = Some(spec);
        let ago = |seconds| std::time::SystemTime::now() - Duration::from_secs(seconds);
        let up = BackendHealth {
            failing: false,
            since: ago(3_660),
            error: None,
            against: 0,
            needed: 3,
            next_check_ms: None,
        };
        let down = BackendHealth {
            failing: true,
            since: ago(42),
            error: Some("connection refused".into()),
            next_check_ms: Some(1_234),
            ..up.clone()
        };
        let backends = &mut service.versions[Version::Blue].backends;
        backends[0].health = Some(up);
        (backends[1].health, backends[1].state) = (Some(down), BackendState::Down);
        let shown = render_one(&service, false);
        for line in [
            "health      http /healthz, every 2s\n",
            "eth1        up for 1h 1m\n",
            "unresolved  down for 42s: connection refused; 0 of 3 good; next check in 1.2 s\n",
        ] {
            assert!(shown.contains(line), "{shown}");
        }
    }

    #[test]
    fn colour_changes_nothing_but_colour() {
        let plain = render_one(&draining(), false);
        let coloured = render_one(&draining(), true);
        assert_ne!(coloured, plain);
        let mut stripped = String::new();
        let mut rest = coloured.as_str();
        while let Some((text, code)) = rest.split_once('\x1b') {
            stripped.push_str(text);
            rest = code.split_once('m').unwrap().1;
        }
        stripped.push_str(rest);
        let trimmed =
            |text: &str| text.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>();
        assert_eq!(trimmed(&stripped), trimmed(&plain));
    }
}
