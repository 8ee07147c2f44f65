//! What a datagram of a QUIC service tells at its beginning, where nothing is encrypted: whether it
//! opens a connection (RFC 9000 §17, RFC 9369 §3.2), and which server its connection id names
//! (draft-ietf-quic-load-balancers, plaintext ids).

use crate::abi::Service;
use crate::frame::{Frame, Header};
use crate::packet::Packet;

/// Bytes that are looked at: the first byte of a long header, its version, the length of the
/// connection id, and of the id its first octet and up to eight bytes more.
const LEN: usize = 16;

/// In the first byte: a long header.
const LONG: u8 = 0x80;
/// In the first byte of a long header: the type.
const TYPE: u8 = 0x30;
/// In the first octet of a connection id: by which configuration it was made.
const CONFIG: u8 = 0xe0;

const NEGOTIATION: u32 = 0;
const V1: u32 = 1_u32.to_be();
const V2: u32 = 0x6b33_43cf_u32.to_be();

/// What a datagram tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Head {
    /// Whether it opens a connection: an Initial. Of a version that is not known every long header
    /// may be one.
    pub opens: bool,
    /// The id of the server that its connection id names, as a big-endian number of as many bytes
    /// as the service's ids have. Not looked for in an Initial: there the client has made it up.
    pub server: Option<u64>,
}

/// Reads the datagram `packet`. One that is too short to be of QUIC tells nothing.
#[inline(always)]
#[must_use]
pub fn read<F: Frame + ?Sized>(frame: &F, packet: &Packet, service: &Service) -> Head {
    if packet.payload + LEN as u32 > packet.end() {
        return Head::default();
    }
    match frame.header::<LEN>(packet.payload) {
        Some(header) => head(header, service),
        None => Head::default(),
    }
}

#[inline(always)]
fn head(header: Header<'_, LEN>, service: &Service) -> Head {
    let first = header.byte::<0>();
    if first & LONG == 0 {
        let server = server(header.byte::<1>(), id::<2, 6>(header), service);
        return Head { opens: false, server };
    }
    let kind = first & TYPE;
    let (initial, handshake) = match header.word::<1>() {
        NEGOTIATION => return Head::default(),
        V1 => (0x00, 0x20),
        V2 => (0x10, 0x30),
        _ => return Head { opens: true, server: None },
    };
    // The server has chosen the id of a Handshake packet.
    let chosen = kind == handshake && header.byte::<5>() > service.quic_id_length;
    let server =
        if chosen { server(header.byte::<6>(), id::<7, 11>(header), service) } else { None };
    Head { opens: kind == initial, server }
}

/// Eight bytes as a number, by where each half of them begins.
#[inline(always)]
fn id<const HIGH: i16, const LOW: i16>(header: Header<'_, LEN>) -> u64 {
    let (high, low) = (header.word::<HIGH>(), header.word::<LOW>());
    u64::from(u32::from_be(high)) << 32 | u64::from(u32::from_be(low))
}

