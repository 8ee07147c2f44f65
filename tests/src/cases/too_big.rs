//! Sizes around what fits on the way to the backend, with what the mode puts around a packet, and
//! on the way to the client. What does not fit is not fragmented, even if it might be: its sender
//! is told how long its packets may be.

use weir::dataplane::next_hop::NextHop;

use super::direct::DIRECT;
use super::modes::{self, Mode, Path, UNKNOWN, behind};
use super::nodes::{AWAY, NETWORK, ROUTED, Spec};
use super::told::Why;
use super::{Case, Draft, datagram, goes};
use crate::packet::{ACK, PSH, Packet, ip};

const MTU: usize = 1_500;
const NEAR_MTU: usize = 1_400;

/// By a way for IP packets of up to [`MTU`] bytes.
const NARROW: NextHop = NextHop { mtu: 1_500, ..AWAY };
pub(super) static BY_HOP: Spec = Spec { name: "mtu-1500", hops: &behind(NARROW), ..UNKNOWN };

/// The kernel knows a way for IP packets of up to [`NEAR_MTU`] bytes.
static BY_KERNEL: Spec = Spec {
    name: "mtu-1400",
    network: &[NETWORK, &["link set near mtu 1400"]],
    forwarding: true,
    ..UNKNOWN
};

pub(super) fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for path in modes::all() {
        all.extend(fit(path));
        all.extend(do_not_fit(path));
        all.extend(by_kernel(path));
        if path.mode == Mode::Nat {
            all.extend(answers(path));
        }
    }
    all
}

/// What comes of a packet where there is room for one of `most` bytes.
fn refused(draft: Draft, most: usize) -> Case {
    draft.tells(Why::Fits(u16::try_from(most).unwrap()))
}

fn draft(path: Path, name: &str, node: &'static Spec, input: &Packet) -> Draft {
    let draft = path.draft(name, node, input.clone());
    Draft { name: format!("too-big/{}", draft.name), ..draft }
}

fn tcp(path: Path, length: usize) -> Packet {
    Path::filled(path.tcp(PSH | ACK), length)
}

fn udp(path: Path, length: usize) -> Packet {
    Path::filled(path.udp(), length)
}

fn fit(path: Path) -> Vec<Case> {
    let most = MTU - path.room();
    let fits = |name: &str, input: Packet, counted| {
        draft(path, name, &BY_HOP, &input).to_backend(path.forwarded(&input), &NARROW, counted)
    };
    let mut all = vec![
        fits("fits/tcp", tcp(path, most), goes(path.backend)),
        fits("fits/tcp-with-room", tcp(path, most - 1), goes(path.backend)),
        fits("fits/udp", udp(path, most), datagram(path.backend)),
        // Tags that came with it take no room.
        fits("fits/tagged", tcp(path, most).tagged(0x88a8, 7).tag(42), goes(path.backend)),
    ];
    if path.is_v4() {
        all.push(fits("fits/df", tcp(path, most).df(), goes(path.backend)));
    }
    // Nobody knows what fits.
    let long = tcp(path, 2_000);
    let sent = path.forwarded(&long);
    let draft = draft(path, "unknown", &DIRECT, &long);
    all.push(draft.to_backend(sent, &AWAY, goes(path.backend)));
    all
}

fn do_not_fit(path: Path) -> Vec<Case> {
    let most = MTU - path.room();
    let too_big = |name: &str, input: Packet| {
        refused(draft(path, &format!("over/{name}"), &BY_HOP, &input), most)
    };
    let mut all = vec![
        too_big("tcp-by-1", tcp(path, most + 1)),
        too_big("tcp-by-1000", tcp(path, most + 1_000)),
        too_big("udp-by-1", udp(path, most + 1)).and_remembered(),
        too_big("udp-no-checksum", udp(path, most + 1).no_checksum()).and_remembered(),
        too_big("tos", tcp(path, most + 1).tos(0xb9)),
        too_big("tagged", tcp(path, most + 1).tag(42)),
        too_big("two-tags", udp(path, most + 1).tagged(0x88a8, 7).tag(42)).and_remembered(),
    ];
    if path.is_v4() {
        all.push(too_big("df", tcp(path, most + 1).df()));
        all.push(too_big("options", Path::filled(path.tcp(ACK).options(&[1; 8]), most + 1)));
    } else {
        let extended = path.udp().extension(60, &[1, 4, 0, 0, 0, 0]);
        all.push(too_big("extension", Path::filled(extended, most + 1)).and_remembered());
    }
    all
}

fn by_kernel(path: Path) -> Vec<Case> {
    let most = NEAR_MTU - path.room();
    let (fits, over) = (tcp(path, most), tcp(path, most + 1));
    let sent = path.forwarded(&fits).macs(ROUTED.mac, ROUTED.interface_mac);
    vec![
        draft(path, "by-kernel/fits", &BY_KERNEL, &fits)
            .to_backend_by_kernel(sent, goes(path.backend)),
        refused(draft(path, "by-kernel/over", &BY_KERNEL, &over), most),
    ]
}

/// Answers to clients, which are behind the kernel's way.
fn answers(path: Path) -> Vec<Case> {
    let (backend, _) = path.backend.rsplit_once(':').unwrap();
    let answer = |length| {
        let answer = ip(backend.trim_matches(['[', ']']), path.client);
        Path::filled(answer.tcp(8_080, 40_000, PSH | ACK), length)
    };
    let from = if path.is_v4() { "198.51.100.1:80" } else { "[2001:db8::1]:80" };
    let (fits, over) = (answer(NEAR_MTU), answer(NEAR_MTU + 1));
    let seen = fits.clone().from(from).ttl(63);
    vec![
        draft(path, "answer/fits", &BY_KERNEL, &fits).to_client(seen, &ROUTED, path.backend),
        // The node speaks as the listener, which is an address of its own.
        draft(path, "answer/over", &BY_KERNEL, &over)
            .tells_from(path.listener, Why::Fits(u16::try_from(NEAR_MTU).unwrap())),
    ]
}
