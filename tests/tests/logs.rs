//! The agent's log: JSON where there is no terminal, and of each change who, what, before, after.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

use std::fs;
use std::net::SocketAddr;

use serde_json::Value;
use weir_tests::agent::AgentOptions;
use weir_tests::lab::LabBuilder;
use weir_tests::lab::addresses::{Family, HTTP_PORT, vip};
use weir_tests::lab::spec::Protocol;
use weir_tests::node::{Mode, Node};

fn log(node: &Node) -> String {
    fs::read_to_string(node.lab().directory().join("agent.log")).unwrap()
}

#[test]
fn each_change_says_who_what_before_and_after() {
    let mut node = Node::start(LabBuilder::new(), Mode::Tc, &["--log-format", "auto"]).unwrap();
    let target = SocketAddr::new(vip(Family::V4, 0), HTTP_PORT);
    let service = node.lab().service("shop", target, Protocol::Tcp);
    node.apply(&[service.weights([10_000, 0, 0])]).unwrap();
    let shift = ["shift", "shop", "canary=5%", "--request-id", "release-7"];
    node.lab().weir(&shift).unwrap();
    let text = log(&node);
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of_kind = |kind: &str| {
        let mut found = lines.iter().filter(|line| line["kind"] == kind);
        let line = found.next().unwrap_or_else(|| panic!("no {kind}:\n{text}"));
        assert!(found.next().is_none() && line["level"] == "INFO", "{text}");
        line
    };
    let shifted = of_kind("shifted");
    assert_eq!(shifted["service"], "shop");
    assert_eq!(shifted["request"], "release-7");
    assert_eq!(shifted["before"], "blue 100%");
    assert_eq!(shifted["after"], "blue 95%, canary 5%");
    let who = |line: &Value| line["who"].as_str().unwrap().to_owned();
    let by_hand = who(shifted);
    assert!(by_hand.starts_with("uid 0 pid ") && by_hand.ends_with(" (weir)"), "{by_hand}");
    // The test itself has applied it.
    let created = of_kind("created");
    assert_eq!((&created["before"], &created["after"]), (&"nothing".into(), &"blue 100%".into()));
    assert!(who(created).starts_with(&format!("uid 0 pid {} (", std::process::id())));
    // What the API says is the same.
    let events: Value =
        serde_json::from_str(&node.lab().weir(&["events", "-o", "json"]).unwrap()).unwrap();
    let events = events["events"].as_array().unwrap();
    assert_eq!(events.last().unwrap()["who"], by_hand.as_str());
}

#[test]
fn the_log_is_as_long_as_is_asked() {
    let mut node = Node::start(LabBuilder::new(), Mode::Tc, &["--log", "error"]).unwrap();
    assert_eq!(log(&node), "");
    node.take_agent().unwrap().stop().unwrap();
    let options = AgentOptions::new(node.lab()).mode("tc").argument("--log-format");
    node.restart_with(options.argument("text")).unwrap();
    let text = log(&node);
    assert!(text.contains(" INFO serving socket="), "{text}");
}
