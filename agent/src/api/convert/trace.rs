//! Traces: requests and answers.

use std::net::SocketAddr;

use weir_ebpf::abi::TRACE_FRAME;
use weir_proto::v1;

use super::read::{Read, service_name};
use super::{Malformed, protocol, version, version_number};
use crate::{
    model::{Protocol, ServiceName, Version, Violations, steering::prefix},
    node::{
        Error,
        trace::answer::{
            Fate, FlowTrace, Goes, Hop, RememberedFlow, Room, SteeredBy, TraceFlow, TraceLive,
            TracedBackend, TracedBackendSlot, TracedEnds, TracedPacket, TracedPackets,
            TracedVersionSlot, Walked, Way,
        },
    },
};

/// From the wire: which flow is asked for.
pub fn flow(request: &v1::TraceFlowRequest) -> Result<TraceFlow, Error> {
    let mut violations = Violations::default();
    let mut end = |field: &str, text: &str| {
        let end = text.parse::<SocketAddr>().ok();
        if end.is_none() {
            violations.push(
                field,
                format!("{text:?} is not ADDRESS:PORT, such as 10.0.0.7:51515 or [fd00::7]:51515"),
            );
        }
        end.map(|end| SocketAddr::new(end.ip().to_canonical(), end.port()))
    };
    let from = end("from", &request.from);
    let to = if request.to.is_empty() { None } else { end("to", &request.to) };
    let protocol = protocol(request.protocol);
    if protocol.is_none() {
        violations.push("protocol", "must be TCP or UDP");
    }
    let service = match request.service.as_str() {
        "" => None,
        name => ServiceName::new(name).map_err(|message| violations.push("service", message)).ok(),
    };
    violations.into_result().map_err(Error::Invalid)?;
    let (from, protocol) = from.zip(protocol).ok_or_else(|| Error::Invalid(Vec::new()))?;
    Ok(TraceFlow { from, to, protocol, service })
}

/// For the wire: which flow is asked for.
#[must_use]
pub fn flow_to_proto(asked: &TraceFlow) -> v1::TraceFlowRequest {
    v1::TraceFlowRequest {
        from: asked.from.to_string(),
        to: asked.to.map(|to| to.to_string()).unwrap_or_default(),
        protocol: protocol_number(asked.protocol),
        service: asked.service.as_ref().map(ToString::to_string).unwrap_or_default(),
    }
}

pub(super) fn protocol_number(protocol: Protocol) -> i32 {
    match protocol {
        Protocol::Tcp => v1::Protocol::Tcp,
        Protocol::Udp => v1::Protocol::Udp,
    }
    .into()
}

/// A version that may be none.
fn some_version(version: Option<Version>) -> i32 {
    version.map_or(v1::Version::Unspecified.into(), version_number)
}

/// For the wire: why its packets go where they go.
#[must_use]
pub fn answer(trace: FlowTrace) -> v1::TraceFlowResponse {
    v1::TraceFlowResponse {
        from: trace.from.to_string(),
        to: trace.to.to_string(),
        protocol: protocol_number(trace.protocol),
        generation: trace.generation,
        not_taken: trace.not_taken.unwrap_or_default(),
        walk: trace.walk.map(walk),
    }
}

fn walk(walk: Walked) -> v1::FlowWalk {
    let slot = |slot: TracedVersionSlot| v1::TracedSlot {
        cur: version_number(slot.cur),
        base: version_number(slot.base),
        tracked: slot.tracked,
    };
    v1::FlowWalk {
        service: walk.service.to_string(),
        listener: walk.listener,
        generation: walk.generation,
        forwarding: walk.forwarding,
        affinity: walk.affinity,
        udp: walk.udp.unwrap_or_default(),
        slot: walk.slot,
        slots: walk.slots,
        hash: walk.hash,
        table: Some(slot(walk.table)),
        steering: walk.steering.map(|steering| v1::TracedSteering {
            prefix: steering.prefix,
            cur: some_version(steering.cur),
            base: some_version(steering.base),
            tracked: steering.tracked,
        }),
        version: Some(slot(walk.version)),
        backend: Some(backend_slot(&walk.backend)),
        base: walk.base.as_ref().map(backend_slot),
        remembered: walk.remembered.map(|flow| v1::RememberedFlow {
            backend: Some(backend(flow.backend)),
            client: flow.client,
            server: flow.server,
            seen_s: flow.seen_s,
            void: flow.void.unwrap_or_default(),
        }),
        room: walk.room.map(|room| v1::FlowRoom {
            used: room.used,
            capacity: room.capacity,
            refusing: room.refusing,
            processors: room.processors,
        }),
        opens: Some(way(walk.opens)),
        continues: Some(way(walk.continues)),
    }
}

