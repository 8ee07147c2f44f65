//! The reasons of a trace, as sentences. Pure.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use weir_ebpf::abi::{UDP, UDP_QUIC};
use weir_ebpf::decide::{Decision, Undecided, Why};

use super::walk::{Holds, Walk};
use super::{ip, version};
use crate::model::{Protocol, ServiceName};
use crate::plan::steering::Prefix;

/// Addresses that a sentence names at most.
const NAMED: usize = 8;

/// The name of a reason. It never changes.
pub(in crate::node) const fn why(why: Why) -> &'static str {
    match why {
        Why::Table => "table",
        Why::Pinned => "pinned",
        Why::Remembered => "remembered",
        Why::Full => "full",
        Why::Flooded => "flooded",
        Why::Named => "named",
    }
}

/// Why an entry does not hold.
pub(super) fn void(holds: Holds) -> Option<String> {
    let why = match holds {
        Holds::Yes => return None,
        Holds::Closed => "it has ended: a packet that opens a flow begins another one",
        Holds::GivenUp => "its backend is given up",
        Holds::Silent => "it was silent for too long",
    };
    Some(why.to_owned())
}

/// Why a packet goes where it goes.
pub(super) fn because(
    walk: &Walk,
    protocol: u8,
    decided: Result<Decision, Undecided>,
    opens: bool,
) -> String {
    let datagram = protocol == UDP && walk.record.udp != UDP_QUIC;
    let tracked = walk.version.tracked() || walk.backend.slot.tracked();
    let void = match walk.entry {
        Some((_, Holds::Closed)) if !opens => None,
        Some((_, holds)) => void(holds),
        None => None,
    };
    let void = void.map(|void| format!("; the entry there is does not hold: {void}"));
    let void = void.unwrap_or_default();
    let text = match decided {
        Err(Undecided::NoTable) => return "a table is missing: dropped".to_owned(),
        Err(Undecided::NoBackend) => {
            let of = version(walk.version.cur()).map_or("the version", |version| version.name());
            return format!("{of} has no backend in this slot: dropped");
        }
        Ok(decision) => match decision.why {
            Why::Table if !tracked || datagram => "by the tables alone",
            Why::Table => "its slot has moved, but new flows and older ones go to the same backend",
            Why::Pinned => "it is remembered there",
            Why::Named => "the packet names its server",
            Why::Remembered if datagram => {
                "not known: by the tables, and remembered from this datagram on"
            }
            Why::Remembered if opens => {
                "its slot has moved: a new flow goes where new ones go, and is remembered"
            }
            Why::Remembered => {
                "its slot has moved, and it is not known: so it began before, belongs where older \
                 flows do, and is remembered"
            }
            Why::Full => {
                "its slot has moved, and the flow table is full: it goes where older flows go"
            }
            Why::Flooded => {
                "its slot has moved, and new flows come too fast to be remembered: it goes where \
                 older flows go"
            }
        },
    };
    format!("{text}{void}")
}

/// An address with its port in network byte order, zero being every port.
pub(super) fn endpoint(address: IpAddr, port: u16) -> String {
    match (u16::from_be(port), address) {
        (0, IpAddr::V4(v4)) => format!("{v4}:any"),
        (0, IpAddr::V6(v6)) => format!("[{v6}]:any"),
        (port, address) => SocketAddr::new(address, port).to_string(),
    }
}

/// A prefix, as it is written in rules.
pub(super) fn prefix(prefix: Prefix) -> String {
    let address = ip(prefix.address());
    let bits = if address.is_ipv4() { prefix.length().saturating_sub(96) } else { prefix.length() };
    format!("{address}/{bits}")
}

/// A MAC address.
pub(super) fn mac(mac: [u8; 6]) -> String {
    let mut text = String::with_capacity(17);
    for (index, byte) in mac.iter().enumerate() {
        let colon = if index == 0 { "" } else { ":" };
        let _ = write!(text, "{colon}{byte:02x}");
    }
    text
}

/// Of a packet from a backend.
pub(super) fn answer(from: SocketAddr, of: Option<&str>, listener: SocketAddr) -> String {
    let of = of.unwrap_or("a service that is gone");
    format!(
        "{from} is a backend of {of}: its packets are answers, and go to the client as if from \
         {listener}"
    )
}

/// Of an address that has listeners, but not this one.
pub(super) fn other_port(to: SocketAddr, protocol: Protocol, there: &[String]) -> String {
    let (address, port) = (to.ip(), to.port());
    format!(
        "{address} is an address of weir's, but nothing listens at port {port}/{protocol} there: \
         such packets are left to the host. Listeners at this address: {}",
        some(there)
    )
}

/// Of a packet to a backend.
pub(super) fn to_backend(to: SocketAddr, service: &ServiceName) -> String {
    format!("{to} is a backend of {service}: a client's own connection to it is left alone")
}

/// Of an address that has no listener.
pub(super) fn no_address(address: IpAddr, known: &[IpAddr]) -> String {
    let known: Vec<String> = known.iter().map(ToString::to_string).collect();
    let known = if known.is_empty() {
        "there is no listener at all".to_owned()
    } else {
        format!("addresses with listeners: {}", some(&known))
    };
    format!("no listener has the address {address}: packets to it are left to the host; {known}")
}

fn some(all: &[String]) -> String {
    let named = all[..all.len().min(NAMED)].join(", ");
    match all.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}
