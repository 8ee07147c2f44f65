//! ICMP and fragments between real hosts: pings, probes that expire, paths that are narrower than
//! either end knows, datagrams in pieces. Both hooks, both families.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{io, thread};

use socket2::{Domain, Protocol as Transport, Socket, Type};
use weir_tests::identity::Version;
use weir_tests::lab::addresses::{CLIENT_SIDE, FAR_END, Family, HTTP_PORT, version_side, vip};
use weir_tests::lab::behind::{BEHIND, Host};
use weir_tests::lab::spec::{Protocol, ServiceSpec};
use weir_tests::lab::{Lab, LabBuilder};
use weir_tests::node::{Mode, Node};
use weir_tests::random::Random;

/// What a narrow link takes.
const NARROW: u16 = 1_400;
/// What is sent each way.
const LENGTH: usize = 1_000_000;
/// No transfer takes longer, retransmissions included.
const LIMIT: Duration = Duration::from_secs(20);
const UDP_PORT: u16 = 9_000;

#[test]
fn in_tc() {
    works(Mode::Tc);
}

#[test]
fn in_native_xdp() {
    works(Mode::Xdp);
}

/// One lab for all of it.
fn works(mode: Mode) {
    let mut node = Node::start(LabBuilder::new().clients(2).backends(1), mode, &[]).unwrap();
    let (far, deep) = (node.lab().far_client().unwrap(), node.lab().deep_backend().unwrap());
    let services: Vec<ServiceSpec> =
        Family::ALL.into_iter().flat_map(|family| services(node.lab(), &deep, family)).collect();
    node.apply(&services).unwrap();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for family in Family::ALL {
            let at = |port| SocketAddr::new(deep.address(family).unwrap(), port);
            let inside = deep.namespace();
            let listener = inside.inside(|| TcpListener::bind(at(HTTP_PORT)).unwrap()).unwrap();
            let socket = inside.inside(|| UdpSocket::bind(at(UDP_PORT)).unwrap()).unwrap();
            let stop = &stop;
            scope.spawn(move || serve_tcp(&listener, stop));
            scope.spawn(move || serve_udp(&socket, stop));
        }
        // The servers end when the scope does, also by a panic in it.
        let _end = End(&stop);
        for family in Family::ALL {
            pings(&mut node, family);
            expires(&mut node, family);
            pieces(&mut node, &far, family);
            narrow_beyond(&mut node, &far, &deep, family);
            narrow_here(&mut node, &far, &deep, family);
        }
    });
    assert_eq!(node.verdict("drop-icmp-limit").unwrap(), 0);
    assert_eq!(node.verdict("drop-rewrite").unwrap(), 0);
}

/// Ends the servers when dropped.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// One for TCP and one for UDP. All connections go to blue, which is the host behind it.
fn services(lab: &Lab, deep: &Host, family: Family) -> [ServiceSpec; 2] {
    let digit = if family == Family::V4 { 4 } else { 6 };
    [("tcp", HTTP_PORT, Protocol::Tcp), ("udp", UDP_PORT, Protocol::Udp)].map(
        |(name, port, protocol)| {
            let listener = SocketAddr::new(vip(family, 0), port);
            let mut service = lab.service(&format!("{name}{digit}"), listener, protocol);
            service.backends[0] = vec![deep.address(family).unwrap()];
            service
        },
    )
}

/// Takes all that a client sends, then sends the same back.
fn serve_tcp(listener: &TcpListener, stop: &AtomicBool) {
    listener.set_nonblocking(true).unwrap();
    while !stop.load(Ordering::Relaxed) {
        let Ok((mut stream, _)) = listener.accept() else {
            thread::sleep(Duration::from_millis(5));
            continue;
        };
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_write_timeout(Some(LIMIT)).unwrap();
        let mut all = Vec::new();
        // What goes wrong here the client notices.
        let _ = stream.read_to_end(&mut all).and_then(|_| stream.write_all(&all));
    }
}

