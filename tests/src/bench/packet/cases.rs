//! What is measured: nodes with services, and packets to them.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Result;
use weir::dataplane::OuterSource;
use weir::dataplane::kernel::Options;
use weir_ebpf::abi::{DEFAULT_FLOWS, POOL_LINES};

use super::flows::{Flows, Kind, PORT, listener_v4, listener_v6};
use crate::cases::nodes::{BARE, HERE, Node, Spec};
use crate::program::SMALL;

/// Backends of each version, where nothing else is said: one.
const THREE: [u32; 3] = [1, 1, 1];
/// Weights in the steady state, and before a shift.
const STEADY: [u32; 3] = [5_000, 3_000, 2_000];
const BEFORE: [u32; 3] = [10_000, 0, 0];
/// Room for twice as many datagram flows as are measured: their table evicts.
const UDP_ROOM: u32 = 1 << 21;

/// A packet to a service of a node, over and over.
#[derive(Clone, Debug)]
pub struct Case {
    /// What a user reads.
    pub name: String,
    /// Its flows.
    pub flows: Flows,
    /// Each flow opens before it is measured, and is remembered where its slot has moved.
    pub opened: bool,
    /// It is among the few that a quick look takes.
    pub quick: bool,
}

/// A node, and what is measured at it.
#[derive(Clone, Debug)]
pub struct Setup {
    services: Vec<Service>,
    /// Weights after the services were made.
    shifts: Vec<(String, [u32; 3])>,
    options: Options,
    /// What is measured.
    pub cases: Vec<Case>,
}

/// A service in a spec.
#[derive(Clone, Debug)]
struct Service {
    name: String,
    mode: &'static str,
    v6: bool,
    weights: [u32; 3],
    backends: [u32; 3],
    /// More lines of its spec, and its rules.
    signals: &'static str,
    udp: &'static str,
    rules: u32,
}

impl Service {
    fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            mode: "dsr-ipip",
            v6: false,
            weights: STEADY,
            backends: THREE,
            signals: "basic",
            udp: "tracked",
            rules: 0,
        }
    }
}

/// A backend by number.
fn backend(v6: bool, number: u32) -> IpAddr {
    if v6 {
        Ipv6Addr::from(u128::from(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1)) + u128::from(number))
            .into()
    } else {
        Ipv4Addr::from(u32::from_be_bytes([10, 0, 0, 1]) + number).into()
    }
}

impl Setup {
    fn new(services: Vec<Service>, cases: Vec<Case>) -> Self {
        let outer = OuterSource {
            v4: Some(Ipv4Addr::new(203, 0, 113, 1)),
            v6: Some(Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 1)),
        };
        let options = Options {
            outer,
            flows: DEFAULT_FLOWS,
            udp_flows: UDP_ROOM,
            pool_lines: POOL_LINES,
            ..SMALL
        };
        Self { services, shifts: Vec::new(), options, cases }
    }

    /// Starts the node, in a network namespace of the calling thread's own.
    ///
    /// # Errors
    ///
    /// The program cannot be loaded.
    pub fn start(&self) -> Result<Node> {
        let (mut text, mut hops, mut next) = (String::from("services:\n"), Vec::new(), 0);
        for (index, service) in (0..).zip(&self.services) {
            self::write(&mut text, index, service, next)?;
            let count: u32 = service.backends.iter().sum();
            let leaked =
                (next..next + count).map(|number| &*backend(service.v6, number).to_string().leak());
            hops.extend(leaked.map(|address| (address, HERE)));
            next += count;
        }
        let shifts: Vec<(&str, [u32; 3])> =
            self.shifts.iter().map(|(name, weights)| (&*name.clone().leak(), *weights)).collect();
        // A node's spec lives as long as the program; there are few of them.
        Node::start(&Spec {
            name: "bench",
            services: text.leak(),
            hops: hops.leak(),
            shifts: shifts.leak(),
            options: self.options,
            ..BARE
        })
    }
}

/// Writes a service as a user would.
fn write(text: &mut String, index: u32, service: &Service, first: u32) -> Result<()> {
    let Service { name, mode, v6, signals, udp, .. } = service;
    let address: IpAddr = if *v6 { listener_v6(index).into() } else { listener_v4(index).into() };
    writeln!(text, "  - name: {name}\n    listeners:")?;
    for protocol in ["tcp", "udp"] {
        writeln!(text, "      - {{ address: \"{address}\", port: {PORT}, protocol: {protocol} }}")?;
    }
    writeln!(
        text,
        "    forwarding: {mode}\n    signals: {signals}\n    udp: {udp}\n    versions:"
    )?;
    let port = if *mode == "nat" { ", port: 8080" } else { "" };
    let mut number = first;
    for ((version, weight), count) in
        ["blue", "green", "canary"].iter().zip(service.weights).zip(service.backends)
    {
        writeln!(text, "      {version}:\n        weight: {weight}bp\n        backends:")?;
        for _ in 0..count {
            let address = backend(*v6, number);
            writeln!(text, "          - {{ address: \"{address}\"{port} }}")?;
            number += 1;
        }
    }
    if service.rules > 0 {
        writeln!(text, "    steering:")?;
    }
    for rule in 0..service.rules {
        // Halves of the /24 that clients are in, of which there are 131 072.
        let prefix = Ipv4Addr::from(u32::from_be_bytes([11, 0, 0, 0]) + rule * 128);
        let version = ["blue", "green", "canary"][rule as usize % 3];
        writeln!(text, "      - {{ source: {prefix}/25, version: {version} }}")?;
    }
    Ok(())
}

