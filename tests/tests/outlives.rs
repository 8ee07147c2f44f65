//! The data plane outlives the agent. It is killed in the middle of transitions, under load; it
//! stops and leaves its data plane behind; the next one takes up every flow and every counter. And
//! it leaves alone what it cannot take up.
//!
//! A TCP connection that reached another backend would be reset by it, so an unbroken connection
//! is one that has stayed where it began.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::thread::sleep;
use std::time::Duration;

use weir::model::Hook;
use weir::node::messages::Traffic;
use weir_tests::agent::{AgentOptions, binary, pins};
use weir_tests::lab::addresses::{ECHO_PORT, Family, HTTP_PORT, vip};
use weir_tests::lab::spec::Protocol;
use weir_tests::lab::{Lab, LabBuilder};
use weir_tests::load::fresh::{Fresh, FreshCounts, FreshPlan};
use weir_tests::load::long_lived::{LongLived, LongLivedPlan};
use weir_tests::node::{Mode, Node, fields};
use weir_tests::pace;
use weir_tests::random::Random;

/// Long-lived connections, of which half are silent.
const CONNECTIONS: u32 = 500;
const SERVICES: [&str; 2] = ["echo", "web"];
const SLOTS: u32 = 16_384;
/// How every service begins.
const ALL_BLUE: [u16; 3] = [10_000, 0, 0];

fn target(port: u16) -> SocketAddr {
    SocketAddr::new(vip(Family::V4, 0), port)
}

/// A node with both services, everything on blue.
fn node(mode: Mode, arguments: &[&str]) -> Node {
    let mut node = Node::start(LabBuilder::new(), mode, arguments).unwrap();
    let services = [("echo", ECHO_PORT), ("web", HTTP_PORT)]
        .map(|(name, port)| node.lab().service(name, target(port), Protocol::Tcp));
    node.apply(&services).unwrap();
    node
}

/// Connections that stay, and new ones all the time.
struct Load {
    long: LongLived,
    fresh: Fresh,
}

impl Load {
    fn start(lab: &Lab) -> Self {
        let clients = lab.client_addresses(Family::V4);
        let plan = LongLivedPlan::new(target(ECHO_PORT), clients.clone(), CONNECTIONS)
            .talking(CONNECTIONS / 2, Duration::from_millis(500));
        let long = LongLived::open(lab.clients(), plan).unwrap();
        long.state().check().unwrap();
        let plan = FreshPlan::new(target(HTTP_PORT), clients).rate(200);
        let fresh = Fresh::start(lab.clients(), plan).unwrap();
        Self { long, fresh }
    }

    /// Lets some time go by, in which new connections must be answered; gives how many by version.
    fn goes_on(&self, time: Duration) -> [u64; 3] {
        let period = self.fresh.begin_period();
        // Again where a machine that is busy with other things has not done enough in that time.
        for _ in 0..20 {
            sleep(pace::wait(time));
            if period.counts().answered() >= 20 {
                break;
            }
        }
        period.end();
        let counts = period.counts();
        counts.check().unwrap();
        assert!(counts.answered() > 0, "{counts}");
        counts.by_version()
    }

    /// Nothing has broken, also of those that were silent all the time; they are still where they
    /// began, on blue.
    fn verify(self) {
        let counts = self.fresh.stop().unwrap();
        println!("fresh: {counts}");
        counts.check().unwrap();
        let state = self.long.verify();
        state.check().unwrap();
        assert_eq!(state.by_version(), [500, 0, 0]);
    }
}

/// What the next agent must say of what an earlier one left.
#[derive(Debug, PartialEq)]
struct Left {
    epoch: u64,
    lines: u64,
    /// Spec, generation, digest and slots of each service.
    services: Vec<(String, u64, String, [u32; 3])>,
}

fn left(node: &mut Node) -> Left {
    let services = SERVICES.map(|service| {
        let status = node.status(service).unwrap();
        let mut slots = [0; 3];
        for (slots, (_, version)) in slots.iter_mut().zip(status.versions.iter()) {
            *slots = version.table.slots;
        }
        (format!("{:?}", status.spec), status.generation, status.digest, slots)
    });
    let epoch = node.node_status().unwrap().epoch;
    Left { epoch, lines: node.used("pool_lines").unwrap(), services: services.into() }
}

