#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::*;

const PORT: u16 = 6080_u16.to_be();

/// Ethernet and IPv4 from 10.0.0.1 to 10.0.0.2, before what is inside.
fn ipv4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 34];
    frame[12..14].copy_from_slice(&[0x08, 0x00]);
    frame[14] = 0x45;
    frame[16..18].copy_from_slice(&(20 + payload.len() as u16).to_be_bytes());
    frame[23] = protocol;
    frame[26..34].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
    frame.extend(payload);
    frame
}

/// Ethernet and IPv6 from nowhere to `::2`.
fn ipv6(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 54];
    frame[12..14].copy_from_slice(&[0x86, 0xdd]);
    frame[14] = 0x60;
    frame[18..20].copy_from_slice(&(payload.len() as u16).to_be_bytes());
    frame[20] = protocol;
    frame[53] = 2;
    frame.extend(payload);
    frame
}

fn udp(payload: &[u8]) -> Vec<u8> {
    let length = (8 + payload.len() as u16).to_be_bytes();
    [&[0xc0, 0, 0x17, 0xc0, length[0], length[1], 0, 0], payload].concat()
}

fn look(frame: &[u8]) -> Result<Tunnel, Refused> {
    tunnel(&frame, PORT, |_| true)
}

#[test]
fn what_to_strip_is_found() {
    let (v4, v6) = (ipv4(6, &[0; 20])[14..].to_vec(), ipv6(6, &[0; 20])[14..].to_vec());
    let header = |protocol: u8, inner: &[u8]| udp(&[&[0, protocol, 0, 0], inner].concat());
    for (frame, kind, strip) in [
        (ipv4(4, &v4), Kind::Ipip, 20),
        (ipv6(41, &v6), Kind::Ip6Ip6, 40),
        (ipv6(4, &v4), Kind::Ip4Ip6, 40),
        (ipv4(41, &v6), Kind::Ip6Ip4, 20),
        (ipv4(17, &udp(&v4)), Kind::Gue4, 28),
        (ipv6(17, &udp(&v6)), Kind::Gue6, 48),
        (ipv4(17, &header(4, &v4)), Kind::Gue4, 32),
        (ipv6(17, &header(41, &v6)), Kind::Gue6, 52),
    ] {
        let found = look(&frame).unwrap();
        assert_eq!((found.kind, found.strip, found.tags, found.filled), (kind, strip, 0, true));
        let refused = tunnel(&frame.as_slice(), PORT, |_| false);
        assert_eq!(refused, Err(Refused::Pass(Reason::Elsewhere)), "{kind:?}");
    }
}

#[test]
fn only_a_full_payload_is_filled() {
    let v4 = ipv4(6, &[0; 20])[14..].to_vec();
    assert!(!look(&ipv4(4, &[&v4[..], &[0]].concat())).unwrap().filled);
    // What lies behind the outer packet is none of it.
    assert!(look(&[&ipv4(4, &v4)[..], &[0]].concat()).unwrap().filled);
}

#[test]
fn whose_address_it_is_is_asked_only_for_tunnels() {
    let asked = |frame: Vec<u8>| {
        let mut asked = None;
        let _ = tunnel(&frame.as_slice(), PORT, |address| {
            asked = Some(*address);
            true
        });
        asked
    };
    assert_eq!(asked(ipv4(4, &[])), Some(Address::from_v4([10, 0, 0, 2])));
    assert_eq!(asked(ipv6(41, &[])), Some(Address([0, 0, 0, 2_u32.to_be()])));
    assert_eq!(asked(ipv4(6, &[0; 20])), None);
    assert_eq!(asked(ipv4(17, &[0; 20])), None);
}

/// Any bytes at all, and bytes that get far.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..200);
    let header = |version: u8| {
        move |mut inner: Vec<u8>| {
            if let Some(first) = inner.first_mut() {
                *first = version << 4 | 5;
            }
            inner
        }
    };
    let inner = prop_oneof![
        bytes(),
        bytes().prop_map(header(4)),
        bytes().prop_map(header(6)),
        bytes().prop_map(move |bytes| ipv4(6, &bytes)[14..].to_vec()),
        bytes().prop_map(move |bytes| ipv6(6, &bytes)[14..].to_vec()),
    ];
    let protocol = prop_oneof![Just(4_u8), Just(41), Just(17), any::<u8>()];
    let payload = (inner, any::<bool>(), protocol).prop_map(|(inner, in_udp, protocol)| {
        let payload = if in_udp { udp(&inner) } else { inner };
        (payload, protocol)
    });
    let wrapped = (payload, any::<bool>()).prop_map(|((payload, protocol), v6)| {
        if v6 { ipv6(protocol, &payload) } else { ipv4(protocol, &payload) }
    });
    let damaged = (wrapped, any::<prop::sample::Index>(), any::<u8>(), 0..3_u8);
    let damaged = damaged.prop_map(|(mut frame, at, value, damage)| {
        let at = at.index(frame.len());
        match damage {
            0 => frame[at] = value,
            1 => frame.truncate(at),
            _ => {}
        }
        frame
    });
    prop_oneof![1 => bytes(), 5 => damaged]
}

/// A frame of which only the start can be read, and its whole length.
struct Start<'a>(&'a [u8], u32);

impl Bytes for Start<'_> {
    fn at<const LEN: usize>(&self, offset: u32) -> Option<*const u8> {
        assert!(offset < 256);
        self.0.at::<LEN>(offset)
    }

    fn length(&self) -> u32 {
        self.1
    }
}

proptest! {
    /// What is found lies within the frame, and nothing is read beyond what the programs make
    /// readable.
    #[test]
    fn nothing_outside_of_the_frame(frame in frames()) {
        if let Ok(found) = look(&frame) {
            let start = (found.l3() + found.strip) as usize;
            let least = if found.inner == Family::V4 { 20 } else { 40 };
            prop_assert!(start + least <= frame.len());
            prop_assert!(start + least <= HEADERS as usize);
            prop_assert_eq!(frame[start] >> 4, if least == 20 { 4 } else { 6 });
            prop_assert_eq!(&found.first[0].to_ne_bytes(), &frame[start..start + 2]);
            let [old, new] = found.first.map(u16::to_ne_bytes);
            prop_assert_eq!(old[0], new[0]);
            let bits = if least == 20 { 0x03 } else { 0x30 };
            prop_assert_eq!(old[1] & !bits, new[1] & !bits);
        }
        let start = Start(&frame[..frame.len().min(HEADERS as usize)], frame.len() as u32);
        prop_assert_eq!(tunnel(&start, PORT, |_| true), look(&frame));
    }

    /// No mark is lost, and none is made up (RFC 6040).
    #[test]
    fn congestion_is_never_hidden(outer in 0..4_u8, inner in 0..4_u8) {
        let left = ecn(outer, inner);
        prop_assert_eq!(left.is_none(), outer == 3 && inner == 0);
        if let Some(left) = left {
            prop_assert_eq!(left == 3, outer == 3 || inner == 3);
            prop_assert_eq!(left == 0, inner == 0);
        }
    }
}
