//! What is refused, each case with exactly the message it gets: spec files and requests. The fake
//! node refuses them, and so does the real one.

#![allow(dead_code, unreachable_pub, reason = "no test uses all of this")]

use serde::Deserialize;
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt as _;
use weir::model::{SpecFile, parse_services};
use weir_proto::v1::{self, weir_client::WeirClient};

/// Spec files: a valid one, and what makes it wrong.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Files {
    /// The valid one.
    pub file: String,
    /// What makes it wrong.
    pub cases: Vec<FileCase>,
}

/// A wrong file: the valid one with `put` replaced by `with`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileCase {
    /// What is wrong.
    pub about: String,
    put: String,
    with: String,
    /// Every line of the answer.
    pub says: Vec<String>,
}

impl Files {
    /// Those of `refused.yaml`.
    pub fn read() -> Self {
        serde_saphyr::from_str(include_str!("../refused.yaml")).expect("the table is YAML")
    }

    /// The text of a wrong file.
    pub fn text(&self, case: &FileCase) -> String {
        let places = self.file.matches(&case.put).count();
        assert_eq!(places, 1, "{}: {:?} stands once", case.about, case.put);
        self.file.replace(&case.put, &case.with)
    }
}

/// What `weir apply` says about a file before it asks the agent: nothing if it is right.
pub fn answer(file: &str) -> Vec<String> {
    match SpecFile::parse(file) {
        Err(error) => vec![error.to_string()],
        Ok(spec) => match parse_services(&spec.services, false) {
            Err(violations) => violations.iter().map(ToString::to_string).collect(),
            Ok(_) => Vec::new(),
        },
    }
}

/// A request.
#[derive(Clone, Debug)]
pub enum Request {
    Apply(v1::ApplyRequest),
    Delete(v1::DeleteRequest),
    Get(v1::GetRequest),
    Read(v1::ReadCountersRequest),
    Shift(v1::ShiftWeightsRequest),
    Steer(v1::SteerRequest),
    SetBackend(v1::SetBackendStateRequest),
    Settle(v1::SettleRequest),
    Drains(v1::ListDrainsRequest),
    Watch(v1::WatchCountersRequest),
    Events(v1::WatchEventsRequest),
    RollBack(v1::RollBackRequest),
    Renew(v1::RenewLeaseRequest),
}

impl Request {
    /// Sends it, and gives the refusal.
    pub async fn refusal(self, weir: &mut WeirClient<Channel>) -> Status {
        let about = format!("{self:?}");
        let refused = match self {
            Self::Apply(request) => weir.apply(request).await.map(drop),
            Self::Delete(request) => weir.delete(request).await.map(drop),
            Self::Get(request) => weir.get(request).await.map(drop),
            Self::Read(request) => weir.read_counters(request).await.map(drop),
            Self::Shift(request) => weir.shift_weights(request).await.map(drop),
            Self::Steer(request) => weir.steer(request).await.map(drop),
            Self::SetBackend(request) => weir.set_backend_state(request).await.map(drop),
            Self::Settle(request) => weir.settle(request).await.map(drop),
            Self::Drains(request) => weir.list_drains(request).await.map(drop),
            Self::Watch(request) => weir.watch_counters(request).await.map(drop),
            Self::Events(request) => weir.watch_events(request).await.map(drop),
            Self::RollBack(request) => weir.roll_back(request).await.map(drop),
            Self::Renew(request) => weir.renew_lease(request).await.map(drop),
        };
        refused.err().unwrap_or_else(|| panic!("not refused: {about}"))
    }
}

/// A request that is refused.
pub struct Case {
    /// The request.
    pub request: Request,
    /// The status.
    pub code: Code,
    /// The reason for programs.
    pub reason: &'static str,
    /// Each field with what is wrong with it; where no field is at fault, the message.
    pub says: Vec<String>,
}

impl Case {
    /// What differs from the refusal that it should get.
    pub fn difference(&self, status: &Status) -> Option<String> {
        let details = status.get_error_details();
        let reason = details.error_info().map(|info| info.reason.clone()).unwrap_or_default();
        let says = said(status);
        let right = status.code() == self.code && reason == self.reason && says == self.says;
        (!right).then(|| {
            format!(
                "{:?}:\n  wanted {:?} {} {:#?}\n  got {:?} {reason} {says:#?}",
                self.request,
                self.code,
                self.reason,
                self.says,
                status.code()
            )
        })
    }
}

