//! What the parser makes of frames, tags above all: each field of what it gives, and each way in
//! which it gives up.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use weir_ebpf::abi::{Address, FlowKey, Reason, TCP, UDP};
use weir_ebpf::packet::{ACK, FIN, Packet, RST, SYN, parse, plain};

const MACS: [u8; 12] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
/// Tags: of a customer, of a service.
const TAGS: [[u8; 4]; 2] = [[0x81, 0x00, 0x60, 0x2a], [0x88, 0xa8, 0x00, 0x07]];

/// From the ether type on: IPv4 with an option, TCP with an option, three bytes.
#[rustfmt::skip]
const V4: [u8; 53] = [
    0x08, 0x00,
    0x46, 0xb9, 0, 51, 0x12, 0x34, 0x40, 0, 63, 6, 0, 0, 192, 0, 2, 7, 198, 51, 100, 1,
    1, 1, 1, 1,
    0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 2, 0x60, 0x18, 0xff, 0xff, 0, 0, 0, 0,
    1, 1, 1, 1,
    b'a', b'b', b'c',
];

/// From the ether type on: IPv6, destination options, UDP, two bytes.
#[rustfmt::skip]
const V6: [u8; 60] = [
    0x86, 0xdd,
    0x6a, 0x51, 0x23, 0x45, 0, 18, 60, 255,
    0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7,
    0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
    17, 0, 1, 4, 0, 0, 0, 0,
    0x9c, 0x40, 0, 53, 0, 10, 0, 0,
    b'h', b'i',
];

/// The frame with so many tags, beginning with this one of the two.
fn frame(packet: &[u8], tags: usize, first: usize) -> Vec<u8> {
    let tags: Vec<_> = (0..tags).map(|tag| TAGS[(first + tag) % 2]).collect();
    [&MACS[..], tags.as_flattened(), packet].concat()
}

fn v4_at(l3: u32) -> Packet {
    Packet {
        key: FlowKey {
            source: Address::from_v4([192, 0, 2, 7]),
            destination: Address::from_v4([198, 51, 100, 1]),
            source_port: 40_000_u16.to_be(),
            destination_port: 80_u16.to_be(),
            protocol: TCP,
            pad: [0; 3],
        },
        l3,
        l4: l3 + 24,
        payload: l3 + 24 + 24,
        length: 51,
        sequence: 1_u32.to_be(),
        traffic_class: 0xb9,
        hop_limit: 63,
        flags: 0x18,
    }
}

fn v6_at(l3: u32) -> Packet {
    let address =
        |last| Address::from_v6([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    Packet {
        key: FlowKey {
            source: address(7),
            destination: address(1),
            source_port: 40_000_u16.to_be(),
            destination_port: 53_u16.to_be(),
            protocol: UDP,
            pad: [0; 3],
        },
        l3,
        l4: l3 + 48,
        payload: l3 + 56,
        length: 58,
        sequence: 0,
        traffic_class: 0xa5,
        hop_limit: 255,
        flags: 0,
    }
}

#[test]
fn a_packet_is_the_same_behind_tags() {
    for (tags, l3) in [(0, 14), (1, 18), (2, 22)] {
        for first in [0, 1] {
            assert_eq!(parse(&frame(&V4, tags, first)[..]), Ok(v4_at(l3)), "{tags} tags");
            assert_eq!(parse(&frame(&V6, tags, first)[..]), Ok(v6_at(l3)), "{tags} tags");
        }
    }
}

#[test]
fn padding_is_no_part_of_the_packet() {
    let padded = [frame(&V4, 1, 0), vec![0; 9]].concat();
    assert_eq!(parse(&padded[..]), Ok(v4_at(18)));
    assert_eq!(v4_at(18).end() as usize, padded.len() - 9);
}

#[test]
fn three_tags_are_too_many() {
    for packet in [&V4[..], &V6] {
        assert_eq!(parse(&frame(packet, 3, 0)[..]), Err(Reason::Vlan));
    }
}

#[test]
fn a_cut_frame_is_malformed_wherever_it_ends() {
    for (packet, tags) in [(&V4[..], 0), (&V4, 1), (&V6, 2)] {
        let whole = frame(packet, tags, 1);
        for length in 0..whole.len() {
            assert_eq!(parse(&whole[..length]), Err(Reason::Malformed), "{length} bytes");
        }
    }
}

#[test]
fn behind_tags_may_be_what_is_no_ip() {
    let arp = [&[0x08, 0x06][..], &[0; 28]].concat();
    for tags in 0..=2 {
        assert_eq!(parse(&frame(&arp, tags, 0)[..]), Err(Reason::NotIp));
    }
}

/// A frame as nearly all are, and each that differs from it in a byte, and each that ends earlier:
/// what is plain is read as it is otherwise, and nothing else is.
#[test]
fn plain_frames_are_read_as_all_others_are() {
    #[rustfmt::skip]
    let usual = [
        0x08, 0x00,
        0x45, 0xb9, 0, 47, 0x12, 0x34, 0x40, 0, 63, 6, 0, 0, 192, 0, 2, 7, 198, 51, 100, 1,
        0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 2, 0x60, ACK, 0xff, 0xff, 0, 0, 0, 0,
        1, 1, 1, 1,
        b'a', b'b', b'c',
    ];
    let usual = frame(&usual, 0, 0);
    let mut taken = 0;
    let mut check = |frame: &[u8]| {
        let is_plain = |packet: &Packet| {
            (packet.l3, packet.l4, packet.is_v4(), packet.is_tcp()) == (14, 34, true, true)
                && packet.flags & (SYN | FIN | RST) == 0
        };
        let expected = parse(frame).ok().filter(is_plain);
        assert_eq!(plain(frame), expected, "{frame:02x?}");
        taken += u32::from(expected.is_some());
    };
    for at in 0..usual.len() {
        for value in 0..=255 {
            let mut changed = usual.clone();
            changed[at] = value;
            check(&changed);
        }
        check(&usual[..at]);
    }
    check(&frame(&V4, 0, 0));
    check(&frame(&V6, 0, 0));
    assert!(taken > 5_000, "{taken}");
}
