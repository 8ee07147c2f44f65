//! Signals, live: real connections through real backends, well and ill, against an account of every
//! packet that packet sockets have kept at the clients and at the backends. All counters agree
//! exactly; each time lies between what the two sides saw, a bucket at most from either.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use weir::model::{Handshakes, Seed, ServiceName, Traffic, Version as Name};
use weir::node::messages::NextHop;
use weir_ebpf::latency::{BUCKETS, bucket};
use weir_ebpf::{handshake, hash};
use weir_tests::capture::{Capture, Seen};
use weir_tests::frames::{FIN, Frame, RST, SYN};
use weir_tests::identity::Version;
use weir_tests::lab::addresses::{ECHO_PORT, Family, backend, client, vip};
use weir_tests::lab::{Lab, LabBuilder};
use weir_tests::node::{Mode, Node};
use weir_tests::servers::ill::{self, Late};

const CLIENTS: u16 = 50;
/// In each version, one for each service.
const BACKENDS: u8 = 6;
/// Ports of a backend: nobody listens, a server answers late, nobody answers, a server resets.
const CLOSED: u16 = 81;
const SLOW: u16 = 82;
const MUTE: u16 = 83;
const RESETTING: u16 = 84;
/// How late the slow one is.
const DELAY: Duration = Duration::from_millis(40);
/// A handshake without an answer is given up by weir, and then by the client.
const UNANSWERED: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_millis(3_600);
/// Nanoseconds beside which what passes between packet socket and weir is nothing.
const LONG: u64 = 20_000_000;

/// A service: blue is well, and the other version as the name says.
#[derive(Clone, Copy)]
struct Service {
    name: &'static str,
    other: Version,
    port: u16,
}

const SERVICES: [Service; BACKENDS as usize] = [
    Service { name: "well", other: Version::Canary, port: ECHO_PORT },
    Service { name: "closed", other: Version::Canary, port: CLOSED },
    RESETS,
    // In green's namespace the kernel itself has no way back to the clients.
    Service { name: "slow", other: Version::Green, port: SLOW },
    Service { name: "mute", other: Version::Green, port: MUTE },
    Service { name: "heals", other: Version::Green, port: ECHO_PORT },
];

const RESETS: Service = Service { name: "resetting", other: Version::Canary, port: RESETTING };

impl Service {
    /// Its number: in nat each service has backends of its own.
    fn index(&self) -> u8 {
        u8::try_from(SERVICES.iter().position(|one| one.name == self.name).unwrap()).unwrap()
    }

    fn at(&self, family: Family) -> SocketAddr {
        (vip(family, self.index()), ECHO_PORT).into()
    }

    fn named(&self, family: Family) -> String {
        format!("{}-{}", self.name, if family == Family::V4 { "v4" } else { "v6" })
    }

