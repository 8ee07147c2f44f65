//! Clients of a prefix reach the version that a rule names, whatever the weights say. Rules come,
//! change and go under connections that stay, and none of these breaks. A hundred thousand of them
//! are no trouble, also for an agent that is killed while it writes them.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::thread::sleep;
use std::time::{Duration, Instant};

use weir_tests::identity::Version;
use weir_tests::lab::addresses::{ECHO_PORT, Family, HTTP_PORT, vip};
use weir_tests::lab::spec::{Protocol, ServiceSpec};
use weir_tests::lab::{Lab, LabBuilder};
use weir_tests::load::fresh::{Fresh, FreshPlan};
use weir_tests::load::long_lived::{LongLived, LongLivedPlan};
use weir_tests::node::{Mode, Node};

const CONNECTIONS: u32 = 300;
const FRESH: u64 = 600;
/// Two rounds after the idle time of 3 s, and one more.
const SETTLED: Duration = Duration::from_secs(25);

/// A prefix of the lab's clients, and one within it.
fn prefixes(family: Family) -> [&'static str; 2] {
    match family {
        Family::V4 => ["10.50.1.0/24", "10.50.1.64/26"],
        Family::V6 => ["fd50:0:0:1::/120", "fd50:0:0:1::40/122"],
    }
}

/// Which of the two prefixes a client is in: the outer one, and the inner one.
fn within(client: IpAddr) -> [bool; 2] {
    let (outer, last) = match client {
        IpAddr::V4(v4) => (v4.octets()[2] == 1, v4.octets()[3]),
        IpAddr::V6(v6) => (v6.octets()[14] == 0, v6.octets()[15]),
    };
    [outer, outer && last & 0xc0 == 0x40]
}

