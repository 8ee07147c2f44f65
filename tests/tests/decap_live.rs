//! Real connections through `weir decap`: a TCP server bound to a listener's address on the
//! backend's loopback, a client far away, and between them a host that wraps what it hears.
//!
//! The wrapping host sends frames of its own, so that nothing here depends on weir's balancer. The
//! backend's end of the link joins those of IP in IP (GRO), so what TC strips there are packets of
//! many segments with partial checksums; the others are single frames with complete ones.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, recv, send,
    setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;
use socket2::SockRef;
use weir_tests::decap::Decap;
use weir_tests::frames::{ETHERNET, IPV6};
use weir_tests::identity::Version;
use weir_tests::lab::addresses::{
    CLIENT_SIDE, FAR_END, Family, backend, lb_for_backends, version_side, vip,
};
use weir_tests::lab::{Lab, LabBuilder, Offloads};
use weir_tests::random::Random;
use weir_tests::tunnels::{Outer, Wrap, encapsulate, tagged};

/// What a client uploads.
const BYTES: usize = 1 << 20;
/// Room for a whole frame and its wrapping.
const MTU: u16 = 1_600;
/// No step may take longer.
const LIMIT: Duration = Duration::from_secs(20);
const PORT: u16 = 8_080;

const GUE: Wrap = Wrap::Gue { source_port: 50_000 };
/// What a tunnel counts as, its outer and inner family, and how it is wrapped.
const KINDS: [(&str, Family, Family, Wrap); 8] = [
    ("ipip", Family::V4, Family::V4, Wrap::Ip),
    ("ip6ip6", Family::V6, Family::V6, Wrap::Ip),
    ("ip4ip6", Family::V6, Family::V4, Wrap::Ip),
    ("ip6ip4", Family::V4, Family::V6, Wrap::Ip),
    ("gue4", Family::V4, Family::V4, GUE),
    ("gue6", Family::V6, Family::V6, GUE),
    ("gue4", Family::V6, Family::V4, GUE),
    ("gue6", Family::V4, Family::V6, Wrap::GueHeader),
];

#[test]
fn connections_arrive_through_tc() {
    connections_arrive("tc");
}

#[test]
fn connections_arrive_through_native_xdp() {
    connections_arrive("xdp");
}

#[test]
fn connections_arrive_through_generic_xdp() {
    connections_arrive("xdp-generic");
}

fn connections_arrive(mode: &str) {
    let lab = lab();
    // Without it nothing arrives: the backend has no tunnel device.
    let (kind, outside, inside, wrap) = KINDS[0];
    let refused = wrapping(&lab, outside, inside, wrap, &[], || {
        lab.clients().inside(|| {
            let to = SocketAddr::new(vip(inside, 0), PORT);
            TcpStream::connect_timeout(&to, Duration::from_millis(500)).map(drop)
        })
    });
    refused.unwrap().expect_err("nobody strips");

    let decap = Decap::start(&lab, Version::Blue, mode, &[]).unwrap();
    assert_eq!(stripped(&decap, kind), (0, 0));
    for (kind, outside, inside, wrap) in KINDS {
        let before = stripped(&decap, kind);
        wrapping(&lab, outside, inside, wrap, &[], || upload(&lab, inside));
        let after = stripped(&decap, kind);
        let (packets, bytes) = (after.0 - before.0, after.1 - before.1);
        assert!(bytes > BYTES as u64, "{kind} {mode}: {packets} packets, {bytes} bytes");
        // XDP sees each frame by itself. The kernel does not join GUE that nobody listens for; what
        // it does join is not much on a slow machine, but by itself no frame holds 1 800 bytes.
        let joined = packets < BYTES as u64 / 1_800;
        let joins = mode == "tc" && wrap == Wrap::Ip;
        assert_eq!(joined, joins, "{kind} {mode}: {packets} packets");
    }
    // A tag with VLAN 0 carries a priority only, so the host takes it without a VLAN device.
    let priority = (0x8100, 5 << 13);
    let tags: &[_] = if mode == "tc" { &[priority] } else { &[priority, priority] };
    for tags in (1..=tags.len()).map(|length| &tags[..length]) {
        wrapping(&lab, Family::V6, Family::V4, Wrap::Ip, tags, || upload(&lab, Family::V4));
    }
    assert_eq!(dropped(&decap), 0);
    let log = decap.stop().unwrap();
    assert!(log.contains("gue4 ") && log.contains("detached"), "{log}");
}

