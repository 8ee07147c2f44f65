//! What a real Prometheus makes of an agent under real traffic: the values are those of
//! `weir counters`, a restart is no reset, and the rules are good.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use weir::model::Version;
use weir::node::messages::{ServiceCounters, Traffic};
use weir_tests::lab::addresses::{Family, HTTP_PORT, vip};
use weir_tests::lab::spec::Protocol;
use weir_tests::lab::{Lab, LabBuilder};
use weir_tests::load::fresh::{Fresh, FreshPlan};
use weir_tests::node::{Mode, Node};
use weir_tests::pace;
use weir_tests::watch::prometheus::Prometheus;
use weir_tests::watch::{http, require};

/// How the counters are called at `/metrics`, in the order of [`Traffic::NAMES`].
const TOLD: [&str; 21] = [
    "connections_total{",
    "received_packets_total{",
    "received_bytes_total{",
    "sent_packets_total{",
    "sent_bytes_total{",
    "tracked_flows_total{",
    r#"fallback_packets_total{reason="full","#,
    r#"fallback_packets_total{reason="flood","#,
    "syn_retransmissions_total{",
    r#"handshakes_total{outcome="established","#,
    r#"handshakes_total{outcome="refused","#,
    r#"handshakes_total{outcome="unanswered","#,
    r#"handshakes_total{outcome="abandoned","#,
    r#"handshakes_total{outcome="lost","#,
    r#"resets_total{side="client","#,
    r#"resets_total{side="server","#,
    "early_resets_total{",
    r#"fins_total{side="client","#,
    r#"fins_total{side="server","#,
    "failing_clients_total{",
    "steered_connections_total{",
];

fn docs(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/prometheus").join(file)
}

fn target() -> SocketAddr {
    SocketAddr::new(vip(Family::V4, 0), HTTP_PORT)
}

/// Where the agent serves by default.
fn agent() -> SocketAddr {
    "127.0.0.1:9180".parse().unwrap()
}

fn node() -> Node {
    let mut node = Node::start(LabBuilder::new().clients(50), Mode::Tc, &[]).unwrap();
    let web = node.lab().service("web", target(), Protocol::Tcp).weights([7_500, 0, 2_500]);
    node.apply(&[web]).unwrap();
    assert_eq!(node.node_status().unwrap().http, Some(agent()));
    node
}

fn load(node: &Node, count: u64) {
    let plan = FreshPlan::new(target(), node.lab().client_addresses(Family::V4)).count(count);
    let counts = Fresh::start(node.lab().clients(), plan).unwrap().finish().unwrap();
    counts.check().unwrap();
}

/// Asks until there is no complaint, for `limit` at most.
fn until(limit: Duration, mut complaints: impl FnMut() -> Vec<String>) {
    let deadline = Instant::now() + pace::wait(limit);
    loop {
        let left = complaints();
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "{left:#?}");
        sleep(Duration::from_millis(250));
    }
}

