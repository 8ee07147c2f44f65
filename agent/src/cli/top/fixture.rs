//! A node to draw: shop with blue and canary, api with green, and many more if asked for.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use super::state::{Key, Look, Message, State};
use crate::health::Counts;
use crate::model::{
    BackendState, Handshakes, Observed, OnTimeout, PerVersion, SampleRatio, ServiceName, SpecFile,
    TableShare, Traffic, Version, Weight, Weights,
};
use crate::node::events::{Event, Events, Kind, Recorded};
use crate::node::interval::Interval;
use crate::node::messages::{
    BackendCounters, BackendStatus, Counters, DrainStatus, MayStop, NextHop, NodeStatus, Sample,
    ServiceCounters, ServiceStatus, VersionCounters, VersionStatus,
};

const SLOTS: u32 = 16_384;

/// A service: its name and the weights of blue, green and canary in percent.
pub(super) type Plan<'a> = (&'a str, [u32; 3]);

pub(super) const SHOP: Plan<'_> = ("shop", [95, 0, 5]);
pub(super) const API: Plan<'_> = ("api", [0, 100, 0]);

fn backend(version: Version) -> SocketAddr {
    let octet = u8::try_from(61 + version.index()).unwrap();
    SocketAddr::new([10, octet, 0, 2].into(), 80)
}

/// After so many seconds: 10 connections a second for each percent, of which those of canary take
/// 8 ms and one in ten is refused, and the others take 0.5 ms.
fn counted(percent: u32, version: Version, second: u64) -> VersionCounters {
    let connections = u64::from(percent) * 10 * second;
    let bad = version == Version::Canary;
    let refused = if bad { connections / 10 } else { 0 };
    let established = connections - refused;
    let mut buckets = vec![0; weir_ebpf::latency::bucket(if bad { 8_000_000 } else { 500_000 })];
    buckets.push(established);
    let handshakes = Handshakes::new(buckets, Duration::ZERO);
    let traffic = Traffic { connections, established, refused, ..Traffic::default() };
    let (address, port) = (backend(version).ip(), backend(version).port());
    let one = BackendCounters { address, port, traffic, handshakes: handshakes.clone() };
    let backends = if percent > 0 { vec![one] } else { Vec::new() };
    VersionCounters { traffic, handshakes, backends }
}

fn counters(plans: &[Plan<'_>], epoch: u64, second: u64) -> Counters {
    let service = |(name, weights): &Plan<'_>| ServiceCounters {
        service: ServiceName::new(name).unwrap(),
        versions: PerVersion::from_fn(|version| counted(weights[version.index()], version, second)),
    };
    let mut services: Vec<_> = plans.iter().map(service).collect();
    services.sort_by(|a, b| a.service.cmp(&b.service));
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + second);
    Counters { epoch, time, services, verdicts: Vec::new() }
}

fn status((name, weights): &Plan<'_>, second: u64) -> ServiceStatus {
    let file = format!(
        "services: [{{ name: {name}, listeners: [{{ address: 10.50.0.100, port: 80, protocol: tcp }}], \
         versions: {{}} }}]"
    );
    let observed = PerVersion::from_fn(|version| u64::from(weights[version.index()]) * 10 * second);
    let total = observed.iter().map(|(_, count)| count).sum();
    let table = PerVersion::from_fn(|version| TableShare {
        slots: weights[version.index()] * SLOTS / 100,
        total: SLOTS,
    });
    let versions = PerVersion::from_fn(|version| {
        let at = backend(version);
        let one = BackendStatus {
            address: at.ip(),
            port: at.port(),
            weight: 100,
            state: BackendState::Active,
            slots: 1_024,
            connections: observed[version],
            next_hop: NextHop::Resolved { interface: "eth1".into() },
            health: None,
        };
        VersionStatus {
            release: if weights[version.index()] > 0 { "v1.42".into() } else { String::new() },
            asked: Weight::from_bp(weights[version.index()] * 100).unwrap(),
            table: table[version],
            observed: Observed { connections: observed[version], total, steered: 0 },
            backends: if weights[version.index()] > 0 { vec![one] } else { Vec::new() },
        }
    });
    ServiceStatus {
        spec: SpecFile::parse(&file).unwrap().services.remove(0),
        generation: 3,
        digest: "ab".into(),
        versions,
        sample_ratio: SampleRatio::judge(observed, table),
        settled: Weights::all_to(Version::Blue),
        lease: None,
        fence: None,
        guard: None,
    }
}

fn drain() -> DrainStatus {
    DrainStatus {
        service: ServiceName::new("shop").unwrap(),
        version: Version::Green,
        backend: None,
        why: "no weight".into(),
        age_s: Some(75),
        flows: 1_012,
        longest_silence_s: Some(64),
        last_packet_s: Some(3),
        packets: 4_096,
        window_s: 8,
        settles_in_s: Some(825),
        deadline_in_s: None,
        on_timeout: OnTimeout::Keep,
        may_stop: MayStop::No,
        reason: "1012 flows, last packet 3s ago".into(),
    }
}

/// A look after so many seconds, with what was counted in the last one.
pub(super) fn look(plans: &[Plan<'_>], (was, is): (u64, u64), second: u64) -> Message {
    let earlier = counters(plans, was, second.saturating_sub(1));
    let counters = counters(plans, is, second);
    let interval = Some(Interval::between(&earlier, &counters));
    let node = NodeStatus {
        version: "0.1.0".into(),
        abi: 1,
        kernel: "6.12.0".into(),
        epoch: is,
        generation: 3,
        uptime: Duration::from_secs(3_661),
        interfaces: Vec::new(),
        capacity: Vec::new(),
        outer_sources: Vec::new(),
        health: Counts::default(),
        http: None,
        listen: None,
        bpf_log: "off".to_owned(),
        state_dir: String::new(),
        warnings: Vec::new(),
    };
    let mut services: Vec<_> = plans.iter().map(|plan| status(plan, second)).collect();
    services.sort_by(|a, b| a.spec.name.cmp(&b.spec.name));
    let sample = Sample { counters, interval };
    Message::Look(Box::new(Look { services, sample, drains: vec![drain()], node }))
}

/// Something that happened to shop.
pub(super) fn event(id: u64, kind: Kind, text: &str) -> Message {
    let event = Event::new(kind, text).of(&ServiceName::new("shop").unwrap());
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + id);
    let events = vec![Recorded { id, time, event }];
    Message::Events(Events { epoch: 1, lost: 0, last_id: id, events })
}

/// The state after ten seconds of these services.
pub(super) fn state(plans: &[Plan<'_>]) -> State {
    let mut state = State::default();
    for second in 1..=10 {
        state.hear(look(plans, (1, 1), second));
    }
    state.hear(event(1, Kind::Shifted, "blue 100% → 95%, canary 0% → 5%"));
    state.hear(event(2, Kind::BackendDown, "10.63.0.2:80 is down"));
    state
}

/// Presses keys; `\n` is Enter, `\x1b` Escape.
pub(super) fn press(state: &mut State, keys: &str) {
    for letter in keys.chars() {
        state.press(match letter {
            '\n' => Key::Enter,
            '\x1b' => Key::Escape,
            letter => Key::Char(letter),
        });
    }
}
