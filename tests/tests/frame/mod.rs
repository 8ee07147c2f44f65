//! The shortest frames that the program takes, byte by byte.

/// An IPv4 address and a TCP port.
pub(crate) type Side = ([u8; 4], u16);

const SYN: u8 = 2;
const ACK: u8 = 16;

/// A SYN. Its checksums are not filled in: the program changes them, and looks at none.
pub(crate) fn syn(source: Side, destination: Side) -> Vec<u8> {
    tcp(source, destination, SYN)
}

/// A segment without data.
pub(crate) fn ack(source: Side, destination: Side) -> Vec<u8> {
    tcp(source, destination, ACK)
}

fn tcp(source: Side, destination: Side, flags: u8) -> Vec<u8> {
    let mut frame = vec![0; 54];
    frame[12..14].copy_from_slice(&[0x08, 0x00]);
    frame[14] = 0x45; // IPv4, a header of 20 bytes
    frame[16..18].copy_from_slice(&40_u16.to_be_bytes());
    frame[22] = 64; // hop limit
    frame[23] = 6; // TCP
    frame[26..30].copy_from_slice(&source.0);
    frame[30..34].copy_from_slice(&destination.0);
    frame[34..36].copy_from_slice(&source.1.to_be_bytes());
    frame[36..38].copy_from_slice(&destination.1.to_be_bytes());
    frame[46] = 0x50; // a header of 20 bytes
    frame[47] = flags;
    frame
}
