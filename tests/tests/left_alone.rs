//! What is not weir's is left alone: the node's own connections to a backend, such as health
//! checks, clients' direct connections to a backend through the node, pings, traffic between other
//! hosts, and all that is sent to a service's address but to no listener.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::io::Read as _;
use std::net::{IpAddr, SocketAddr};
use std::thread::sleep;
use std::time::Duration;

use socket2::{Domain, Protocol as Transport, Socket, Type};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket};
use weir_tests::identity::{Identity, Version};
use weir_tests::lab::addresses::{ECHO_PORT, Family, HTTP_PORT, lb_for_backends, vip};
use weir_tests::lab::spec::Protocol;
use weir_tests::lab::{Lab, LabBuilder};
use weir_tests::load::fresh::{Close, Fresh, FreshPlan};
use weir_tests::load::long_lived::{LongLived, LongLivedPlan};
use weir_tests::load::{Fault, SourcePorts};
use weir_tests::node::{Mode, Node};
use weir_tests::pace;

#[test]
fn what_is_not_weirs_is_left_alone_in_tc() {
    left_alone(Mode::Tc);
}

#[test]
fn what_is_not_weirs_is_left_alone_in_native_xdp() {
    left_alone(Mode::Xdp);
}

/// One lab for all of it: what one part leaves must not disturb the next.
fn left_alone(mode: Mode) {
    let mut node = Node::start(LabBuilder::new(), mode, &[]).unwrap();
    for family in Family::ALL {
        let at = |port| SocketAddr::new(vip(family, 0), port);
        let weights = [3_400, 3_300, 3_300];
        let lab = node.lab();
        let services = [
            lab.service(web(family), at(HTTP_PORT), Protocol::Tcp).weights(weights),
            lab.service(echo(family), at(ECHO_PORT), Protocol::Tcp).weights(weights),
        ];
        node.apply(&services).unwrap();
    }
    for family in Family::ALL {
        own_and_direct_connections_work_beside_the_services(&mut node, family);
        a_port_serves_a_direct_connection_and_then_a_service(&node, family);
        other_ports_are_as_without_weir(&node, family);
        backends_answer_pings(node.lab(), family);
        backends_reach_other_hosts(node.lab(), family);
    }
    assert!(node.verdict("pass-direct").unwrap() > 0);
    assert_eq!(node.verdict("drop-no-route").unwrap(), 0);
}

fn web(family: Family) -> &'static str {
    if family == Family::V4 { "web4" } else { "web6" }
}

fn echo(family: Family) -> &'static str {
    if family == Family::V4 { "echo4" } else { "echo6" }
}

/// Each kind of load has source ports of its own: a backend could not tell a client's direct
/// connection from one through the service if both had one port.
fn own_and_direct_connections_work_beside_the_services(node: &mut Node, family: Family) {
    let lab = node.lab();
    let clients = || lab.client_addresses(family);
    let backends: Vec<Identity> = Version::ALL
        .into_iter()
        .flat_map(|version| {
            let address = lab.backends(family, version).into_iter();
            address.map(move |address| Identity { version, address })
        })
        .collect();

    let (service, first) = (SocketAddr::new(vip(family, 0), HTTP_PORT), 40_000);
    let plan = FreshPlan::new(service, clients()).rate(200).ports(SourcePorts::From(first));
    let through = Fresh::start(lab.clients(), plan).unwrap();
    let mut loads = Vec::new();
    for backend in &backends {
        let target = SocketAddr::new(backend.address, HTTP_PORT);
        let own = vec![lb_for_backends(family, backend.version)];
        let own = FreshPlan::new(target, own).rate(30);
        loads.push((backend, Fresh::start(lab.lb(), own).unwrap()));
        let direct = FreshPlan::new(target, clients()).rate(60).ports(SourcePorts::From(20_000));
        loads.push((backend, Fresh::start(lab.clients(), direct).unwrap()));
    }
    let long_lived = |target, from| {
        let plan = LongLivedPlan::new(target, clients(), 100).ports(SourcePorts::From(from));
        LongLived::open(lab.clients(), plan).unwrap()
    };
    let mut lines = vec![long_lived(SocketAddr::new(vip(family, 0), ECHO_PORT), first)];
    for (backend, from) in backends.iter().zip([10_000, 11_000, 12_000, 13_000, 14_000, 15_000]) {
        lines.push(long_lived(SocketAddr::new(backend.address, ECHO_PORT), from));
    }

    for weights in [[0, 10_000, 0], [3_400, 3_300, 3_300]] {
        sleep(pace::wait(Duration::from_millis(700)));
        node.shift(&[web(family), echo(family)], weights).unwrap();
    }
    sleep(pace::wait(Duration::from_millis(700)));
    for (backend, load) in loads {
        let counts = load.stop().unwrap();
        counts.check().unwrap();
        let answers = counts.by_backend();
        assert!(answers.keys().eq([backend]) && answers[backend] > 30, "{backend}: {counts}");
    }
    for connections in lines {
        connections.verify().check().unwrap();
    }
    let through = through.stop().unwrap();
    through.check().unwrap();
    // Weir has counted what went through the service, and nothing else.
    let counted = node.total(web(family)).unwrap();
    assert_eq!(counted.connections, through.answered());
    assert_eq!(node.total(echo(family)).unwrap().connections, 100);
}