    fn spec(&self, family: Family) -> String {
        let (other, at) = (self.other, self.at(family).ip());
        let [blue, ill] =
            [Version::Blue, other].map(|version| backend(family, version, self.index()));
        // One client goes to the other version, whatever its weight.
        let steered = client(family, 0);
        let length = family.host_prefix();
        format!(
            "  - name: {}
    listeners: [{{ address: \"{at}\", port: {ECHO_PORT}, protocol: tcp }}]
    steering: [{{ source: \"{steered}/{length}\", version: {other} }}]
    versions:
      blue: {{ weight: 100%, backends: [{{ address: \"{blue}\", port: {ECHO_PORT} }}] }}
      {other}: {{ weight: 0%, backends: [{{ address: \"{ill}\", port: {} }}] }}
",
            self.named(family),
            self.port
        )
    }
}

#[test]
fn what_weir_counts_is_what_was_on_the_wire_in_tc() {
    agree(Mode::Tc);
}

#[test]
fn what_weir_counts_is_what_was_on_the_wire_in_native_xdp() {
    agree(Mode::Xdp);
}

fn agree(mode: Mode) {
    let mut node =
        Node::start(LabBuilder::new().clients(CLIENTS).backends(BACKENDS), mode, &[]).unwrap();
    let specs = SERVICES.iter().flat_map(|service| Family::ALL.map(|family| service.spec(family)));
    node.apply_text(&format!("services:\n{}", specs.collect::<String>())).unwrap();
    wait_for_next_hops(&mut node);
    let lab = node.lab();
    let green = lab.version(Version::Green);
    for family in Family::ALL {
        green.ip(&[format!("route add blackhole {}", family.clients())]).unwrap();
    }
    let captures = Captures::start(lab);
    let _slow = Late::start(green, SLOW, DELAY).unwrap();
    let resetting =
        |family| SocketAddr::new(backend(family, Version::Canary, RESETS.index()), RESETTING);
    let resetting = Family::ALL.map(resetting).into();
    let _resetting = ill::resetting(lab.version(Version::Canary), resetting).unwrap();

    let mut load = Load { port: 10_000, places: BTreeSet::new() };
    // No canary but for who is steered, then 1 %, then half.
    load.run(&node, &["well"], 100, PATIENCE);
    node.shift(&["well-v4", "well-v6"], [9_900, 0, 100]).unwrap();
    load.run(&node, &["well"], 300, PATIENCE);
    for service in &SERVICES {
        let half =
            if service.other == Version::Green { [5_000, 5_000, 0] } else { [5_000, 0, 5_000] };
        let names = Family::ALL.map(|family| service.named(family));
        node.shift(&names.each_ref().map(String::as_str), half).unwrap();
    }
    load.run(&node, &["well", "closed", "resetting", "slow"], 60, PATIENCE);
    load.run(&node, &["mute"], 30, PATIENCE);
    // From here on green answers, so that its SYN-ACKs, or the clients' SYNs, come a second late.
    let heals = std::thread::scope(|scope| {
        let healed = scope.spawn(|| {
            sleep(Duration::from_millis(400));
            for family in Family::ALL {
                let lines = [format!("route del blackhole {}", family.clients())];
                node.lab().version(Version::Green).ip(&lines).unwrap();
            }
        });
        load.run(&node, &["heals"], 30, PATIENCE);
        healed.join()
    });
    heals.unwrap();
    // Until weir has looked at all that was not answered.
    sleep(UNANSWERED + Duration::from_millis(1_500));

    let seen = captures.end();
    let (mut differ, mut accounts) = (Vec::new(), Vec::new());
    for service in &SERVICES {
        for family in Family::ALL {
            let name = service.named(family);
            let counters = node.counters(&name).unwrap();
            for version in [Version::Blue, service.other] {
                let counted = &counters.versions[Name::from(version)];
                let account = seen.account(service.at(family), version);
                let of = format!("{mode:?} {name} {version}");
                differ.extend(compare(&of, &counted.traffic, &account));
                differ.extend(compare_times(&of, &counted.handshakes, &account));
                accounts.push((service.name, version, of, account));
            }
        }
    }
    assert!(differ.is_empty(), "{}", differ.join("\n"));
    for (service, version, of, account) in accounts {
        account.must_show(service, version, &of);
    }
}

/// Until the agent knows all next hops: before, XDP leaves packets to the stack, which may make one
/// of several.
fn wait_for_next_hops(node: &mut Node) {
    let deadline = Instant::now() + Duration::from_secs(10);
    for service in SERVICES.iter().flat_map(|one| Family::ALL.map(|family| one.named(family))) {
        let known = |node: &mut Node| {
            let versions = node.status(&service).unwrap().versions;
            let mut backends = versions.iter().flat_map(|(_, version)| &version.backends);
            backends.all(|backend| backend.next_hop != NextHop::Unresolved)
        };
        while !known(node) {
            assert!(Instant::now() < deadline, "{service}: no next hop");
            sleep(Duration::from_millis(20));
        }
    }
}

/// Connections of clients, each from a port of its own, and none with a place in the kernel's map of
/// handshakes that another has: for then one is lost sight of, by chance.
struct Load {
    port: u16,
    places: BTreeSet<u32>,
}

impl Load {
    /// So many connections to each service in each family, all at once; each says something, and
    /// hears it again, if it is let.
    fn run(&mut self, node: &Node, services: &[&str], count: u16, patience: Duration) {
        let mut plan = Vec::new();
        for service in SERVICES.iter().filter(|one| services.contains(&one.name)) {
            for family in Family::ALL {
                for index in 0..count {
                    let from = self.free(client(family, index % CLIENTS), service, family);
                    plan.push((from, service.at(family), service.name == "slow"));
                }
            }
        }
        let mute = services.iter().any(|name| ["mute", "heals"].contains(name));
        let work = move || async move {
            // Between the namespaces there is room for 256 packets, and what finds none is lost.
            let room = Arc::new(Semaphore::new(if mute { usize::from(count) * 2 } else { 16 }));
            let mut all = Vec::new();
            for (from, to, slow) in plan {
                let permit = Arc::clone(&room).acquire_owned().await.unwrap();
                all.push(tokio::spawn(async move {
                    connect(from, to, slow, patience).await;
                    drop(permit);
                }));
            }
            for one in all {
                one.await.unwrap();
            }
        };
        node.lab().clients().run(work).unwrap();
    }
}

impl Load {
    /// An address and port of a client for a connection to a service.
    fn free(&mut self, client: IpAddr, service: &Service, family: Family) -> SocketAddr {
        let name = ServiceName::new(&service.named(family)).unwrap();
        let seed = Seed::derived(&name).0;
        let (halves, _) = seed.as_chunks::<8>();
        let seed = [u64::from_le_bytes(halves[0]), u64::from_le_bytes(halves[1])];
        loop {
            self.port += 1;
            let from = SocketAddr::new(client, self.port);
            let key = Frame::tcp(from, service.at(family), SYN).key();
            if self.places.insert(handshake::place(hash::flow(seed, &key))) {
                return from;
            }
        }
    }
}

async fn connect(from: SocketAddr, to: SocketAddr, slow: bool, patience: Duration) {
    let socket = if from.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(from).unwrap();
    let Ok(Ok(mut stream)) = timeout(patience, socket.connect(to)).await else { return };
    if slow {
        // Behind its SYN-ACK there is nobody to close a connection with.
        tokio::time::sleep(Duration::from_millis(10)).await;
        stream.set_zero_linger().unwrap();
        return;
    }
    let talk = async {
        stream.write_all(&[7; 3_000]).await?;
        stream.shutdown().await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await
    };
    let _ = timeout(patience, talk).await;
}

/// Packet sockets at the clients and at the backends.
struct Captures {
    clients: Capture,
    versions: BTreeMap<Version, Capture>,
}

impl Captures {
    fn start(lab: &Lab) -> Self {
        let of = |version| (version, Capture::start(lab.version(version)).unwrap());
        Self {
            clients: Capture::start(lab.clients()).unwrap(),
            versions: Version::ALL.map(of).into(),
        }
    }

    fn end(self) -> Wire {
        let end = |(version, capture): (Version, Capture)| (version, capture.end().unwrap());
        let versions: BTreeMap<_, _> = self.versions.into_iter().map(end).collect();
        let mut reached = BTreeMap::new();
        for (version, seen) in &versions {
            reached.extend(seen.iter().filter(|one| one.opens()).map(|one| (one.from, *version)));
        }
        Wire { clients: self.clients.end().unwrap(), versions, reached }
    }
}

/// All that was on the wire: each packet as its sender's side saw it leave, before anybody else
/// could make one of two.
struct Wire {
    clients: Vec<Seen>,
    versions: BTreeMap<Version, Vec<Seen>>,
    /// Which version a client's connection has reached. Each has a port of its own.
    reached: BTreeMap<SocketAddr, Version>,
}

/// What a version of a service should have counted.
#[derive(Default)]
struct Account {
    traffic: Traffic,
    /// Whose connections have failed.
    failed: Vec<IpAddr>,
    /// From SYN to SYN-ACK, in nanoseconds: as the backend saw it, and as the client.
    inner: Vec<u64>,
    outer: Vec<u64>,
}

/// One connection's handshake.
#[derive(Default)]
struct Connection {
    sequences: BTreeSet<u32>,
    first: Option<Duration>,
    reset_by_client: bool,
    arrived: Option<Duration>,
    answered: Option<Duration>,
    heard: Option<Duration>,
    refused: bool,
}

/// The time since then, on one clock.
fn since(now: Duration, then: Duration) -> Duration {
    now.checked_sub(then).expect("the clock goes on")
}

impl Wire {
    fn account(&self, at: SocketAddr, version: Version) -> Account {
        let (mut account, mut all) = (Account::default(), BTreeMap::new());
        let t = &mut account.traffic;
        let is_of = |one: &&Seen| one.to == at && self.reached.get(&one.from) == Some(&version);
        for one in self.clients.iter().filter(is_of) {
            let of: &mut Connection = all.entry(one.from).or_default();
            t.packets_in += 1;
            t.bytes_in += one.bytes;
            t.fins_in += u64::from(one.flags & FIN != 0);
            t.resets_in += u64::from(one.flags & RST != 0);
            of.reset_by_client |= one.flags & RST != 0;
            if one.opens() {
                let is_new = of.sequences.insert(one.sequence);
                t.connections += u64::from(is_new);
                t.retransmissions += u64::from(!is_new);
                of.first.get_or_insert(one.at);
                let steered = one.from.ip() == client(Family::of(at.ip()), 0);
                t.steered += u64::from(is_new && steered && version != Version::Blue);
            }
        }
        for one in self.clients.iter().filter(|one| one.from == at && one.accepts()) {
            all.entry(one.to).and_modify(|of| _ = of.heard.get_or_insert(one.at));
        }
        for one in &self.versions[&version] {
            if let Some(of) = all.get_mut(&one.from) {
                if one.opens() {
                    of.arrived.get_or_insert(one.at);
                }
            } else if let Some(of) = all.get_mut(&one.to) {
                t.packets_out += 1;
                t.bytes_out += one.bytes;
                t.fins_out += u64::from(one.flags & FIN != 0);
                if one.accepts() {
                    of.answered.get_or_insert(one.at);
                }
                if one.flags & RST != 0 {
                    if of.answered.is_none() && !of.refused {
                        of.refused = true;
                        t.refused += 1;
                        account.failed.push(one.to.ip());
                        continue;
                    }
                    t.resets_out += 1;
                    if of.answered.is_some_and(|at| since(one.at, at) < Duration::from_secs(1)) {
                        t.early_resets += 1;
                        account.failed.push(one.to.ip());
                    }
                }
            }
        }
        for (from, of) in all {
            assert_eq!(of.sequences.len(), 1, "{from} is one connection");
            let (Some(first), Some(arrived)) = (of.first, of.arrived) else { panic!("{from}") };
            match of.answered {
                Some(answered) if since(answered, first) < UNANSWERED => {
                    t.established += 1;
                    let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap();
                    account.inner.push(nanoseconds(since(answered, arrived)));
                    account.outer.push(nanoseconds(since(of.heard.unwrap(), first)));
                }
                _ if of.refused => {}
                _ => {
                    assert!(!of.reset_by_client, "{from}");
                    t.unanswered += 1;
                    account.failed.push(from.ip());
                }
            }
        }
        account.inner.sort_unstable();
        account.outer.sort_unstable();
        account
    }
}

impl Account {
    /// The test has done what it is about.
    fn must_show(&self, service: &str, version: Version, of: &str) {
        let t = &self.traffic;
        assert!(t.connections >= 3 || service == "well", "{of}: {}", t.connections);
        if version == Version::Blue || service == "well" {
            assert!(t.connections > 0 && t.established == t.connections, "{of}: {t:?}");
            let closed = t.fins_in >= t.connections && t.fins_out >= t.connections;
            assert!(closed || service == "slow", "{of}: {t:?}");
            assert_eq!(t.steered > 0, version != Version::Blue, "{of}: {t:?}");
            return;
        }
        let all = match service {
            "closed" => t.refused,
            "resetting" => t.early_resets,
            "mute" => t.unanswered,
            _ => t.established,
        };
        // What comes after a RST is answered by another one.
        let all = if service == "resetting" { all.min(t.connections) } else { all };
        assert_eq!(all, t.connections, "{of}: {t:?}");
        assert!(service != "mute" || t.retransmissions >= t.connections, "{of}: {t:?}");
        let slowest = Duration::from_nanos(self.inner.last().copied().unwrap_or_default());
        assert!(service != "slow" || slowest >= DELAY, "{of}: {slowest:?}");
        assert!(service != "heals" || slowest >= Duration::from_millis(900), "{of}: {slowest:?}");
    }
}

/// Counters that are not what they should be, a line each.
fn compare(of: &str, counted: &Traffic, account: &Account) -> Vec<String> {
    // Of what the transitions of a shift remember, the wire shows nothing.
    let wanted = Traffic {
        tracked: counted.tracked,
        failing_clients: counted.failing_clients,
        ..account.traffic
    };
    let pairs = Traffic::NAMES.iter().zip(counted.values()).zip(wanted.values());
    let differ = pairs.filter(|((_, counted), wanted)| counted != wanted);
    let mut lines: Vec<String> = differ
        .map(|((name, counted), wanted)| format!("{of}: {name} is {counted}, on the wire {wanted}"))
        .collect();
    // Seconds are those of weir's clock. A client that has failed counts at least once.
    let least = account.failed.iter().collect::<BTreeSet<_>>().len() as u64;
    let most = account.failed.len() as u64;
    if !(least..=most).contains(&counted.failing_clients) {
        let count = counted.failing_clients;
        lines.push(format!("{of}: failing_clients is {count}, on the wire {least} to {most}"));
    }
    lines
}

/// The times in their order: each lies between those of both sides. Where these are long, all are
/// within a bucket.
fn compare_times(of: &str, counted: &Handshakes, account: &Account) -> Vec<String> {
    let buckets = counted.buckets().iter().enumerate();
    let counted: Vec<usize> = buckets
        .flat_map(|(bucket, count)| std::iter::repeat_n(bucket, usize::try_from(*count).unwrap()))
        .collect();
    if counted.len() != account.inner.len() {
        let (times, wanted) = (counted.len(), account.inner.len());
        return vec![format!("{of}: {times} times, on the wire {wanted}")];
    }
    let mut lines = Vec::new();
    for (counted, (inner, outer)) in
        counted.into_iter().zip(account.inner.iter().zip(&account.outer))
    {
        let (low, high) = (bucket(*inner), bucket(*outer));
        let long = *inner > LONG;
        if !(low..=high).contains(&counted) || long && (counted - low > 1 || high - counted > 1) {
            lines.push(format!(
                "{of}: a time in bucket {counted} of {BUCKETS}, on the wire {inner} to {outer} ns"
            ));
        }
    }
    lines
}
