//! Errors and fragments, as far as no kernel is needed: what is told at least, to whom nothing is
//! told, that mended checksums are what they would be if reckoned anew, and that any bytes can be
//! read.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use proptest::prelude::*;
use weir_ebpf::abi::{Address, Complaint};
use weir_ebpf::checksum::fold;
use weir_ebpf::icmp::{self, Quoted, error_v4, error_v6, may_be_told};
use weir_ebpf::{fragment, packet};

/// The sum of bytes, in one's complement; zero where a checksum is among them.
fn sum(bytes: &[u8]) -> u16 {
    let half = |pair: &[u8]| u64::from(u16::from_ne_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
    !fold(bytes.chunks(2).map(half).sum())
}

fn bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn quoted(quote: &[u8]) -> Quoted {
    Quoted { length: u32::try_from(quote.len()).unwrap(), sum: u32::from(!sum(quote)) }
}

const V4: [Address; 2] = [Address::from_v4([198, 51, 100, 1]), Address::from_v4([192, 0, 2, 7])];
const V6: [Address; 2] = [
    Address::from_v6([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
    Address::from_v6([0x20, 1, 0x0d, 0xb8, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]),
];

#[test]
fn nobody_is_told_of_less_than_every_link_takes() {
    for (mtu, v4, v6) in [(1, 68, 1_280), (1_279, 1_279, 1_280), (9_000, 9_000, 9_000)] {
        let why = Complaint::TooBig(mtu);
        let told = bytes(&error_v4(V4[0], V4[1], why, quoted(&[0; 28])));
        assert_eq!(u16::from_be_bytes([told[26], told[27]]), v4);
        let told = bytes(&error_v6(V6[0], V6[1], why, quoted(&[0; 48])));
        assert_eq!(u32::from_be_bytes(told[44..].try_into().unwrap()), v6);
    }
}

#[test]
fn only_one_host_elsewhere_is_told() {
    let v4 = |octets| may_be_told(&Address::from_v4(octets));
    assert!(v4([192, 0, 2, 7]) && v4([223, 255, 255, 255]) && v4([1, 0, 0, 0]));
    for octets in [[0, 0, 0, 0], [0, 1, 2, 3], [127, 0, 0, 1], [224, 0, 0, 1], [255; 4]] {
        assert!(!v4(octets), "{octets:?}");
    }
    let v6 = |first, last| {
        let mut octets = [0; 16];
        (octets[0], octets[15]) = (first, last);
        may_be_told(&Address::from_v6(octets))
    };
    assert!(v6(0x20, 1) && v6(0xfd, 1) && v6(0, 2));
    assert!(!v6(0, 0) && !v6(0, 1) && !v6(0xff, 1));
}

proptest! {
    #[test]
    fn errors_have_right_checksums(
        mtu in 1_u16.., expired: bool, quote in prop::collection::vec(any::<u8>(), 28..192)
    ) {
        let why = if expired { Complaint::Expired } else { Complaint::TooBig(mtu) };
        let error = bytes(&error_v4(V4[0], V4[1], why, quoted(&quote)));
        prop_assert_eq!(sum(&error[..20]), 0);
        prop_assert_eq!(sum(&[&error[20..], &quote].concat()), 0);
        let length = usize::from(u16::from_be_bytes([error[2], error[3]]));
        prop_assert_eq!(length, error.len() + quote.len());

        let error = bytes(&error_v6(V6[0], V6[1], why, quoted(&quote)));
        let length = u16::from_be_bytes([error[4], error[5]]);
        prop_assert_eq!(usize::from(length), error.len() - 40 + quote.len());
        let pseudo = [&error[8..40], &u32::from(length).to_be_bytes(), &[0, 0, 0, 58]].concat();
        prop_assert_eq!(sum(&[&pseudo, &error[40..], &quote].concat()), 0);
    }

    /// Nothing is read outside of the frame, whatever it says; what is found lies within it.
    #[test]
    fn any_bytes_can_be_read(
        v4: bool,
        protocol in prop::sample::select(vec![1_u8, 6, 17, 44, 58]),
        mut frame in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let length = frame.len();
        if length > 54 {
            let (kind, version) = if v4 { ([8, 0], 0x45) } else { ([0x86, 0xdd], 0x60) };
            frame[12..14].copy_from_slice(&kind);
            frame[14] = version;
            let said = u16::try_from(if v4 { length - 14 } else { length - 54 }).unwrap();
            let place = if v4 { 16 } else { 18 };
            frame[place..place + 2].copy_from_slice(&said.to_be_bytes());
            frame[if v4 { 23 } else { 20 }] = protocol;
        }
        let frame = &frame[..];
        let end = u32::try_from(length).unwrap();
        if let Ok(piece) = fragment::read(frame) {
            prop_assert!(piece.network.end <= end);
        }
        if let Ok(network) = packet::network(frame) {
            let message = icmp::message(frame, &network);
            prop_assert!(message.is_none() || network.l4 + 8 <= end);
            if let Some(quote) = icmp::quote(frame, &network) {
                prop_assert!(quote.l3 < quote.l4 && quote.l4 + 8 <= network.end);
                // To what it is already: no sum changes.
                let old = (quote.key.source, quote.key.source_port);
                let outer = (network.destination, network.destination);
                let mended = quote.mended(old, old, outer, 0x1234);
                prop_assert_eq!(mended.checksum, 0x1234);
            }
        }
    }
}
