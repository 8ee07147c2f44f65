//! Live traces of real traffic: what is told is what backends have served, and what is not told is
//! counted.

#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::time::Duration;

use weir::node::messages::Traffic;
use weir::node::trace::answer::{Fate, TraceLive, TracedPacket};
use weir_tests::identity::Version;
use weir_tests::lab::LabBuilder;
use weir_tests::lab::addresses::{ECHO_PORT, Family, HTTP_PORT, vip};
use weir_tests::lab::spec::Protocol;
use weir_tests::load::SourcePorts;
use weir_tests::load::fresh::{Close, Fresh, FreshPlan};
use weir_tests::node::{Mode, Node};
use weir_tests::tracer::{EVERYTHING, Tracer};

const NOW: Duration = Duration::ZERO;

/// By backend, packets that were sent and those of them that open a flow.
fn sent(packets: &[TracedPacket]) -> BTreeMap<IpAddr, (u64, u64)> {
    let mut sent = BTreeMap::<IpAddr, (u64, u64)>::new();
    for packet in packets.iter().filter(|packet| packet.fate == Fate::Sent) {
        let (all, opening) = sent.entry(packet.backend.unwrap().address.ip()).or_default();
        *all += 1;
        *opening += u64::from(packet.opens);
    }
    sent
}

/// The same as the counters have it, without backends that had nothing. A SYN that comes again
/// opens the flow again, but is no connection.
fn counted(traffic: &BTreeMap<IpAddr, Traffic>) -> BTreeMap<IpAddr, (u64, u64)> {
    let opening = |t: &Traffic| t.connections + t.retransmissions;
    let counts = traffic.iter().map(|(at, t)| (*at, (t.packets_in, opening(t))));
    counts.filter(|(_, (packets, _))| *packets > 0).collect()
}

/// Waits until XDP sends packets to backends: until then, while next hops are being learned, it leaves
/// them to TC. Asks with datagrams to this address, for nobody counts those.
fn until_sent_by_xdp(node: &Node, to: SocketAddr, from: IpAddr) {
    let sent = |packet: &TracedPacket| packet.hook == "xdp" && packet.fate == Fate::Sent;
    for _ in 0..60 {
        let tracer = Tracer::start(node.lab(), EVERYTHING, NOW).unwrap();
        send(node, from, to, 64, None);
        let (_, packets) = tracer.finish().unwrap();
        if packets.iter().filter(|packet| sent(packet)).count() > 48 {
            return;
        }
    }
    panic!("XDP sends nothing");
}

fn events_agree(mode: Mode, family: Family) {
    let mut node = Node::start(LabBuilder::new(), mode, &[]).unwrap();
    let target = SocketAddr::new(vip(family, 0), HTTP_PORT);
    let service = node.lab().service("web", target, Protocol::Tcp).weights([5_000, 0, 5_000]);
    let echo = SocketAddr::new(vip(family, 0), ECHO_PORT);
    let datagrams = node.lab().service("echo", echo, Protocol::Udp).weights([5_000, 0, 5_000]);
    node.apply(&[service, datagrams]).unwrap();
    node.shift(&["web"], [0, 5_000, 5_000]).unwrap();
    if mode != Mode::Tc {
        until_sent_by_xdp(&node, echo, node.lab().client_addresses(family)[0]);
    }
    let tracer = Tracer::start(node.lab(), EVERYTHING, NOW).unwrap();
    let clients = node.lab().client_addresses(family);
    let plan = FreshPlan::new(target, clients.clone()).count(300).ports(SourcePorts::Random(1));
    let counts = Fresh::start(node.lab().clients(), plan).unwrap().finish().unwrap();
    counts.check().unwrap();
    let (lost, packets) = tracer.finish().unwrap();
    assert_eq!(lost, 0);
    assert_eq!(sent(&packets), counted(&node.traffic("web").unwrap()));
    let mut opened = [0_u64; 3];
    for packet in packets.iter().filter(|packet| packet.opens) {
        opened[packet.backend.unwrap().version.unwrap().index()] += 1;
    }
    let again = node.total("web").unwrap().retransmissions;
    let (all, answered) = (opened.iter().sum::<u64>(), counts.answered());
    assert_eq!(all, answered + again, "{counts}");
    for (opened, answered) in opened.iter().zip(counts.by_version()) {
        assert!((answered..=answered + again).contains(opened), "{counts}");
    }
    assert_eq!(opened[Version::Blue as usize], 0);
    let mut whys = BTreeMap::<&str, u32>::new();
    for packet in &packets {
        let flow = packet.flow.unwrap();
        assert!(clients.contains(&flow.from.ip()) && flow.to == target, "{packet:?}");
        assert_eq!(packet.service.as_ref().unwrap().as_str(), "web");
        assert_eq!(packet.opens, packet.flags == "S", "{packet:?}");
        assert!(packet.length >= 54 && packet.frame.is_empty());
        *whys.entry(packet.why.as_str()).or_default() += 1;
    }
    let by_xdp = packets.iter().filter(|packet| packet.hook == "xdp").count();
    assert_eq!(by_xdp > packets.len() / 4, mode != Mode::Tc, "{by_xdp} of {}", packets.len());
    // Half of the slots have moved: their flows are remembered, and then known.
    println!("{} {family:?}: {} packets, {whys:?}", mode.name(), packets.len());
    assert!(whys["table"] > 100 && whys["remembered"] > 50 && whys["pinned"] > 100, "{whys:?}");
}

