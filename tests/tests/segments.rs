//! Packets of many segments: TC forwards them whole, and what the kernel cuts them into on the way
//! out must be sound. The link to the backend takes neither large packets nor unfinished checksums
//! here, and each frame on it is read by eyes that are not weir's.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, recv, setsockopt,
    socket, sockopt,
};
use nix::sys::time::TimeVal;
use weir_tests::decap::Decap;
use weir_tests::identity::Version;
use weir_tests::lab::LabBuilder;
use weir_tests::lab::addresses::{
    ECHO_PORT, FAR_END, Family, HTTP_PORT, backend, version_side, vip,
};
use weir_tests::lab::spec::{Protocol, ServiceSpec};
use weir_tests::load::transfer::upload;
use weir_tests::node::{Mode, Node};
use weir_tests::packet::eyes;

use Family::{V4, V6};

/// What a client uploads over TCP.
const BYTES: usize = 1 << 20;
/// Calls that send datagrams, how many each sends at once, and of what length.
const CALLS: usize = 20;
const DATAGRAMS: usize = 30;
const LENGTH: usize = 1_200;
/// The longest IP packet of the links.
const MTU: usize = 1_500;
const ETHERNET: usize = 14;
/// More frames than any of this takes.
const MOST: usize = 100_000;
const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn of_nat() {
    arrive("nat", &[(V4, V4, 0), (V6, V6, 0)]);
}

#[test]
fn of_dsr_l2() {
    arrive("dsr-l2", &[(V4, V4, 0), (V6, V6, 0)]);
}

#[test]
fn of_dsr_ipip() {
    arrive("dsr-ipip", &[(V4, V4, 20), (V6, V6, 40), (V4, V6, 40)]);
}

#[test]
fn of_dsr_gue() {
    arrive("dsr-gue", &[(V4, V4, 28), (V6, V6, 48), (V4, V6, 48), (V6, V4, 28)]);
}

/// For families of listener and backend, and the bytes around each packet.
fn arrive(forwarding: &'static str, ways: &[(Family, Family, usize)]) {
    let lab = LabBuilder::new().clients(2).backends(1).direct();
    let mut node = Node::start(lab, Mode::Tc, &[]).unwrap();
    let (lab, side) = (node.lab(), version_side(Version::Blue));
    lab.lb().exec("ethtool", &["-K", side, "tx", "off", "tso", "off", "gso", "off"]).unwrap();
    lab.version(Version::Blue).exec("ethtool", &["-K", FAR_END, "gro", "off"]).unwrap();
    let _decap = Decap::start(lab, Version::Blue, "tc", &[]).unwrap();
    for &(inside, outside, room) in ways {
        let services = [(HTTP_PORT, Protocol::Tcp), (ECHO_PORT, Protocol::Udp)];
        node.apply(&services.map(|(port, protocol)| ServiceSpec {
            // The same names each time: one pair of families comes after the other.
            name: format!("{protocol:?}-{inside:?}").to_lowercase(),
            listener: SocketAddr::new(vip(inside, 0), port),
            protocol,
            forwarding,
            weights: [10_000, 0, 0],
            backends: Version::ALL.map(|version| vec![backend(outside, version, 0)]),
            more: Vec::new(),
        }))
        .unwrap();
        let about = format!("{forwarding}, {inside:?} in {outside:?}");
        let packets = |node: &mut Node, name: &str| node.total(name).unwrap().packets_in;
        let (tcp, udp) = (format!("tcp-{inside:?}"), format!("udp-{inside:?}"));
        let (tcp, udp) = (tcp.to_lowercase(), udp.to_lowercase());
        let before = packets(&mut node, &tcp);
        let frames = captured(&node, || over_tcp(&node, inside));
        check(&about, &frames);
        let bytes: usize = frames.iter().map(Vec::len).sum();
        assert!(bytes > BYTES && frames.len() > BYTES / MTU, "{about}: {bytes} bytes");
        let large = packets(&mut node, &tcp) - before;
        assert!(large * 4 < frames.len() as u64, "{about}: {large} packets of many segments");

        let before = packets(&mut node, &udp);
        let frames = captured(&node, || datagrams(&node, inside));
        assert_eq!(packets(&mut node, &udp) - before, CALLS as u64, "{about}: packets");
        check(&about, &frames);
        let head = if inside == V4 { 20 } else { 40 };
        let long = ETHERNET + room + head + 8 + LENGTH;
        let whole = frames.iter().filter(|frame| frame.len() == long).count();
        assert_eq!(whole, CALLS * DATAGRAMS, "{about}: datagrams among {}", frames.len());
    }
}

