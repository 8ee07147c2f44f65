//! What the loaded program does with the packets of a backend that is down, packet by packet.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use weir::dataplane::kernel::Kernel;
use weir::dataplane::next_hop::{Change, NextHop};
use weir::dataplane::shared::Shared;
use weir::health::{Order, Outcome, board, run};
use weir::model::{SpecFile, parse_services};
use weir::node::Owner;
use weir::node::messages::{Apply, ChangeOptions};
use weir::store::Directory;
use weir_tests::frames::{ACK, Frame, SYN, read};
use weir_tests::program::{PROGRAMS, Program, SMALL, Verdict, load};

/// Three services over the same three addresses: UDP, TCP that keeps, TCP that resets.
const FILE: &str = "
services:
  - name: udp
    listeners: [{ address: 198.51.100.1, port: 53, protocol: udp }]
    health: { type: tcp, port: 53, interval: 100ms, rise: 1, fall: 1 }
    versions: { blue: { weight: 100%, backends: [
      { address: 10.0.0.1, port: 53 }, { address: 10.0.0.2, port: 53 }, { address: 10.0.0.3, port: 53 }] } }
  - name: keep
    listeners: [{ address: 198.51.100.1, port: 80, protocol: tcp }]
    health: { type: tcp, interval: 100ms, rise: 1, fall: 1 }
    versions: { blue: { weight: 100%, backends: [
      { address: 10.0.0.1, port: 80 }, { address: 10.0.0.2, port: 80 }, { address: 10.0.0.3, port: 80 }] } }
  - name: reset
    listeners: [{ address: 198.51.100.1, port: 81, protocol: tcp }]
    health: { type: tcp, interval: 100ms, rise: 1, fall: 1, on_down: reset }
    versions: { blue: { weight: 100%, backends: [
      { address: 10.0.0.1, port: 81 }, { address: 10.0.0.2, port: 81 }, { address: 10.0.0.3, port: 81 }] } }
";
const PORTS: [u16; 3] = [53, 80, 81];
const FLOWS: u16 = 300;

fn backend(last: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, last).into()
}

/// The backends that are ill, as a check finds them.
type Ill = Arc<Mutex<Option<IpAddr>>>;

struct Node {
    owner: Owner<Shared<Kernel>, Directory>,
    kernel: Shared<Kernel>,
    ill: Ill,
    checks: weir::health::Checks,
    _directory: tempfile::TempDir,
}

impl Node {
    fn start() -> Self {
        let kernel = Shared::new(load(SMALL));
        let directory = tempfile::tempdir().unwrap();
        let store = Directory::open(directory.path()).unwrap();
        let mut owner = Owner::start(kernel.clone(), store).unwrap();
        let services = parse_services(&SpecFile::parse(FILE).unwrap().services, false).unwrap();
        owner.apply(&Apply { services, options: ChangeOptions::default() }).unwrap();
        let hop = NextHop::plain(7, [2; 6], [4; 6]);
        owner.follow((1..=3).map(|last| Change::Hop(backend(last), Some(hop))).collect());
        let ill = Ill::default();
        let (checks, task) = board::new();
        let found = Arc::clone(&ill);
        let check = move |order: Order| {
            let ill = *found.lock().unwrap() == Some(order.address.ip());
            async move { if ill { Outcome::Ill("it is ill".into()) } else { Outcome::Well } }
        };
        tokio::spawn(run::run(task, 64, check));
        owner.rely_on(checks.clone());
        Self { owner, kernel, ill, checks, _directory: directory }
    }

    /// Waits until the checks have found it everywhere, and lets the owner hear of it.
    async fn becomes(&mut self, ill: Option<IpAddr>) {
        *self.ill.lock().unwrap() = ill;
        let failing = if ill.is_some() { 3 } else { 0 };
        while self.checks.counts().failing != failing {
            self.checks.changed().await;
        }
        self.owner.hear();
    }

    /// Where the next packet of each flow to a port goes.
    fn send(&self, program: Program, port: u16, flows: std::ops::Range<u16>, flags: u8) -> Vec<u8> {
        let to: SocketAddr = (Ipv4Addr::new(198, 51, 100, 1), port).into();
        let kernel = self.kernel.lock();
        flows
            .map(|flow| {
                let from: SocketAddr = (Ipv4Addr::new(192, 0, 2, 1), 10_000 + flow).into();
                let frame =
                    if port == 53 { Frame::udp(from, to) } else { Frame::tcp(from, to, flags) };
                let (verdict, out) = program.run(&kernel, &frame.bytes());
                assert_eq!(verdict, Verdict::Redirect);
                let IpAddr::V4(to) = read(&out).unwrap().to.ip() else { panic!("IPv4") };
                to.octets()[3]
            })
            .collect()
    }
}

/// How many went to each.
fn tally(went: &[u8]) -> BTreeMap<u8, usize> {
    went.iter().fold(BTreeMap::new(), |mut tally, to| {
        *tally.entry(*to).or_default() += 1;
        tally
    })
}

#[tokio::test]
async fn flows_leave_or_stay_as_the_service_says() {
    for program in PROGRAMS {
        let mut node = Node::start();
        let begun = PORTS.map(|port| node.send(program, port, 0..FLOWS, SYN));
        assert!(begun.iter().all(|went| tally(went).len() == 3));
        let go_on = |node: &Node| PORTS.map(|port| node.send(program, port, 0..FLOWS, ACK));
        assert_eq!(go_on(&node), begun);

        node.becomes(Some(backend(2))).await;
        let [udp, keep, reset] = go_on(&node);
        assert_eq!(keep, begun[1], "a failed check is no proof of death");
        for (then, now) in [(&begun[0], &udp), (&begun[2], &reset)] {
            for (then, now) in then.iter().zip(now) {
                assert!(
                    if *then == 2 { *now != 2 } else { now == then },
                    "its own, and all of them"
                );
            }
        }
        // What left has a home again, and keeps it.
        assert_eq!(node.send(program, 53, 0..FLOWS, 0), udp);
        let meanwhile = PORTS.map(|port| node.send(program, port, FLOWS..2 * FLOWS, SYN));
        assert!(meanwhile.iter().all(|went| !went.contains(&2)));

        node.becomes(None).await;
        let still = PORTS.map(|port| node.send(program, port, FLOWS..2 * FLOWS, ACK));
        assert_eq!(still, meanwhile, "what began meanwhile lives on");
        assert_eq!(node.send(program, 53, 0..FLOWS, 0), udp);
        assert_eq!(node.send(program, 80, 0..FLOWS, ACK), begun[1]);
        let again = PORTS.map(|port| node.send(program, port, 2 * FLOWS..3 * FLOWS, SYN));
        assert!(again.iter().all(|went| tally(went)[&2] > 50), "it takes its share again");
    }
}