fn serve_udp(socket: &UdpSocket, stop: &AtomicBool) {
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let mut datagram = vec![0; 65_536];
    while !stop.load(Ordering::Relaxed) {
        let Ok((length, from)) = socket.recv_from(&mut datagram) else { continue };
        let _ = socket.send_to(&datagram[..length], from);
    }
}

/// A service's address answers like a host.
fn pings(node: &mut Node, family: Family) {
    let clients = node.lab().clients();
    clients.sysctl(&[("net/ipv4/ping_group_range", "0 2147483647")]).unwrap();
    let before = node.verdict("answer-echo").unwrap();
    let clients = node.lab().clients();
    for length in [0, 1, 56, 1_400] {
        let answer = clients.inside(|| ping(vip(family, 0), length)).unwrap();
        assert!(answer.is_ok(), "{length} bytes: {answer:?}");
    }
    assert_eq!(node.verdict("answer-echo").unwrap(), before + 4);
    // An address that is no service's does not answer.
    let clients = node.lab().clients();
    assert!(clients.inside(|| ping(vip(family, 9), 56)).unwrap().is_err());
}

/// One echo request and its answer, which the kernel matches by the identifier it has chosen, after
/// it has checked the checksum.
fn ping(target: IpAddr, length: usize) -> io::Result<()> {
    let (domain, protocol, request) = match target {
        IpAddr::V4(_) => (Domain::IPV4, Transport::ICMPV4, 8),
        IpAddr::V6(_) => (Domain::IPV6, Transport::ICMPV6, 128),
    };
    let mut socket = Socket::new(domain, Type::DGRAM, Some(protocol))?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    socket.connect(&SocketAddr::new(target, 0).into())?;
    let data = Random(length as u64).bytes(length);
    socket.send(&[&[request, 0, 0, 0, 0, 0, 0, 1][..], &data].concat())?;
    let mut answer = vec![0; length + 100];
    let received = socket.read(&mut answer)?;
    assert!(answer[..received].ends_with(&data) && received == length + 8, "{received}");
    Ok(())
}

/// A SYN with one hop left is answered by "time exceeded", as traceroute needs it.
fn expires(node: &mut Node, family: Family) {
    let before = node.verdict("drop-hop-limit").unwrap();
    let to = SocketAddr::new(vip(family, 0), HTTP_PORT);
    let connect = |hops: u32| {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).unwrap();
        match family {
            Family::V4 => socket.set_ttl_v4(hops).unwrap(),
            Family::V6 => socket.set_unicast_hops_v6(hops).unwrap(),
        }
        socket.connect_timeout(&to.into(), Duration::from_secs(10))
    };
    // The error that finds the socket busy with sending is forgotten until the next SYN. Without
    // any, the time would run out.
    let outcome = node.lab().clients().inside(|| connect(1)).unwrap();
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::HostUnreachable);
    assert!(node.verdict("drop-hop-limit").unwrap() > before);
    node.lab().clients().inside(|| connect(64)).unwrap().unwrap();
}

/// Datagrams longer than any link: the client's kernel cuts them, and so does the server's.
fn pieces(node: &mut Node, far: &Host, family: Family) {
    let early = node.verdict("drop-early-fragment").unwrap();
    let socket = far.namespace().inside(|| udp(far, family)).unwrap();
    for length in [1_473, 2_000, 9_000, 60_000] {
        let datagram = Random(length as u64).bytes(length);
        socket.send(&datagram).unwrap();
        let mut answer = vec![0; length + 1];
        let received = socket.recv(&mut answer).unwrap();
        assert!(received == length && answer[..length] == datagram, "{received} of {length}");
    }
    assert_eq!(node.verdict("drop-early-fragment").unwrap(), early);
}

