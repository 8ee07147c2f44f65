//! Which version is worse? Five canaries, each ill in its way beside a blue that is well, under real
//! connections: one screen of `weir counters` shows for each what ails it, and where.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::net::{IpAddr, SocketAddr};
use std::thread::sleep;
use std::time::Duration;

use weir_tests::identity::Version;
use weir_tests::lab::LabBuilder;
use weir_tests::lab::addresses::{Family, HTTP_PORT, backend, vip};
use weir_tests::load::fresh::{Fresh, FreshPlan};
use weir_tests::node::{Mode, Node};
use weir_tests::servers::ill::{self, Late};

/// Ports of a backend: nobody listens, a server answers late, nobody answers, a server resets.
const CLOSED: u16 = 81;
const LATE: u16 = 82;
const MUTE: u16 = 83;
const RESETTING: u16 = 84;
const DELAY: Duration = Duration::from_millis(40);
/// A handshake without an answer counts as such after three seconds.
const UNANSWERED: Duration = Duration::from_secs(5);

/// Services, and the port of their canary's backend.
const SERVICES: [(&str, u16); 5] = [
    ("slow", LATE),
    ("refusing", CLOSED),
    ("silent", MUTE),
    ("resetting", RESETTING),
    ("one-bad", CLOSED),
];

fn at(index: u8) -> IpAddr {
    backend(Family::V4, Version::Canary, index)
}

fn spec(index: u8) -> String {
    let (name, port) = SERVICES[usize::from(index)];
    let (listener, blue) = (vip(Family::V4, index), backend(Family::V4, Version::Blue, index));
    let one = |index, port| format!("{{ address: {}, port: {port} }}", at(index));
    let mut canary = vec![one(index, port)];
    if name == "one-bad" {
        canary.extend([one(index + 1, HTTP_PORT), one(index + 2, HTTP_PORT)]);
    }
    format!(
        "  - name: {name}
    listeners: [{{ address: {listener}, port: {HTTP_PORT}, protocol: tcp }}]
    versions:
      blue: {{ weight: 60%, backends: [{{ address: {blue}, port: {HTTP_PORT} }}] }}
      canary: {{ weight: 40%, backends: [{}] }}
",
        canary.join(", ")
    )
}

/// What the screen shows in a row.
#[derive(Debug)]
struct Row {
    /// Per cent.
    success: f64,
    p50: Duration,
    refused: u64,
    unanswered: u64,
    resent: u64,
    resets: u64,
}

/// The rows of a service: of blue and of its canary, each followed by its backends.
fn rows<'a>(screen: &'a str, service: &str) -> Vec<(&'a str, Row)> {
    let lines = screen.lines().skip_while(|line| !line.starts_with(service));
    let (mut rows, mut version) = (Vec::new(), "");
    for (index, line) in lines.enumerate() {
        if index > 0 && !line.starts_with(' ') {
            break;
        }
        // Two blanks part cells; within one there may be one, as in `1 234` and `40.1 ms`.
        let cells = line.split("  ").map(str::trim).filter(|cell| !cell.is_empty());
        let mut words: Vec<&str> = cells.collect();
        if index == 0 {
            words.remove(0);
        }
        if words.len() == 11 {
            version = words.remove(0);
        }
        let of = if words[0] == "all" { version } else { words[0] };
        let number = |at: usize| words[at].replace(' ', "").parse().unwrap();
        rows.push((
            of,
            Row {
                success: words[1].trim_end_matches('%').parse().unwrap_or(f64::NAN),
                p50: time(words[2]),
                refused: number(4),
                unanswered: number(5),
                resent: number(6),
                resets: number(7),
            },
        ));
    }
    rows
}

/// `40.1 ms`; nothing for a dash.
fn time(text: &str) -> Duration {
    let Some((number, unit)) = text.split_once(' ') else { return Duration::ZERO };
    let number: f64 = number.parse().unwrap();
    Duration::from_secs_f64(match unit {
        "s" => number,
        "ms" => number / 1e3,
        _ => number / 1e6,
    })
}

#[test]
fn which_version_is_worse_and_why_is_seen_on_one_screen() {
    let builder = LabBuilder::new().families(&[Family::V4]).backends(7);
    let mut node = Node::start(builder, Mode::Tc, &[]).unwrap();
    let specs: String = (0..5).map(spec).collect();
    node.apply_text(&format!("services:\n{specs}")).unwrap();
    let canary = node.lab().version(Version::Canary);
    // What the kernel itself would say in place of those that say nothing, or late.
    let silenced = [at(0), at(2)].map(|address| format!("rule add from {address} blackhole"));
    canary.ip(&silenced).unwrap();
    let _late = Late::start(canary, LATE, DELAY).unwrap();
    let _resetting = ill::resetting(canary, vec![(at(3), RESETTING).into()]).unwrap();

    let clients = node.lab().client_addresses(Family::V4);
    let load = |index| {
        let target = SocketAddr::new(vip(Family::V4, index), HTTP_PORT);
        // One that fails is not tried again, and is given up when weir has.
        let plan = FreshPlan::new(target, clients.clone()).rate(50).count(150);
        Fresh::start(node.lab().clients(), plan.limit(Duration::from_secs(4))).unwrap()
    };
    let loads: Vec<Fresh> = (0..5).map(load).collect();
    for load in loads {
        load.finish().unwrap();
    }
    sleep(UNANSWERED);

    let screen = node.lab().weir(&["counters"]).unwrap();
    println!("{screen}");
    for (service, _) in SERVICES {
        let rows = rows(&screen, service);
        let of = |name: &str| &rows.iter().find(|(of, _)| *of == name).unwrap().1;
        let (blue, canary) = (of("blue"), of("canary"));
        let well =
            |row: &Row| row.success >= 100.0 && row.refused + row.unanswered + row.resets == 0;
        assert!(well(blue), "{service}: {blue:?}");
        let told = match service {
            // A quantile is within 6.25 % of the true one.
            "slow" => well(canary) && canary.p50 > DELAY * 15 / 16 && blue.p50 < DELAY / 4,
            "refusing" => canary.success == 0.0 && canary.refused > 0 && canary.unanswered == 0,
            "silent" => canary.success == 0.0 && canary.unanswered > 0 && canary.resent > 0,
            "resetting" => canary.success >= 100.0 && canary.resets > 0 && canary.refused == 0,
            _ => {
                let bad = of(&format!("{}:{CLOSED}", at(4)));
                let others = [5, 6].map(|index| of(&format!("{}:{HTTP_PORT}", at(index))));
                (30.0..90.0).contains(&canary.success)
                    && bad.success == 0.0
                    && bad.refused == canary.refused
                    && others.iter().all(|row| well(row))
            }
        };
        assert!(told, "{service}: blue {blue:?}, canary {canary:?}");
    }
}