/// The services with these rules.
fn services(
    lab: &Lab,
    family: Family,
    weights: [u16; 3],
    rules: &[(&str, &str)],
) -> [ServiceSpec; 2] {
    let mut line = "steering: [".to_owned();
    for (source, version) in rules {
        write!(line, r#"{{ source: "{source}", version: {version} }}, "#).unwrap();
    }
    line.push(']');
    [("echo", ECHO_PORT), ("web", HTTP_PORT)].map(|(name, port)| {
        let target = SocketAddr::new(vip(family, 0), port);
        lab.service(&named(name, family), target, Protocol::Tcp).weights(weights).with(&line)
    })
}

/// The name of a service of one family.
fn named(service: &str, family: Family) -> String {
    format!("{service}-{}", if family == Family::V4 { "v4" } else { "v6" })
}

/// Connections that stay; all talk, so that none counts as ended.
fn stay(lab: &Lab, family: Family) -> LongLived {
    let target = SocketAddr::new(vip(family, 0), ECHO_PORT);
    let plan = LongLivedPlan::new(target, lab.client_addresses(family), CONNECTIONS)
        .talking(CONNECTIONS, Duration::from_secs(1));
    let opened = LongLived::open(lab.clients(), plan).unwrap();
    opened.state().check().unwrap();
    opened
}

/// Opens new connections from all clients, and holds each to the version it must reach.
fn all_reach(lab: &Lab, family: Family, expected: impl Fn([bool; 2]) -> Version) {
    let target = SocketAddr::new(vip(family, 0), HTTP_PORT);
    let plan = FreshPlan::new(target, lab.client_addresses(family)).count(FRESH);
    let counts = Fresh::start(lab.clients(), plan).unwrap().finish().unwrap();
    counts.check().unwrap();
    let mut met = [false; 3];
    for (client, identity) in counts.answers.keys() {
        let [outer, inner] = within(*client);
        met[usize::from(outer) + usize::from(inner)] = true;
        assert_eq!(identity.version, expected([outer, inner]), "{client}");
    }
    assert_eq!(met, [true; 3], "clients outside, inside and further inside");
}

#[test]
fn rules_come_and_go_in_tc() {
    rules_come_and_go(Mode::Tc);
}

#[test]
fn rules_come_and_go_in_native_xdp() {
    rules_come_and_go(Mode::Xdp);
}

fn rules_come_and_go(mode: Mode) {
    let mut node = Node::start(LabBuilder::new(), mode, &["--drain-idle=3"]).unwrap();
    let blue = [10_000, 0, 0];
    let of_both = |lab: &Lab, rules: fn(Family) -> Vec<(&'static str, &'static str)>| {
        Family::ALL.map(|family| services(lab, family, blue, &rules(family))).concat()
    };
    let reach = |lab: &Lab, expected: fn([bool; 2]) -> Version| {
        Family::ALL.map(|family| all_reach(lab, family, expected))
    };
    let plain = of_both(node.lab(), |_| Vec::new());
    node.apply(&plain).unwrap();
    let all_stay = |lab: &Lab| Family::ALL.map(|family| stay(lab, family));
    let mut staying = all_stay(node.lab()).into_iter().collect::<Vec<_>>();

    // Canary has no weight at all.
    let one = of_both(node.lab(), |family| vec![(prefixes(family)[0], "canary")]);
    let changed = node.apply(&one).unwrap();
    for change in &changed.changes {
        assert_eq!((change.steering.rules, change.steering.moved), (1, 1));
        assert_eq!(change.moves, []);
    }
    let canary = |[outer, _]: [bool; 2]| if outer { Version::Canary } else { Version::Blue };
    reach(node.lab(), canary);
    staying.extend(all_stay(node.lab()));
    assert!(staying[2..].iter().all(|some| some.state().by_version()[2] > 50));

    // A rule within the other, while the table moves below both.
    for (service, family) in
        ["echo", "web"].into_iter().flat_map(|service| Family::ALL.map(|family| (service, family)))
    {
        let [outer, inner] = prefixes(family);
        let (service, rule) = (named(service, family), format!("{inner}=green"));
        node.lab().weir(&["steer", &service, "--add", &rule]).unwrap();
        let list = node.lab().weir(&["steer", &service]).unwrap();
        assert!(list.contains(outer) && list.contains(inner), "{list}");
    }
    node.shift(&["echo-v4", "web-v4", "echo-v6", "web-v6"], [0, 10_000, 0]).unwrap();
    reach(node.lab(), |[outer, inner]| match (outer, inner) {
        (true, false) => Version::Canary,
        _ => Version::Green,
    });
    staying.extend(all_stay(node.lab()));
    sleep(Duration::from_secs(6));
    node.apply(&one).unwrap();
    reach(node.lab(), canary);
    staying.extend(all_stay(node.lab()));
    for connections in &staying {
        connections.state().check().unwrap();
    }

    // All gone: the table alone decides again, and in the end nothing is left of the rules.
    node.apply(&plain).unwrap();
    reach(node.lab(), |_| Version::Blue);
    sleep(Duration::from_secs(12));
    for connections in staying {
        connections.verify().check().unwrap();
    }
    let deadline = Instant::now() + SETTLED;
    while node.used("steering_entries").unwrap() > 0 || node.used("flows").unwrap() > 0 {
        assert!(Instant::now() < deadline, "{:?}", node.node_status().unwrap().capacity);
        sleep(Duration::from_millis(250));
    }
}

/// So many rules, none within another, that lead to this version.
fn many(count: u32, version: &'static str) -> Vec<(String, &'static str)> {
    let source = |n: u32| {
        let [_, a, b, c] = n.to_be_bytes();
        format!("{}.{b}.{c}.0/24", 100 + a)
    };
    let mut rules: Vec<_> = (1..count).map(|n| (source(n), version)).collect();
    rules.push((prefixes(Family::V4)[0].to_owned(), version));
    rules
}

#[test]
fn a_hundred_thousand_rules_are_no_trouble() {
    const RULES: u32 = 100_000;
    let mut node = Node::start(LabBuilder::new(), Mode::Tc, &["--drain-idle=3"]).unwrap();
    let family = Family::V4;
    let with = |node: &Node, rules: &[(String, &'static str)]| {
        let rules: Vec<_> =
            rules.iter().map(|(source, version)| (source.as_str(), *version)).collect();
        let [mut echo, web] = services(node.lab(), family, [10_000, 0, 0], &rules);
        echo.more.clear();
        [echo, web]
    };
    let timed = |node: &mut Node, what, services: &[ServiceSpec]| -> (Duration, Duration) {
        let start = Instant::now();
        let changed = node.apply(services).unwrap();
        let (took, commit) = (start.elapsed(), changed.commit.duration);
        println!("{what}: {took:?}, of which the commit {commit:?}");
        (took, commit)
    };
    let plain = with(&node, &[]);
    node.apply(&plain).unwrap();
    let staying = stay(node.lab(), family);

    let all = with(&node, &many(RULES, "canary"));
    let (took, commit) = timed(&mut node, "100 000 rules", &all);
    assert_eq!(node.used("steering_entries").unwrap(), u64::from(RULES));
    let canary = |[outer, _]: [bool; 2]| if outer { Version::Canary } else { Version::Blue };
    all_reach(node.lab(), family, canary);
    let shifted = node.shift(&["web-v4"], [9_000, 1_000, 0]).unwrap().commit.duration;
    println!("a shift beside them: {shifted:?}");
    node.shift(&["web-v4"], [10_000, 0, 0]).unwrap();
    assert_eq!(node.status("web-v4").unwrap().spec.steering.len(), 100_000);

    // Killed while it writes other rules: the next agent leads to what is stored, and what was
    // written for nothing is gone.
    let others = with(&node, &many(RULES, "green"));
    let file = node.lab().directory().join("others.yaml");
    std::fs::write(&file, weir_tests::lab::spec::yaml(&others)).unwrap();
    for early in [1, 2, 4] {
        let mut apply = node.lab().weir_command(&["apply", "-f", file.to_str().unwrap()]).unwrap();
        let quiet = || std::process::Stdio::null();
        let mut apply = apply.stdout(quiet()).stderr(quiet()).spawn().unwrap();
        sleep(took.saturating_sub(commit * early / 4));
        node.take_agent().unwrap().kill().unwrap();
        apply.wait().unwrap();
        node.restart().unwrap();
        let stored = node.status("web-v4").unwrap().spec.steering[0].version;
        println!("killed: {stored} is stored\n{}", node.agent().unwrap().log_tail());
        assert_eq!(node.used("steering_entries").unwrap(), u64::from(RULES));
        let green = stored == weir::model::Version::Green;
        all_reach(node.lab(), family, |[outer, _]| match (outer, green) {
            (true, true) => Version::Green,
            (true, false) => Version::Canary,
            (false, _) => Version::Blue,
        });
    }

    timed(&mut node, "none of them", &plain);
    all_reach(node.lab(), family, |_| Version::Blue);
    staying.verify().check().unwrap();
}
