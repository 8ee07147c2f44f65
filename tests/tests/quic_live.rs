//! QUIC-shaped datagrams in the lab: connections stay with their server over shifts, also those
//! whose clients move to another address and are known by their connection id alone; new ones
//! follow the weights.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use weir_tests::identity::{Identity, Version};
use weir_tests::lab::addresses::{ECHO_PORT, Family, vip};
use weir_tests::lab::spec::{Protocol, yaml};
use weir_tests::lab::{Lab, LabBuilder};
use weir_tests::node::{Mode, Node};
use weir_tests::random::Random;

const CONNECTIONS: usize = 150;
const CONFIG: u8 = 1;
/// A datagram that is not answered is sent again after this long, so many times.
const PATIENCE: Duration = Duration::from_millis(500);
const TIMES: usize = 10;

/// A connection, as its client sees it.
struct Connection {
    socket: UdpSocket,
    home: Identity,
    /// The connection id that the server has chosen.
    id: [u8; 8],
}

fn bind(client: IpAddr, target: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind((client, 0)).unwrap();
    socket.connect(target).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Sends a datagram until it is answered, and gives who did.
fn ask(socket: &UdpSocket, datagram: &[u8]) -> Identity {
    let mut answer = [0; 2048];
    for _ in 0..TIMES {
        socket.send(datagram).unwrap();
        while let Ok(length) = socket.recv(&mut answer) {
            let end = answer.iter().position(|byte| *byte == b'\n').unwrap();
            if answer[end + 1..length] == *datagram {
                return str::from_utf8(&answer[..end]).unwrap().parse().unwrap();
            }
        }
    }
    panic!("no answer to {:?}", socket.local_addr());
}

/// A packet of QUIC version 1 with a long header; an Initial fills its datagram.
fn long(first: u8, id: &[u8]) -> Vec<u8> {
    let mut bytes = [&[first, 0, 0, 0, 1, 8][..], id].concat();
    bytes.resize(1_200, 0);
    bytes
}

fn short(id: &[u8], random: &mut Random) -> Vec<u8> {
    [&[0x40][..], id, &random.bytes(24)].concat()
}

/// Opens connections from the clients in turn: an Initial, then a Handshake.
fn open(
    lab: &Lab,
    target: SocketAddr,
    ids: &BTreeMap<IpAddr, u16>,
    random: &mut Random,
) -> Vec<Connection> {
    let clients = lab.client_addresses(Family::of(target.ip()));
    let open = |client: &IpAddr| {
        let socket = bind(*client, target);
        let home = ask(&socket, &long(0xc0, &random.bytes(8)));
        let mut id = [CONFIG << 5, 0, 0, 0, 0, 0, 0, 0];
        id[1..3].copy_from_slice(&ids[&home.address].to_be_bytes());
        id[3..].copy_from_slice(&random.bytes(5));
        assert_eq!(ask(&socket, &long(0xe0, &id)), home);
        Connection { socket, home, id }
    };
    lab.clients().inside(|| clients.iter().cycle().take(CONNECTIONS).map(open).collect()).unwrap()
}

/// Each connection goes on: known by its flow alone, by its connection id, and from elsewhere.
fn go_on(lab: &Lab, target: SocketAddr, connections: &[Connection], random: &mut Random) {
    let clients = lab.client_addresses(Family::of(target.ip()));
    let work = || {
        for connection in connections {
            let nobody = [&[0xff][..], &random.bytes(7)].concat();
            let home = connection.home;
            assert_eq!(ask(&connection.socket, &short(&nobody, random)), home, "by the flow");
            assert_eq!(ask(&connection.socket, &short(&connection.id, random)), home, "by the id");
            let moved = bind(*random.one(&clients), target);
            assert_eq!(ask(&moved, &short(&connection.id, random)), home, "from elsewhere");
        }
    };
    lab.clients().inside(work).unwrap();
}

fn by_version(connections: &[Connection]) -> [usize; 3] {
    Version::ALL.map(|version| connections.iter().filter(|c| c.home.version == version).count())
}

#[test]
fn connections_stay_and_new_ones_follow_in_tc() {
    for family in Family::ALL {
        connections_stay_and_new_ones_follow(Mode::Tc, family);
    }
}

#[test]
fn connections_stay_and_new_ones_follow_in_native_xdp() {
    for family in Family::ALL {
        connections_stay_and_new_ones_follow(Mode::Xdp, family);
    }
}

fn connections_stay_and_new_ones_follow(mode: Mode, family: Family) {
    let mut node = Node::start(LabBuilder::new(), mode, &[]).unwrap();
    let target = SocketAddr::new(vip(family, 0), ECHO_PORT);
    let config = format!("quic: {{ config: {CONFIG}, server_id_length: 2 }}");
    let service = node.lab().service("quic", target, Protocol::Udp).weights([10_000, 0, 0]);
    let service = service.with("udp: quic").with(&config);
    let addresses: Vec<IpAddr> = service.backends.iter().flatten().copied().collect();
    let ids: BTreeMap<IpAddr, u16> = addresses.into_iter().zip(0x0a00..).collect();
    let mut text = yaml(std::slice::from_ref(&service));
    for (address, id) in &ids {
        let plain = format!(r#"address: "{address}", port: {ECHO_PORT} }}"#);
        let named = format!(r#"address: "{address}", port: {ECHO_PORT}, server_id: "{id:04x}" }}"#);
        assert!(text.contains(&plain));
        text = text.replace(&plain, &named);
    }
    node.apply_text(&text).unwrap();
    let mut random = Random(3);

    let first = open(node.lab(), target, &ids, &mut random);
    assert_eq!(by_version(&first), [CONNECTIONS, 0, 0]);
    assert_eq!(node.total("quic").unwrap().tracked, 0, "remembered in the steady state");
    node.shift(&["quic"], [0, 0, 10_000]).unwrap();
    go_on(node.lab(), target, &first, &mut random);
    let second = open(node.lab(), target, &ids, &mut random);
    assert_eq!(by_version(&second), [0, 0, CONNECTIONS]);
    node.shift(&["quic"], [5_000, 5_000, 0]).unwrap();
    for connections in [&first, &second] {
        go_on(node.lab(), target, connections, &mut random);
    }
    let third = open(node.lab(), target, &ids, &mut random);
    let [blue, green, canary] = by_version(&third);
    assert!(blue > 40 && green > 40 && canary == 0, "{blue}, {green}, {canary}");
    // The agent has looked by then.
    std::thread::sleep(Duration::from_secs(6));
    assert_eq!(node.used("udp_flows").unwrap(), 0);

    // Without the versions' last backends the connections on these go on.
    let backends = |text: &str| text.lines().filter(|line| line.contains("server_id:")).count();
    let gone: Vec<String> =
        (0..3).map(|version| format!(r#""{}""#, service.backends[version][0])).collect();
    let left = |line: &&str| {
        !gone.iter().any(|address| line.contains(&format!("- {{ address: {address}")))
    };
    let fewer: Vec<&str> = text.lines().filter(left).collect();
    let fewer = fewer.join("\n");
    assert_eq!(backends(&fewer), backends(&text) - 3);
    node.apply_text(&fewer).unwrap();
    for connections in [&first, &second, &third] {
        go_on(node.lab(), target, connections, &mut random);
    }
}