/// Each field that a status says is wrong; its message if it names none.
pub fn said(status: &Status) -> Vec<String> {
    let details = status.get_error_details();
    match details.bad_request() {
        Some(bad) => {
            let violations = bad.field_violations.iter();
            violations.map(|wrong| format!("{}: {}", wrong.field, wrong.description)).collect()
        }
        None => vec![status.message().to_owned()],
    }
}

fn invalid(request: Request, says: &[&str]) -> Case {
    let says = says.iter().map(ToString::to_string).collect();
    Case { request, code: Code::InvalidArgument, reason: "INVALID_REQUEST", says }
}

fn not_found(request: Request) -> Case {
    let says = vec!["there is no service \"none\"".to_owned()];
    Case { request, code: Code::NotFound, reason: "NOT_FOUND", says }
}

fn failed(request: Request, reason: &'static str, says: &str) -> Case {
    Case { request, code: Code::FailedPrecondition, reason, says: vec![says.to_owned()] }
}

/// Two services that a node has when it gets [`requests`].
pub const FILE: &str = "\
services:
  - name: shop
    listeners: [{ address: 10.50.0.100, port: 80, protocol: tcp }]
    versions:
      blue: { release: v1.41, weight: 95%, backends: [{ address: 10.61.0.2, port: 80 }] }
      canary: { release: v1.42, weight: 5%, backends: [{ address: 10.63.0.2, port: 80 }] }
  - name: api
    listeners: [{ address: 10.50.0.101, port: 443, protocol: udp }]
    versions: { green: { weight: 100%, backends: [{ address: 10.62.0.2, port: 8443 }] }, canary: {} }
";

/// All requests that are refused by a node that has [`FILE`], where `shop` has this generation.
pub fn requests(generation: u64) -> Vec<Case> {
    [shifts(generation), drains(), steers(generation), leases(), applies(), others()]
        .into_iter()
        .flatten()
        .collect()
}

/// A shift of `shop`, with the one thing wrong that the case names.
pub fn shift(change: impl FnOnce(&mut v1::Shift)) -> v1::ShiftWeightsRequest {
    let mut shift = v1::Shift {
        service: "shop".into(),
        set: vec![v1::VersionWeight { version: 3, weight_bp: 100 }],
        ..v1::Shift::default()
    };
    change(&mut shift);
    v1::ShiftWeightsRequest { shifts: vec![shift], ..v1::ShiftWeightsRequest::default() }
}

