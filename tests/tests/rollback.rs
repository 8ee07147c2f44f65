//! A rollback takes every new connection off the abandoned version, also when the flow table is
//! full, and breaks none that has begun there.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use weir::dataplane::kernel::{Kernel, Options};
use weir::dataplane::next_hop::{Change, NextHop};
use weir::model::{ServiceName, SpecFile, Version, Weight, parse_services};
use weir::node::messages::{Apply, ChangeOptions, InFlight, RollBack, ServiceShift, Shift};
use weir::node::{Owner, clock};
use weir::store::Directory;
use weir_ebpf::abi::{FLOW_BUCKET, FlowEntry, TCP, flow_buckets};
use weir_tests::frames::{ACK, Frame, PSH, SYN, read};
use weir_tests::lab::LabBuilder;
use weir_tests::lab::addresses::{ECHO_PORT, Family, HTTP_PORT, vip};
use weir_tests::lab::spec::Protocol;
use weir_tests::load::fresh::{Fresh, FreshPlan};
use weir_tests::load::long_lived::{LongLived, LongLivedPlan};
use weir_tests::node::{Mode, Node};
use weir_tests::program::{PROGRAMS, Program, SMALL, Verdict, load, redirect_to_all};

/// Flows that the kernel's table is to have room for, and places that it has for them. Of hundreds of
/// flows each place gets one.
const ROOM: u32 = 32;
const PLACES: usize = flow_buckets(ROOM) as usize * FLOW_BUCKET;
const FILE: &str = "services:
  - name: shop
    listeners: [{ address: 198.51.100.1, port: 80, protocol: tcp }]
    versions:
      blue: { weight: 100%, backends: [{ address: 10.0.0.1, port: 80 }, { address: 10.0.0.2, port: 80 }] }
      canary: { backends: [{ address: 10.0.0.3, port: 80 }] }
";

fn shop() -> ServiceName {
    ServiceName::new("shop").unwrap()
}

/// The agent's owner over the loaded program: no agent, and no interface.
struct Loaded {
    owner: Owner<Kernel, Directory>,
    program: Program,
    _state: tempfile::TempDir,
}

impl Loaded {
    fn new(program: Program) -> Self {
        let kernel = load(Options { flows: ROOM, ..SMALL });
        let state = tempfile::tempdir().unwrap();
        let mut owner = Owner::start(kernel, Directory::open(state.path()).unwrap()).unwrap();
        let services = parse_services(&SpecFile::parse(FILE).unwrap().services, false).unwrap();
        owner.apply(&Apply { services, options: ChangeOptions::default() }).unwrap();
        let hop = NextHop::plain(7, [2; 6], [4; 6]);
        let hops = [1, 2, 3].map(|last| Change::Hop(IpAddr::from([10, 0, 0, last]), Some(hop)));
        owner.follow(hops.into());
        redirect_to_all(owner.plane());
        Self { owner, program, _state: state }
    }

    fn shift(&mut self, canary: u32) {
        self.shift_with(canary, InFlight::default());
    }

    fn shift_with(&mut self, canary: u32, in_flight: InFlight) {
        let shift = ServiceShift {
            service: shop(),
            set: vec![(Version::Canary, Weight::from_bp(canary).unwrap())],
            remainder: Version::Blue,
            expected_generation: None,
        };
        let options = ChangeOptions::default();
        let shift = Shift { shifts: vec![shift], in_flight, lease: None, options };
        self.owner.shift(&shift).unwrap();
    }

    fn roll_back(&mut self) {
        let options = ChangeOptions::default();
        let in_flight = InFlight::default();
        let roll_back = RollBack { service: shop(), in_flight, expected_generation: None, options };
        self.owner.roll_back(&roll_back).unwrap();
    }

