//! From the program's numbers to what people call things.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use weir_ebpf::abi::{
    NO_BACKEND, NO_SERVICE, Reason, TCP, TRACE_DROPPED, TRACE_SENT, TraceEvent, UDP,
};
use weir_ebpf::decide::Why;

use super::super::answers::{HOOKS, reason_name};
use super::answer::{AskNames, Fate, Names, TracedBackend, TracedEnds, TracedPacket};
use super::live::monotonic;
use super::{ip, words};
use crate::dataplane::DataPlane;
use crate::dataplane::tap::Told;
use crate::model::Protocol;
use crate::node::{Error, Owner};
use crate::store::Store;

/// All reasons for a backend, by their numbers.
const WHYS: [Why; 6] =
    [Why::Table, Why::Pinned, Why::Remembered, Why::Full, Why::Flooded, Why::Named];
/// The letters of TCP's flags, lowest bit first.
const FLAGS: &str = "FSRPAUEC";

impl<P: DataPlane, S: Store> Owner<P, S> {
    /// What things are called.
    pub(in crate::node) fn names(&self, asked: &AskNames) -> Result<Names, Error> {
        let index = asked.index_of.as_ref().map(|name| self.state.get(name)).transpose()?;
        let services = self.state.services.iter();
        let services = services.filter(|(_, entry)| asked.services.contains(&entry.index));
        let backends = self.state.directory.all();
        let backends = backends.filter(|(_, _, place)| asked.backends.contains(&place.index));
        Ok(Names {
            index: index.map(|entry| entry.index),
            services: services.map(|(name, entry)| (entry.index, name.clone())).collect(),
            backends: backends
                .map(|(_, key, place)| {
                    let address = SocketAddr::new(key.address, key.port);
                    (place.index, TracedBackend { version: Some(key.version), address })
                })
                .collect(),
        })
    }
}

/// The names that are needed to say what was told.
#[must_use]
pub fn needed(told: &[Told]) -> AskNames {
    let events = || told.iter().map(|told| &told.event);
    AskNames {
        index_of: None,
        services: events().map(|e| e.service).filter(|service| *service != NO_SERVICE).collect(),
        backends: events().map(|e| e.backend).filter(|backend| *backend != NO_BACKEND).collect(),
    }
}

/// What was told, in words.
#[must_use]
pub fn packets(told: Vec<Told>, names: &Names) -> Vec<TracedPacket> {
    let (now, since_boot) = (SystemTime::now(), monotonic(Duration::ZERO));
    let mut interfaces = HashMap::new();
    let packet = |Told { event, mut frame }: Told| {
        let ago = Duration::from_nanos(since_boot.saturating_sub(event.time));
        let interface = interfaces.entry(event.ifindex).or_insert_with(|| {
            let name = nix::net::if_::if_indextoname(event.ifindex).ok();
            let name = name.and_then(|name| name.into_string().ok());
            name.unwrap_or_else(|| event.ifindex.to_string())
        });
        let tag = if event.tag == 0 { 0 } else { 4 };
        if tag != 0 && frame.len() >= 12 {
            frame.splice(12..12, event.tag.to_be_bytes());
        }
        TracedPacket {
            time: now.checked_sub(ago).unwrap_or(now),
            hook: HOOKS.get(usize::from(event.hook)).copied().unwrap_or_default().to_owned(),
            interface: interface.clone(),
            fate: match u32::from(event.what) {
                TRACE_SENT => Fate::Sent,
                TRACE_DROPPED => Fate::Dropped,
                _ => Fate::Passed,
            },
            why: why(&event).to_owned(),
            service: names.services.get(&event.service).cloned(),
            backend: names.backends.get(&event.backend).copied(),
            opens: event.opens != 0,
            flow: flow(&event),
            flags: flags(event.flags),
            length: event.length + tag,
            frame,
        }
    };
    told.into_iter().map(packet).collect()
}

fn why(event: &TraceEvent) -> &'static str {
    if u32::from(event.what) == TRACE_SENT {
        return WHYS.get(usize::from(event.why)).map_or("", |why| words::why(*why));
    }
    let reason = Reason::ALL.into_iter().find(|reason| *reason as u32 == event.reason);
    reason.map_or("", reason_name)
}

fn flow(event: &TraceEvent) -> Option<TracedEnds> {
    let protocol = match event.key.protocol {
        TCP => Protocol::Tcp,
        UDP => Protocol::Udp,
        _ => return None,
    };
    let end = |address, port| SocketAddr::new(ip(address), u16::from_be(port));
    Some(TracedEnds {
        from: end(event.key.source, event.key.source_port),
        to: end(event.key.destination, event.key.destination_port),
        protocol,
    })
}

fn flags(bits: u8) -> String {
    FLAGS.chars().enumerate().filter(|(bit, _)| bits >> bit & 1 != 0).map(|(_, c)| c).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_stand_at_their_numbers() {
        assert!(WHYS.iter().enumerate().all(|(number, why)| *why as usize == number));
        assert_eq!(flags(0x12), "SA");
    }
}
