//! A trace with all that a trace can hold.

use std::net::SocketAddr;

use weir::model::{ServiceName, Version};
use weir::node::trace::answer::{
    FlowTrace, Goes, Hop, RememberedFlow, Room, SteeredBy, TraceFlow, TracedBackend,
    TracedBackendSlot, TracedVersionSlot, Walked, Way,
};

fn backend(version: Version, address: &str) -> TracedBackend {
    TracedBackend { version: Some(version), address: address.parse().unwrap() }
}

/// The answer to anything that is asked.
pub(crate) fn any(asked: &TraceFlow) -> FlowTrace {
    let to: SocketAddr = "10.50.0.100:80".parse().unwrap();
    let (blue, canary) =
        (backend(Version::Blue, "10.61.0.2:80"), backend(Version::Canary, "10.63.0.2:80"));
    let slot = |version, cur, base, tracked| TracedBackendSlot {
        version,
        slot: 555,
        slots: 1_024,
        cur,
        base,
        tracked,
    };
    let hop = Hop { interface: "eth1".to_owned(), mac: "02:00:00:00:00:07".to_owned() };
    let way = |goes, why: &str| Way { goes, why: why.to_owned(), because: "so".to_owned() };
    let walk = Walked {
        service: ServiceName::new("shop").unwrap(),
        listener: "10.50.0.100:any".to_owned(),
        generation: 7,
        forwarding: "nat".to_owned(),
        affinity: "client".to_owned(),
        udp: Some("tracked".to_owned()),
        slot: 11_203,
        slots: 16_384,
        hash: 0x0041_f2ab,
        table: TracedVersionSlot { cur: Version::Blue, base: Version::Blue, tracked: false },
        steering: Some(SteeredBy {
            prefix: "10.9.0.0/16".to_owned(),
            cur: Some(Version::Canary),
            base: None,
            tracked: true,
        }),
        version: TracedVersionSlot { cur: Version::Canary, base: Version::Blue, tracked: true },
        backend: slot(Version::Canary, Some(canary), None, true),
        base: Some(slot(Version::Blue, Some(blue), Some(blue), false)),
        remembered: Some(RememberedFlow {
            backend: blue,
            client: vec!["syn".to_owned(), "data".to_owned()],
            server: Vec::new(),
            seen_s: 3,
            void: Some("it has ended".to_owned()),
        }),
        room: Some(Room { used: 10, capacity: 1_000, refusing: 1, processors: 2 }),
        opens: way(Some(Goes { backend: canary, hop: Some(hop) }), "remembered"),
        continues: way(None, "drop-no-backend"),
    };
    let not_taken = asked.to.filter(|asked| *asked != to).map(|to| format!("nothing is at {to}"));
    FlowTrace {
        from: asked.from,
        to: asked.to.unwrap_or(to),
        protocol: asked.protocol,
        generation: 9,
        walk: not_taken.is_none().then_some(walk),
        not_taken,
    }
}