fn check(about: &str, frames: &[Vec<u8>]) {
    for frame in frames {
        assert!(frame.len() <= ETHERNET + MTU, "{about}: {} bytes", frame.len());
        let seen = eyes::look(frame);
        assert_eq!(seen, Ok(()), "{about}: {frame:02x?}");
    }
}

fn over_tcp(node: &Node, family: Family) {
    let client = SocketAddr::new(node.lab().client_addresses(family)[0], 0);
    let target = SocketAddr::new(vip(family, 0), HTTP_PORT);
    let run = node.lab().clients().run(move || upload(client, target, BYTES, LIMIT));
    run.unwrap().unwrap();
}

/// Sends datagrams, many in one packet.
fn datagrams(node: &Node, family: Family) {
    let client = node.lab().client_addresses(family)[0];
    let target = SocketAddr::new(vip(family, 0), ECHO_PORT);
    let send = move || -> std::io::Result<()> {
        let socket = UdpSocket::bind((client, 0))?;
        let length = i32::try_from(LENGTH).unwrap();
        setsockopt(&socket, sockopt::UdpGsoSegment, &length)?;
        let many = vec![7; LENGTH * DATAGRAMS];
        for _ in 0..CALLS {
            socket.send_to(&many, target)?;
            // The socket that captures has room for a few.
            thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    };
    node.lab().clients().inside(send).unwrap().unwrap();
    // They are captured while they arrive.
    thread::sleep(Duration::from_millis(100));
}

/// The frames that arrive at blue's backend during `work`.
fn captured(node: &Node, work: impl FnOnce()) -> Vec<Vec<u8>> {
    let blue = node.lab().version(Version::Blue);
    let (own, heard) = blue.inside(|| (link(), listening())).unwrap();
    let own = own.addr().unwrap();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let frames = scope.spawn(|| {
            let (mut frames, mut room) = (Vec::new(), vec![0; 65_536]);
            while frames.len() < MOST {
                // It wakes up now and then without a frame: at the end, when all have been read.
                let Ok(length) = recv(heard.as_raw_fd(), &mut room, MsgFlags::empty()) else {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    continue;
                };
                let (frame, is_ip) = (&room[..length], matches!(room[12], 0x08 | 0x86));
                if frame.starts_with(&own) && is_ip && !is_about_neighbours(frame) {
                    frames.push(frame.to_vec());
                }
            }
            frames
        });
        work();
        stop.store(true, Ordering::Relaxed);
        frames.join().unwrap()
    })
}

/// ARP, or neighbour discovery.
fn is_about_neighbours(frame: &[u8]) -> bool {
    frame[12..14] == [0x08, 0x06] || frame[12] == 0x86 && frame[20] == 58
}

/// A socket that hears all frames of the backend's interface.
fn listening() -> OwnedFd {
    let all = SockProtocol::EthAll;
    let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, all).unwrap();
    bind(socket.as_raw_fd(), &link()).unwrap();
    setsockopt(&socket, sockopt::RcvBufForce, &(32 << 20)).unwrap();
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(0, 20_000)).unwrap();
    socket
}

/// The link address of the backend's interface.
fn link() -> LinkAddr {
    let mut all = getifaddrs().unwrap().filter(|one| one.interface_name == FAR_END);
    all.find_map(|one| one.address?.as_link_addr().copied()).unwrap()
}