#[test]
fn addresses_are_followed() {
    let lab = lab();
    let decap = Decap::start(&lab, Version::Blue, "tc", &[]).unwrap();
    let blue = lab.version(Version::Blue);
    let own = backend(Family::V4, Version::Blue, 0);
    blue.ip(&[format!("address del {own}/24 dev {FAR_END}")]).unwrap();
    let connects = || {
        let to = SocketAddr::new(vip(Family::V4, 0), PORT);
        // Nobody listens, but the backend says so only if it is asked.
        let connect = || match TcpStream::connect_timeout(&to, Duration::from_millis(300)) {
            Err(error) => error.kind() == ErrorKind::ConnectionRefused,
            Ok(_) => panic!("somebody listens"),
        };
        wrapping(&lab, Family::V4, Family::V4, Wrap::Ip, &[], || {
            lab.clients().inside(connect).unwrap()
        })
    };
    let until = |wanted: bool| {
        let deadline = Instant::now() + LIMIT;
        while connects() != wanted {
            assert!(Instant::now() < deadline, "connections should work: {wanted}");
        }
    };
    until(false);
    blue.ip(&[
        format!("address add {own}/24 dev {FAR_END}"),
        format!("route replace default via {}", lb_for_backends(Family::V4, Version::Blue)),
    ])
    .unwrap();
    until(true);
    decap.stop().unwrap();
}

#[test]
fn only_the_addresses_asked_for_are_taken() {
    let lab = lab();
    let v6 = backend(Family::V6, Version::Blue, 0).to_string();
    let decap = Decap::start(&lab, Version::Blue, "tc", &["--take", &v6]).unwrap();
    wrapping(&lab, Family::V6, Family::V4, GUE, &[], || upload(&lab, Family::V4));
    let to = SocketAddr::new(vip(Family::V4, 0), PORT);
    let connect = || TcpStream::connect_timeout(&to, Duration::from_millis(500)).map(drop);
    wrapping(&lab, Family::V4, Family::V4, GUE, &[], || lab.clients().inside(connect).unwrap())
        .expect_err("to another address");
    decap.stop().unwrap();
}

/// Clients, a host that wraps, and a backend with the listeners' addresses on its loopback.
fn lab() -> Lab {
    let lab = LabBuilder::new().clients(2).backends(1).offloads(Offloads::Off).start().unwrap();
    let (lb, blue) = (lab.lb(), lab.version(Version::Blue));
    let near = version_side(Version::Blue);
    for family in Family::ALL {
        let address = vip(family, 0);
        let prefix = family.host_prefix();
        blue.ip(&[format!("address add {address}/{prefix} dev lo")]).unwrap();
        // The wrapping host's own stack says nothing to what it also hears.
        lb.ip(&[format!("route add blackhole {address}/{prefix}")]).unwrap();
    }
    // Frames are wrapped one by one, not as this host would join them.
    lb.exec("ethtool", &["-K", CLIENT_SIDE, "gro", "off"]).unwrap();
    // The backend's link joins frames although they come one by one: it waits for more.
    let wait = "echo 300000 > gro_flush_timeout && echo 1 > napi_defer_hard_irqs";
    blue.exec("sh", &["-c", &format!("cd /sys/class/net/{FAR_END} && {wait}")]).unwrap();
    lb.ip(&[format!("link set {near} mtu {MTU}")]).unwrap();
    blue.ip(&[format!("link set {FAR_END} mtu {MTU}")]).unwrap();
    lab
}

