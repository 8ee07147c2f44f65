//! The loaded program with services of one backend each, and ways to clients: enough for a packet
//! to go somewhere in every direction.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "only tests use it"
)]

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::process::{Command, Stdio};

use weir::dataplane::kernel::{Kernel, Options};
use weir::dataplane::next_hop::NextHop;
use weir::dataplane::{Commit, DataPlane as _};
use weir::plan::backend_table::Candidate;
use weir::plan::goal::Goal;
use weir::plan::identity::Identity;
use weir::plan::transition::transition;
use weir_ebpf::abi::{Endpoint, NO_SERVICE, Return, Service, TCP, UDP};

use crate::frames::{address, endpoint};
use crate::program::{backend, commit, image, load, set_forwarding};

/// One service: what clients connect to, over TCP and UDP, and its one backend.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    /// Where clients connect to.
    pub listener: &'static str,
    /// Where they get, in mode nat.
    pub backend: &'static str,
    /// The way there.
    pub hop: NextHop,
}

/// The address of this node toward the clients, and its prefix length.
const NEAR: [&str; 2] = ["192.0.2.1/24", "2001:db8:7::1/64"];
/// The clients that the node knows the way to.
pub const CLIENTS: [&str; 2] = ["192.0.2.7", "2001:db8:7::7"];
/// The MAC addresses of a frame to a client: the client's and the node's.
pub const CLIENT_MACS: [[u8; 6]; 2] = [[2, 9, 0, 0, 0, 2], [2, 9, 0, 0, 0, 1]];

/// Loads the program with these services; their indices, and their backends', are their places.
/// The network namespace of the calling thread is one of its own, and forwards packets to
/// [`CLIENTS`].
#[must_use]
pub fn start(options: Options, ways: &[Way]) -> Kernel {
    let mut kernel = load(options);
    route_to_clients();
    let mut change = Commit::default();
    for (index, way) in (0_u16..).zip(ways) {
        let (listener, target) = (at(way.listener), at(way.backend));
        let identity = Identity { address: address(target.ip()), port: target.port() };
        let candidate = Candidate { identity, weight: 100 };
        let goal = Goal::new([1; 16], [10_000, 0, 0], [&[candidate], &[], &[]]);
        let goal = goal.on_this_node(&mut |_, _| index);
        let tables = transition(None, &goal, &|_| false).tables;
        let service = Service { seed: [1, 2], ..Service::default() };
        change.services.push((index.into(), Some(image(&service, &tables))));
        change.backends.push((index, backend(target)));
        let marker = Endpoint { port: 0, ..endpoint(listener, 0) };
        change.listeners.push((marker, NO_SERVICE));
        for protocol in [TCP, UDP] {
            change.listeners.push((endpoint(listener, protocol), index.into()));
            let (address, port) = (address(listener.ip()), listener.port().to_be());
            change
                .returns
                .push((endpoint(target, protocol), Return { address, port, backend: index }));
        }
    }
    commit(&mut kernel, change);
    for (index, way) in (0..).zip(ways) {
        kernel.set_next_hop(index, Some(way.hop)).unwrap();
    }
    kernel
}

/// An address and port.
#[must_use]
pub fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// The client of the same family.
#[must_use]
pub fn client_of(other: IpAddr) -> SocketAddr {
    let address = if other.is_ipv4() { CLIENTS[0] } else { CLIENTS[1] };
    SocketAddr::new(address.parse().unwrap(), 40_000)
}

/// A veth pair, both ends here, with the clients as permanent neighbours behind it.
fn route_to_clients() {
    let mac = |[a, b, c, d, e, f]: [u8; 6]| format!("{a:x}:{b:x}:{c:x}:{d:x}:{e:x}:{f:x}");
    let [client, node] = CLIENT_MACS.map(mac);
    let mut lines = vec![
        "link set lo up".to_owned(),
        format!("link add near0 address {node} type veth peer name far0"),
        "link set near0 up".to_owned(),
        "link set far0 up".to_owned(),
    ];
    for (near, far) in NEAR.iter().zip(CLIENTS) {
        let nodad = if near.contains(':') { " nodad" } else { "" };
        lines.push(format!("address add {near} dev near0{nodad}"));
        lines.push(format!("neighbour replace {far} lladdr {client} dev near0 nud permanent"));
    }
    let mut ip = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    ip.stdin.take().unwrap().write_all(lines.join("\n").as_bytes()).unwrap();
    assert!(ip.wait().unwrap().success(), "{lines:?}");
    set_forwarding(true);
}
