//! The API from end to end: real client, real socket, real server; behind it a node that lives in memory.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

mod common;
#[path = "common/reflection.rs"]
mod reflection;

use std::time::Duration;

use common::{FakeAgent, refused::FILE};
use reflection::Reflected;
use serde_json::json;
use tokio::time::timeout;
use tokio_stream::StreamExt as _;
use tonic::{
    Code,
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt as _;
use weir::{
    client::{Client, ClientError},
    model::{ServiceName, SpecFile, Version, Weight},
    node::messages::{ChangeOptions, Counters, Delete, InFlight, RequestId, ServiceShift, Shift},
};
use weir_proto::v1::{self, weir_client::WeirClient};

fn name(text: &str) -> ServiceName {
    ServiceName::new(text).unwrap()
}

fn canary(bp: u32) -> ServiceShift {
    ServiceShift {
        service: name("shop"),
        set: vec![(Version::Canary, Weight::from_bp(bp).unwrap())],
        remainder: Version::Blue,
        expected_generation: None,
    }
}

fn shift(one: ServiceShift) -> Shift {
    let in_flight = InFlight::default();
    Shift { shifts: vec![one], in_flight, lease: None, options: ChangeOptions::default() }
}

async fn channel(agent: &FakeAgent) -> Channel {
    Endpoint::from_shared(format!("unix:{}", agent.socket.display()))
        .unwrap()
        .connect()
        .await
        .unwrap()
}

/// An agent that has the two services of [`FILE`].
async fn agent() -> (FakeAgent, Client) {
    let agent = FakeAgent::start();
    let mut client = agent.client().await;
    let changed = client
        .apply(&SpecFile::parse(FILE).unwrap().services, &ChangeOptions::default())
        .await
        .unwrap();
    assert_eq!(changed.changes.len(), 2);
    assert!(changed.changes.iter().all(|change| change.created && change.generation == 1));
    (agent, client)
}

fn refused(result: Result<impl std::fmt::Debug, ClientError>) -> (String, String) {
    match result.expect_err("refused") {
        ClientError::Refused { reason, message, .. } => (reason, message),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_is_applied_is_what_is_got() {
    let (agent, mut client) = agent().await;
    let services = client.list().await.unwrap();
    let names: Vec<&str> = services.iter().map(|status| status.spec.name.as_str()).collect();
    assert_eq!(names, ["api", "shop"]);
    assert_eq!(services[1], client.get(&name("shop")).await.unwrap());
    let wanted = SpecFile::parse(FILE).unwrap().services.remove(0);
    assert_eq!(services[1].spec, wanted);

    let commit = client
        .delete(&Delete { services: vec![name("api")], request_id: None, fence: None })
        .await
        .unwrap();
    assert_eq!(commit.generation, 2);
    assert_eq!(client.list().await.unwrap().len(), 1);
    let (reason, message) = refused(client.get(&name("api")).await);
    assert_eq!((reason.as_str(), message.as_str()), ("NOT_FOUND", "there is no service \"api\""));
    agent.stop().await;
}

#[tokio::test]
async fn a_shift_says_what_moved() {
    let (agent, mut client) = agent().await;
    let mut dry = shift(canary(2_500));
    dry.options.dry_run = true;
    let planned = client.shift(&dry).await.unwrap();
    assert!(planned.commit.dry_run);
    assert_eq!(client.get(&name("shop")).await.unwrap().generation, 1, "a dry run changes nothing");

    let mut named = shift(canary(2_500));
    named.options.request_id = Some(RequestId::new("release-7").unwrap());
    let changed = client.shift(&named).await.unwrap();
    assert_eq!(changed.changes, planned.changes);
    let change = &changed.changes[0];
    let row = change.versions[Version::Canary];
    assert_eq!((row.before.bp(), row.asked.bp(), row.table.slots), (500, 2_500, 4_096));
    assert_eq!(change.moves.iter().map(|moved| moved.slots).sum::<u32>(), 4_096 - 819);
    assert_eq!(client.shift(&named).await.unwrap(), changed, "the same id gets the same answer");
    assert_eq!(client.get(&name("shop")).await.unwrap().generation, 2, "and changes nothing");
    agent.stop().await;
}

#[tokio::test]
async fn refusals_carry_details() {
    let (agent, mut client) = agent().await;
    let mut late = canary(0);
    late.expected_generation = Some(9);
    let (reason, message) = refused(client.shift(&shift(late)).await);
    assert_eq!(reason, "GENERATION_MISMATCH");
    assert_eq!(
        message,
        "service \"shop\" has generation 1, not 9: it changed meanwhile; look again"
    );

    let mut green = canary(0);
    green.set[0].0 = Version::Green;
    green.set[0].1 = Weight::from_bp(1).unwrap();
    let (reason, _) = refused(client.shift(&shift(green)).await);
    assert_eq!(reason, "NO_READY_BACKEND");

    let mut weir = WeirClient::new(channel(&agent).await);
    let shift = v1::ShiftWeightsRequest {
        shifts: vec![v1::Shift {
            service: "shop".into(),
            set: vec![v1::VersionWeight { version: 3, weight_bp: 1 }],
            expected_generation: Some(4),
            ..v1::Shift::default()
        }],
        ..v1::ShiftWeightsRequest::default()
    };
    let status = weir.shift_weights(shift).await.expect_err("refused");
    assert_eq!(status.code(), Code::FailedPrecondition);
    let details = status.get_error_details();
    let info = details.error_info().unwrap();
    assert_eq!((info.domain.as_str(), info.reason.as_str()), ("weir", "GENERATION_MISMATCH"));
    assert_eq!((info.metadata["expected"].as_str(), info.metadata["actual"].as_str()), ("4", "1"));
    assert_eq!(details.precondition_failure().unwrap().violations[0].subject, "shop");
    agent.stop().await;
}

#[tokio::test]
async fn an_answer_full_of_violations_arrives_whole() {
    let (agent, mut client) = agent().await;
    let mut bad = SpecFile::parse(FILE).unwrap().services.remove(0);
    let blue = bad.versions.blue.as_mut().unwrap();
    blue.backends = vec![blue.backends[0].clone(); 100];
    blue.backends.iter_mut().for_each(|backend| backend.address = "é".repeat(10_000));
    let ClientError::Refused { violations, .. } =
        client.apply(&[bad], &ChangeOptions::default()).await.expect_err("refused")
    else {
        panic!("not a refusal")
    };
    assert_eq!(violations.len(), 33);
    assert!(violations.iter().all(|wrong| wrong.message.chars().count() <= 301));
    agent.stop().await;
}

#[tokio::test]
async fn a_message_beyond_the_limit_is_refused() {
    let (agent, _) = agent().await;
    let mut weir = WeirClient::new(channel(&agent).await);
    let big = v1::GetRequest { service: "x".repeat(17 << 20) };
    let status = weir.get(big).await.expect_err("refused");
    assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
    agent.stop().await;
}

#[tokio::test]
async fn health_is_served() {
    let (agent, _) = agent().await;
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel(&agent).await);
    for service in ["", "weir.v1.Weir"] {
        let request = tonic_health::pb::HealthCheckRequest { service: service.into() };
        let answer = health.check(request).await.unwrap().into_inner();
        assert_eq!(
            answer.status(),
            tonic_health::pb::health_check_response::ServingStatus::Serving
        );
    }
    agent.stop().await;
}

#[tokio::test]
async fn a_reflection_client_lists_shifts_and_watches() {
    let (agent, mut client) = agent().await;
    let reflected = Reflected::connect(channel(&agent).await).await;
    for service in ["weir.v1.Weir", "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"]
    {
        assert!(
            reflected.services.iter().any(|listed| listed == service),
            "{service} in {:?}",
            reflected.services
        );
    }
    let mut watch = reflected
        .stream("WatchCounters", json!({"intervalMs": 100, "services": ["shop"]}))
        .await
        .unwrap();
    let first = watch.next().await.unwrap();

    let shift = json!({"shifts": [{"service": "shop", "set": [{"version": "VERSION_CANARY", "weightBp": 2500}]}]});
    let answer = reflected.call("ShiftWeights", shift).await.unwrap();
    assert_eq!(answer["changes"][0]["versions"][2]["askedBp"], 2_500);
    assert_eq!(
        answer["changes"][0]["moves"][0],
        json!({"from": "VERSION_BLUE", "to": "VERSION_CANARY", "slots": 3277})
    );
    let now = client.get(&name("shop")).await.unwrap();
    assert_eq!(now.versions[Version::Canary].asked.bp(), 2_500);

    let second = timeout(Duration::from_secs(5), watch.next()).await.unwrap().unwrap();
    let count = |answer: &serde_json::Value| -> u64 {
        let versions = &answer["counters"]["services"][0]["versions"];
        versions[2]["traffic"]["connections"].as_str().unwrap().parse().unwrap()
    };
    assert!(count(&second) >= 2 * 2_500 && count(&first) == 500, "{first} then {second}");
    agent.stop().await;
}

/// The fake finds 10 000 connections more with each look, and a second later.
#[tokio::test]
async fn counters_come_with_what_was_counted_since() {
    let (agent, mut client) = agent().await;
    let mark = client.counters(&[]).await.unwrap();
    let mut stream = client.watch_counters(&[], Duration::from_millis(100)).await.unwrap();
    assert_eq!(stream.next().await.unwrap().unwrap().interval, None);
    let interval = stream.next().await.unwrap().unwrap().interval.unwrap();
    assert_eq!((interval.length, interval.gap), (Duration::from_secs(1), false));
    let green = &interval.services[0].versions[Version::Green];
    assert_eq!((green.delta.traffic.connections, green.delta.success), (10_000, Some(0.99)));
    assert!((green.delta.connections_per_s - 10_000.0).abs() < 1e-6);
    assert_eq!(green.delta.handshakes.count(), 9_900);
    assert_eq!(green.backends[0].delta, green.delta);
    drop(stream);

    let name = ServiceName::new("api").unwrap();
    let since = client.counters_since(std::slice::from_ref(&name), mark.clone()).await.unwrap();
    let interval = since.interval.unwrap();
    assert!(interval.length >= Duration::from_secs(3), "{:?}", interval.length);
    let green = &interval.of(&name).unwrap().versions[Version::Green].delta;
    assert!(green.traffic.connections >= 30_000 && green.traffic.connections % 10_000 == 0);
    // Counters of another epoch have nothing to do with these.
    let other = Counters { epoch: mark.epoch + 1, ..mark };
    let gap = client.counters_since(&[], other).await.unwrap().interval.unwrap();
    assert!(gap.gap && gap.services.is_empty());
    agent.stop().await;
}

#[tokio::test]
async fn watchers_are_bounded_and_leave_with_the_server() {
    let (agent, mut client) = agent().await;
    let mut streams = Vec::new();
    for _ in 0..64 {
        streams.push(client.watch_counters(&[], Duration::from_millis(100)).await.unwrap());
    }
    let Err(ClientError::Refused { reason, message, .. }) =
        client.watch_counters(&[], Duration::from_secs(1)).await.map(|_| ())
    else {
        panic!("not refused")
    };
    assert_eq!(
        (reason.as_str(), message.as_str()),
        ("TOO_MANY_WATCHERS", "64 counter streams are open already; close one")
    );
    // One that leaves makes room for another.
    streams.pop();
    let again = timeout(Duration::from_secs(5), async {
        loop {
            if let Ok(stream) = client.watch_counters(&[], Duration::from_millis(100)).await {
                break stream;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let mut stream = again.await.unwrap();
    stream.next().await.unwrap().unwrap();
    // Well within the grace that calls are given: streams end at once.
    timeout(Duration::from_secs(3), agent.stop()).await.expect("the server stops");
    let rest = timeout(Duration::from_secs(1), async {
        while stream.next().await.is_some_and(|item| item.is_ok()) {}
    });
    rest.await.expect("the stream ends");
}

#[tokio::test]
async fn a_client_says_that_there_is_no_agent() {
    let (agent, mut client) = agent().await;
    let socket = agent.socket.clone();
    agent.stop().await;
    let error = client.list().await.expect_err("stopped");
    assert!(matches!(error, ClientError::Unreachable { .. }), "{error:?}");
    let error = Client::connect(&socket).await.expect_err("no agent");
    assert!(matches!(error, ClientError::NoAgent(_)), "{error:?}");
    assert!(
        error.to_string().starts_with(&format!("no agent at {}: is it running?", socket.display()))
    );
}

#[tokio::test]
async fn a_guard_that_is_wrong_is_refused_with_its_fields() {
    let (agent, _) = agent().await;
    let mut weir = WeirClient::new(channel(&agent).await);
    let set = |guard| v1::SetGuardRequest { service: "shop".into(), guard, fence: None };
    let good = || v1::Guard {
        version: 3,
        metric: 1,
        least_bp: 5_000,
        min_connections: 20,
        window: "5s".into(),
        fallback: Vec::new(),
    };
    weir.set_guard(set(Some(good()))).await.unwrap();
    let weight = |version, weight_bp| v1::VersionWeight { version, weight_bp };
    for (guard, field) in [
        (None, "guard"),
        (Some(v1::Guard { version: 0, ..good() }), "guard.version"),
        (Some(v1::Guard { metric: 0, ..good() }), "guard.metric"),
        (Some(v1::Guard { least_bp: 0, ..good() }), "guard.least_bp"),
        (Some(v1::Guard { least_bp: 10_001, ..good() }), "guard.least_bp"),
        (Some(v1::Guard { min_connections: 0, ..good() }), "guard.min_connections"),
        (Some(v1::Guard { window: "0s".into(), ..good() }), "guard.window"),
        (Some(v1::Guard { window: "1h".into(), ..good() }), "guard.window"),
        (Some(v1::Guard { fallback: vec![weight(1, 9_999)], ..good() }), "guard.fallback"),
        (Some(v1::Guard { fallback: vec![weight(1, 5_000); 2], ..good() }), "guard.fallback"),
    ] {
        let status = weir.set_guard(set(guard)).await.unwrap_err();
        let details = status.get_error_details();
        let fields = &details.bad_request().unwrap().field_violations;
        assert_eq!(fields.iter().map(|one| &*one.field).collect::<Vec<_>>(), [field], "{status}");
    }
    agent.stop().await;
}