/// The counters of all backends of both services.
fn counters(node: &mut Node) -> BTreeMap<(&'static str, IpAddr), Traffic> {
    let of =
        |service| node.traffic(service).unwrap().into_iter().map(move |(a, t)| ((service, a), t));
    SERVICES.into_iter().flat_map(of).collect()
}

/// No counter of any backend has gone back.
fn grew(
    before: &BTreeMap<(&'static str, IpAddr), Traffic>,
    after: &BTreeMap<(&'static str, IpAddr), Traffic>,
) {
    assert!(before.keys().eq(after.keys()), "{before:?} {after:?}");
    for ((key, before), after) in before.iter().zip(after.values()) {
        let back = fields(before).into_iter().zip(fields(after)).any(|(b, a)| a < b);
        assert!(!back, "{key:?} went back from {before:?} to {after:?}");
    }
}

#[test]
fn the_data_plane_outlives_kills_in_tc() {
    outlives_kills(Mode::Tc, 1);
}

#[test]
fn the_data_plane_outlives_kills_in_native_xdp() {
    outlives_kills(Mode::Xdp, 2);
}

fn outlives_kills(mode: Mode, seed: u64) {
    let mut chance = Random(seed);
    let mut node = node(mode, &[]);
    let load = Load::start(node.lab());
    let mut now = [5_000, 0, 5_000];
    node.shift(&SERVICES, now).unwrap();
    let next = [[2_000, 3_000, 5_000], [0, 10_000, 0], ALL_BLUE, [3_400, 3_300, 3_300]];
    for weights in next.into_iter().chain([[0, 0, 10_000]]) {
        sleep(pause(&mut chance));
        let (before, counted) = (left(&mut node), counters(&mut node));
        node.take_agent().unwrap().kill().unwrap();
        let alone = load.goes_on(Duration::from_millis(300));
        // By the weights that the dead agent set last.
        for (answered, slots) in alone.into_iter().zip(before.services[1].3) {
            assert_eq!(answered > 0, slots > 0, "{alone:?} of {before:?}");
        }
        node.restart().unwrap();
        assert_eq!(left(&mut node), before);
        let after = counters(&mut node);
        grew(&counted, &after);
        // What came while no agent was there was counted too.
        let connections =
            |of: &BTreeMap<_, Traffic>| of.values().map(|t| t.connections).sum::<u64>();
        assert!(connections(&after) >= connections(&counted) + alone.iter().sum::<u64>());
        // Where they began, the tables say the same of the long-lived ones, and the others have ended.
        let used = node.used("flows").unwrap();
        assert!(used > 0 || now == ALL_BLUE, "flows of the transition are forgotten");
        sleep(pause(&mut chance));
        node.shift(&SERVICES, weights).unwrap();
        now = weights;
    }
    load.verify();
}

fn pause(chance: &mut Random) -> Duration {
    Duration::from_millis(100 + u64::try_from(chance.below(200)).unwrap())
}

/// Killed while a shift is under way: it has happened or it has not.
#[test]
fn a_kill_during_a_shift_leaves_all_of_it_or_nothing() {
    let mut chance = Random(3);
    for mode in [Mode::Tc, Mode::Xdp] {
        let mut node = node(mode, &[]);
        let load = Load::start(node.lab());
        let mut outcomes = BTreeMap::new();
        for round in 0..12 {
            let canary = if round % 2 == 0 { 50 } else { 10 };
            let before = asked(&mut node);
            let weight = format!("canary={canary}%");
            let mut shift = node.lab().weir_command(&["shift", "echo,web", &weight]).unwrap();
            shift.stdout(Stdio::null()).stderr(Stdio::null());
            let mut shift = shift.spawn().unwrap();
            // A shift takes a few milliseconds from the start of its process.
            sleep(Duration::from_micros(u64::try_from(chance.below(20_000)).unwrap()));
            node.take_agent().unwrap().kill().unwrap();
            let answered = shift.wait().unwrap().success();
            load.goes_on(Duration::from_millis(100));
            node.restart().unwrap();

            let wanted = [10_000 - canary * 100, 0, canary * 100];
            let after = asked(&mut node);
            if answered {
                assert_eq!(after, wanted, "an answered shift was lost");
            }
            assert!(after == wanted || after == before, "{before:?} {after:?}");
            *outcomes.entry((answered, after == wanted)).or_insert(0) += 1;
            // Traffic goes where the tables say.
            let counts = load.goes_on(Duration::from_millis(200));
            assert_eq!(counts[2] > 0, after[2] > 0, "{counts:?}");
        }
        println!("{mode:?}: (answered, happened): {outcomes:?}");
        load.verify();
    }
}

/// The weights asked for, of both services; the tables have them.
fn asked(node: &mut Node) -> [u32; 3] {
    let [echo, web] = SERVICES.map(|service| {
        let status = node.status(service).unwrap();
        let mut asked = [0; 3];
        for (asked, (_, version)) in asked.iter_mut().zip(status.versions.iter()) {
            *asked = version.asked.bp();
            let exact = f64::from(SLOTS) * f64::from(*asked) / 10_000.0;
            let off = (f64::from(version.table.slots) - exact).abs();
            assert!(off <= 1.0, "{service}: {} slots for {asked} bp", version.table.slots);
        }
        asked
    });
    assert_eq!(echo, web, "half of a commit");
    echo
}

#[test]
fn a_data_plane_that_is_kept_goes_on() {
    for mode in [Mode::Tc, Mode::Xdp] {
        let mut node = node(mode, &["--on-exit=keep"]);
        let load = Load::start(node.lab());
        node.shift(&SERVICES, [5_000, 0, 5_000]).unwrap();
        load.goes_on(Duration::from_millis(200));
        let (before, counted) = (left(&mut node), counters(&mut node));
        assert!(node.take_agent().unwrap().stop().unwrap().success());
        load.goes_on(Duration::from_millis(300));
        node.restart_with(AgentOptions::new(node.lab()).mode(mode.name())).unwrap();
        assert_eq!(left(&mut node), before);
        grew(&counted, &counters(&mut node));
        node.shift(&SERVICES, [0, 10_000, 0]).unwrap();
        load.goes_on(Duration::from_millis(200));
        load.verify();
        // This one was not told to keep anything.
        assert!(node.take_agent().unwrap().stop().unwrap().success());
        is_off(node.lab());
    }
}

/// Connections to the service, each given half a second.
fn try_some(lab: &Lab) -> FreshCounts {
    let plan = FreshPlan::new(target(HTTP_PORT), lab.client_addresses(Family::V4))
        .count(20)
        .limit(Duration::from_millis(500));
    Fresh::start(lab.clients(), plan).unwrap().finish().unwrap()
}

fn is_on(lab: &Lab) {
    let counts = try_some(lab);
    assert_eq!((counts.answered(), counts.failed()), (20, 0), "{counts}");
}

/// Nothing answers and nothing is pinned.
fn is_off(lab: &Lab) {
    let counts = try_some(lab);
    assert_eq!((counts.answered(), counts.failed()), (0, 20), "{counts}");
    let files = files(&pins(lab));
    assert!(files.is_empty(), "{files:?}");
    let filters = filters(lab);
    assert!(filters.is_empty(), "{filters:?}");
}

/// All files below a directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut found: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] })
        .collect();
    found.sort();
    found
}

/// The file of a pinned map.
fn map(lab: &Lab, name: &str) -> PathBuf {
    let all = files(&pins(lab));
    all.into_iter().find(|path| path.ends_with(format!("maps/{name}"))).unwrap()
}

/// The names of links that are pinned.
fn links(lab: &Lab) -> Vec<String> {
    let links =
        files(&pins(lab)).into_iter().filter(|path| path.parent().unwrap().ends_with("links"));
    links.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
}

/// Runs an agent that is to fail at its start, and gives what it said.
fn fails(lab: &Lab, socket: &str, interfaces: &[&str]) -> String {
    let mut command = lab.lb().command(binary().unwrap());
    command.arg("--socket").arg(lab.directory().join(socket)).args(["agent", "--state-dir"]);
    command.arg(lab.directory().join("state")).arg("--bpffs").arg(pins(lab));
    for interface in interfaces {
        command.args(["--interface", interface]);
    }
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    last_error(&output)
}

/// The one line that says what is wrong.
fn last_error(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let errors: Vec<&str> = text.lines().filter(|line| line.starts_with("weir: ")).collect();
    assert_eq!(errors.len(), 1, "{text}");
    errors[0].to_owned()
}

#[test]
fn two_agents_cannot_use_the_same_pins() {
    let mut node = node(Mode::Tc, &[]);
    let load = Load::start(node.lab());
    node.shift(&SERVICES, [5_000, 0, 5_000]).unwrap();
    let (before, there) = (left(&mut node), files(&pins(node.lab())));
    for interfaces in [&["cli0:tc"][..], &["cli0:xdp-generic", "blue0"]] {
        let error = fails(node.lab(), "other.sock", interfaces);
        let directory = pins(node.lab());
        assert!(
            error.starts_with("weir: another agent uses the pins in ")
                && error.contains(directory.to_str().unwrap())
                && error.ends_with("stop it, or choose another --bpffs"),
            "{error}"
        );
    }
    // Nor does one take them away under a running agent.
    let output = detach(node.lab());
    assert!(!output.status.success(), "{output:?}");
    assert!(last_error(&output).contains("another agent uses the pins"), "{output:?}");
    assert_eq!(files(&pins(node.lab())), there);
    assert_eq!(left(&mut node), before);
    node.shift(&SERVICES, [0, 10_000, 0]).unwrap();
    load.goes_on(Duration::from_millis(200));
    load.verify();
}

/// Where the agent was: a filter is found by its interface.
fn detach(lab: &Lab) -> Output {
    let mut command = lab.lb().command(binary().unwrap());
    command.arg("detach").arg("--bpffs").arg(pins(lab)).output().unwrap()
}

#[test]
fn a_map_of_another_shape_is_refused_and_can_be_detached() {
    for (name, other, what) in [
        ("FLOWS", "DIRECT", "type"),
        ("COUNTERS", "LINKS", "value size"),
        ("DIRECT", "FLOWS", "type"),
    ] {
        let mut node = node(Mode::Tc, &[]);
        node.shift(&SERVICES, [5_000, 0, 5_000]).unwrap();
        node.take_agent().unwrap().kill().unwrap();
        // The running program keeps its map, which only loses its name.
        let (name_of, other) = (map(node.lab(), name), map(node.lab(), other));
        fs::remove_file(&name_of).unwrap();
        fs::hard_link(other, name_of).unwrap();
        let there = files(&pins(node.lab()));

        let error = fails(node.lab(), "weir2.sock", &["cli0:tc", "blue0:xdp-generic"]);
        assert!(error.contains(&format!("the pinned map {name} has {what} ")), "{error}");
        assert!(error.contains("run `weir detach`"), "{error}");
        assert_eq!(files(&pins(node.lab())), there);
        is_on(node.lab());

        let output = detach(node.lab());
        assert!(output.status.success(), "{output:?}");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains("detached 4 programs"), "{said}");
        is_off(node.lab());
        node.restart().unwrap();
        is_on(node.lab());
        assert_eq!(asked(&mut node), [5_000, 0, 5_000]);
    }
}

