//! A tunnel that the node has no address for. The agent refuses such a service; but it may have
//! been given an address when the service was applied, and none when it was started again.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::net::SocketAddr;

use weir::dataplane::{Commit, DataPlane as _};
use weir::plan::backend_table::Candidate;
use weir::plan::goal::Goal;
use weir::plan::identity::Identity;
use weir::plan::transition::transition;
use weir_ebpf::abi::{FORWARD_GUE, FORWARD_IPIP, Reason, Service, TCP};
use weir_tests::cases::nodes::AWAY;
use weir_tests::frames::{address, endpoint};
use weir_tests::packet::{SYN, ip};
use weir_tests::program::{Counts, PROGRAMS, SMALL, Verdict, backend, commit, image, load};

/// Client, listener and backend of each service, and its mode.
const SERVICES: [(&str, &str, &str, u8); 4] = [
    ("192.0.2.7", "198.51.100.1", "10.0.0.1:0", FORWARD_IPIP),
    ("192.0.2.7", "198.51.100.2", "[fd00::2]:0", FORWARD_GUE),
    ("2001:db8:7::7", "2001:db8::3", "10.0.0.3:0", FORWARD_GUE),
    ("2001:db8:7::7", "2001:db8::4", "[fd00::4]:0", FORWARD_IPIP),
];

#[test]
fn packets_are_dropped_and_counted() {
    let mut kernel = load(SMALL);
    let mut change = Commit::default();
    for (index, (_, listener, target, forwarding)) in (0..).zip(SERVICES) {
        let target: SocketAddr = target.parse().unwrap();
        let identity = Identity { address: address(target.ip()), port: target.port() };
        let goal =
            Goal::new([1; 16], [10_000, 0, 0], [&[Candidate { identity, weight: 100 }], &[], &[]]);
        let goal = goal.on_this_node(&mut |_, _| index);
        let tables = transition(None, &goal, &|_| false).tables;
        let service = Service { forwarding, ..Service::default() };
        change.services.push((index.into(), Some(image(&service, &tables))));
        change.backends.push((index, backend(target)));
        let at = SocketAddr::new(listener.parse().unwrap(), 80);
        change.listeners.push((endpoint(at, TCP), index.into()));
    }
    commit(&mut kernel, change);
    for (index, (client, listener, _, _)) in (0..).zip(SERVICES) {
        kernel.set_next_hop(index, Some(AWAY)).unwrap();
        let frame = ip(client, listener).tcp(40_000, 80, SYN).bytes();
        for program in PROGRAMS {
            let before = Counts::read(&kernel, 4);
            let (verdict, out) = program.run(&kernel, &frame);
            let counted = Counts::read(&kernel, 4).since(&before);
            assert_eq!((verdict, out.as_slice()), (Verdict::Drop, frame.as_slice()), "{listener}");
            assert_eq!(counted, Counts::none(4).and_reason(program, Reason::NoSource));
        }
    }
}
