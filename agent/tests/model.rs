//! The model: limits, the rules against what a node has, shifts, and round trips of any valid service.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;
use weir::api::convert;
use weir::model::{
    Affinity, Forwarding, OnDown, OnEmpty, OnTimeout, PerVersion, Protocol, Seed, Service,
    ServiceName, ServiceSpec, ShiftError, Signals, SpecFile, Udp, Version, Violation, Violations,
    Weight, Weights, parse_services, resolve,
    service::{MAX_BACKENDS, MAX_LISTENERS, MAX_SERVICES},
    spec::{
        BackendSpec, CheckType, DrainSpec, HealthSpec, ListenerSpec, QuicSpec, RuleSpec,
        VersionSpec, VersionsSpec,
    },
    validate_set,
    violation::MAX_VIOLATIONS,
};

/// A service of its own addresses: blue has everything.
fn spec(number: u16) -> ServiceSpec {
    let [high, low] = number.to_be_bytes();
    ServiceSpec {
        name: format!("s{number}"),
        listeners: vec![ListenerSpec {
            address: format!("10.50.{high}.{low}"),
            port: 80,
            protocol: Protocol::Tcp,
            version: None,
        }],
        forwarding: Forwarding::Nat,
        gue_port: None,
        affinity: Affinity::Connection,
        udp: Udp::Tracked,
        udp_idle: None,
        signals: Signals::default(),
        quic: None,
        drain: None,
        health: None,
        seed: None,
        steering: Vec::new(),
        versions: VersionsSpec {
            blue: Some(VersionSpec {
                release: "v1".into(),
                weight: 10_000,
                backends: vec![BackendSpec {
                    address: format!("10.61.{high}.{low}"),
                    port: 80,
                    weight: 100,
                    server_id: None,
                }],
            }),
            ..VersionsSpec::default()
        },
    }
}

fn valid(specs: &[ServiceSpec]) -> Vec<Service> {
    parse_services(specs, false).expect("valid")
}

fn messages(violations: &[Violation]) -> Vec<String> {
    violations.iter().map(ToString::to_string).collect()
}

fn refusal(specs: &[ServiceSpec]) -> Vec<String> {
    messages(&parse_services(specs, false).expect_err("refused"))
}

fn weights(blue: u32, green: u32, canary: u32) -> Weights {
    Weights::new(PerVersion::new(blue, green, canary).map(|bp| Weight::from_bp(bp).unwrap()))
        .unwrap()
}

fn weight(bp: u32) -> Weight {
    Weight::from_bp(bp).unwrap()
}

#[test]
fn statuses_are_text_a_number_or_a_list() {
    for (written, read) in [
        ("200", "200"),
        ("200-299", "200-299"),
        ("\"200-299,404\"", "200-299,404"),
        ("[200, 301-302]", "200,301-302"),
    ] {
        let yaml = format!(
            "services: [{{ name: a, listeners: [], versions: {{}}, health: {{ type: http, status: {written} }} }}]"
        );
        let file = SpecFile::parse(&yaml).unwrap();
        assert_eq!(file.services[0].health.as_ref().unwrap().status.as_deref(), Some(read));
    }
}

#[test]
fn limits_hold_exactly() {
    let all: Vec<ServiceSpec> = (0..=u16::try_from(MAX_SERVICES).unwrap()).map(spec).collect();
    assert_eq!(valid(&all[..MAX_SERVICES]).len(), MAX_SERVICES);
    assert_eq!(refusal(&all), ["services: holds 513; a node takes at most 512"]);
    assert_eq!(refusal(&[]), ["services: is empty; name at least one service"]);

    let mut crowded = spec(1);
    crowded.listeners = vec![crowded.listeners[0].clone(); MAX_LISTENERS + 1];
    assert_eq!(
        refusal(&[crowded]),
        ["services[0].listeners: holds 17; a service takes at most 16"]
    );

    let mut crowded = spec(1);
    let backends = (0..=MAX_BACKENDS).map(|n| BackendSpec {
        address: Ipv4Addr::from_bits(0x0a80_0000 + u32::try_from(n).unwrap()).to_string(),
        port: 80,
        weight: 1,
        server_id: None,
    });
    let blue = crowded.versions.blue.as_mut().unwrap();
    blue.backends = backends.collect();
    let too_many = crowded.clone();
    blue_of(&mut crowded).backends.pop();
    valid(&[crowded]);
    assert_eq!(
        refusal(&[too_many]),
        ["services[0].versions.blue.backends: holds 4097; a version takes at most 4096",]
    );
}