/// A node whose agent was killed, the directory of what it has pinned, and that of another ABI.
fn killed() -> (Node, PathBuf, PathBuf) {
    let mut node = node(Mode::Tc, &[]);
    node.take_agent().unwrap().kill().unwrap();
    let ours = map(node.lab(), "FLOWS").parent().unwrap().parent().unwrap().to_owned();
    let theirs = ours.with_file_name("abi-2");
    (node, ours, theirs)
}

/// An agent whose program would read another's tables otherwise leaves them alone, and says so.
#[test]
fn a_data_plane_of_another_abi_is_refused_and_can_be_detached() {
    let (mut node, ours, theirs) = killed();
    fs::rename(&ours, &theirs).unwrap();
    let there = files(&pins(node.lab()));

    let error = fails(node.lab(), "weir2.sock", &["cli0:tc", "blue0:xdp-generic"]);
    assert!(error.contains(theirs.to_str().unwrap()), "{error}");
    assert!(error.contains("another build") && error.contains("run `weir detach`"), "{error}");
    assert_eq!(files(&pins(node.lab())), there);
    is_on(node.lab());

    assert!(detach(node.lab()).status.success());
    is_off(node.lab());
    node.restart().unwrap();
    is_on(node.lab());
}

/// An agent of another build that was killed before it had pinned anything has left nothing that
/// forwards.
#[test]
fn an_empty_directory_of_another_abi_is_removed() {
    let (mut node, _, theirs) = killed();
    fs::create_dir_all(theirs.join("maps")).unwrap();
    node.restart().unwrap();
    is_on(node.lab());
    assert!(!theirs.exists());
}

