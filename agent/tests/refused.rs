//! What is refused, each with exactly the message it gets: spec files (`refused.yaml`) and requests.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

mod common;

use common::{FILE, FakeAgent};
use serde::Deserialize;
use tonic::{Code, Status, transport::Endpoint};
use tonic_types::StatusExt as _;
use weir::{
    client::{Client, ClientError},
    model::{SpecFile, parse_services},
    node::messages::ChangeOptions,
};
use weir_proto::v1::{self, weir_client::WeirClient};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    file: String,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    about: String,
    put: String,
    with: String,
    says: Vec<String>,
}

/// What `weir apply` says about a file: nothing if it is right.
fn answer(file: &str) -> Vec<String> {
    match SpecFile::parse(file) {
        Err(error) => vec![error.to_string()],
        Ok(spec) => match parse_services(&spec.services, false) {
            Err(violations) => violations.iter().map(ToString::to_string).collect(),
            Ok(_) => Vec::new(),
        },
    }
}

#[test]
fn each_bad_file_is_refused_with_its_message() {
    let table: Table =
        serde_saphyr::from_str(include_str!("refused.yaml")).expect("the table is YAML");
    assert_eq!(answer(&table.file), Vec::<String>::new(), "the file itself is valid");
    assert!(table.cases.len() >= 60, "only {} cases", table.cases.len());

    let mut wrong = Vec::new();
    for case in &table.cases {
        assert_eq!(
            table.file.matches(&case.put).count(),
            1,
            "{}: {:?} stands once",
            case.about,
            case.put
        );
        let says = answer(&table.file.replace(&case.put, &case.with));
        if says != case.says || says.is_empty() {
            wrong.push(format!("{}:\n  wanted {:#?}\n  got {says:#?}", case.about, case.says));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {} cases differ:\n{}",
        wrong.len(),
        table.cases.len(),
        wrong.join("\n")
    );
}

/// An agent that has the two services of [`FILE`], with a client and the generated one.
async fn agent() -> (FakeAgent, Client, WeirClient<tonic::transport::Channel>) {
    let agent = FakeAgent::start();
    let mut client = agent.client().await;
    let services = SpecFile::parse(FILE).unwrap().services;
    client.apply(&services, &ChangeOptions::default()).await.unwrap();
    let endpoint = Endpoint::from_shared(format!("unix:{}", agent.socket.display())).unwrap();
    let weir = WeirClient::new(endpoint.connect().await.unwrap());
    (agent, client, weir)
}

/// Each field that a status says is wrong.
fn fields(result: Result<impl std::fmt::Debug, Status>) -> Vec<String> {
    let status = result.expect_err("refused");
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let details = status.get_error_details();
    assert_eq!(details.error_info().unwrap().reason, "INVALID_REQUEST");
    let violations = &details.bad_request().unwrap().field_violations;
    violations.iter().map(|wrong| format!("{}: {}", wrong.field, wrong.description)).collect()
}

/// A shift of the service, with the one thing wrong that the test names.
fn raw_shift(change: impl FnOnce(&mut v1::Shift)) -> v1::ShiftWeightsRequest {
    let mut shift = v1::Shift {
        service: "shop".into(),
        set: vec![v1::VersionWeight { version: 3, weight_bp: 100 }],
        ..v1::Shift::default()
    };
    change(&mut shift);
    v1::ShiftWeightsRequest { shifts: vec![shift], ..v1::ShiftWeightsRequest::default() }
}

#[tokio::test]
#[allow(clippy::too_many_lines, reason = "a table")]
async fn each_bad_shift_is_refused_with_its_message() {
    let (agent, mut client, mut weir) = agent().await;
    let before = client.list().await.unwrap();
    let twice = raw_shift(|_| ()).shifts.remove(0);
    let cases: Vec<(v1::ShiftWeightsRequest, &[&str])> = vec![
        (v1::ShiftWeightsRequest::default(), &["shifts: is empty; name at least one service"]),
        (
            raw_shift(|shift| shift.service.clear()),
            &["shifts[0].service: is empty; a service needs a name"],
        ),
        (
            raw_shift(|shift| shift.service = "Shop".into()),
            &["shifts[0].service: \"Shop\" holds something other than a-z, 0-9 and -"],
        ),
        (
            raw_shift(|shift| shift.set.clear()),
            &["shifts[0].set: is empty; name at least one version"],
        ),
        (
            raw_shift(|shift| shift.set[0].version = 0),
            &["shifts[0].set[0].version: must be blue, green or canary"],
        ),
        (
            raw_shift(|shift| shift.set[0].version = 4),
            &["shifts[0].set[0].version: must be blue, green or canary"],
        ),
        (
            raw_shift(|shift| shift.set[0].weight_bp = 10_001),
            &["shifts[0].set[0].weight_bp: 100.01% is more than 100%"],
        ),
        (
            raw_shift(|shift| shift.remainder = 7),
            &["shifts[0].remainder: must be blue, green or canary"],
        ),
        (
            raw_shift(|shift| shift.set = vec![shift.set[0]; 9]),
            &["shifts[0].set: holds 9; there are three versions"],
        ),
        (raw_shift(|shift| shift.set = vec![shift.set[0]; 2]), &["shifts[0]: names canary twice"]),
        (
            raw_shift(|shift| shift.remainder = 3),
            &[
                "shifts[0]: blue 95% and green 0% and canary 1% add up to 96%, not 100%; leave canary out to give it \
               the rest",
            ],
        ),
        (
            raw_shift(|shift| {
                shift.set = vec![v1::VersionWeight { version: 2, weight_bp: 9_501 }];
            }),
            &[
                "shifts[0]: green 95.01% and canary 5% add up to 100.01%: more than 100%, blue cannot give that much",
            ],
        ),
        (
            v1::ShiftWeightsRequest {
                shifts: vec![twice.clone(), twice.clone()],
                ..Default::default()
            },
            &["shifts[1].service: \"shop\" is named twice"],
        ),
        (
            v1::ShiftWeightsRequest { request_id: "with space".into(), ..raw_shift(|_| ()) },
            &["request_id: is not 1 to 64 printable ASCII characters without spaces"],
        ),
        (
            v1::ShiftWeightsRequest {
                request_id: "x".repeat(65),
                ..raw_shift(|shift| shift.set[0].version = 9)
            },
            &[
                "request_id: is not 1 to 64 printable ASCII characters without spaces",
                "shifts[0].set[0].version: must be blue, green or canary",
            ],
        ),
    ];
    for (request, wanted) in cases {
        assert_eq!(fields(weir.shift_weights(request.clone()).await), wanted, "{request:?}");
    }
    let crowd = v1::ShiftWeightsRequest { shifts: vec![twice; 513], ..Default::default() };
    assert_eq!(
        fields(weir.shift_weights(crowd).await)[0],
        "shifts: holds 513; a node takes at most 512"
    );
    assert_eq!(client.list().await.unwrap(), before, "nothing was changed");
    agent.stop().await;
}

#[tokio::test]
#[allow(clippy::too_many_lines, reason = "a table")]
async fn each_other_bad_request_is_refused_with_its_message() {
    let (agent, mut client, mut weir) = agent().await;
    let before = client.list().await.unwrap();
    let odd = v1::ServiceSpec {
        name: "odd".into(),
        listeners: vec![v1::Listener { address: "10.1.0.1".into(), port: 80, protocol: 9 }],
        forwarding: 9,
        affinity: 9,
        versions: Some(v1::Versions {
            blue: Some(v1::VersionSpec { weight_bp: u32::MAX, ..Default::default() }),
            ..Default::default()
        }),
        ..Default::default()
    };
    let apply = v1::ApplyRequest { services: vec![odd], ..Default::default() };
    assert_eq!(
        fields(weir.apply(apply).await),
        [
            "services[0].forwarding: 9 is no forwarding mode",
            "services[0].affinity: 9 is no affinity",
            "services[0].listeners[0].protocol: must be TCP or UDP",
            "services[0].versions.blue.weight: 42949672.95% is more than 100%",
        ]
    );
    assert_eq!(
        fields(weir.apply(v1::ApplyRequest::default()).await),
        ["services: is empty; name at least one service"]
    );
    // A conflict with a service that the node has.
    let mut taken = SpecFile::parse(FILE).unwrap().services.remove(0);
    taken.name = "thief".into();
    let ClientError::Refused { violations, .. } =
        client.apply(&[taken], &ChangeOptions::default()).await.expect_err("refused")
    else {
        panic!("not a refusal")
    };
    let messages: Vec<String> = violations.iter().map(ToString::to_string).collect();
    assert_eq!(
        messages,
        [
            "services[0].listeners[0]: 10.50.0.100:80/tcp is already a listener of service \"shop\"",
            "services[0].versions.blue.backends[0]: 10.61.0.2:80/tcp already serves blue of service \"shop\": an \
             answer from it could belong to either",
            "services[0].versions.canary.backends[0]: 10.63.0.2:80/tcp already serves canary of service \"shop\": an \
             answer from it could belong to either",
        ]
    );
    let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let delete = |services| v1::DeleteRequest { services, ..Default::default() };
    assert_eq!(
        fields(weir.delete(delete(Vec::new())).await),
        ["services: is empty; name at least one service"]
    );
    assert_eq!(
        fields(weir.delete(delete(names(&["shop", "shop"]))).await),
        ["services[1]: \"shop\" is named twice"]
    );
    assert_eq!(
        fields(weir.get(v1::GetRequest::default()).await),
        ["service: is empty; a service needs a name"]
    );
    assert_eq!(
        fields(weir.read_counters(v1::ReadCountersRequest { services: names(&["a_b"]) }).await),
        ["services[0]: \"a_b\" holds something other than a-z, 0-9 and -"]
    );
    for interval_ms in [99, 3_600_001] {
        assert_eq!(
            fields(
                weir.watch_counters(v1::WatchCountersRequest { interval_ms, services: Vec::new() })
                    .await
            ),
            [format!("interval_ms: {interval_ms} is not within 100 and 3600000")]
        );
    }
    let missing = v1::WatchCountersRequest { interval_ms: 100, services: names(&["none"]) };
    assert_eq!(weir.watch_counters(missing).await.expect_err("refused").code(), Code::NotFound);
    assert_eq!(client.list().await.unwrap(), before, "nothing was changed");
    agent.stop().await;
}