#[allow(clippy::too_many_lines, reason = "a table")]
fn shifts(generation: u64) -> Vec<Case> {
    let bad = |change: &dyn Fn(&mut v1::Shift), says: &[&str]| {
        invalid(Request::Shift(shift(change)), says)
    };
    let whole = |request, says: &[&str]| invalid(Request::Shift(request), says);
    let good = || shift(|_| ()).shifts.remove(0);
    let weight = |version, weight_bp| v1::VersionWeight { version, weight_bp };
    let several = |shifts| v1::ShiftWeightsRequest { shifts, ..Default::default() };
    vec![
        whole(several(Vec::new()), &["shifts: is empty; name at least one service"]),
        whole(several(vec![good(); 2]), &["shifts[1].service: \"shop\" is named twice"]),
        bad(&|s| s.service.clear(), &["shifts[0].service: is empty; a service needs a name"]),
        bad(
            &|s| s.service = "Shop".into(),
            &["shifts[0].service: \"Shop\" holds something other than a-z, 0-9 and -"],
        ),
        bad(&|s| s.set.clear(), &["shifts[0].set: is empty; name at least one version"]),
        bad(
            &|s| s.set[0].version = 0,
            &["shifts[0].set[0].version: must be blue, green or canary"],
        ),
        bad(
            &|s| s.set[0].version = 4,
            &["shifts[0].set[0].version: must be blue, green or canary"],
        ),
        bad(
            &|s| s.set[0].weight_bp = 10_001,
            &["shifts[0].set[0].weight_bp: 100.01% is more than 100%"],
        ),
        bad(&|s| s.remainder = 7, &["shifts[0].remainder: must be blue, green or canary"]),
        bad(&|s| s.set = vec![s.set[0]; 9], &["shifts[0].set: holds 9; there are three versions"]),
        bad(&|s| s.set = vec![s.set[0]; 2], &["shifts[0].set: names canary twice"]),
        bad(
            &|s| s.remainder = 3,
            &["shifts[0].set: blue 95% and green 0% and canary 1% add up to 96%, not 100%; \
                 leave canary out to give it the rest"],
        ),
        bad(
            &|s| s.set = vec![weight(2, 9_501)],
            &["shifts[0].set: green 95.01% and canary 5% add up to 100.01%: more than 100%, \
                 blue cannot give that much"],
        ),
        whole(
            v1::ShiftWeightsRequest { request_id: "with space".into(), ..shift(|_| ()) },
            &["request_id: is not 1 to 64 printable ASCII characters without spaces"],
        ),
        whole(
            v1::ShiftWeightsRequest {
                request_id: "x".repeat(65),
                ..shift(|s| s.set[0].version = 9)
            },
            &[
                "request_id: is not 1 to 64 printable ASCII characters without spaces",
                "shifts[0].set[0].version: must be blue, green or canary",
            ],
        ),
        whole(
            v1::ShiftWeightsRequest {
                fence: Some(v1::Fence { holder: "a b".into(), number: 1 }),
                ..shift(|_| ())
            },
            &["fence: has a holder that is not 1 to 64 printable ASCII characters without spaces"],
        ),
        whole(
            v1::ShiftWeightsRequest {
                fence: Some(v1::Fence { holder: "a".into(), number: 0 }),
                ..shift(|_| ())
            },
            &["fence: has the number 0; fences begin at 1"],
        ),
        // The first of them is right: all or none.
        not_found(Request::Shift(several(vec![
            good(),
            v1::Shift { service: "none".into(), ..good() },
        ]))),
        failed(
            Request::Shift(shift(|s| s.expected_generation = Some(7))),
            "GENERATION_MISMATCH",
            &format!(
                "service \"shop\" has generation {generation}, not 7: it changed meanwhile; look again"
            ),
        ),
        failed(
            Request::Shift(shift(|s| s.set = vec![weight(2, 500)])),
            "NO_READY_BACKEND",
            "green of service \"shop\" has no backend that takes connections; give it one, or force",
        ),
    ]
}

fn leases() -> Vec<Case> {
    let lease = |lease: &str, on_expiry| {
        let lease = lease.to_owned();
        Request::Shift(v1::ShiftWeightsRequest { lease, on_expiry, ..shift(|_| ()) })
    };
    let renew = |service: &str, lease: &str| {
        let (service, lease) = (service.to_owned(), lease.to_owned());
        Request::Renew(v1::RenewLeaseRequest { service, lease, ..Default::default() })
    };
    let roll_back = |service: &str, request_id: &str| {
        let (service, request_id) = (service.to_owned(), request_id.to_owned());
        Request::RollBack(v1::RollBackRequest { service, request_id, ..Default::default() })
    };
    let no_service = "service: is empty; a service needs a name";
    vec![
        invalid(lease("soon", 1), &["lease: \"soon\" is not a time; write it as 60s, 5m or 1h"]),
        invalid(lease("25h", 2), &["lease: 25h is not a whole number of seconds from 1s to 24h"]),
        invalid(
            lease("1500ms", 3),
            &[
                "on_expiry: must be hold or revert",
                "lease: 1500ms is not a whole number of seconds from 1s to 24h",
            ],
        ),
        invalid(lease("", 2), &["on_expiry: has no meaning without lease; leave it out"]),
        invalid(
            renew("", "0s"),
            &[no_service, "lease: 0s is not a whole number of seconds from 1s to 24h"],
        ),
        not_found(renew("none", "")),
        failed(
            renew("shop", "60s"),
            "NO_LEASE",
            "service \"shop\" has no lease: it ran out, or its weights were changed without one; \
             look with `weir get`, and shift with a lease",
        ),
        invalid(
            roll_back("", "a b"),
            &["request_id: is not 1 to 64 printable ASCII characters without spaces", no_service],
        ),
        not_found(roll_back("none", "")),
    ]
}