/// A map of another build in an empty directory: nothing is pinned beside it.
#[test]
fn a_foreign_map_alone_is_refused() {
    let mut node = node(Mode::Tc, &[]);
    node.take_agent().unwrap().kill().unwrap();
    let (flows, counters) = (map(node.lab(), "FLOWS"), map(node.lab(), "COUNTERS"));
    fs::remove_file(&flows).unwrap();
    fs::hard_link(counters, &flows).unwrap();
    // The pin of a filter is all that tells of it.
    let stays = |file: &PathBuf| *file == flows || file.to_string_lossy().ends_with(":clsact");
    let (kept, others): (Vec<_>, Vec<_>) = files(&pins(node.lab())).into_iter().partition(stays);
    for file in &others {
        fs::remove_file(file).unwrap();
    }
    let error = fails(node.lab(), "weir2.sock", &["cli0:tc"]);
    assert!(error.contains("the pinned map FLOWS has "), "{error}");
    assert_eq!(files(&pins(node.lab())), kept);
    assert!(detach(node.lab()).status.success());
    is_off(node.lab());
    node.restart().unwrap();
    is_on(node.lab());
}

/// The program's filters on an interface, with its ids; none where the kernel has TCX.
fn filters(lab: &Lab) -> Vec<String> {
    let shown = lab.lb().exec("tc", &["filter", "show", "dev", "cli0", "ingress"]).unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    shown.lines().filter(|line| line.contains("weir_tc")).map(str::to_owned).collect()
}

