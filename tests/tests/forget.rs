//! Sweeps show every flow and forget only those that are not kept.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use weir::dataplane::DataPlane as _;
use weir::dataplane::kernel::{Kernel, Options};
use weir_ebpf::abi::{Address, FlowEntry, FlowKey, SEEN_SYN, TCP, UDP};

fn key(client: u16, protocol: u8) -> FlowKey {
    let [high, low] = client.to_be_bytes();
    FlowKey {
        source: Address::from_v4([10, 9, high, low]),
        destination: Address::from_v4([10, 50, 0, 1]),
        source_port: 40_000_u16.to_be(),
        destination_port: 80_u16.to_be(),
        protocol,
        pad: [0; 3],
    }
}

fn entry(backend: u16, client: u8) -> FlowEntry {
    FlowEntry { backend, client, server: 0, seen: 7 }
}

fn kernel() -> Kernel {
    let options =
        Options { flows: 2_000, udp_flows: 2_000, pool_lines: 1_024, ..Options::default() };
    Kernel::load(options).unwrap_or_else(|error| panic!("{error}"))
}

/// More than one batch, and not a whole number of them.
#[test]
fn a_sweep_forgets_what_is_not_kept_and_nothing_else() {
    for protocol in [TCP, UDP] {
        let mut kernel = kernel();
        for client in 0..1_000 {
            kernel.put_flow(&key(client, protocol), entry(client, SEEN_SYN)).unwrap();
        }
        let keep = &mut |_: &FlowKey, entry: &FlowEntry| entry.backend.is_multiple_of(3);
        assert_eq!(kernel.sweep(protocol, keep).unwrap(), 666);
        for client in 0..1_000 {
            let flow = kernel.flow(&key(client, protocol)).unwrap();
            assert_eq!(flow.is_some(), client.is_multiple_of(3), "client {client}");
            assert!(flow.is_none_or(|flow| flow == entry(client, SEEN_SYN)));
        }
        assert_eq!(kernel.sweep(protocol, &mut |_, _| true).unwrap(), 0);
    }
}

/// While a sweep goes on in parts, flows come and others go.
#[test]
fn a_sweep_in_parts_shows_every_flow_that_stays_once() {
    let mut kernel =
        Kernel::load(Options { flows: 40_000, pool_lines: 1_024, ..Options::default() })
            .unwrap_or_else(|error| panic!("{error}"));
    for client in 0..30_000 {
        kernel.put_flow(&key(client, TCP), entry(client, SEEN_SYN)).unwrap();
    }
    let (mut shown, mut parts) = (vec![0; 65_536], 0);
    loop {
        let keep = &mut |_: &FlowKey, entry: &FlowEntry| {
            shown[usize::from(entry.backend)] += 1;
            !entry.backend.is_multiple_of(2)
        };
        let part = kernel.sweep_on(1_000, keep).unwrap();
        parts += 1;
        if part.ended {
            break;
        }
        // Some come that were not there, and some go that may not have been shown yet.
        let client = 30_000 + parts;
        kernel.put_flow(&key(client, TCP), entry(client, SEEN_SYN)).unwrap();
        kernel.remove_flow(&key(29_999 - 2 * (parts % 10), TCP)).unwrap();
    }
    assert!(parts > 5, "{parts} parts");
    assert!(shown[..29_900].iter().all(|times| *times == 1));
    assert!(shown.iter().all(|times| *times <= 1));
    let left = kernel.flows(TCP).unwrap();
    assert!(left.iter().all(|(_, flow)| flow.backend % 2 == 1 || flow.backend >= 30_000));
    assert!(left.len() >= 14_950);
}