/// What is asked of drains, with the one thing wrong that the case names.
fn drains() -> Vec<Case> {
    let flight = |in_flight: v1::InFlight, says: &[&str]| {
        let in_flight = Some(in_flight);
        invalid(Request::Shift(v1::ShiftWeightsRequest { in_flight, ..shift(|_| ()) }), says)
    };
    let set = || v1::SetBackendStateRequest {
        service: "shop".into(),
        address: "10.63.0.2".into(),
        port: 80,
        state: 2,
        ..Default::default()
    };
    let bad = |request, says: &[&str]| invalid(Request::SetBackend(request), says);
    vec![
        flight(
            v1::InFlight { action: 9, ..Default::default() },
            &["in_flight.action: must be KEEP, DRAIN or RESET"],
        ),
        flight(
            v1::InFlight { action: 2, timeout: "soon".into(), on_timeout: 7 },
            &[
                "in_flight.timeout: \"soon\" is not a time; write it as 30s, 15m or 1h",
                "in_flight.on_timeout: must be KEEP or RESET",
            ],
        ),
        flight(
            v1::InFlight { action: 3, timeout: "1m".into(), on_timeout: 2 },
            &[
                "in_flight.timeout: has no meaning without DRAIN; leave it out",
                "in_flight.on_timeout: has no meaning without DRAIN; leave it out",
            ],
        ),
        bad(
            v1::SetBackendStateRequest::default(),
            &[
                "service: is empty; a service needs a name",
                "address: \"\" is not an IP address",
                "state: must be ACTIVE, DRAINING or DOWN",
            ],
        ),
        bad(
            v1::SetBackendStateRequest { port: 70_000, state: 4, ..set() },
            &[
                "port: 70000 is not a port; a port is 1 to 65535",
                "state: must be ACTIVE, DRAINING or DOWN",
            ],
        ),
        not_found(Request::SetBackend(v1::SetBackendStateRequest {
            service: "none".into(),
            ..set()
        })),
        not_found(Request::Settle(v1::SettleRequest {
            service: "none".into(),
            ..Default::default()
        })),
        invalid(
            Request::Settle(v1::SettleRequest::default()),
            &["service: is empty; a service needs a name"],
        ),
        not_found(Request::Drains(v1::ListDrainsRequest { services: vec!["none".into()] })),
    ]
}

/// Rules for `shop`, with the one thing wrong that the case names.
fn steers(generation: u64) -> Vec<Case> {
    let steer = |change: &dyn Fn(&mut v1::SteerRequest)| {
        let mut steer = v1::SteerRequest { service: "shop".into(), ..Default::default() };
        steer.add = vec![v1::SteeringRule { source: "10.9.0.0/16".into(), version: 3 }];
        change(&mut steer);
        Request::Steer(steer)
    };
    let bad = |change: &dyn Fn(&mut v1::SteerRequest), says: &[&str]| invalid(steer(change), says);
    vec![
        bad(&|s| s.service.clear(), &["service: is empty; a service needs a name"]),
        bad(&|s| s.add.clear(), &["add: is empty, and so is remove; name at least one prefix"]),
        bad(&|s| s.add[0].version = 0, &["add[0].version: must be blue, green or canary"]),
        bad(
            &|s| s.add[0].source = "10.9.1.0/16".into(),
            &["add[0].source: 10.9.1.0/16 has bits beyond its length; write 10.9.0.0/16"],
        ),
        bad(
            &|s| s.add[0].source = "2001:db8::/32".into(),
            &["add[0].source: 2001:db8::/32 is IPv6, but the service's listeners are IPv4"],
        ),
        bad(&|s| s.add = vec![s.add[0].clone(); 2], &["add[1].source: 10.9.0.0/16 is named twice"]),
        bad(
            &|s| s.remove = vec!["10.8.0.0/16".into()],
            &["remove[0]: there is no rule for 10.8.0.0/16"],
        ),
        bad(
            &|s| s.remove = vec!["ten".into()],
            &["remove[0]: \"ten\" is not a prefix; write it as 10.9.0.0/16 or 2001:db8::/32"],
        ),
        not_found(steer(&|s| s.service = "none".into())),
        failed(
            steer(&|s| s.expected_generation = Some(7)),
            "GENERATION_MISMATCH",
            &format!(
                "service \"shop\" has generation {generation}, not 7: it changed meanwhile; look again"
            ),
        ),
        failed(
            steer(&|s| s.add[0].version = 2),
            "NO_READY_BACKEND",
            "green of service \"shop\" has no backend that takes connections; give it one, or force",
        ),
    ]
}