fn blue_of(spec: &mut ServiceSpec) -> &mut VersionSpec {
    spec.versions.blue.as_mut().unwrap()
}

#[test]
fn an_answer_lists_a_bounded_number_of_violations() {
    let mut bad = spec(1);
    let backend = BackendSpec { address: "nowhere".into(), port: 80, weight: 1, server_id: None };
    blue_of(&mut bad).backends = vec![backend; 100];
    let says = refusal(&[bad]);
    assert_eq!(says.len(), MAX_VIOLATIONS + 1);
    assert_eq!(says[MAX_VIOLATIONS], "and 68 more");
}

#[test]
fn force_allows_weight_without_backends_and_nothing_else() {
    let mut empty = spec(1);
    blue_of(&mut empty).backends.clear();
    let service = parse_services(&[empty.clone()], true).expect("forced").remove(0);
    assert_eq!(service.unserved().collect::<Vec<_>>(), [Version::Blue]);
    blue_of(&mut empty).weight = 9_999;
    assert_eq!(
        messages(&parse_services(&[empty], true).expect_err("refused")),
        ["services[0].versions: weights add up to 99.99%, not 100% (blue 99.99%)"]
    );
}

#[test]
fn a_request_is_compared_with_what_the_node_has() {
    let existing = valid(&[spec(1), spec(2)]);
    let existing: Vec<&Service> = existing.iter().collect();
    let against = |spec: ServiceSpec| {
        messages(&validate_set(&valid(&[spec]), &existing).err().unwrap_or_default())
    };

    assert_eq!(against(spec(1)), Vec::<String>::new(), "a service may replace itself");
    let mut taken = spec(3);
    taken.listeners[0].address = "10.50.0.2".into();
    assert_eq!(
        against(taken),
        ["services[0].listeners[0]: 10.50.0.2:80/tcp is already a listener of service \"s2\""]
    );
    let mut taken = spec(3);
    taken.listeners[0].address = "10.61.0.2".into();
    assert_eq!(
        against(taken),
        ["services[0].listeners[0]: 10.61.0.2:80/tcp is a backend of blue of service \"s2\""]
    );
    let mut taken = spec(3);
    blue_of(&mut taken).backends[0].address = "10.50.0.2".into();
    assert_eq!(
        against(taken),
        [
            "services[0].versions.blue.backends[0]: 10.50.0.2:80/tcp is a listener of service \"s2\": packets would loop"
        ]
    );
    let mut taken = spec(3);
    blue_of(&mut taken).backends[0].address = "10.61.0.2".into();
    assert_eq!(
        against(taken),
        [
            "services[0].versions.blue.backends[0]: 10.61.0.2:80/tcp already serves blue of service \"s2\": an answer \
          from it could belong to either"
        ]
    );
}

#[test]
fn a_full_node_takes_no_new_service_but_lets_one_be_replaced() {
    let existing = valid(&(0..512).map(spec).collect::<Vec<_>>());
    let existing: Vec<&Service> = existing.iter().collect();
    assert!(validate_set(&valid(&[spec(7)]), &existing).is_ok());
    assert_eq!(
        messages(&validate_set(&valid(&[spec(1000)]), &existing).expect_err("refused")),
        ["services: would make 513 on this node; it takes at most 512"]
    );
}

#[test]
fn a_large_file_is_read() {
    let mut large = spec(1);
    let backend = blue_of(&mut large).backends[0].clone();
    blue_of(&mut large).backends = vec![backend; 60_000];
    let file = SpecFile { services: vec![large] };
    let yaml = serde_saphyr::to_string(&file).unwrap();
    assert_eq!(SpecFile::parse(&yaml), Ok(file));
}