/// What Prometheus has otherwise than the counters have it, of versions that there are.
fn differences(prometheus: &Prometheus, lab: &Lab, counters: &ServiceCounters) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut compare = |prefix: &str, labels: &str, traffic: &Traffic| {
        for ((name, told), value) in Traffic::NAMES.iter().zip(TOLD).zip(traffic.values()) {
            let query = format!("{prefix}{told}{labels}}}");
            #[allow(clippy::cast_precision_loss, reason = "counts of a test")]
            let value = value as f64;
            let there = prometheus.number(lab, &query).unwrap();
            if there != Some(value) {
                wrong.push(format!("{name} is {value}, {query} is {there:?}"));
            }
        }
    };
    for (version, counted) in counters.versions.iter() {
        let labels = format!(r#"service="web",version="{version}""#);
        compare("weir_", &labels, &counted.traffic);
        for backend in &counted.backends {
            let at = SocketAddr::new(backend.address, backend.port);
            let labels = format!(r#"{labels},backend="{at}""#);
            compare("weir_backend_", &labels, &backend.traffic);
        }
    }
    wrong
}

/// The counters, once all that is under way has been counted.
fn at_rest(node: &mut Node) -> ServiceCounters {
    let mut counters = node.counters("web").unwrap();
    until(Duration::from_secs(20), || {
        sleep(Duration::from_millis(500));
        let before = std::mem::replace(&mut counters, node.counters("web").unwrap());
        if before == counters { Vec::new() } else { vec!["packets come all the time".to_owned()] }
    });
    counters
}

/// Waits until Prometheus has these counters, and no less.
fn agree(prometheus: &Prometheus, node: &Node, counters: &ServiceCounters) {
    until(Duration::from_secs(20), || differences(prometheus, node.lab(), counters));
}

#[test]
fn prometheus_has_what_the_counters_say_and_tells_a_restart_from_a_reset() {
    let mut node = node();
    load(&node, 2_000);
    let rules = docs("weir.rules.yml").canonicalize().unwrap();
    let prometheus = Prometheus::start(node.lab(), agent(), &rules).unwrap();
    let number = |node: &Node, query: &str| prometheus.number(node.lab(), query).unwrap();
    let counters = at_rest(&mut node);
    assert!(counters.versions[Version::Canary].traffic.connections > 300, "{counters:?}");
    agree(&prometheus, &node, &counters);
    let asked = r#"weir_weight_asked_ratio{service="web",version="canary"}"#;
    assert_eq!(number(&node, asked), Some(0.25));
    let table = r#"weir_table_share_ratio{service="web",version="canary"}"#;
    assert_eq!(number(&node, table), Some(0.25));

    // An agent that is killed loses no counter, so Prometheus sees no reset.
    node.take_agent().unwrap().kill().unwrap();
    node.restart().unwrap();
    load(&node, 500);
    let more = at_rest(&mut node);
    agree(&prometheus, &node, &more);
    let resets = "max(resets(weir_connections_total[5m])) + max(resets(weir_sent_bytes_total[5m]))";
    assert_eq!(number(&node, resets), Some(0.0));
    let epochs = "changes(weir_counters_epoch_timestamp_seconds[5m])";
    assert_eq!(number(&node, epochs), Some(0.0));
    assert_eq!(number(&node, "changes(process_start_time_seconds{job=\"weir\"}[5m])"), Some(1.0));
    let grown = r#"sum(increase(weir_connections_total{service="web"}[5m]))"#;
    assert!(number(&node, grown).is_some_and(|grown| grown > 400.0));

    // One that is stopped takes the data plane with it: the next counts from 0, and says so.
    node.take_agent().unwrap().stop().unwrap();
    node.restart().unwrap();
    load(&node, 100);
    let anew = at_rest(&mut node);
    agree(&prometheus, &node, &anew);
    assert_eq!(number(&node, epochs), Some(1.0));
    assert!(number(&node, resets).is_some_and(|resets| resets >= 1.0));

    // It has taken the rules, and can work all of them out, which it does every quarter of a minute.
    until(Duration::from_secs(40), || {
        let rules = prometheus.api(node.lab(), "/api/v1/rules").unwrap();
        let groups = rules["data"]["groups"].as_array().unwrap();
        let all: Vec<_> =
            groups.iter().flat_map(|group| group["rules"].as_array().unwrap()).collect();
        assert!(all.len() > 20, "{rules}");
        let failed: Vec<_> = all.iter().filter(|rule| rule["health"] == "err").collect();
        assert!(failed.is_empty(), "{failed:#?}");
        let waits = all.iter().filter(|rule| rule["health"] != "ok");
        waits.map(ToString::to_string).collect()
    });
    let share = r#"service_version:weir_connections:share1m{service="web",version="canary"}"#;
    // Recorded every quarter of a minute.
    until(Duration::from_secs(40), || match number(&node, share) {
        Some(share) if (0.1..0.4).contains(&share) => Vec::new(),
        other => vec![format!("a share of {other:?} is recorded")],
    });
}

#[test]
fn the_text_is_as_promtool_wants_it() {
    require("promtool").unwrap();
    let node = node();
    load(&node, 100);
    let text = http::get(node.lab().lb(), agent(), "/metrics", "text/plain").unwrap();
    let file = node.lab().directory().join("metrics.txt");
    fs::write(&file, text).unwrap();
    let mut check = Command::new("promtool");
    check.args(["check", "metrics"]).stdin(File::open(&file).unwrap());
    let output = check.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.trim().is_empty(), "{said}");
}

#[test]
fn the_rules_are_as_promtool_wants_them() {
    require("promtool").unwrap();
    for arguments in
        [["check", "rules", "--lint=all", "--lint-fatal"].as_slice(), ["test", "rules"].as_slice()]
    {
        let file = if arguments[0] == "test" { "weir.rules.test.yml" } else { "weir.rules.yml" };
        let mut promtool = Command::new("promtool");
        let output = promtool.args(arguments).arg(docs(file)).output().unwrap();
        let said =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
    }
}