/// A socket of the far client that speaks with the UDP service.
fn udp(far: &Host, family: Family) -> UdpSocket {
    let socket = UdpSocket::bind(SocketAddr::new(far.address(family).unwrap(), 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    socket.connect(SocketAddr::new(vip(family, 0), UDP_PORT)).unwrap();
    socket
}

/// Sends a megabyte and gets it back.
fn transfer(far: &Host, family: Family) {
    let started = Instant::now();
    let to = SocketAddr::new(vip(family, 0), HTTP_PORT);
    let connect = || TcpStream::connect_timeout(&to, Duration::from_secs(5)).unwrap();
    let mut stream = far.namespace().inside(connect).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.set_write_timeout(Some(LIMIT)).unwrap();
    let data = Random(8).bytes(LENGTH);
    stream.write_all(&data).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut back = Vec::new();
    stream.read_to_end(&mut back).unwrap();
    assert!(back == data, "{} bytes came back, or others", back.len());
    assert!(started.elapsed() < LIMIT, "{:?}", started.elapsed());
}

/// Makes the hosts forget what they have learned of the path.
fn forget(hosts: [&Host; 2]) {
    for host in hosts {
        for family in ["-4", "-6"] {
            host.namespace().exec("ip", &[family, "route", "flush", "cache"]).unwrap();
        }
    }
}

/// Beyond the node's links, on both sides, is a hop that takes less: its router's errors quote what
/// the node has made of the packets, and must reach those who sent them.
fn narrow_beyond(node: &mut Node, far: &Host, deep: &Host, family: Family) {
    let clients = node.lab().clients();
    let blue = node.lab().version(Version::Blue);
    let route = |action: &str, host: &Host| {
        let (address, length) = (host.address(family).unwrap(), family.host_prefix());
        format!("route {action} {address}/{length} dev {BEHIND} mtu lock {NARROW}")
    };
    clients.ip(&[route("add", far)]).unwrap();
    blue.ip(&[route("add", deep)]).unwrap();
    forget([far, deep]);
    let before = node.verdict("forward-icmp-error").unwrap();
    transfer(far, family);
    // One at least on each side.
    assert!(node.verdict("forward-icmp-error").unwrap() >= before + 2);

    // UDP learns it likewise: the first datagram that is to be whole is lost, and told of.
    forget([far, deep]);
    let before = node.verdict("forward-icmp-error").unwrap();
    let socket = far.namespace().inside(|| udp(far, family)).unwrap();
    let datagram = Random(1).bytes(1_430);
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut answer = [0; 2_000];
    let tries = (0..10).position(|_| {
        // An error that has come in the meantime is told here.
        let _ = socket.send(&datagram);
        matches!(socket.recv(&mut answer), Ok(length) if answer[..length] == datagram)
    });
    assert!(tries.is_some_and(|tries| tries > 0), "{tries:?}");
    assert!(node.verdict("forward-icmp-error").unwrap() >= before + 2);
    node.lab().clients().ip(&[route("del", far)]).unwrap();
    node.lab().version(Version::Blue).ip(&[route("del", deep)]).unwrap();
}

/// One of the node's own links takes less: the node tells the client, or the backend.
fn narrow_here(node: &mut Node, far: &Host, deep: &Host, family: Family) {
    for version in [None, Some(Version::Blue)] {
        let set = |node: &Node, mtu: u16| {
            let lab = node.lab();
            let (near, there) = match version {
                None => (CLIENT_SIDE, lab.clients()),
                Some(version) => (version_side(version), lab.version(version)),
            };
            lab.lb().ip(&[format!("link set {near} mtu {mtu}")]).unwrap();
            there.ip(&[format!("link set {FAR_END} mtu {mtu}")]).unwrap();
        };
        set(node, NARROW);
        // The agent follows the links of the host.
        thread::sleep(Duration::from_millis(500));
        forget([far, deep]);
        let before = node.verdict("drop-too-big").unwrap();
        transfer(far, family);
        assert!(node.verdict("drop-too-big").unwrap() > before, "{version:?}");
        set(node, 1_500);
        thread::sleep(Duration::from_millis(500));
    }
    forget([far, deep]);
    let before = node.verdict("drop-too-big").unwrap();
    transfer(far, family);
    assert_eq!(node.verdict("drop-too-big").unwrap(), before);
}