fn backend_slot(slot: &TracedBackendSlot) -> v1::TracedBackendSlot {
    v1::TracedBackendSlot {
        version: version_number(slot.version),
        slot: slot.slot,
        slots: slot.slots,
        cur: slot.cur.map(backend),
        base: slot.base.map(backend),
        tracked: slot.tracked,
    }
}

fn backend(backend: TracedBackend) -> v1::TracedBackend {
    v1::TracedBackend {
        version: some_version(backend.version),
        address: backend.address.to_string(),
    }
}

fn way(way: Way) -> v1::TracedWay {
    let (to, hop) = way.goes.map(|goes| (goes.backend, goes.hop)).unzip();
    let Hop { interface, mac } = hop.flatten().unwrap_or_default();
    v1::TracedWay { backend: to.map(backend), interface, mac, why: way.why, because: way.because }
}

/// As the client reads it from the wire.
pub fn read(trace: v1::TraceFlowResponse) -> Read<FlowTrace> {
    Ok(FlowTrace {
        from: end(&trace.from)?,
        to: end(&trace.to)?,
        protocol: protocol(trace.protocol).ok_or(Malformed("protocol"))?,
        generation: trace.generation,
        not_taken: optional(trace.not_taken),
        walk: trace.walk.map(read_walk).transpose()?,
    })
}

pub(super) fn end(text: &str) -> Read<SocketAddr> {
    text.parse().map_err(|_| Malformed("address"))
}

