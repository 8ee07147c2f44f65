//! Every forwarding mode in both hooks, for each pair of families that it carries, end to end:
//! files arrive bit for bit, datagrams are answered, and a shift under load loses nothing.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::net::{IpAddr, SocketAddr};
use std::thread::sleep;
use std::time::{Duration, Instant};

use weir_tests::decap::Decap;
use weir_tests::identity::Version;
use weir_tests::lab::LabBuilder;
use weir_tests::lab::addresses::{ECHO_PORT, Family, HTTP_PORT, vip};
use weir_tests::lab::spec::{Protocol, ServiceSpec};
use weir_tests::load::fresh::{Fresh, FreshPlan};
use weir_tests::load::long_lived::{LongLived, LongLivedPlan};
use weir_tests::load::transfer::{download, upload};
use weir_tests::node::{Mode, Node};
use weir_tests::pace;

use Family::{V4, V6};

/// Families of the listener and of its backends.
type Pair = (Family, Family);

const SAME: &[Pair] = &[(V4, V4), (V6, V6)];
const IPIP: &[Pair] = &[(V4, V4), (V6, V6), (V4, V6)];
const GUE: &[Pair] = &[(V4, V4), (V6, V6), (V4, V6), (V6, V4)];

/// From one byte to many windows of TCP.
const LENGTHS: [usize; 4] = [1, 1_000, 100_000, 50_000_000];
const LIMIT: Duration = Duration::from_secs(60);
/// Connections that begin while weights change.
const CONNECTIONS: u64 = 1_200;

/// What is run, and what the table in `docs/forwarding.md` says: mode, families.
const CELLS: [(&str, &[Pair]); 4] =
    [("nat", SAME), ("dsr-l2", SAME), ("dsr-ipip", IPIP), ("dsr-gue", GUE)];

#[test]
fn nat_in_tc() {
    works("nat", Mode::Tc);
}

#[test]
fn nat_in_native_xdp() {
    works("nat", Mode::Xdp);
}

#[test]
fn dsr_l2_in_tc() {
    works("dsr-l2", Mode::Tc);
}

#[test]
fn dsr_l2_in_native_xdp() {
    works("dsr-l2", Mode::Xdp);
}

#[test]
fn dsr_ipip_in_tc() {
    works("dsr-ipip", Mode::Tc);
}

#[test]
fn dsr_ipip_in_native_xdp() {
    works("dsr-ipip", Mode::Xdp);
}

#[test]
fn dsr_gue_in_tc() {
    works("dsr-gue", Mode::Tc);
}

#[test]
fn dsr_gue_in_native_xdp() {
    works("dsr-gue", Mode::Xdp);
}

#[test]
fn the_table_in_the_documentation_is_what_is_run() {
    let digit = |family| if family == V4 { 4 } else { 6 };
    let row = |mode, (listener, backend)| {
        format!("| {mode} | {} → {} | ✓ | ✓ |", digit(listener), digit(backend))
    };
    let mut run: Vec<String> = CELLS
        .iter()
        .flat_map(move |(mode, pairs)| pairs.iter().map(move |pair| row(mode, *pair)))
        .collect();
    let page = include_str!("../../docs/forwarding.md");
    let mut said: Vec<&str> =
        page.lines().filter(|line| line.contains('✓') && line.starts_with('|')).collect();
    run.sort();
    said.sort_unstable();
    assert_eq!(said, run);
}

fn works(forwarding: &'static str, mode: Mode) {
    let (_, pairs) = CELLS.into_iter().find(|(name, _)| *name == forwarding).unwrap();
    let lab = LabBuilder::new().clients(50).backends(1).direct();
    let mut node = Node::start(lab, mode, &[]).unwrap();
    let tunnels = forwarding == "dsr-ipip" || forwarding == "dsr-gue";
    let decap = Version::ALL.map(|version| {
        tunnels.then(|| Decap::start(node.lab(), version, mode.name(), &[]).unwrap())
    });
    let services = pairs.iter().flat_map(|&pair| services(&node, forwarding, pair));
    let services: Vec<ServiceSpec> = services.collect();
    node.apply(&services).unwrap();
    for pair in pairs {
        let about = format!("{forwarding}, {pair:?}, {mode:?}");
        let started = Instant::now();
        transfers(&node, *pair);
        let transferred = started.elapsed();
        shift_under_load(&mut node, *pair);
        println!("{about}: files in {transferred:?}, all in {:?}", started.elapsed());
    }
    drop(decap);
}