fn case(name: impl Into<String>, service: u32, v6: bool, kind: Kind) -> Case {
    let flows = Flows { v6, kind, first: service, services: 1 };
    Case { name: name.into(), flows, opened: false, quick: false }
}

fn quick(case: Case) -> Case {
    Case { quick: true, ..case }
}

fn opened(case: Case) -> Case {
    Case { opened: true, ..case }
}

/// All setups. What they measure is in the order in which people read it.
#[must_use]
pub fn setups() -> Vec<Setup> {
    let mut all = vec![steady(), signals()];
    for mode in ["dsr-ipip", "nat"] {
        all.extend(SHARES.map(|share| transition(mode, share)));
    }
    for services in [64, 512] {
        all.push(many(&format!("{services} services"), services, THREE));
    }
    all.push(one("256 backends", [86, 85, 85], 0));
    all.push(one("4096 backends", [1_366, 1_365, 1_365], 0));
    all.push(many("512 services, 4096 backends", 512, [3, 3, 2]));
    all.push(one("100000 rules", THREE, 100_000));
    all
}

/// Each mode and family, TCP and UDP.
fn steady() -> Setup {
    let (mut services, mut cases) = (Vec::new(), Vec::new());
    for mode in ["dsr-ipip", "dsr-gue", "dsr-l2", "nat"] {
        for v6 in [false, true] {
            let family = if v6 { "v6" } else { "v4" };
            let mut add = |udp, kinds: &[(&str, Kind)]| {
                let index = u32::try_from(services.len()).unwrap_or(u32::MAX);
                for (what, kind) in kinds {
                    let case = case(format!("{mode} {family} {what}"), index, v6, *kind);
                    let is_quick = !v6 && *kind == Kind::Established;
                    cases.push(Case { quick: is_quick, ..case });
                }
                let name = format!("{mode}-{family}-{udp}");
                services.push(Service { mode, v6, udp, ..Service::new(name) });
            };
            let tcp = [("tcp", Kind::Established), ("tcp syn", Kind::Syn)];
            let tracked = ("udp tracked", Kind::Datagram);
            add("tracked", &[tcp[0], tcp[1], tracked]);
            add("stateless", &[("udp stateless", Kind::Datagram)]);
        }
    }
    Setup::new(services, cases)
}

/// Levels of signals.
fn signals() -> Setup {
    let (mut services, mut cases) = (Vec::new(), Vec::new());
    for mode in ["dsr-ipip", "nat"] {
        for signals in ["off", "basic", "full"] {
            let index = u32::try_from(services.len()).unwrap_or(u32::MAX);
            services.push(Service { mode, signals, ..Service::new(format!("{mode}-{signals}")) });
            for (what, kind) in [("tcp", Kind::Established), ("tcp syn", Kind::Syn)] {
                let name = format!("{mode} v4 {what}, signals {signals}");
                let case = case(name, index, false, kind);
                let is_quick = mode == "dsr-ipip" && kind == Kind::Established;
                cases.push(Case { quick: is_quick && signals != "basic", ..case });
            }
        }
    }
    Setup::new(services, cases)
}

/// Slots in transition: so many, by these weights.
const SHARES: [(&str, [u32; 3]); 2] = [("5%", [9_500, 0, 500]), ("100%", [0, 10_000, 0])];

/// Slots in transition. All flows of the case are remembered, those with fewer flows, too.
fn transition(mode: &'static str, (share, weights): (&str, [u32; 3])) -> Setup {
    let name = format!("{mode}-{share}").replace('%', "");
    let services = vec![Service { mode, weights: BEFORE, ..Service::new(name.clone()) }];
    let what = format!("{mode} v4 tcp, {share} moved");
    let case = opened(case(what, 0, false, Kind::Established));
    let cases = vec![if mode == "dsr-ipip" { quick(case) } else { case }];
    Setup { shifts: vec![(name, weights)], ..Setup::new(services, cases) }
}

/// Many services, all of them in turns.
fn many(name: &str, count: u32, backends: [u32; 3]) -> Setup {
    let services = (0..count)
        .map(|index| Service { backends, ..Service::new(format!("service-{index}")) })
        .collect();
    let flows = Flows { v6: false, kind: Kind::Established, first: 0, services: count };
    let name = format!("dsr-ipip v4 tcp, {name}");
    let case = Case { name, flows, opened: false, quick: false };
    let case = if backends == THREE { case } else { quick(case) };
    Setup::new(services, vec![case])
}

/// One service with more of something.
fn one(name: &str, backends: [u32; 3], rules: u32) -> Setup {
    let service = Service { backends, rules, ..Service::new("one") };
    let case = case(format!("dsr-ipip v4 tcp, {name}"), 0, false, Kind::Established);
    Setup::new(vec![service], vec![case])
}