pub(super) fn optional(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

fn read_walk(walk: v1::FlowWalk) -> Read<Walked> {
    Ok(Walked {
        service: service_name(&walk.service)?,
        listener: walk.listener,
        generation: walk.generation,
        forwarding: walk.forwarding,
        affinity: walk.affinity,
        udp: optional(walk.udp),
        slot: walk.slot,
        slots: walk.slots,
        hash: walk.hash,
        table: read_slot(walk.table)?,
        steering: walk.steering.map(|steering| SteeredBy {
            prefix: steering.prefix,
            cur: version(steering.cur),
            base: version(steering.base),
            tracked: steering.tracked,
        }),
        version: read_slot(walk.version)?,
        backend: read_backend_slot(walk.backend.ok_or(Malformed("walk.backend"))?)?,
        base: walk.base.map(read_backend_slot).transpose()?,
        remembered: walk.remembered.map(read_flow).transpose()?,
        room: walk.room.map(|room| Room {
            used: room.used,
            capacity: room.capacity,
            refusing: room.refusing,
            processors: room.processors,
        }),
        opens: read_way(walk.opens)?,
        continues: read_way(walk.continues)?,
    })
}

fn read_slot(slot: Option<v1::TracedSlot>) -> Read<TracedVersionSlot> {
    let slot = slot.ok_or(Malformed("walk.version"))?;
    Ok(TracedVersionSlot {
        cur: version(slot.cur).ok_or(Malformed("cur"))?,
        base: version(slot.base).ok_or(Malformed("base"))?,
        tracked: slot.tracked,
    })
}

fn read_backend_slot(slot: v1::TracedBackendSlot) -> Read<TracedBackendSlot> {
    Ok(TracedBackendSlot {
        version: version(slot.version).ok_or(Malformed("version"))?,
        slot: slot.slot,
        slots: slot.slots,
        cur: slot.cur.map(read_backend).transpose()?,
        base: slot.base.map(read_backend).transpose()?,
        tracked: slot.tracked,
    })
}

#[allow(clippy::needless_pass_by_value, reason = "all readers of a field are alike")]
fn read_backend(backend: v1::TracedBackend) -> Read<TracedBackend> {
    Ok(TracedBackend { version: version(backend.version), address: end(&backend.address)? })
}

fn read_flow(flow: v1::RememberedFlow) -> Read<RememberedFlow> {
    Ok(RememberedFlow {
        backend: read_backend(flow.backend.ok_or(Malformed("remembered.backend"))?)?,
        client: flow.client,
        server: flow.server,
        seen_s: flow.seen_s,
        void: optional(flow.void),
    })
}

fn read_way(way: Option<v1::TracedWay>) -> Read<Way> {
    let way = way.ok_or(Malformed("walk.opens"))?;
    let hop = optional(way.interface).map(|interface| Hop { interface, mac: way.mac });
    let goes = |backend| Ok(Goes { backend: read_backend(backend)?, hop });
    Ok(Way { goes: way.backend.map(goes).transpose()?, why: way.why, because: way.because })
}

/// From the wire: which packets are wanted.
pub fn live(request: &v1::TraceLiveRequest) -> Result<TraceLive, Error> {
    let mut violations = Violations::default();
    let client = match request.client.as_str() {
        "" => None,
        text => prefix(text).map_err(|message| violations.push("client", message)).ok(),
    };
    let service = match request.service.as_str() {
        "" => None,
        name => ServiceName::new(name).map_err(|message| violations.push("service", message)).ok(),
    };
    if request.frame_bytes > TRACE_FRAME {
        let message = format!("{} is above {TRACE_FRAME}", request.frame_bytes);
        violations.push("frame_bytes", message);
    }
    violations.into_result().map_err(Error::Invalid)?;
    Ok(TraceLive {
        client,
        service,
        drops: request.drops,
        passed: request.passed,
        sample: request.sample.max(1),
        frame_bytes: request.frame_bytes,
    })
}

/// For the wire: which packets are wanted.
#[must_use]
pub fn live_to_proto(asked: &TraceLive) -> v1::TraceLiveRequest {
    v1::TraceLiveRequest {
        client: asked.client.map(|client| client.to_string()).unwrap_or_default(),
        service: asked.service.as_ref().map(ToString::to_string).unwrap_or_default(),
        drops: asked.drops,
        passed: asked.passed,
        sample: asked.sample,
        frame_bytes: asked.frame_bytes,
    }
}

/// For the wire: what became of packets.
#[must_use]
pub fn packets(traced: TracedPackets) -> v1::TraceLiveResponse {
    let packet = |packet: TracedPacket| v1::TracedPacket {
        time: Some(packet.time.into()),
        hook: packet.hook,
        interface: packet.interface,
        fate: match packet.fate {
            Fate::Sent => v1::Fate::Sent,
            Fate::Dropped => v1::Fate::Dropped,
            Fate::Passed => v1::Fate::Passed,
        }
        .into(),
        why: packet.why,
        service: packet.service.map(|service| service.to_string()).unwrap_or_default(),
        backend: packet.backend.map(backend),
        opens: packet.opens,
        from: packet.flow.map(|flow| flow.from.to_string()).unwrap_or_default(),
        to: packet.flow.map(|flow| flow.to.to_string()).unwrap_or_default(),
        protocol: packet.flow.map_or(0, |flow| protocol_number(flow.protocol)),
        flags: packet.flags,
        length: packet.length,
        frame: packet.frame,
    };
    v1::TraceLiveResponse {
        lost: traced.lost,
        packets: traced.packets.into_iter().map(packet).collect(),
    }
}

/// As the client reads it from the wire.
pub fn read_packets(traced: v1::TraceLiveResponse) -> Read<TracedPackets> {
    let packets = traced.packets.into_iter().map(read_packet).collect::<Read<_>>()?;
    Ok(TracedPackets { lost: traced.lost, packets })
}

fn read_packet(packet: v1::TracedPacket) -> Read<TracedPacket> {
    let flow = protocol(packet.protocol).map(|protocol| {
        Ok(TracedEnds { from: end(&packet.from)?, to: end(&packet.to)?, protocol })
    });
    let service = optional(packet.service).map(|name| service_name(&name));
    Ok(TracedPacket {
        time: packet.time.and_then(|time| time.try_into().ok()).ok_or(Malformed("time"))?,
        hook: packet.hook,
        interface: packet.interface,
        fate: match v1::Fate::try_from(packet.fate) {
            Ok(v1::Fate::Sent) => Fate::Sent,
            Ok(v1::Fate::Dropped) => Fate::Dropped,
            Ok(v1::Fate::Passed) => Fate::Passed,
            Ok(v1::Fate::Unspecified) | Err(_) => return Err(Malformed("fate")),
        },
        why: packet.why,
        service: service.transpose()?,
        backend: packet.backend.map(read_backend).transpose()?,
        opens: packet.opens,
        flow: flow.transpose()?,
        flags: packet.flags,
        length: packet.length,
        frame: packet.frame,
    })
}