/// The address of a pair's services. Two pairs with the same listener family have two.
fn address((listener, backend): Pair) -> IpAddr {
    vip(listener, u8::from(listener != backend))
}

fn names((listener, backend): Pair) -> [String; 3] {
    ["web", "echo", "udp"].map(|name| format!("{name}-{listener:?}-{backend:?}").to_lowercase())
}

fn services(node: &Node, forwarding: &'static str, pair: Pair) -> [ServiceSpec; 3] {
    let [web, echo, udp] = names(pair);
    let backends = Version::ALL.map(|version| node.lab().backends(pair.1, version));
    [
        (web, HTTP_PORT, Protocol::Tcp),
        (echo, ECHO_PORT, Protocol::Tcp),
        (udp, ECHO_PORT, Protocol::Udp),
    ]
    .map(|(name, port, protocol)| ServiceSpec {
        name,
        listener: SocketAddr::new(address(pair), port),
        protocol,
        forwarding,
        weights: [10_000, 0, 0],
        backends: backends.clone(),
        more: Vec::new(),
    })
}

fn transfers(node: &Node, pair: Pair) {
    let client = SocketAddr::new(node.lab().client_addresses(pair.0)[0], 0);
    let target = SocketAddr::new(address(pair), HTTP_PORT);
    let run = node.lab().clients().run(move || async move {
        let limit = pace::wait(LIMIT);
        for length in LENGTHS {
            upload(client, target, length, limit).await?;
            download(client, target, length, limit).await?;
        }
        anyhow::Ok(())
    });
    run.unwrap().unwrap();
}

/// New connections, connections that last, and datagrams, while everything is shifted to and fro.
fn shift_under_load(node: &mut Node, pair: Pair) {
    let [web, echo, udp] = names(pair);
    let clients = node.lab().client_addresses(pair.0);
    let at = |port| SocketAddr::new(address(pair), port);
    let fresh = FreshPlan::new(at(HTTP_PORT), clients.clone()).rate(1_000);
    let lasting = LongLivedPlan::new(at(ECHO_PORT), clients.clone(), 100);
    let datagrams = LongLivedPlan::new(at(ECHO_PORT), clients, 50).protocol(Protocol::Udp);
    let lasting = LongLived::open(node.lab().clients(), lasting).unwrap();
    let datagrams = LongLived::open(node.lab().clients(), datagrams).unwrap();
    let fresh = Fresh::start(node.lab().clients(), fresh).unwrap();
    for (shifts, weights) in (1..).zip([[5_000, 0, 5_000], [0, 10_000, 0], [2_000, 3_000, 5_000]]) {
        node.shift(&[&web, &echo, &udp], weights).unwrap();
        let deadline = Instant::now() + LIMIT;
        while fresh.counts().answered() < shifts * CONNECTIONS / 3 && Instant::now() < deadline {
            sleep(Duration::from_millis(20));
        }
    }
    let counts = fresh.stop().unwrap();
    counts.check().unwrap();
    assert!(counts.answered() >= CONNECTIONS, "{counts}");
    let each = counts.by_version();
    assert!(each.iter().all(|count| *count > 0), "every version has its turn: {each:?}");
    for (kept, what) in [(lasting, "connections"), (datagrams, "datagrams")] {
        let state = kept.verify();
        assert!(state.check().is_ok(), "{what}: {state:?}");
    }
    node.shift(&[&web, &echo, &udp], [10_000, 0, 0]).unwrap();
}
