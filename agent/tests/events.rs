//! The event stream from end to end: real client, real socket, real server; and the command line.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

mod common;

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    time::Duration,
};

use common::{FakeAgent, refused::FILE};
use serde_json::Value;
use tokio::time::timeout;
use tokio_stream::StreamExt as _;
use tonic::transport::Endpoint;
use weir::{
    client::{Client, ClientError},
    model::{ServiceName, SpecFile, Version, Weight},
    node::{
        events::{EventQuery, Events, Kind},
        messages::{ChangeOptions, InFlight, RequestId, ServiceShift, Shift},
    },
};

use weir_proto::v1::{self, weir_client::WeirClient};

fn name(text: &str) -> ServiceName {
    ServiceName::new(text).unwrap()
}

/// An agent that has the services of [`FILE`], shop and api: events 1 and 2.
async fn agent() -> (FakeAgent, Client) {
    let agent = FakeAgent::start();
    let mut client = agent.client().await;
    let file = SpecFile::parse(FILE).unwrap();
    client.apply(&file.services, &ChangeOptions::default()).await.unwrap();
    (agent, client)
}

/// Shifts shop.
async fn shift(client: &mut Client, id: &str) {
    let one = ServiceShift {
        service: name("shop"),
        set: vec![(Version::Canary, Weight::from_bp(500).unwrap())],
        remainder: Version::Blue,
        expected_generation: None,
    };
    let request_id = Some(RequestId::new(id).unwrap());
    let options = ChangeOptions { request_id, ..ChangeOptions::default() };
    client
        .shift(&Shift { shifts: vec![one], lease: None, in_flight: InFlight::default(), options })
        .await
        .unwrap();
}

fn ids(events: &Events) -> Vec<u64> {
    events.events.iter().map(|one| one.id).collect()
}

#[tokio::test]
async fn a_stream_is_resumed_by_id_and_filtered_by_service() {
    let (agent, mut client) = agent().await;
    shift(&mut client, "first").await;
    for (query, wanted) in [
        (EventQuery::default(), vec![1, 2, 3]),
        (EventQuery { since: 2, ..EventQuery::default() }, vec![3]),
        (EventQuery { since: 2, epoch: Some(1), ..EventQuery::default() }, vec![3]),
        (EventQuery { since: 2, epoch: Some(2), ..EventQuery::default() }, vec![1, 2, 3]),
        (EventQuery { since: 3, ..EventQuery::default() }, vec![]),
        (EventQuery { service: Some(name("api")), ..EventQuery::default() }, vec![2]),
    ] {
        let stream = client.watch_events(&query, false).await.unwrap();
        let all: Vec<_> = timeout(Duration::from_secs(5), stream.collect()).await.unwrap();
        let [Ok(events)] = &all[..] else { panic!("{query:?}: {all:?}") };
        assert_eq!((ids(events), events.lost, events.last_id), (wanted, 0, 3), "{query:?}");
    }
    agent.stop().await;
}

#[tokio::test]
async fn who_follows_hears_of_each_event() {
    let (agent, mut client) = agent().await;
    let query = EventQuery { since: 2, service: Some(name("shop")), epoch: None };
    let mut stream = client.watch_events(&query, true).await.unwrap();
    let first = timeout(Duration::from_secs(5), stream.next()).await.unwrap().unwrap().unwrap();
    assert_eq!((ids(&first), first.last_id), (vec![], 2));
    for id in 3..6 {
        shift(&mut client, &format!("shift-{id}")).await;
        let next = timeout(Duration::from_secs(5), stream.next()).await.unwrap().unwrap().unwrap();
        assert_eq!(ids(&next), [id]);
        let event = &next.events[0].event;
        assert_eq!((event.kind, event.service.as_ref()), (Kind::Applied, Some(&name("shop"))));
        assert_eq!(event.request_id.as_ref().unwrap().as_str(), format!("shift-{id}"));
    }
    timeout(Duration::from_secs(3), agent.stop()).await.expect("streams end with the server");
}

/// A reader that does not read holds nothing up, and is told what it has lost.
#[tokio::test]
async fn a_slow_reader_is_told_what_it_has_lost() {
    let (agent, mut writer) = agent().await;
    // A window of a few answers, so that the server cannot send far ahead.
    let path = format!("unix:{}", agent.socket.display());
    let endpoint = Endpoint::from_shared(path).unwrap().initial_stream_window_size(4_096);
    let mut client = WeirClient::new(endpoint.connect().await.unwrap());
    let request = v1::WatchEventsRequest { follow: true, ..v1::WatchEventsRequest::default() };
    let mut stream = client.watch_events(request).await.unwrap().into_inner();
    for number in 0..3_000 {
        shift(&mut writer, &format!("shift-{number}")).await;
    }
    let (mut next, mut lost) = (1, 0);
    while next <= 3_002 {
        let events = timeout(Duration::from_secs(5), stream.next()).await.unwrap();
        let events = events.unwrap().unwrap();
        assert!(events.events.len() <= 1_024);
        lost += events.lost;
        next += events.lost;
        for event in &events.events {
            assert_eq!(event.id, next, "neither seen nor lost, or both");
            next += 1;
        }
    }
    assert!(lost > 0 && lost < 3_002, "lost {lost}");
    agent.stop().await;
}

#[tokio::test]
async fn streams_are_bounded_in_number() {
    let (agent, mut client) = agent().await;
    let mut streams = Vec::new();
    for _ in 0..64 {
        streams.push(client.watch_events(&EventQuery::default(), true).await.unwrap());
    }
    let refused = client.watch_events(&EventQuery::default(), true).await.map(|_| ());
    let Err(ClientError::Refused { reason, message, .. }) = refused else { panic!("{refused:?}") };
    let wanted = ("TOO_MANY_WATCHERS", "64 event streams are open already; close one");
    assert_eq!((reason.as_str(), message.as_str()), wanted);
    // Counters have room of their own.
    drop(client.watch_counters(&[], Duration::from_secs(1)).await.unwrap());
    agent.stop().await;
}

fn weir(agent: &FakeAgent, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.arg("--socket").arg(&agent.socket).args(arguments).stdin(Stdio::null());
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_command_line_lists_and_follows() {
    let (agent, mut client) = agent().await;
    let output = weir(&agent, &["events", "shop"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Vec<&str>> =
        text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["ID", "TIME", "SERVICE", "KIND", "EVENT"]);
    let [id, time, rest @ ..] = &lines[1][..] else { panic!("{text}") };
    assert!(*id == "1" && time.ends_with('Z'), "{text}");
    assert_eq!(*rest, ["shop", "applied", "as", "asked"]);
    assert_eq!(lines.len(), 2, "{text}");

    let output = weir(&agent, &["events", "--since", "1", "-o", "json"]).output().unwrap();
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((json["epoch"].as_u64(), json["lost"].as_u64()), (Some(1), Some(0)));
    let [event] = json["events"].as_array().unwrap().as_slice() else { panic!("{json}") };
    assert_eq!((&event["id"], &event["service"]), (&Value::from(2), &Value::from("api")));
    assert_eq!((&event["kind"], &event["text"]), (&"applied".into(), &"as asked".into()));
    assert!(event["time"].as_str().unwrap().starts_with("20") && event["request_id"].is_null());

    let mut child = weir(&agent, &["events", "--watch", "-o", "json"]);
    let mut child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    assert_eq!(next()["last_id"], 2);
    shift(&mut client, "third").await;
    assert_eq!(next()["events"][0]["request_id"], "third");
    agent.stop().await;
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");

    let refused = weir(&FakeAgent::start(), &["events", "Shop"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
}