/// SHA-256 of "weir seed v1", a zero byte and the name; the first 16 bytes. Computed with coreutils' `sha256sum`.
#[test]
fn the_derived_seed_is_the_same_everywhere() {
    let name = ServiceName::new("shop").unwrap();
    assert_eq!(Seed::derived(&name).to_string(), "9f3c9700fa0556720b41b18432f91042");
}

#[test]
fn shifts_resolve() {
    use Version::{Blue, Canary, Green};
    let now = weights(9_500, 0, 500);
    assert_eq!(resolve(&now, &[(Canary, weight(2_500))], Blue), Ok(weights(7_500, 0, 2_500)));
    assert_eq!(resolve(&now, &[(Canary, weight(0))], Blue), Ok(weights(10_000, 0, 0)));
    assert_eq!(resolve(&now, &[(Green, weight(9_500))], Blue), Ok(weights(0, 9_500, 500)));
    assert_eq!(resolve(&now, &[(Blue, weight(9_000))], Canary), Ok(weights(9_000, 0, 1_000)));
    assert_eq!(
        resolve(&now, &[(Blue, weight(0)), (Green, weight(9_500))], Blue),
        Ok(weights(0, 9_500, 500))
    );

    let says = |set: &[(Version, Weight)], remainder| {
        resolve(&now, set, remainder).expect_err("refused").to_string()
    };
    assert_eq!(resolve(&now, &[], Blue), Err(ShiftError::NothingNamed));
    assert_eq!(says(&[(Green, weight(1)), (Green, weight(1))], Blue), "names green twice");
    assert_eq!(
        says(&[(Green, weight(6_000)), (Canary, weight(5_000))], Blue),
        "green 60% and canary 50% add up to 110%: more than 100%, blue cannot give that much"
    );
    assert_eq!(
        says(&[(Green, weight(9_501))], Blue),
        "green 95.01% and canary 5% add up to 100.01%: more than 100%, blue cannot give that much"
    );
    assert_eq!(
        says(&[(Blue, weight(9_000))], Blue),
        "blue 90% and green 0% and canary 5% add up to 95%, not 100%; leave blue out to give it the rest"
    );
}

#[test]
fn weights_are_read_exactly() {
    let read = |text: &str| text.parse::<Weight>().map(Weight::bp);
    for (text, bp) in [
        ("0%", 0),
        ("5%", 500),
        ("33.34%", 3_334),
        ("0.5%", 50),
        ("0.05%", 5),
        ("100.00%", 10_000),
        ("1bp", 1),
    ] {
        assert_eq!(read(text), Ok(bp), "{text}");
    }
    for text in [
        "",
        "%",
        "bp",
        "5",
        "5 %",
        "+5%",
        "-5%",
        "5.%",
        ".5%",
        "5.555%",
        "1e2%",
        "５%",
        "99999999999%",
        "101%",
    ] {
        assert!(read(text).is_err(), "{text:?} is refused");
    }
}

fn any_weights() -> impl Strategy<Value = Weights> {
    (0..=10_000_u32, 0..=10_000_u32)
        .prop_map(|(a, b)| weights(a.min(b), a.abs_diff(b), 10_000 - a.max(b)))
}

/// What can be said of UDP together.
fn any_udp() -> impl Strategy<Value = (Udp, Option<String>, Option<QuicSpec>)> {
    let idle = prop::sample::select(vec!["1s", "31s", "2m", "1m 30s", "59m 59s", "1h"]);
    let quic = (0..=6_u32, 2..=8_u32)
        .prop_map(|(config, server_id_length)| QuicSpec { config, server_id_length });
    prop_oneof![
        prop::option::of(idle).prop_map(|idle| (Udp::Tracked, idle.map(str::to_owned), None)),
        Just((Udp::Stateless, None, None)),
        prop::option::of(quic).prop_map(|quic| (Udp::Quic, None, quic)),
    ]
}