fn applies() -> Vec<Case> {
    let apply = |services| v1::ApplyRequest { services, ..Default::default() };
    let odd = v1::ServiceSpec {
        name: "odd".into(),
        listeners: vec![v1::Listener {
            address: "10.1.0.1".into(),
            port: 80,
            protocol: 9,
            version: 0,
        }],
        forwarding: 9,
        affinity: 9,
        udp: 9,
        signals: 9,
        health: Some(v1::Health { on_down: 9, on_empty: 9, ..Default::default() }),
        versions: Some(v1::Versions {
            blue: Some(v1::VersionSpec { weight_bp: u32::MAX, ..Default::default() }),
            ..Default::default()
        }),
        ..Default::default()
    };
    // A conflict with a service that the node has.
    let thief = v1::ServiceSpec {
        name: "thief".into(),
        listeners: vec![v1::Listener {
            address: "10.50.0.100".into(),
            port: 80,
            protocol: 1,
            version: 0,
        }],
        versions: Some(v1::Versions {
            blue: Some(v1::VersionSpec {
                weight_bp: 10_000,
                backends: vec![v1::Backend {
                    address: "10.63.0.2".into(),
                    port: 80,
                    ..Default::default()
                }],
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    };
    vec![
        invalid(
            Request::Apply(apply(Vec::new())),
            &["services: is empty; name at least one service"],
        ),
        invalid(
            Request::Apply(apply(vec![odd])),
            &[
                "services[0].forwarding: 9 is no forwarding mode",
                "services[0].affinity: 9 is no affinity",
                "services[0].udp: 9 is no way to treat UDP",
                "services[0].signals: 9 is no level of signals",
                "services[0].listeners[0].protocol: must be TCP or UDP",
                "services[0].health.on_down: must be KEEP or RESET",
                "services[0].health.on_empty: must be FAILOVER or HOLD",
                "services[0].health.type: must be TCP, HTTP or GRPC",
                "services[0].versions.blue.weight: 42949672.95% is more than 100%",
            ],
        ),
        invalid(
            Request::Apply(apply(vec![thief])),
            &[
                "services[0].listeners[0]: 10.50.0.100:80/tcp is already a listener of service \"shop\"",
                "services[0].versions.blue.backends[0]: 10.63.0.2:80/tcp already serves canary of \
                 service \"shop\": an answer from it could belong to either",
            ],
        ),
    ]
}

fn others() -> Vec<Case> {
    let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let delete = |services: &[&str]| {
        Request::Delete(v1::DeleteRequest { services: names(services), ..Default::default() })
    };
    let get = |service: &str| Request::Get(v1::GetRequest { service: service.into() });
    let read = |services: &[&str]| {
        Request::Read(v1::ReadCountersRequest { services: names(services), since: None })
    };
    let watch = |interval_ms, services: &[&str]| {
        Request::Watch(v1::WatchCountersRequest { interval_ms, services: names(services) })
    };
    vec![
        invalid(delete(&[]), &["services: is empty; name at least one service"]),
        invalid(delete(&["shop", "shop"]), &["services[1]: \"shop\" is named twice"]),
        // The first of them is there: all or none.
        not_found(delete(&["shop", "none"])),
        invalid(get(""), &["service: is empty; a service needs a name"]),
        not_found(get("none")),
        invalid(
            read(&["a_b"]),
            &["services[0]: \"a_b\" holds something other than a-z, 0-9 and -"],
        ),
        not_found(read(&["shop", "none"])),
        invalid(watch(99, &[]), &["interval_ms: 99 is not within 100 and 3600000"]),
        invalid(watch(3_600_001, &[]), &["interval_ms: 3600001 is not within 100 and 3600000"]),
        not_found(watch(100, &["none"])),
        invalid(
            Request::Events(v1::WatchEventsRequest { service: "a_b".into(), ..Default::default() }),
            &["service: \"a_b\" holds something other than a-z, 0-9 and -"],
        ),
    ]
}
