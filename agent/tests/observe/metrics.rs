//! What stands at `/metrics`.

use std::collections::BTreeSet;

use serde_json::Value;
use weir::observe::exposition::{Family, Format};
use weir::observe::families;

use crate::http::get_as;
use crate::live::Live;

const OPEN_METRICS: &str = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5";

/// A service with a label that must be escaped, and a version without anything.
const SHOP: &str = r#"services:
  - name: shop
    listeners: [{ address: 10.50.0.1, port: 80, protocol: tcp }]
    versions:
      blue: { release: 'v1 "old" \ first', weight: 95%, backends: [{ address: 10.60.0.1, port: 80 }, { address: 10.60.0.2, port: 80 }] }
      canary: { weight: 5%, backends: [{ address: 10.60.0.9, port: 80 }] }
"#;

async fn scrape(accept: &str) -> (String, String) {
    let node = Live::start(&[("lo", true), ("eth1", false)]);
    node.apply(SHOP).await;
    let answer = get_as(node.address, "/metrics", accept).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    (answer.field("content-type").unwrap().to_owned(), answer.body)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_family_is_told_once_with_its_meaning() {
    let (media, text) = scrape(OPEN_METRICS).await;
    assert_eq!(media, Format::OpenMetrics.media_type());
    assert!(text.ends_with("\n# EOF\n"));
    for family in families::ALL {
        let line = format!("# HELP {} {}\n", family.name, family.help);
        assert_eq!(text.matches(&line).count(), 1, "{line}");
    }
    assert_eq!(text.matches("# HELP").count(), families::ALL.len());
    // The samples of a family stand together, behind its TYPE.
    let mut seen = BTreeSet::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        assert!(seen.insert(line.split(' ').next().unwrap()), "{line} comes twice");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn values_and_labels() {
    let (_, text) = scrape(OPEN_METRICS).await;
    let of = r#"{service="shop",version="canary"#;
    for line in [
        format!("weir_connections_total{of}\"}} 0"),
        format!("weir_weight_asked_ratio{of}\"}} 0.05"),
        format!("weir_table_share_ratio{of}\"}} 0.04998779296875"),
        format!(r#"weir_backend_state{of}",backend="10.60.0.9:80",state="active"}} 1"#),
        format!(r#"weir_backend_table_share_ratio{of}",backend="10.60.0.9:80"}} 1"#),
        format!(r#"weir_handshakes_total{of}",outcome="refused"}} 0"#),
        format!(r#"weir_handshake_seconds_bucket{of}",le="0.000032768"}} 0"#),
        r#"weir_release_info{service="shop",version="blue",release="v1 \"old\" \\ first"} 1"#
            .into(),
        r#"weir_service_generation{service="shop"} 1"#.into(),
        r#"weir_verdict_packets_total{hook="xdp",verdict="drop",reason="no-backend"} 0"#.into(),
        r#"weir_interface_attached{interface="eth1",mode="none"} 0"#.into(),
        r#"weir_events_total{kind="created"} 1"#.into(),
        "weir_generation 1".into(),
    ] {
        assert!(text.lines().any(|one| one == line), "{line} is not in\n{text}");
    }
    assert!(!text.contains(r#"version="green""#), "there is no green");
    assert!(!text.contains("weir_observed_share_ratio{"), "nothing was observed");
    // Of a version since the epoch; of a backend it is not known since when.
    assert!(text.contains(&format!("weir_connections_created{of}\"}} ")));
    assert!(!text.contains("weir_backend_connections_created"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_ask_for_open_metrics_gets_the_older_format() {
    let (media, text) = scrape("text/plain").await;
    assert_eq!(media, Format::Prometheus.media_type());
    assert!(text.contains("# TYPE weir_connections_total counter\n"));
    assert!(text.contains("# TYPE weir_build_info gauge\n"));
    assert!(!text.contains("_created") && !text.contains("# EOF") && !text.contains("# UNIT"));
}

/// Words of an expression that are metrics of the agent or recorded ones.
fn words(expression: &str) -> impl Iterator<Item = &str> {
    let parts = expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'));
    parts.filter(|word| {
        word.contains(':') || word.starts_with("weir_") || word.starts_with("process_")
    })
}

/// The expressions of a file of rules, and the names that it records.
fn rules(yaml: &str) -> (Vec<String>, BTreeSet<String>) {
    let rules: Value = serde_saphyr::from_str(yaml).unwrap();
    let groups = rules["groups"].as_array().unwrap();
    let rules = groups.iter().flat_map(|group| group["rules"].as_array().unwrap());
    let (mut expressions, mut recorded) = (Vec::new(), BTreeSet::new());
    for rule in rules {
        expressions.push(rule["expr"].as_str().unwrap().to_owned());
        recorded.extend(rule["record"].as_str().map(str::to_owned));
    }
    (expressions, recorded)
}

/// The expressions of a dashboard, wherever they stand.
fn expressions(of: &Value, found: &mut Vec<String>) {
    match of {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if matches!(&**name, "expr" | "definition" | "query") => {
                        found.push(text.clone());
                    }
                    other => expressions(other, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| expressions(item, found)),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_and_dashboard_name_metrics_that_there_are() {
    let (_, text) = scrape("text/plain").await;
    let there: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let (mut named, recorded) = rules(include_str!("../../../docs/prometheus/weir.rules.yml"));
    let dashboard = include_str!("../../../docs/grafana/weir-release.json");
    let before = named.len();
    expressions(&serde_json::from_str(dashboard).unwrap(), &mut named);
    assert!(before > 20 && named.len() > before + 20, "{named:?}");
    for expression in &named {
        for word in words(expression) {
            let bare = ["_bucket", "_sum", "_count"].iter().find_map(|end| word.strip_suffix(end));
            let known = there.contains(word)
                || bare.is_some_and(|bare| there.contains(bare))
                || recorded.contains(word);
            assert!(known, "there is no {word}, of which `{expression}` is made");
        }
    }
}

/// The page of the metrics lists them all, each with its labels' meaning, and no others.
#[test]
fn the_page_lists_every_metric() {
    let page = include_str!("../../../docs/metrics.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let listed: BTreeSet<String> =
        rows.filter(|name| name.contains('_')).map(str::to_owned).collect();
    let there: BTreeSet<String> = families::ALL.iter().map(Family::sample_name).collect();
    assert_eq!(listed, there);
}
