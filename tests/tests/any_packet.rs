//! Any addresses, ports and contents: the frame that goes out is the one that `etherparse` would
//! have built. Checksums that are reckoned by difference meet all their corners here.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use weir_ebpf::abi::{TCP, UDP};
use weir_tests::cases::nodes::{AWAY, HERE, Node, PLAIN};
use weir_tests::packet::{ACK, FIN, PSH, RST, SYN, eyes, ip};
use weir_tests::program::{Counts, PROGRAMS, Verdict};
use weir_tests::random::Random;

/// Packets sent.
const PACKETS: u16 = 10_000;
/// Listener, backend, and the way there.
const WAYS: [(&str, &str, weir::dataplane::next_hop::NextHop); 4] = [
    ("198.51.100.1", "10.0.0.1:8080", AWAY),
    ("2001:db8::1", "[fd00::1]:8080", AWAY),
    ("198.51.100.2", "10.0.0.2:8080", HERE),
    ("2001:db8::2", "[fd00::2]:8080", HERE),
];

#[test]
fn any_packet_is_rewritten_right() {
    let mut node = Node::start(&PLAIN).unwrap();
    let backends = u16::try_from(node.backends().len()).unwrap();
    let mut random = Random(4);
    let mut expected = Counts::none(backends);
    let before = Counts::read(node.kernel(), backends);
    for n in 0..PACKETS {
        let (listener, backend, hop) = WAYS[random.below(4)];
        let client: IpAddr = if listener.contains(':') {
            let word = u128::from(random.word()) & 0xffff_ffff;
            Ipv6Addr::from(0x2001_0db8_0007_0000 << 64 | word).into()
        } else {
            let [a, b] = random.half().to_be_bytes();
            Ipv4Addr::new(192, 0, a, b).into()
        };
        let tcp = random.percent(50);
        let flags = random.byte() & (SYN | ACK | FIN | RST | PSH);
        let packet = ip(&client.to_string(), listener).ttl(2 + random.byte() % 254);
        // A flow each, so that every datagram begins one.
        let packet = if tcp { packet.tcp(n, 80, flags) } else { packet.udp(n, 80) };
        let length = if random.percent(50) { random.below(4) } else { random.below(1_400) };
        let input = packet.data(&random.bytes(length));

        let left = input.inner().ttl - 1;
        let output = input.clone().to(backend).ttl(left).macs(hop.mac, hop.interface_mac);
        let program = PROGRAMS[usize::from(random.percent(50))];
        let (verdict, out) = program.run(node.kernel(), &input.bytes());
        assert!(matches!(verdict, Verdict::Redirect | Verdict::Back), "{input:?}");
        assert_eq!(out, output.bytes(), "{program:?}: {input:?}");
        eyes::look(&out).unwrap();
        let opens = tcp && flags & (SYN | ACK | RST | FIN) == SYN;
        let index = node.index(backend);
        expected = expected.and_backend(index, |counters| {
            counters.connections += u64::from(opens || !tcp);
            counters.packets_in += 1;
            counters.bytes_in += out.len() as u64;
            counters.tracked += u64::from(!tcp);
        });
        let reset = tcp && flags & RST != 0;
        expected = expected.and_signals(index, |signals| {
            signals.resets_in += u64::from(reset);
            signals.fins_in += u64::from(tcp && !reset && flags & FIN != 0);
        });
    }
    let mut counted = Counts::read(node.kernel(), backends).since(&before);
    for signals in &mut counted.signals {
        // Two SYNs of thousands may want one place in the table of handshakes.
        assert!(signals.lost_samples < 10, "{signals:?}");
        signals.lost_samples = 0;
    }
    assert_eq!(counted, expected);
    let remembered = [TCP, UDP].map(|protocol| node.kernel().flows(protocol).unwrap().len());
    assert!(remembered[0] == 0 && remembered[1] > usize::from(PACKETS) / 3, "{remembered:?}");
}
