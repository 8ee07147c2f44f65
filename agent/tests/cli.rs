//! The command line as a user meets it: the binary itself, its output and its exit codes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

mod common;

use std::{
    fmt::Write as _,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Output, Stdio},
};

use common::{FakeAgent, refused::FILE};
use serde_json::Value;

/// The binary, with nothing of this process's environment that it reads.
fn weir(socket: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.env("WEIR_SOCKET", socket).env_remove("NO_COLOR").stdin(Stdio::null());
    command
}

fn run(socket: &Path, arguments: &[&str]) -> Output {
    weir(socket).args(arguments).output().unwrap()
}

/// Standard output of a run that succeeds.
fn prints(socket: &Path, arguments: &[&str]) -> String {
    let output = run(socket, arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Exit code and standard error of a run that fails, which prints nothing else.
fn fails(socket: &Path, arguments: &[&str]) -> (i32, String) {
    let output = run(socket, arguments);
    assert_eq!(output.stdout, b"", "{arguments:?}");
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

/// Gives text to `weir apply -f -`.
fn apply(socket: &Path, text: &str, arguments: &[&str]) -> Output {
    let mut child = weir(socket)
        .args(["apply", "-f", "-"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// An agent that has the two services of [`FILE`]. The test's own thread is free for the command line.
fn agent() -> FakeAgent {
    let agent = FakeAgent::start();
    let output = apply(&agent.socket, FILE, &[]);
    assert!(output.status.success(), "{output:?}");
    agent
}

/// Runs each command of the transcript `cli.txt` in turn and compares what it prints.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn tables_are_as_in_the_transcript() {
    let wanted = include_str!("cli.txt");
    let agent = FakeAgent::start();
    assert!(apply(&agent.socket, FILE, &[]).status.success());
    let mut got = String::new();
    for command in wanted.lines().filter_map(|line| line.strip_prefix("$ weir ")) {
        let output = run(&agent.socket, &command.split(' ').collect::<Vec<_>>());
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        write!(got, "$ weir {command}\n{text}\n").unwrap();
    }
    assert!(got == wanted, "{got}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn colour_is_for_terminals_and_for_those_who_ask() {
    let agent = agent();
    assert!(!prints(&agent.socket, &["get"]).contains('\x1b'));
    assert!(prints(&agent.socket, &["get", "--color", "always"]).contains("\x1b["));
    assert!(!prints(&agent.socket, &["get", "--color", "never"]).contains('\x1b'));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn json_and_yaml_have_stable_names() {
    let agent = agent();
    let json = |arguments: &[&str]| -> Value {
        serde_json::from_str(&prints(&agent.socket, arguments)).unwrap()
    };
    let shop = json(&["get", "shop", "-o", "json"]);
    assert_eq!(shop["versions"]["canary"]["asked_bp"], 500);
    assert_eq!(shop["versions"]["canary"]["table"]["slots"], 819);
    assert_eq!(shop["versions"]["canary"]["observed"]["share"], 0.05);
    assert_eq!(shop["versions"]["canary"]["backends"][0]["next_hop"]["interface"], "eth1");
    assert_eq!(shop["spec"]["versions"]["canary"]["weight"], "5%");
    let shift = json(&["shift", "shop", "canary=25%", "-o", "json"]);
    assert_eq!(shift["commit"]["duration_us"], 1_340);
    assert_eq!(shift["changes"][0]["moves"][0]["from"], "blue");
    let counters = json(&["counters", "-o", "json"]);
    assert_eq!(counters["time"], "2023-11-14T22:13:20Z");
    assert_eq!(json(&["status", "-o", "json"])["interfaces"][0]["actual"], "tcx");
    assert!(prints(&agent.socket, &["get", "-o", "yaml"]).contains("asked_bp: 2500"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_get_prints_as_a_spec_can_be_applied() {
    let agent = agent();
    let spec = prints(&agent.socket, &["get", "--spec"]);
    let output = apply(&agent.socket, &spec, &["-o", "json"]);
    let changed: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(changed["changes"][0]["moves"], Value::Array(Vec::new()));
    assert_eq!(prints(&agent.socket, &["get", "--spec"]), spec);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn many_services_are_shifted_in_one_commit() {
    let agent = agent();
    let commits = || prints(&agent.socket, &["get", "-o", "json"]);
    let before = commits();
    // Canary of api has no backend: neither service is changed.
    let (code, message) =
        fails(&agent.socket, &["shift", "shop,api", "canary=4%", "--from", "green"]);
    assert_eq!(code, 4, "{message}");
    assert_eq!(commits(), before);
    let both = prints(
        &agent.socket,
        &["shift", "shop,api", "canary=4%", "--from", "green", "--force", "-o", "json"],
    );
    let both: Value = serde_json::from_str(&both).unwrap();
    assert_eq!(both["commit"]["generation"], 2);
    assert_eq!(both["changes"][0]["versions"]["green"]["asked_bp"], 100);
    assert_eq!(both["changes"][1]["versions"]["green"]["asked_bp"], 9_600);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn exit_codes_tell_failures_apart() {
    let agent = agent();
    let socket = agent.socket.as_path();
    let nowhere = Path::new("/nonexistent/weir.sock");
    assert_eq!(
        fails(nowhere, &["get"]),
        (
            3,
            "weir: no agent at /nonexistent/weir.sock: is it running? Start it with `weir agent --interface NAME`, or \
             name its socket with --socket\n"
                .into()
        )
    );
    assert_eq!(
        fails(socket, &["get", "none"]),
        (4, "weir: refused: there is no service \"none\"\n".into())
    );
    assert_eq!(
        fails(socket, &["shift", "shop", "canary=6%", "--expect-generation", "7"]),
        (4, "weir: refused: service \"shop\" has generation 1, not 7: it changed meanwhile; look again\n".into())
    );
    assert_eq!(
        fails(socket, &["shift", "shop", "green=5%"]),
        (
            4,
            "weir: refused: green of service \"shop\" has no backend that takes connections; give it one, or force\n"
                .into()
        )
    );
    assert_eq!(
        fails(socket, &["apply", "-f", "/nonexistent/file"]),
        (1, "weir: /nonexistent/file: No such file or directory (os error 2)\n".into())
    );
    assert_eq!(
        fails(socket, &["decap", "counters", "--bpffs", "/nonexistent"]),
        (
            3,
            "weir: no `weir decap` has its counters in /nonexistent: is it running, and was it given this --bpffs?\n"
                .into()
        )
    );
    for usage in [
        &["shift", "shop"][..],
        &["shift", "shop", "canary=5"],
        &["shift", "shop", "pink=5%"],
        &["shift", "Shop", "canary=5%"],
        &["shift", "shop,api", "canary=5%", "--expect-generation", "1"],
        &["counters", "--watch", "--interval", "1ms"],
        &["agent"],
        &["agent", "--interface", "eth0:fast"],
        &["agent", "--interface", "eth0", "--interface", "eth0:tc"],
        &["decap"],
        &["decap", "--interface", "eth0", "--interface", "eth0:tc"],
        &["decap", "--interface", "eth0", "--take", "host"],
        &["decap", "--interface", "eth0", "--gue-port", "0"],
        &["decap", "--interface", "eth0", "counters"],
        &["fly"],
    ] {
        assert_eq!(fails(socket, usage).0, 2, "{usage:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_bad_file_is_refused_with_its_place_or_its_fields() {
    let agent = agent();
    let says = |text: &str| {
        let output = apply(&agent.socket, text, &[]);
        assert_eq!(output.status.code(), Some(4));
        String::from_utf8(output.stderr).unwrap()
    };
    assert_eq!(
        says("services:\n  - name: x\n    colour: red\n"),
        "weir: standard input: line 3, column 5: unknown field `colour`, expected one of name, listeners, forwarding, gue_port, \
         affinity, udp, udp_idle, quic, signals, drain, health, seed, steering, versions\n"
    );
    assert_eq!(
        says(&FILE.replace("10.63.0.2, port: 80", "10.63.0.300, port: 0")),
        "weir: refused:\n  services[0].versions.canary.backends[0].address: \"10.63.0.300\" is not an IP address\n  \
         services[0].versions.canary.backends[0].port: 0 is not a port here; with nat it is 1 to 65535\n"
    );
    assert_eq!(
        says("services: []\n"),
        "weir: refused: services: is empty; name at least one service\n"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn watching_prints_one_object_a_line_until_its_reader_leaves() {
    let agent = agent();
    let mut child = weir(&agent.socket)
        .args(["counters", "--watch", "--interval", "100ms", "-o", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut count = || -> u64 {
        let line: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        line["services"][1]["versions"]["blue"]["traffic"]["connections"].as_u64().unwrap()
    };
    let first = count();
    assert!(count() > first);
    drop(lines);
    // The next line meets a closed pipe: that is no failure, and no panic.
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.stderr, b"");
}

#[test]
fn completions_name_the_verbs() {
    let script = prints(Path::new("unused"), &["completions", "bash"]);
    assert!(script.contains("shift") && script.contains("counters"));
}
