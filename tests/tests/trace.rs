//! What a trace says of a flow is what the loaded program does with it, in any state of a
//! transition, and a trace changes neither the flow table nor a counter.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use weir::dataplane::OuterSource;
use weir::dataplane::kernel::{Kernel, Options};
use weir::dataplane::next_hop::{Change, NextHop};
use weir::model::{Protocol, Rule, ServiceName, SpecFile, Version, Weight, parse_services};
use weir::node::messages::{Apply, ChangeOptions, InFlight, ServiceShift, Shift, Steer};
use weir::node::trace::answer::{FlowTrace, TraceFlow, Way};
use weir::node::{Error, Owner};
use weir::store::Directory;
use weir_ebpf::abi::{FlowEntry, FlowKey, TCP, UDP};
use weir_tests::frames::{ACK, Frame, PSH, SYN};
use weir_tests::operations::{Setting, Tally, World, case, run};
use weir_tests::program::{AWAY, Counts, PROGRAMS, Program, SMALL, Verdict, load, redirect_to_all};
use weir_tests::random::Random;

/// Histories of a whole node: each packet goes where a trace has said just before.
fn histories(seeds: std::ops::Range<u64>, room: u32, ipv6: bool) {
    let setting = Setting { room, inserts_per_second: 1 << 30, ipv6, traced: true };
    let mut world = World::new(setting);
    let mut total = Tally::default();
    for seed in seeds {
        total += run(&mut world, &format!("{setting:?}, case {seed}"), &case(seed, 30));
    }
    println!("{total:?}");
    assert!(total.traced > 2_000 && total.traced == total.packets, "{total:?}");
    assert!(total.remembered > 0 && (total.fallbacks > 0) == (room < 100), "{total:?}");
}

#[test]
fn flows_go_as_traced_with_room_for_all() {
    histories(0..6, 16_384, false);
}

#[test]
fn flows_go_as_traced_with_room_for_few() {
    histories(100..106, 20, true);
}

/// Services of every mode, affinity, family and treatment of datagrams. The third byte of each
/// backend's address tells the service, the last one the backend.
const FILE: &str = r#"services:
  - name: nat
    listeners: [{ address: 198.51.100.1, port: 80, protocol: tcp }, { address: 198.51.100.1, port: 53, protocol: udp }]
    versions:
      blue: { weight: 100%, backends: [{ address: 10.0.1.1, port: 8080 }, { address: 10.0.1.2, port: 8080 }] }
      canary: { backends: [{ address: 10.0.1.3, port: 8080 }] }
  - name: l2
    forwarding: dsr-l2
    affinity: client
    udp: stateless
    listeners: [{ address: 198.51.100.2, port: 0, protocol: tcp }, { address: 198.51.100.2, port: 0, protocol: udp }]
    versions:
      blue: { weight: 100%, backends: [{ address: 10.0.2.1 }, { address: 10.0.2.2 }] }
      canary: { backends: [{ address: 10.0.2.3 }] }
  - name: gue
    forwarding: dsr-gue
    affinity: client-backend
    listeners: [{ address: "2001:db8::3", port: 80, protocol: tcp }, { address: "2001:db8::3", port: 80, protocol: udp }]
    versions:
      blue: { weight: 100%, backends: [{ address: 10.0.3.1, port: 80 }, { address: 10.0.3.2, port: 80 }] }
      canary: { backends: [{ address: 10.0.3.3, port: 80 }] }
  - name: quic
    udp: quic
    listeners: [{ address: 198.51.100.4, port: 443, protocol: udp }]
    versions:
      blue: { weight: 100%, backends: [{ address: 10.0.4.1, port: 443 }, { address: 10.0.4.2, port: 443 }] }
      canary: { backends: [{ address: 10.0.4.3, port: 443 }] }
"#;

/// Listeners with their services and protocols.
const LISTENERS: [(&str, &str, Protocol); 7] = [
    ("nat", "198.51.100.1:80", Protocol::Tcp),
    ("nat", "198.51.100.1:53", Protocol::Udp),
    ("l2", "198.51.100.2:7777", Protocol::Tcp),
    ("l2", "198.51.100.2:7777", Protocol::Udp),
    ("gue", "[2001:db8::3]:80", Protocol::Tcp),
    ("gue", "[2001:db8::3]:80", Protocol::Udp),
    ("quic", "198.51.100.4:443", Protocol::Udp),
];

/// The beginnings of an Initial (RFC 9001 §A.2) and of a packet with a short header (§A.5).
const INITIAL: [u8; 16] = *b"\xc0\x00\x00\x00\x01\x08\x83\x94\xc8\xf0\x3e\x51\x57\x08\x00\x00";
const SHORT: [u8; 16] = *b"\x4c\xfe\x41\x89\x65\x5e\x5c\xd5\x5c\x41\xf6\x90\x80\x57\x5d\x79";

struct Loaded {
    owner: Owner<Kernel, Directory>,
    _state: tempfile::TempDir,
}