    /// Sends a packet of a flow, and gives the last byte of the address of the backend it reached.
    fn packet(&mut self, flow: u16, flags: u8) -> u8 {
        let [high, low] = flow.to_be_bytes();
        let from = SocketAddr::from(([192, 0, high, low], 40_000));
        let frame = Frame::tcp(from, "198.51.100.1:80".parse().unwrap(), flags).bytes();
        let (verdict, out) = self.program.run(self.owner.plane(), &frame);
        assert_eq!(verdict, Verdict::Redirect);
        match read(&out).unwrap().to.ip() {
            IpAddr::V4(address) => address.octets()[3],
            IpAddr::V6(address) => panic!("{address}"),
        }
    }

    fn open(&mut self, flows: std::ops::Range<u16>) -> Vec<u8> {
        flows.map(|flow| self.packet(flow, SYN)).collect()
    }

    fn go_on(&mut self, flows: std::ops::Range<u16>) -> Vec<u8> {
        flows.map(|flow| self.packet(flow, PSH | ACK)).collect()
    }

    /// Leaves no room in the flow table.
    fn fill(&mut self) {
        let to = "198.51.100.1:80".parse().unwrap();
        let entry = FlowEntry { backend: 0, client: 0, server: 0, seen: clock::seconds() };
        for port in 0..10_000 {
            if self.remembered() == PLACES {
                break;
            }
            let key = Frame::tcp(SocketAddr::from(([203, 0, 113, 1], port)), to, SYN).key();
            // Its own places may be taken.
            let _ = self.owner.plane().put_flow(&key, entry);
        }
        assert_eq!(self.remembered(), PLACES);
    }

    fn remembered(&mut self) -> usize {
        self.owner.plane().flows(TCP).unwrap().len()
    }
}

const CANARY: u8 = 3;

fn on_canary(flows: &[u8]) -> usize {
    flows.iter().map(|backend| usize::from(*backend == CANARY)).sum()
}

#[test]
fn the_program_sends_no_new_flow_to_the_abandoned_version_with_a_full_table() {
    for program in PROGRAMS {
        let mut node = Loaded::new(program);
        let old = node.open(0..500);
        assert!(!old.contains(&CANARY) && node.remembered() == 0);
        node.shift(5_000);
        let new = node.open(500..1_000);
        // The first that met a moved slot found room, the others went where older ones go.
        assert_eq!([on_canary(&new), node.remembered()], [PLACES; 2]);
        // A shift between the two finds no room either: here the table makes a difference.
        node.shift(2_500);
        assert!(!node.open(1_000..1_500).contains(&CANARY));
        assert_eq!(node.remembered(), PLACES);

        node.roll_back();
        let later = node.open(10_000..12_000);
        assert!(!later.contains(&CANARY), "{program:?}: a new flow reached the abandoned version");
        assert_eq!(node.remembered(), PLACES, "{program:?}: nothing is remembered of it");
        assert_eq!(node.go_on(10_000..12_000), later);
        assert_eq!(node.go_on(0..500), old, "{program:?}: what began before the shift stays");
        assert_eq!(node.go_on(500..1_000), new, "{program:?}: what began after it stays");
        assert_eq!(node.open(500..1_000), new, "{program:?}: also if its SYN comes again");
    }
}

/// The same from the other side: everything was on canary, and the abandoned version is blue, which
/// the older flows are on. With room they are remembered; a rollback needs none.
#[test]
fn a_rollback_of_everything_needs_no_room() {
    for program in PROGRAMS {
        let mut node = Loaded::new(program);
        let old = node.open(0..500);
        node.shift(10_000);
        let new = node.open(500..1_000);
        assert_eq!(on_canary(&new), PLACES);
        node.roll_back();
        assert!(!node.open(2_000..4_000).contains(&CANARY), "{program:?}");
        assert_eq!([node.go_on(0..500), node.go_on(500..1_000)], [old, new], "{program:?}");
    }
}

