//! The agent's handle, with scripts in the agent's place.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use weir_tests::agent::{Agent, AgentOptions, socket};
use weir_tests::lab::Lab;

use crate::small_lab;

/// A program that notes its arguments and then does `what`.
fn script(lab: &Lab, what: &str) -> PathBuf {
    let path = lab.directory().join("stand-in");
    fs::write(&path, format!("#!/bin/sh\necho \"started: $*\"\n{what}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    path
}

/// Starts a stand-in that stays, with a listener of this process on its socket.
fn start(lab: &Lab, options: &AgentOptions) -> (Agent, UnixListener) {
    let path = socket(lab);
    let listening = thread::spawn(move || {
        // After the start, which removes an old socket.
        thread::sleep(Duration::from_millis(300));
        UnixListener::bind(path).unwrap()
    });
    let agent = Agent::start(lab, options).unwrap();
    (agent, listening.join().unwrap())
}

fn runs(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

#[test]
fn an_agent_that_fails_at_its_start_shows_its_log() {
    let lab = small_lab();
    let failing = script(&lab, "echo 'no such interface: cli0' >&2; exit 3");
    let error =
        Agent::start(&lab, &AgentOptions::new(&lab).mode("tc").binary(&failing)).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("exit status: 3"), "{text}");
    assert!(text.contains("no such interface: cli0"), "{text}");
    let directory = lab.directory().display();
    let arguments = format!(
        "started: --socket {directory}/weir.sock agent --state-dir {directory}/state \
         --bpffs {directory}/bpf/weir --interface cli0:tc --interface blue0:tc --interface green0:tc --interface canary0:tc"
    );
    assert!(text.contains(&arguments), "{text}");
}

#[test]
fn an_agent_is_stopped_killed_or_dropped() {
    let lab = small_lab();
    let options = AgentOptions::new(&lab).binary(&script(&lab, "exec sleep 600"));
    let (agent, _listener) = start(&lab, &options);
    let pid = agent.pid();
    let inside = lab.lb().exec("ip", &["netns", "identify", &pid.to_string()]).unwrap();
    assert_eq!(String::from_utf8(inside.stdout).unwrap().trim(), lab.lb().name());
    let status = agent.stop().unwrap();
    assert_eq!(status.signal(), Some(15));
    assert!(!runs(pid));

    let (agent, _listener) = start(&lab, &options);
    let pid = agent.pid();
    agent.kill().unwrap();
    assert!(!runs(pid));

    let (agent, _listener) = start(&lab, &options);
    let pid = agent.pid();
    drop(agent);
    assert!(!runs(pid));
}