/// A drain that says something.
fn any_drain() -> impl Strategy<Value = Option<DrainSpec>> {
    let time = || prop::option::of((1..=86_400_u32).prop_map(weir::model::drain::text));
    (time(), time(), any::<bool>()).prop_map(|(idle, timeout, reset)| {
        let on_timeout =
            if reset && timeout.is_some() { OnTimeout::Reset } else { OnTimeout::Keep };
        let drain = DrainSpec { idle, timeout, on_timeout };
        (drain != DrainSpec::default()).then_some(drain)
    })
}

/// Any check, without what is as by default.
fn any_health() -> impl Strategy<Value = HealthSpec> {
    let text = |pattern| prop::option::of(pattern).prop_map(|text: Option<String>| text);
    let http = (text("/[a-z]{1,9}"), text("[a-z]{1,9}"), prop::option::of(Just("200-299,404")));
    let http = http.prop_map(|(path, host, status)| HealthSpec {
        path,
        host,
        status: status.map(str::to_owned),
        ..HealthSpec::new(CheckType::Http)
    });
    let grpc = text("[a-z.]{1,9}")
        .prop_map(|service| HealthSpec { service, ..HealthSpec::new(CheckType::Grpc) });
    let kind = prop_oneof![Just(HealthSpec::new(CheckType::Tcp)), http, grpc];
    let times = prop::sample::select(vec![
        (None, None),
        (None, Some("1s 500ms")),
        (Some("100ms"), Some("99ms")),
        (Some("500ms"), None),
        (Some("1h"), Some("1h")),
    ]);
    let numbers = (
        prop::option::of(1..=65_535_u32),
        prop::option::of(3..=100_u32),
        prop::option::of(4..=100_u32),
    );
    let effects = (any::<bool>(), any::<bool>());
    (kind, times, numbers, effects).prop_map(|(kind, times, (port, rise, fall), (reset, hold))| {
        HealthSpec {
            port,
            interval: times.0.map(str::to_owned),
            timeout: times.1.map(str::to_owned),
            rise,
            fall,
            on_down: if reset { OnDown::Reset } else { OnDown::Keep },
            on_empty: if hold { OnEmpty::Hold } else { OnEmpty::Failover },
            ..kind
        }
    })
}

fn any_signals() -> impl Strategy<Value = Signals> {
    prop::sample::select(vec![Signals::Off, Signals::Basic, Signals::Full])
}

