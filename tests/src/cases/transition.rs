//! In the middle of a shift from blue (`.1`) to green (`.2`), where every slot has moved: what
//! begins goes to green and is remembered; what was there before stays with blue.

use weir_ebpf::abi::{SEEN_DATA, SEEN_FIN, SEEN_RST, SEEN_SYN};

use super::nat::{WAYS, Way};
use super::nodes::{FLOODED, HERE, SHIFTING};
use super::{Case, Draft, In, begins, case, datagram, goes};
use crate::packet::{ACK, FIN, PSH, Packet, RST, SYN};

pub(super) fn cases() -> Vec<Case> {
    let green = ["10.0.0.2:8080", "[fd00::2]:8080"];
    let both = WAYS.into_iter().zip(green);
    both.flat_map(|(way, green)| {
        let new = Way { backend: green, hop: HERE, ..way };
        [shifting(way, new), remembered(way, new), flooded(way, new)].concat()
    })
    .collect()
}

fn named(way: Way, name: &str) -> String {
    format!("transition/{}/{name}", way.name)
}

/// The input reaches the backend of this way.
fn reaches(draft: Draft, way: Way, input: &Packet, counted: In) -> Case {
    draft.to_backend(way.forwarded(input), &way.hop, counted)
}

fn shifting(old: Way, new: Way) -> Vec<Case> {
    let (blue, green) = (old.backend, new.backend);
    [
        ("syn", old.tcp(SYN), new, begins(green).remembered()),
        ("udp", old.udp(), new, datagram(green)),
        ("ack-of-an-old-flow", old.tcp(ACK), old, goes(blue).remembered()),
        ("data-of-an-old-flow", old.tcp(PSH | ACK).payload(50), old, goes(blue).remembered()),
        ("fin-of-an-old-flow", old.tcp(FIN | ACK), old, goes(blue).remembered()),
        ("rst-of-an-old-flow", old.tcp(RST), old, goes(blue).remembered()),
        ("syn-ack", old.tcp(SYN | ACK), old, goes(blue).remembered()),
    ]
    .into_iter()
    .map(|(name, input, to, counted)| {
        reaches(case(named(old, name), &SHIFTING, input.clone()), to, &input, counted)
    })
    .collect()
}

/// Flows that the table holds go where it says.
fn remembered(old: Way, new: Way) -> Vec<Case> {
    let (blue, green) = (old.backend, new.backend);
    let open = SEEN_SYN | SEEN_DATA;
    [
        ("ack-of-a-new-flow", old.tcp(ACK), (green, open), new, goes(green)),
        ("syn-again", old.tcp(SYN), (green, SEEN_SYN), new, begins(green)),
        ("syn-again-of-an-old-flow", old.tcp(SYN), (blue, SEEN_SYN), old, begins(blue)),
        ("ack-behind-a-fin", old.tcp(ACK), (blue, open | SEEN_FIN), old, goes(blue)),
        // The client uses its port again: another flow.
        (
            "syn-behind-a-fin",
            old.tcp(SYN),
            (blue, open | SEEN_FIN),
            new,
            begins(green).remembered(),
        ),
        (
            "syn-behind-a-rst",
            old.tcp(SYN),
            (blue, open | SEEN_RST),
            new,
            begins(green).remembered(),
        ),
        ("udp-of-an-old-flow", old.udp(), (blue, SEEN_DATA), old, goes(blue)),
    ]
    .into_iter()
    .map(|(name, input, (backend, client), to, counted)| {
        let draft = case(named(old, name), &SHIFTING, input.clone()).remembered(backend, client);
        reaches(draft, to, &input, counted)
    })
    .collect()
}

/// Flows that cannot be remembered go where an older flow would have gone.
fn flooded(old: Way, new: Way) -> Vec<Case> {
    let (blue, green) = (old.backend, new.backend);
    [
        ("syn", old.tcp(SYN), old, begins(blue).flooded()),
        ("ack", old.tcp(ACK), old, goes(blue).flooded()),
        // Datagrams' flows have a table of their own, which no limit guards.
        ("udp", old.udp(), new, datagram(green)),
    ]
    .into_iter()
    .map(|(name, input, to, counted)| {
        let name = named(old, &format!("flood/{name}"));
        reaches(case(name, &FLOODED, input.clone()), to, &input, counted)
    })
    .chain([reaches(
        case(named(old, "flood/ack-of-a-remembered-flow"), &FLOODED, old.tcp(ACK))
            .remembered(green, SEEN_SYN),
        new,
        &old.tcp(ACK),
        goes(green),
    )])
    .collect()
}