/// The server id at the beginning of eight bytes, if the octet before them says that there is one.
#[inline(always)]
fn server(octet: u8, bytes: u64, service: &Service) -> Option<u64> {
    let length = u32::from(service.quic_id_length);
    if length == 0 || octet & CONFIG != service.quic_config {
        return None;
    }
    Some(bytes.wrapping_shr(64 - 8 * length))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    /// RFC 9001 §A.2: the client's Initial, as far as it is looked at.
    const INITIAL: &str = "c000000001088394c8f03e5157080000449e7b9aec34";
    /// RFC 9001 §A.3: the server's.
    const ANSWER: &str = "cf000000010008f067a5502a4262b5004075c0d95a48";
    /// RFC 9001 §A.4: a Retry.
    const RETRY: &str = "ff000000010008f067a5502a4262b5746f6b656e04a2";
    /// RFC 9001 §A.5: a short header without a connection id.
    const SHORT: &str = "4cfe4189655e5cd55c41f69080575d7999c25a5bfb";
    /// RFC 9369 §A.2: the client's Initial of version 2.
    const INITIAL_V2: &str = "d76b3343cf088394c8f03e5157080000449ea0c95e82";

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> =
            hex.bytes().map(|d| (d as char).to_digit(16).unwrap() as u8).collect();
        digits.chunks(2).map(|two| two[0] << 4 | two[1]).collect()
    }

    fn tells(datagram: &[u8], length: u8, config: u8) -> Head {
        let service =
            Service { quic_id_length: length, quic_config: config << 5, ..Service::default() };
        head(datagram.header::<LEN>(0).unwrap(), &service)
    }

    #[test]
    fn initials_open_and_nothing_else_does() {
        let opens = |hex: &str| tells(&bytes(hex), 0, 0).opens;
        assert!(opens(INITIAL) && opens(ANSWER) && opens(INITIAL_V2));
        assert!(!opens(RETRY) && !opens(SHORT));
        // 0-RTT, Handshake and Retry of version 1, then the same of version 2.
        for first in ["d0", "e0", "f0"] {
            assert!(!opens(&INITIAL.replacen("c0", first, 1)), "{first}");
        }
        for first in ["e7", "f7", "c7"] {
            assert!(!opens(&INITIAL_V2.replacen("d7", first, 1)), "{first}");
        }
        // Version negotiation, then a version that nobody knows.
        assert!(!opens(&INITIAL.replacen("00000001", "00000000", 1)));
        for first in ["c0", "d0", "e0", "f0"] {
            let unknown = INITIAL.replacen("00000001", "0a0a0a0a", 1);
            assert!(opens(&unknown.replacen("c0", first, 1)), "{first}");
        }
    }

    #[test]
    fn short_headers_name_a_server_by_configuration_and_length() {
        let server = |length, config| tells(&bytes(SHORT), length, config).server;
        // The octet is 0xfe, the id begins with 0x41.
        assert_eq!(server(1, 7), Some(0x41));
        assert_eq!(server(2, 7), Some(0x4189));
        assert_eq!(server(8, 7), Some(0x4189_655e_5cd5_5c41));
        assert_eq!(server(2, 6), None);
        assert_eq!(server(0, 7), None);
        // The fixed bit, which a client may clear (RFC 9287), does not matter.
        assert_eq!(tells(&bytes(&SHORT.replacen("4c", "0c", 1)), 1, 7).server, Some(0x41));
    }

    #[test]
    fn of_long_headers_only_a_handshake_names_a_server() {
        let id = |hex: &str, length| tells(&bytes(hex), length, 4).server;
        let handshake = INITIAL.replacen("c0", "e0", 1);
        assert_eq!(id(&handshake, 2), Some(0x94c8));
        assert_eq!(id(&handshake, 7), Some(0x0094_c8f0_3e51_5708));
        assert_eq!(id(&handshake, 8), None, "the connection id is no longer than eight");
        assert_eq!(id(INITIAL, 2), None);
        assert_eq!(id(&INITIAL_V2.replacen("d7", "f7", 1), 2), Some(0x94c8));
        assert_eq!(id(&INITIAL_V2.replacen("d7", "e7", 1), 2), None);
    }

    #[test]
    fn what_is_too_short_tells_nothing() {
        let mut frame = vec![0; 42];
        frame.extend(bytes(INITIAL));
        let packet = |length: u32| Packet {
            key: crate::abi::FlowKey {
                source: crate::abi::Address::default(),
                destination: crate::abi::Address::default(),
                source_port: 0,
                destination_port: 0,
                protocol: crate::abi::UDP,
                pad: [0; 3],
            },
            l3: 14,
            l4: 34,
            payload: 42,
            length: 28 + length,
            sequence: 0,
            traffic_class: 0,
            hop_limit: 64,
            flags: 0,
        };
        let read = |frame: &[u8], length| read(frame, &packet(length), &Service::default());
        assert!(read(&frame, 16).opens);
        assert_eq!(read(&frame, 15), Head::default());
        // It is there, but cannot be read.
        assert_eq!(read(&frame[..57], 16), Head::default());
    }
}