#[test]
fn events_agree_with_what_backends_serve_in_tc() {
    for family in Family::ALL {
        events_agree(Mode::Tc, family);
    }
}

#[test]
fn events_agree_with_what_backends_serve_in_xdp() {
    events_agree(Mode::Xdp, Family::V4);
    events_agree(Mode::XdpGeneric, Family::V6);
}

/// Sends so many datagrams from a client, in a few flows, and waits for none.
fn send(node: &Node, from: IpAddr, to: SocketAddr, count: usize, ttl: Option<u32>) {
    let sent = node.lab().clients().inside(move || {
        let sockets: Vec<UdpSocket> = (0..8).map(|_| UdpSocket::bind((from, 0)).unwrap()).collect();
        for (number, socket) in (0..count).zip(sockets.iter().cycle()) {
            if let Some(ttl) = ttl {
                socket.set_ttl(ttl).unwrap();
            }
            // A pause now and then: what the lab's own queues drop is not weir's.
            if number % 64 == 63 {
                std::thread::sleep(Duration::from_millis(1));
            }
            socket.send_to(&[7; 200], to).unwrap();
        }
    });
    sent.unwrap();
}

/// A node with an echo service over UDP, and two clients.
fn echo(mode: Mode) -> (Node, SocketAddr, [IpAddr; 2]) {
    let mut node = Node::start(LabBuilder::new(), mode, &[]).unwrap();
    let target = SocketAddr::new(vip(Family::V4, 0), ECHO_PORT);
    let service = node.lab().service("echo", target, Protocol::Udp);
    node.apply(&[service.weights([5_000, 0, 5_000])]).unwrap();
    let clients = node.lab().client_addresses(Family::V4);
    (node, target, [clients[0], clients[1]])
}

#[test]
fn drops_are_told_with_their_reasons() {
    let (node, target, [client, other]) = echo(Mode::Tc);
    let drops = TraceLive { drops: true, frame_bytes: 64, ..EVERYTHING };
    let of_client = TraceLive { client: Some(client.into()), ..drops.clone() };
    let all = Tracer::start(node.lab(), drops, NOW).unwrap();
    let one = Tracer::start(node.lab(), of_client, NOW).unwrap();
    send(&node, client, target, 20, None);
    // One hop leads to the balancer, which would have to be another.
    send(&node, client, target, 5, Some(2));
    send(&node, client, target, 3, Some(1));
    send(&node, other, target, 4, Some(1));
    let ((_, all), (_, one)) = (all.finish().unwrap(), one.finish().unwrap());
    let hops = |packets: &[TracedPacket]| {
        for packet in packets {
            assert_eq!((packet.fate, packet.why.as_str()), (Fate::Dropped, "drop-hop-limit"));
            assert_eq!(packet.service.as_ref().unwrap().as_str(), "echo");
            assert!(packet.backend.is_some(), "it was decided where it would go");
            assert_eq!((packet.frame.len(), packet.length), (64, 14 + 20 + 8 + 200));
        }
        let of = |client| packets.iter().filter(|p| p.flow.unwrap().from.ip() == client).count();
        (of(client), of(other))
    };
    let (mine, others) = hops(&all);
    println!("dropped: {mine} and {others}");
    assert!(mine > 0 && others == 4, "{mine}, {others}");
    assert_eq!(hops(&one), (mine, 0));
}

#[test]
fn a_slow_reader_loses_events_and_is_told_how_many() {
    const COUNT: usize = 30_000;
    let (mut node, target, [client, other]) = echo(Mode::Tc);
    let wanted = TraceLive { frame_bytes: 256, ..EVERYTHING };
    let slow = Tracer::start(node.lab(), wanted.clone(), Duration::from_secs(8)).unwrap();
    let few = TraceLive { client: Some(other.into()), ..EVERYTHING };
    let quick = Tracer::start(node.lab(), few, NOW).unwrap();
    send(&node, client, target, COUNT, None);
    send(&node, other, target, 500, None);
    let ((lost, packets), (missed, others)) = (slow.finish().unwrap(), quick.finish().unwrap());
    let arrived: u64 = node.traffic("echo").unwrap().values().map(|t| t.packets_in).sum();
    println!("{arrived} packets: {} told, {lost} lost", packets.len());
    assert!(arrived > 20_000 && lost > 1_000);
    // Answers that came after the clients had left: ICMP errors follow the flow.
    let errors = node.verdict("forward-icmp-error").unwrap();
    let all = packets.len() as u64 + lost;
    assert_eq!(all, arrived + errors, "every packet is told or counted");
    assert!(packets.iter().filter(|packet| packet.frame.len() != 242).count() as u64 <= errors);
    assert_eq!((missed, others.len()), (0, 500), "the slow one slows nobody");
}