/// Runs `work` while the balancer host wraps what clients send to the listeners' addresses.
fn wrapping<T>(
    lab: &Lab,
    outside: Family,
    inside: Family,
    wrap: Wrap,
    tags: &[(u16, u16)],
    work: impl FnOnce() -> T,
) -> T {
    let far = lab.version(Version::Blue).inside(|| link(FAR_END)).unwrap();
    let (heard, sent) =
        lab.lb().inside(|| (packets(CLIENT_SIDE), packets(version_side(Version::Blue)))).unwrap();
    let near = lab.lb().inside(|| link(version_side(Version::Blue))).unwrap();
    let (from, to) = (lb_for_backends(outside, Version::Blue), backend(outside, Version::Blue, 0));
    let outer = Outer::new(from, to, wrap);
    let macs = [far.addr().unwrap(), near.addr().unwrap()].concat();
    let stop = AtomicBool::new(false);
    let listener = vip(inside, 0);
    thread::scope(|scope| {
        let _stop = Stop(&stop);
        scope.spawn(|| {
            let mut frame = vec![0; 65_536];
            while !stop.load(Ordering::Relaxed) {
                // It wakes up now and then without a frame.
                let Ok(length) = recv(heard.as_raw_fd(), &mut frame, MsgFlags::empty()) else {
                    continue;
                };
                if destination(&frame[..length]) == Some(listener) {
                    frame[..12].copy_from_slice(&macs);
                    let wrapped = tagged(&encapsulate(&frame[..length], &outer), tags);
                    // A full queue is a lost packet, as on any link.
                    let _ = send(sent.as_raw_fd(), &wrapped, MsgFlags::empty());
                }
            }
        });
        work()
    })
}

/// Stops the thread that wraps, also when a test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The destination of a frame without tags.
fn destination(frame: &[u8]) -> Option<IpAddr> {
    let (kind, packet) = (frame.get(12..14)?, frame.get(ETHERNET..)?);
    match kind {
        [0x08, 0x00] => Some(<[u8; 4]>::try_from(packet.get(16..20)?).ok()?.into()),
        [0x86, 0xdd] => Some(<[u8; 16]>::try_from(packet.get(24..IPV6)?).ok()?.into()),
        _ => None,
    }
}

/// A socket that hears and sends all frames of an interface.
fn packets(interface: &str) -> OwnedFd {
    let all = SockProtocol::EthAll;
    let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, all).unwrap();
    bind(socket.as_raw_fd(), &link(interface)).unwrap();
    setsockopt(&socket, sockopt::RcvBuf, &(4 << 20)).unwrap();
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(0, 20_000)).unwrap();
    socket
}

/// The link address of an interface in the calling thread's namespace.
fn link(interface: &str) -> LinkAddr {
    let mut all = getifaddrs().unwrap().filter(|one| one.interface_name == interface);
    all.find_map(|one| one.address?.as_link_addr().copied()).unwrap()
}

/// A client sends much to the listener, and is told what arrived.
fn upload(lab: &Lab, family: Family) {
    let at = SocketAddr::new(vip(family, 0), PORT);
    let server = lab.version(Version::Blue).inside(|| TcpListener::bind(at).unwrap()).unwrap();
    // Bounds the wait for a client.
    SockRef::from(&server).set_read_timeout(Some(LIMIT)).unwrap();
    let data = Random(7).bytes(BYTES);
    let answer = thread::scope(|scope| {
        let serving = scope.spawn(|| {
            let (mut connection, _) = server.accept().unwrap();
            connection.set_read_timeout(Some(LIMIT)).unwrap();
            let mut got = Vec::new();
            connection.read_to_end(&mut got).unwrap();
            connection.write_all(b"thanks").unwrap();
            got
        });
        let connect = || TcpStream::connect_timeout(&at, LIMIT);
        let mut client = lab.clients().inside(connect).unwrap().unwrap();
        client.set_read_timeout(Some(LIMIT)).unwrap();
        client.set_write_timeout(Some(LIMIT)).unwrap();
        client.write_all(&data).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(serving.join().unwrap() == data, "what arrived is not what was sent");
        answer
    });
    assert_eq!(answer, "thanks");
}

/// Packets and bytes of a kind of tunnel.
fn stripped(decap: &Decap, kind: &str) -> (u64, u64) {
    let counters = decap.counters().unwrap();
    let all = counters["stripped"].as_array().unwrap();
    let one = all.iter().find(|one| one["kind"] == kind).unwrap();
    (one["packets"].as_u64().unwrap(), one["bytes"].as_u64().unwrap())
}

/// Packets that were dropped, for whatever reason.
fn dropped(decap: &Decap) -> u64 {
    let counters = decap.counters().unwrap();
    let all = counters["not_stripped"].as_array().unwrap();
    let dropped = all.iter().filter(|one| one["verdict"] == "dropped");
    dropped.map(|one| one["packets"].as_u64().unwrap()).sum()
}