/// Any valid service: its addresses are made from numbers, so that none repeats.
fn any_service() -> impl Strategy<Value = ServiceSpec> {
    let version = ("[a-z0-9.]{0,12}", prop::collection::vec(1..=1000_u32, 1..5));
    let parts = (
        "[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?",
        any::<bool>(),
        prop::sample::subsequence(vec![Protocol::Tcp, Protocol::Udp], 1..=2),
        prop::sample::select(vec![Affinity::Connection, Affinity::Client, Affinity::ClientBackend]),
        prop::option::of("[0-9a-f]{32}"),
        any_weights(),
        prop::collection::vec(version, 3),
        (any_udp(), any_drain(), any_signals()),
        prop::option::of(any_health()),
        prop::collection::btree_map(0..100_u8, prop::sample::select(Version::ALL.to_vec()), 0..4),
    );
    parts.prop_map(
        |(
            name,
            v6,
            protocols,
            affinity,
            seed,
            weights,
            versions,
            (udp, drain, signals),
            health,
            rules,
        )| {
            let listens = protocols.contains(&Protocol::Udp);
            let (udp, udp_idle, quic) = if listens { udp } else { (Udp::Tracked, None, None) };
            let address = |net: u8, host: usize| {
                let host = u8::try_from(host + 1).unwrap();
                if v6 {
                    IpAddr::from(Ipv6Addr::new(0xfd00, net.into(), 0, 0, 0, 0, 0, host.into()))
                } else {
                    IpAddr::from(Ipv4Addr::new(10, net, 0, host))
                }
            };
            let rule = |(number, version): (u8, Version)| RuleSpec {
                source: if v6 {
                    format!("fd09:{:x}::/32", number + 1)
                } else {
                    format!("10.9.{number}.0/24")
                },
                version,
            };
            let steering = rules.into_iter().map(rule).collect();
            let version = |version: Version| {
                let (release, backends) = &versions[version.index()];
                let backends = backends.iter().enumerate().map(|(index, weight)| BackendSpec {
                    address: address(61 + u8::try_from(version.index()).unwrap(), index)
                        .to_string(),
                    port: 8080,
                    weight: *weight,
                    server_id: quic.map(|quic| {
                        let number = 0xa00 + 16 * version.index() + index;
                        let width = usize::try_from(quic.server_id_length).unwrap() * 2;
                        format!("{number:0width$x}")
                    }),
                });
                Some(VersionSpec {
                    release: release.clone(),
                    weight: weights.get(version).bp(),
                    backends: backends.collect(),
                })
            };
            ServiceSpec {
                name,
                listeners: protocols
                    .iter()
                    .map(|protocol| ListenerSpec {
                        address: address(50, 1).to_string(),
                        port: 80,
                        protocol: *protocol,
                        version: None,
                    })
                    .collect(),
                forwarding: Forwarding::Nat,
                gue_port: None,
                affinity,
                udp,
                udp_idle,
                signals,
                quic,
                drain,
                health,
                seed,
                steering,
                versions: VersionsSpec {
                    blue: version(Version::Blue),
                    green: version(Version::Green),
                    canary: version(Version::Canary),
                },
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn spec_to_model_to_spec_is_the_same(spec in any_service()) {
        let service = valid(std::slice::from_ref(&spec)).remove(0);
        prop_assert_eq!(ServiceSpec::from(&service), spec);
    }

    #[test]
    fn spec_to_yaml_to_spec_is_the_same(spec in any_service()) {
        let file = SpecFile { services: vec![spec] };
        let yaml = serde_saphyr::to_string(&file).unwrap();
        prop_assert_eq!(SpecFile::parse(&yaml), Ok(file), "{}", yaml);
    }

    #[test]
    fn spec_to_wire_to_spec_is_the_same(spec in any_service()) {
        let mut violations = Violations::default();
        let there = convert::spec::to_proto(&spec);
        let back = convert::spec::from_proto(there, "spec", &mut violations);
        prop_assert!(violations.is_empty());
        prop_assert_eq!(back, spec);
    }

    #[test]
    fn a_name_is_what_the_pattern_says(name in "[-a-zA-Z0-9._]{0,66}") {
        let body = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        let ends = !name.starts_with('-') && !name.ends_with('-');
        let good = (1..=63).contains(&name.len()) && body && ends;
        prop_assert_eq!(ServiceName::new(&name).is_ok(), good);
    }

    /// No text, however odd, makes the parser panic.
    #[test]
    fn any_text_is_parsed_or_refused(text in "[-a-z0-9:{}\\[\\],%&*!|> \n\t'\"]{0,200}") {
        if let Ok(file) = SpecFile::parse(&text) {
            let _ = parse_services(&file.services, false);
        }
    }

    #[test]
    fn a_weight_reads_as_it_is_written(bp in 0..=10_000_u32) {
        prop_assert_eq!(weight(bp).to_string().parse(), Ok(weight(bp)));
    }

    /// The named version gets its weight, the third keeps its own, and undoing restores all.
    #[test]
    fn a_shift_moves_between_two_versions(now in any_weights(), index in 0..3_usize, bp in 0..=10_000_u32) {
        let named = Version::ALL[index];
        let remainder = Version::ALL[(index + 1) % 3];
        let third = Version::ALL[(index + 2) % 3];
        let room = now.get(named).bp() + now.get(remainder).bp();
        match resolve(&now, &[(named, weight(bp))], remainder) {
            Ok(then) => {
                prop_assert!(bp <= room);
                prop_assert_eq!(then.get(named), weight(bp));
                prop_assert_eq!(then.get(third), now.get(third));
                prop_assert_eq!(resolve(&then, &[(named, now.get(named))], remainder), Ok(now));
            }
            Err(_) => prop_assert!(bp > room),
        }
    }
}
