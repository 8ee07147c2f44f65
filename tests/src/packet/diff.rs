//! Where two frames differ, in words.

use super::{Body, Ip, Net, Packet, Payload};

/// A layer: its name, and the fields that are known by name, each with its offset in the layer.
type Fields = &'static [(usize, &'static str)];

const ETHERNET: Fields = &[(0, "destination"), (6, "source"), (12, "ether type")];
const TAG: Fields = &[(0, "tag"), (2, "ether type")];
const IPV4: Fields = &[
    (0, "version and header length"),
    (1, "tos"),
    (2, "total length"),
    (4, "id"),
    (6, "flags and fragment offset"),
    (8, "ttl"),
    (9, "protocol"),
    (10, "checksum"),
    (12, "source"),
    (16, "destination"),
    (20, "options"),
];
const IPV6: Fields = &[
    (0, "version, traffic class and flow label"),
    (4, "payload length"),
    (6, "next header"),
    (7, "hop limit"),
    (8, "source"),
    (24, "destination"),
    (40, "extensions"),
];
const TCP: Fields = &[
    (0, "source port"),
    (2, "destination port"),
    (4, "sequence number"),
    (8, "acknowledgment number"),
    (12, "data offset"),
    (13, "flags"),
    (14, "window"),
    (16, "checksum"),
    (18, "urgent pointer"),
    (20, "options and payload"),
];
const UDP: Fields =
    &[(0, "source port"), (2, "destination port"), (4, "length"), (6, "checksum"), (8, "payload")];
const ICMP: Fields = &[(0, "type"), (1, "code"), (2, "checksum"), (4, "rest"), (8, "payload")];
const RAW: Fields = &[(0, "bytes")];

/// How `got` differs from the frame that was expected, a line for each field; nothing if it is the
/// same.
#[must_use]
pub fn diff(expected: &Packet, got: &[u8]) -> Vec<String> {
    let bytes = expected.bytes();
    let mut lines = Vec::new();
    if bytes.len() != got.len() {
        lines.push(format!("length: expected {}, got {}", bytes.len(), got.len()));
    }
    let fields = fields(expected);
    let ends = fields.iter().skip(1).map(|(start, _)| *start).chain([usize::MAX]);
    for ((start, name), end) in fields.iter().zip(ends) {
        let (is, should) = (part(got, *start, end), part(&bytes, *start, end));
        if is != should {
            lines.push(format!("{name} (byte {start}): expected {}, got {}", hex(should), hex(is)));
        }
    }
    lines
}

/// All fields of a frame by offset.
fn fields(packet: &Packet) -> Vec<(usize, String)> {
    let mut all = Vec::new();
    add(&mut all, "ethernet", 0, ETHERNET);
    for tag in 0..packet.tags.len() {
        add(&mut all, "vlan", 14 + 4 * tag, TAG);
    }
    let start = 14 + 4 * packet.tags.len();
    match &packet.net {
        Net::Ip(ip) => add_ip(&mut all, "", start, ip),
        Net::Other(..) => add(&mut all, "other", start, RAW),
    }
    all
}

fn add(all: &mut Vec<(usize, String)>, layer: &str, start: usize, fields: Fields) {
    all.extend(fields.iter().map(|(offset, name)| (start + offset, format!("{layer} {name}"))));
}

fn add_ip(all: &mut Vec<(usize, String)>, prefix: &str, start: usize, ip: &Ip) {
    let (name, fields) = if ip.source.is_ipv4() { ("ipv4", IPV4) } else { ("ipv6", IPV6) };
    let body = start + ip.header_length();
    add(all, &format!("{prefix}{name}"), start, fields);
    // Without options or extensions, what would be theirs is the body's.
    all.retain(|(offset, _)| *offset < body);
    let inner = format!("{prefix}inner ");
    match &ip.body {
        Body::Tcp(_) => add(all, &format!("{prefix}tcp"), body, TCP),
        Body::Udp(udp) => {
            add(all, &format!("{prefix}udp"), body, UDP);
            add_payload(all, &inner, body + 8, &udp.payload);
        }
        Body::Icmp(icmp) => {
            add(all, &format!("{prefix}icmp"), body, ICMP);
            add_payload(all, &inner, body + 8, &icmp.payload);
        }
        Body::Ip(ip) => add_ip(all, &inner, body, ip),
        Body::Raw(..) => add(all, &format!("{prefix}body"), body, RAW),
    }
}

fn add_payload(all: &mut Vec<(usize, String)>, prefix: &str, start: usize, payload: &Payload) {
    if let Payload::Ip(ip, _) = payload {
        all.retain(|(offset, _)| *offset < start);
        add_ip(all, prefix, start, ip);
    }
}

fn part(bytes: &[u8], start: usize, end: usize) -> &[u8] {
    bytes.get(start..end.min(bytes.len()).max(start)).unwrap_or_default()
}

/// The first bytes in hexadecimal.
fn hex(bytes: &[u8]) -> String {
    const SHOWN: usize = 24;
    if bytes.is_empty() {
        return "nothing".to_owned();
    }
    let text: Vec<String> = bytes.iter().take(SHOWN).map(|byte| format!("{byte:02x}")).collect();
    let more = if bytes.len() > SHOWN { " …" } else { "" };
    format!("{}{more}", text.join(" "))
}