/// A version that had settled is left with a full table. Where its connections are kept, new ones that
/// find no room go there too; where they are given up, none does.
#[test]
fn a_shift_that_gives_up_what_it_leaves_needs_no_room() {
    for program in PROGRAMS {
        let mut node = Loaded::new(program);
        node.shift(5_000);
        let later = clock::seconds() + 2_000;
        node.owner.round(later).unwrap();
        node.owner.round(later + 5).unwrap();
        let old = node.open(0..500);
        assert!(on_canary(&old) > 200 && node.remembered() == 0, "{program:?}: settled");

        node.shift_with(0, InFlight::Keep);
        let fallen_back = on_canary(&node.open(1_000..2_000));
        assert_eq!(node.remembered(), PLACES);
        assert!(fallen_back > 300, "{program:?}: the test would show nothing: {fallen_back}");
        assert_eq!(node.go_on(0..500), old, "{program:?}: kept");

        node.shift_with(0, InFlight::Reset);
        node.fill();
        let new = node.open(2_000..6_000);
        assert!(!new.contains(&CANARY), "{program:?}: a new flow reached the abandoned version");
        assert_eq!(node.go_on(2_000..6_000), new);
        let now = node.go_on(0..500);
        assert!(!now.contains(&CANARY), "{program:?}: given up");
        let stays = |(was, is): (&u8, &u8)| *was == CANARY || was == is;
        assert!(old.iter().zip(&now).all(stays), "{program:?}: flows of blue are left alone");
    }
}

fn target(port: u16) -> SocketAddr {
    SocketAddr::new(vip(Family::V4, 0), port)
}

/// Long-lived connections on both versions and new ones all the time, with a flow table that is
/// full and with one that is not.
#[test]
fn no_connection_breaks_in_a_shift_and_its_rollback() {
    for (mode, arguments) in [(Mode::Tc, &["--flows=100"][..]), (Mode::Xdp, &[])] {
        let mut node = Node::start(LabBuilder::new(), mode, arguments).unwrap();
        let services = [("echo", ECHO_PORT), ("web", HTTP_PORT)]
            .map(|(name, port)| node.lab().service(name, target(port), Protocol::Tcp));
        node.apply(&services).unwrap();
        let open = |node: &Node| {
            let clients = node.lab().client_addresses(Family::V4);
            let plan = LongLivedPlan::new(target(ECHO_PORT), clients, 400)
                .talking(200, Duration::from_millis(500));
            let opened = LongLived::open(node.lab().clients(), plan).unwrap();
            opened.state().check().unwrap();
            opened
        };
        let first = open(&node);
        let plan = FreshPlan::new(target(HTTP_PORT), node.lab().client_addresses(Family::V4));
        let fresh = Fresh::start(node.lab().clients(), plan.rate(200)).unwrap();
        let period = |fresh: &Fresh| {
            let period = fresh.begin_period();
            std::thread::sleep(Duration::from_secs(1));
            period.end();
            let counts = period.counts();
            counts.check().unwrap();
            counts.by_version()
        };

        node.lab().weir(&["shift", "echo,web", "canary=50%"]).unwrap();
        let second = open(&node);
        period(&fresh);
        for service in ["echo", "web"] {
            let said = node.lab().weir(&["rollback", service]).unwrap();
            assert!(said.contains("committed as generation"), "{said}");
        }
        let [blue, green, canary] = period(&fresh);
        assert!(blue > 0 && green == 0 && canary == 0, "{blue} {green} {canary}");
        let third = open(&node);
        assert_eq!(third.state().by_version(), [400, 0, 0]);
        assert!(second.state().by_version()[2] > 0);
        fresh.stop().unwrap().check().unwrap();
        for connections in [&first, &second, &third] {
            connections.verify().check().unwrap();
        }
        let full = node.total("echo").unwrap().fallback_full;
        println!("{mode:?}: on canary {:?}, {full} found no room", second.state().by_version());
        assert_eq!(full > 0, mode == Mode::Tc);

        let refused = node.lab().weir_output(&["rollback", "echo"]).unwrap();
        assert_eq!(refused.status.code(), Some(4));
        let events = node.lab().weir(&["events", "echo"]).unwrap();
        let last = events.lines().last().unwrap();
        let text = "blue 50% → 100%, canary 50% → 0% (generation 3)";
        assert!(last.contains("rolled-back") && last.ends_with(text), "{events}");
    }
}