/// A filter is no link: nothing but the agent replaces it and removes it.
#[test]
fn an_interface_has_one_filter_at_most() {
    let mut node = node(Mode::Tc, &["--on-exit=keep"]);
    let load = Load::start(node.lab());
    let status = node.node_status().unwrap();
    let expected = usize::from(status.interfaces[0].actual == Some(Hook::Clsact));
    let mut last = filters(node.lab());
    assert_eq!(last.len(), expected, "{last:?}");
    for end in ["kill", "stop", "kill"] {
        let agent = node.take_agent().unwrap();
        if end == "kill" {
            agent.kill().unwrap();
        } else {
            assert!(agent.stop().unwrap().success());
        }
        load.goes_on(Duration::from_millis(200));
        assert_eq!(filters(node.lab()), last);
        node.restart_with(AgentOptions::new(node.lab()).argument("--on-exit=keep")).unwrap();
        load.goes_on(Duration::from_millis(200));
        let now = filters(node.lab());
        assert_eq!(now.len(), expected, "{now:?}");
        // Another program, at the old one's place.
        assert!(expected == 0 || now != last, "{now:?}");
        last = now;
    }
    load.verify();
    assert!(node.take_agent().unwrap().stop().unwrap().success());
    let output = detach(node.lab());
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("detached 4 programs"), "{said} {output:?}");
    is_off(node.lab());
    // This one is not told to keep anything.
    node.restart_with(AgentOptions::new(node.lab())).unwrap();
    is_on(node.lab());
    assert!(node.take_agent().unwrap().stop().unwrap().success());
    is_off(node.lab());
}

#[test]
fn interfaces_change_between_runs() {
    // Without offloads, so that both modes work.
    let mut node = node(Mode::Xdp, &["--on-exit=keep"]);
    let load = Load::start(node.lab());
    node.shift(&SERVICES, [5_000, 0, 5_000]).unwrap();
    let keep = |node: &Node, mode: &str| {
        AgentOptions::new(node.lab()).mode(mode).argument("--on-exit=keep")
    };
    for (mode, pinned) in [("tc", 4), ("xdp", 8), ("xdp-generic", 8), ("tc", 4), ("xdp", 8)] {
        let before = left(&mut node);
        assert!(node.take_agent().unwrap().stop().unwrap().success());
        load.goes_on(Duration::from_millis(100));
        let options = keep(&node, mode);
        node.restart_with(options).unwrap();
        assert_eq!(left(&mut node), before);
        assert_eq!(links(node.lab()).len(), pinned, "{mode}: {:?}", links(node.lab()));
        load.goes_on(Duration::from_millis(200));
    }
    load.verify();

    // The interface toward green is left out: nothing of ours stays on it.
    assert!(node.take_agent().unwrap().stop().unwrap().success());
    let options = keep(&node, "xdp").without("green0");
    node.restart_with(options).unwrap();
    let links = links(node.lab());
    assert_eq!(links.len(), 6, "{links:?}");
    assert!(!links.iter().any(|link| link.starts_with("green0")), "{links:?}");
    let shown = node.lab().lb().exec("ip", &["-details", "link", "show", "dev", "green0"]).unwrap();
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("green0") && !shown.contains("xdp"), "{shown}");
    is_on(node.lab());
}