#[test]
fn one_packet_in_so_many_is_told() {
    let (mut node, target, [client, _]) = echo(Mode::Tc);
    let tracer = Tracer::start(node.lab(), TraceLive { sample: 20, ..EVERYTHING }, NOW).unwrap();
    send(&node, client, target, 20_000, None);
    let (lost, packets) = tracer.finish().unwrap();
    let arrived: u64 = node.traffic("echo").unwrap().values().map(|t| t.packets_in).sum();
    let (told, expected) = (packets.len() as u64, arrived / 20);
    println!("{told} of {arrived}, {expected} expected");
    // Six standard deviations.
    assert!(lost == 0 && told.abs_diff(expected) < 6 * expected.isqrt(), "{told} {expected}");
}

#[test]
fn the_fifth_tracer_is_refused_and_a_place_comes_free() {
    let (node, ..) = echo(Mode::Tc);
    let start = || Tracer::start(node.lab(), EVERYTHING, NOW);
    let mut four: Vec<Tracer> = (0..4).map(|_| start().unwrap()).collect();
    let refused = start().unwrap_err().to_string();
    assert_eq!(refused, "refused: 4 trace streams are open already; close one");
    four.pop().unwrap().finish().unwrap();
    four.push(start().unwrap());
    let output = node.lab().weir_output(&["trace", "live", "--service", "none"]).unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(said.contains("there is no service \"none\""), "{said}");
}

/// What Debian's tshark reads of a file: a line a frame.
fn tshark(file: &str, fields: &[&str]) -> Vec<String> {
    let fields = fields.iter().flat_map(|field| ["-e", field]);
    let output = Command::new("tshark")
        .args(["-n", "-r", file, "-T", "fields"])
        .args(fields)
        .env("WIRESHARK_CONFIG_DIR", "/nonexistent")
        .output()
        .expect("there is no tshark: run `cargo xtask setup`, or apt-get install tshark");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn a_file_is_read_by_tshark_with_its_comments() {
    let mut node = Node::start(LabBuilder::new(), Mode::Tc, &[]).unwrap();
    let target = SocketAddr::new(vip(Family::V4, 0), HTTP_PORT);
    let service = node.lab().service("web", target, Protocol::Tcp);
    node.apply(&[service.weights([5_000, 0, 5_000])]).unwrap();
    let path = node.lab().directory().join("web.pcapng");
    let file = path.to_str().unwrap();
    let arguments = ["trace", "live", "--count", "100", "--pcap", file, "--bytes", "80"];
    let mut command = node.lab().weir_command(&arguments).unwrap();
    let mut weir = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let clients = node.lab().client_addresses(Family::V4);
    for round in 0..40 {
        if weir.try_wait().unwrap().is_some() {
            break;
        }
        let plan = FreshPlan::new(target, clients.clone()).count(20).close(Close::Reset);
        let plan = plan.ports(SourcePorts::Random(round));
        Fresh::start(node.lab().clients(), plan).unwrap().finish().unwrap().check().unwrap();
    }
    let output = weir.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.contains("100 packets written, 0 lost"), "{said}");
    let fields = [
        "frame.comment",
        "frame.interface_name",
        "ip.dst",
        "tcp.dstport",
        "tcp.flags",
        "frame.len",
        "frame.cap_len",
    ];
    let lines = tshark(file, &fields);
    assert_eq!(lines.len(), 100, "{lines:?}");
    for line in &lines {
        let cells: Vec<&str> = line.split('\t').collect();
        let [comment, interface, to, port, flags, length, captured] = cells[..] else {
            panic!("{line}");
        };
        let opens = flags == "0x0002";
        assert!(comment.starts_with("sent to blue ") || comment.starts_with("sent to canary "));
        assert!(comment.ends_with(if opens { "opens a flow)" } else { "(table)" }), "{line}");
        assert!(comment.contains(" of web ("), "{line}");
        assert_eq!((to, port), (target.ip().to_string().as_str(), "80"), "as it came in: {line}");
        let (length, captured): (u32, u32) = (length.parse().unwrap(), captured.parse().unwrap());
        assert_eq!(captured, length.min(80), "{line}");
        assert!(interface.ends_with(" tc"), "{line}");
    }
    let info = Command::new("capinfos").arg(file).output().expect("capinfos, of wireshark-common");
    let info = String::from_utf8(info.stdout).unwrap();
    let has = |name: &str, value: &str| {
        let line = info.lines().find(|line| line.starts_with(name));
        assert!(line.is_some_and(|line| line.contains(value)), "{name}: {value}:\n{info}");
    };
    has("File type:", "pcapng");
    has("Number of packets:", "100");
    has("File timestamp precision:", "nanoseconds");
    assert!(fs::metadata(&path).unwrap().len() > 8_000);
}