fn mac(address: IpAddr) -> [u8; 6] {
    let IpAddr::V4(v4) = address else { panic!("{address}") };
    let [_, _, service, backend] = v4.octets();
    [2, 0, 0, 0, service, backend]
}

fn name(text: &str) -> ServiceName {
    ServiceName::new(text).unwrap()
}

impl Loaded {
    fn new(options: Options) -> Self {
        let outer = OuterSource { v4: "10.0.0.9".parse().ok(), v6: None };
        let kernel = load(Options { outer, ..options });
        let state = tempfile::tempdir().unwrap();
        let mut owner = Owner::start(kernel, Directory::open(state.path()).unwrap()).unwrap();
        let services = parse_services(&SpecFile::parse(FILE).unwrap().services, false).unwrap();
        owner.apply(&Apply { services, options: ChangeOptions::default() }).unwrap();
        let addresses = owner.addresses().as_ref().clone().into_iter();
        let hop = |address| NextHop::plain(AWAY, [2; 6], mac(address));
        let hops = addresses.map(|address| Change::Hop(address, Some(hop(address)))).collect();
        owner.follow(hops);
        redirect_to_all(owner.plane());
        Self { owner, _state: state }
    }

    fn trace(&self, from: SocketAddr, to: SocketAddr, protocol: Protocol) -> FlowTrace {
        self.owner.trace_flow(&TraceFlow { from, to: Some(to), protocol, service: None }).unwrap()
    }

    fn shift(&mut self, service: &str, canary: u32) {
        let shift = ServiceShift {
            service: name(service),
            set: vec![(Version::Canary, Weight::from_bp(canary).unwrap())],
            remainder: Version::Blue,
            expected_generation: None,
        };
        let (in_flight, options) = (InFlight::default(), ChangeOptions::default());
        self.owner.shift(&Shift { shifts: vec![shift], in_flight, lease: None, options }).unwrap();
    }

    fn steer(&mut self, service: &str, source: &str, version: Version) {
        let rule = Rule { source: source.parse().unwrap(), version };
        let steer = Steer {
            service: name(service),
            add: vec![rule],
            remove: Vec::new(),
            expected_generation: None,
            options: ChangeOptions::default(),
        };
        self.owner.steer(&steer).unwrap();
    }

    /// All that a trace might change.
    fn state(&mut self) -> (BTreeMap<Vec<u8>, FlowEntry>, Counts) {
        let kernel = self.owner.plane();
        let flows = [TCP, UDP].map(|protocol| kernel.flows(protocol).unwrap()).concat();
        let bytes = |key: &FlowKey| format!("{key:?}").into_bytes();
        let flows = flows.iter().map(|(key, entry)| (bytes(key), *entry)).collect();
        (flows, Counts::read(kernel, 16))
    }

    /// The MAC address that a packet was sent to, by the program.
    fn send(&mut self, program: Program, frame: &Frame) -> [u8; 6] {
        let (verdict, out) = program.run(self.owner.plane(), &frame.bytes());
        assert_eq!(verdict, Verdict::Redirect, "{frame:?}");
        out[..6].try_into().unwrap()
    }
}

fn frame(from: SocketAddr, to: SocketAddr, protocol: Protocol, opens: bool) -> Frame {
    match protocol {
        Protocol::Tcp => Frame::tcp(from, to, if opens { SYN } else { PSH | ACK }),
        Protocol::Udp => {
            let payload = if opens { INITIAL } else { SHORT }.to_vec();
            Frame { payload, ..Frame::udp(from, to) }
        }
    }
}

/// Hundreds of flows of every kind of service, over random shifts and rules: each goes where its
/// trace says, opening and continuing, by both programs.
#[test]
fn flows_of_every_kind_go_as_traced() {
    let mut node = Loaded::new(SMALL);
    let mut random = Random(5);
    let (mut whys, mut differ) = (BTreeMap::<String, u32>::new(), 0);
    for round in 0..12 {
        for service in ["nat", "l2", "gue", "quic"] {
            if round > 0 && random.percent(60) {
                node.shift(service, u32::try_from(random.below(10_001)).unwrap());
            }
            if random.percent(30) {
                let net = random.below(4);
                let source = match service {
                    "gue" => format!("2001:db8:7::{net}00/120"),
                    _ => format!("192.0.{net}.0/24"),
                };
                node.steer(service, &source, *random.one(&Version::ALL[..1]));
            }
        }
        for _ in 0..60 {
            let (service, to, protocol) = *random.one(&LISTENERS);
            let to: SocketAddr = to.parse().unwrap();
            let (net, host) = (random.below(4), 1 + random.below(40));
            let from = match to {
                SocketAddr::V4(_) => format!("192.0.{net}.{host}:{}", 4_000 + random.below(3)),
                SocketAddr::V6(_) => format!("[2001:db8:7::{net}{host:02x}]:{}", 4_000),
            };
            let from: SocketAddr = from.parse().unwrap();
            let opens = random.percent(50);
            let before = node.state();
            let traced = node.trace(from, to, protocol);
            assert_eq!(node.state(), before, "a trace has changed something: {traced:?}");
            let walk = traced.walk.as_ref().unwrap();
            assert_eq!(walk.service.as_str(), service);
            differ += u32::from(walk.opens.goes != walk.continues.goes);
            let Way { goes, why, .. } = if opens { &walk.opens } else { &walk.continues };
            *whys.entry(why.clone()).or_default() += 1;
            let goes = goes.as_ref().unwrap();
            let reached = node.send(PROGRAMS[round % 2], &frame(from, to, protocol, opens));
            assert_eq!(reached, mac(goes.backend.address.ip()), "{traced:#?}");
            let text = reached.map(|byte| format!("{byte:02x}")).join(":");
            let hop = goes.hop.as_ref().unwrap();
            assert_eq!((&hop.mac, hop.interface.as_str()), (&text, "away"));
        }
    }
    println!("{whys:?}, {differ} where opening and continuing differ");
    for why in ["table", "pinned", "remembered"] {
        assert!(whys[why] > 20, "{whys:?}");
    }
    assert!(differ > 20);
}