/// First to each backend itself, then to the service, then to the backends again, from the same
/// address and ports: what is known of the one must not outlive it and harm the other.
fn a_port_serves_a_direct_connection_and_then_a_service(node: &Node, family: Family) {
    let lab = node.lab();
    let client = lab.client_addresses(family)[..1].to_vec();
    let through = [SocketAddr::new(vip(family, 0), HTTP_PORT)];
    let direct: Vec<SocketAddr> = Version::ALL
        .into_iter()
        .flat_map(|version| lab.backends(family, version))
        .map(|backend| SocketAddr::new(backend, HTTP_PORT))
        .collect();
    for targets in [&direct[..], &through, &direct, &through] {
        for target in targets {
            let plan = FreshPlan::new(*target, client.clone())
                .count(60)
                .ports(SourcePorts::From(60_000))
                .close(Close::Reset);
            let counts = Fresh::start(lab.clients(), plan).unwrap().finish().unwrap();
            assert!(counts.check().is_ok(), "{target}: {counts}");
        }
    }
}

/// Without weir nobody answers for the services' addresses; see the lab's own tests.
fn other_ports_are_as_without_weir(node: &Node, family: Family) {
    let lab = node.lab();
    let target = SocketAddr::new(vip(family, 0), HTTP_PORT + 1);
    // The limit is long because an ICMP error that finds the socket busy is forgotten until the
    // next SYN.
    let plan = FreshPlan::new(target, lab.client_addresses(family)).count(20);
    let counts = Fresh::start(lab.clients(), plan).unwrap().finish().unwrap();
    assert_eq!(counts.failures.into_iter().collect::<Vec<_>>(), [(Fault::Unreachable, 20)]);
}

fn backends_answer_pings(lab: &Lab, family: Family) {
    let everyone = &[("net/ipv4/ping_group_range", "0 2147483647")];
    lab.clients().sysctl(everyone).unwrap();
    for version in Version::ALL {
        for backend in lab.backends(family, version) {
            let answer = lab.clients().inside(|| ping(backend)).unwrap();
            assert!(answer.is_ok(), "{backend}: {answer:?}");
        }
    }
}

/// One echo request and its answer, which the kernel matches by the identifier it has chosen.
fn ping(target: IpAddr) -> std::io::Result<()> {
    let (domain, protocol, request) = match target {
        IpAddr::V4(_) => (Domain::IPV4, Transport::ICMPV4, 8),
        IpAddr::V6(_) => (Domain::IPV6, Transport::ICMPV6, 128),
    };
    let mut socket = Socket::new(domain, Type::DGRAM, Some(protocol))?;
    socket.set_read_timeout(Some(Duration::from_secs(3)))?;
    socket.connect(&SocketAddr::new(target, 0).into())?;
    socket.send(&[request, 0, 0, 0, 0, 0, 0, 1, b'w', b'e', b'i', b'r'])?;
    let mut answer = [0; 64];
    let length = socket.read(&mut answer)?;
    assert!(answer[..length].ends_with(b"weir"), "{:?}", &answer[..length]);
    Ok(())
}

/// A backend is a client of another version's backend, and of a server on a client's host.
fn backends_reach_other_hosts(lab: &Lab, family: Family) {
    let [blue, green] =
        [Version::Blue, Version::Green].map(|version| lab.backends(family, version)[0]);
    let plan = FreshPlan::new(SocketAddr::new(green, HTTP_PORT), vec![blue]).count(100);
    let counts = Fresh::start(lab.version(Version::Blue), plan).unwrap().finish().unwrap();
    counts.check().unwrap();
    assert_eq!(counts.by_version(), [0, 100, 0]);

    let listener = lab
        .clients()
        .inside(|| {
            let at = SocketAddr::new(lab.client_addresses(family)[0], 0);
            let listener = std::net::TcpListener::bind(at).unwrap();
            listener.set_nonblocking(true).unwrap();
            listener
        })
        .unwrap();
    let target = listener.local_addr().unwrap();
    let server = lab.clients().spawn(move || async move {
        let (mut stream, from) = TcpListener::from_std(listener).unwrap().accept().await.unwrap();
        stream.write_all(b"welcome\n").await.unwrap();
        from
    });
    let server = server.unwrap();
    let client = lab.version(Version::Blue).run(move || async move {
        let socket =
            if blue.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.unwrap();
        socket.bind(SocketAddr::new(blue, 0)).unwrap();
        let limit = Duration::from_secs(5);
        let mut stream =
            tokio::time::timeout(limit, socket.connect(target)).await.unwrap().unwrap();
        let mut text = String::new();
        tokio::time::timeout(limit, stream.read_to_string(&mut text)).await.unwrap().unwrap();
        text
    });
    assert_eq!(client.unwrap(), "welcome\n");
    assert_eq!(server.join().unwrap().ip(), blue);
}
