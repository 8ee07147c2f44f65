//! Frames in several buffers, as a driver hands jumbo frames to XDP. TC is not tried: the kernel
//! takes no such frame for a trial there.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::net::Ipv4Addr;

use weir::dataplane::kernel::Options;
use weir::dataplane::next_hop::NextHop;
use weir::dataplane::{DataPlane as _, Devices, OuterSource};
use weir_tests::cases::nodes::{AWAY, BARE, Node, Spec};
use weir_tests::packet::{ACK, Packet, eyes, ip};
use weir_tests::program::{Program, SMALL, Verdict};

/// The longest IP packet of the way to the backends, but for one, of which it is not known.
const MTU: usize = 9_000;
const WAY: NextHop = NextHop { mtu: 9_000, ..AWAY };

static NODE: Spec = Spec {
    name: "jumbo",
    services: r#"
services:
  - name: nat4
    listeners: [{ address: 198.51.100.1, port: 80, protocol: tcp }]
    versions: { blue: { weight: 100%, backends: [{ address: 10.0.0.1, port: 8080 }] } }
  - name: nat6
    listeners: [{ address: "2001:db8::1", port: 80, protocol: tcp }]
    versions: { blue: { weight: 100%, backends: [{ address: "fd00::1", port: 8080 }] } }
  - name: ipip
    forwarding: dsr-ipip
    listeners: [{ address: 198.51.100.2, port: 80, protocol: tcp }]
    versions: { blue: { weight: 100%, backends: [{ address: 10.0.0.2 }] } }
  - name: unknown
    listeners: [{ address: 198.51.100.3, port: 80, protocol: tcp }]
    versions: { blue: { weight: 100%, backends: [{ address: 10.0.0.3, port: 8080 }] } }
"#,
    hops: &[("10.0.0.1", WAY), ("fd00::1", WAY), ("10.0.0.2", WAY), ("10.0.0.3", AWAY)],
    options: Options {
        outer: OuterSource { v4: Some(Ipv4Addr::new(203, 0, 113, 9)), v6: None },
        ..SMALL
    },
    ..BARE
};

/// An IP packet of so many bytes.
fn sized(listener: &str, length: usize) -> Packet {
    let (client, head) =
        if listener.contains(':') { ("2001:db8:7::7", 40) } else { ("192.0.2.7", 20) };
    ip(client, listener).tcp(40_000, 80, ACK).payload(length - head - 20)
}

fn run(node: &mut Node, input: &Packet) -> (Verdict, Vec<u8>) {
    Program::Xdp.run(node.kernel(), &input.bytes())
}

/// Bytes to all backends so far.
fn bytes(node: &mut Node) -> u64 {
    (0..4).map(|index| node.kernel().counters(index).bytes_in).sum()
}

#[test]
fn are_sent_whole() {
    let mut node = Node::start(&NODE).unwrap();
    let tunnelled = sized("198.51.100.2", MTU - 20);
    let outer = ip("203.0.113.9", "10.0.0.2").id(0).df();
    for (input, output) in [
        (sized("198.51.100.1", MTU), sized("198.51.100.1", MTU).to("10.0.0.1:8080").ttl(63)),
        (sized("2001:db8::1", MTU), sized("2001:db8::1", MTU).to("[fd00::1]:8080").ttl(63)),
        (tunnelled.clone(), tunnelled.ttl(63).within(outer)),
    ] {
        let output = output.macs(AWAY.mac, AWAY.interface_mac);
        for input in [input.clone(), input.clone().tag(42), input.tag(42).tag(43)] {
            let before = bytes(&mut node);
            let (verdict, sent) = run(&mut node, &input);
            assert_eq!(verdict, Verdict::Redirect, "{:?}", input.inner().destination);
            assert!(sent == output.bytes(), "{:?}", input.inner().destination);
            eyes::look(&sent).unwrap();
            // Of the whole frame, not of its first buffer.
            assert_eq!(bytes(&mut node) - before, input.bytes().len() as u64);
        }
    }
}

#[test]
fn are_left_to_tc_where_they_may_not_arrive() {
    let mut node = Node::start(&NODE).unwrap();
    for (about, input) in [
        ("longer than the way takes", sized("198.51.100.1", MTU + 1)),
        ("longer in its tunnel", sized("198.51.100.2", MTU - 19)),
        // Many segments in one packet look the same.
        ("nobody knows what the way takes", sized("198.51.100.3", 5_000)),
    ] {
        assert_eq!(run(&mut node, &input), (Verdict::Pass, input.bytes()), "{about}");
    }
    // The interface takes frames of one buffer only.
    let redirect = [AWAY.interface].into();
    node.kernel().set_devices(&Devices { redirect, ..Devices::default() }).unwrap();
    let input = sized("198.51.100.1", MTU);
    assert_eq!(run(&mut node, &input), (Verdict::Pass, input.bytes()));
    assert_eq!(run(&mut node, &sized("198.51.100.1", 1_500)).0, Verdict::Redirect);
    assert_eq!(run(&mut node, &sized("198.51.100.3", 1_500)).0, Verdict::Redirect);
}