/// A flood is told, and that the table is full.
#[test]
fn a_trace_tells_of_a_flood_and_of_a_full_table() {
    let to: SocketAddr = "198.51.100.1:80".parse().unwrap();
    let client = |port: u16| SocketAddr::from(([192, 0, 2, 7], port));
    for (options, why) in [
        (Options { flows: 8, ..SMALL }, "full"),
        (Options { inserts_per_second: 0, ..SMALL }, "flooded"),
    ] {
        let mut node = Loaded::new(options);
        node.shift("nat", 10_000);
        let mut port = 1_000;
        while port < 1_100 {
            port += 1;
            let before = node.state();
            let traced = node.trace(client(port), to, Protocol::Tcp);
            assert_eq!(node.state(), before);
            let walk = traced.walk.as_ref().unwrap();
            let goes = walk.opens.goes.as_ref().unwrap();
            // In a flood it depends on the processor while one has some left.
            let room = walk.room.unwrap();
            let sure = room.refusing == 0 || room.refusing == room.processors;
            let reached = node.send(PROGRAMS[0], &frame(client(port), to, Protocol::Tcp, true));
            if sure {
                assert_eq!(reached, mac(goes.backend.address.ip()), "{traced:#?}");
            }
            if walk.opens.why == why {
                assert_eq!(goes.backend.version, Some(Version::Blue));
                break;
            }
            assert_eq!(walk.opens.why, "remembered");
        }
        assert!(port < 1_100, "it never was {why}");
    }
}

/// Why nobody takes a packet is said plainly.
#[test]
fn what_no_listener_takes_is_explained() {
    let node = Loaded::new(SMALL);
    let why = |from: &str, to: &str, protocol| {
        let traced = node.trace(from.parse().unwrap(), to.parse().unwrap(), protocol);
        assert_eq!(traced.walk, None);
        traced.not_taken.unwrap()
    };
    let client = "192.0.2.7:4000";
    let port = why(client, "198.51.100.1:81", Protocol::Tcp);
    assert!(port.contains("nothing listens at port 81/tcp there"), "{port}");
    assert!(port.contains("198.51.100.1:80/tcp (nat), 198.51.100.1:53/udp (nat)"), "{port}");
    let protocol = why(client, "198.51.100.4:443", Protocol::Tcp);
    assert!(protocol.contains("nothing listens at port 443/tcp there"), "{protocol}");
    let address = why(client, "198.51.100.9:80", Protocol::Tcp);
    assert!(address.contains("no listener has the address 198.51.100.9"), "{address}");
    let direct = why(client, "10.0.1.1:8080", Protocol::Tcp);
    assert!(direct.contains("10.0.1.1:8080 is a backend of nat"), "{direct}");
    let answer = why("10.0.1.1:8080", client, Protocol::Tcp);
    assert!(answer.contains("as if from 198.51.100.1:80"), "{answer}");
    let asked = |to: Option<&str>, service: &str| {
        let to = to.map(|to| to.parse().unwrap());
        let service = Some(name(service));
        let from = client.parse().unwrap();
        node.owner.trace_flow(&TraceFlow { from, to, protocol: Protocol::Udp, service })
    };
    // The only listener of its protocol, and one that is somebody else's.
    assert_eq!(asked(None, "quic").unwrap().to.to_string(), "198.51.100.4:443");
    let other = asked(Some("198.51.100.1:53"), "quic").unwrap_err().to_string();
    assert_eq!(other, "service: the listener belongs to nat, not to quic");
    assert!(matches!(asked(None, "none"), Err(Error::NotFound(_))));
    let family = asked(None, "gue").unwrap_err().to_string();
    assert!(family.contains("not of one family"), "{family}");
    let any = asked(None, "l2").unwrap_err().to_string();
    assert!(any.contains("choose of the listeners"), "{any}");
}
