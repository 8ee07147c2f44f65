//! The API under live traffic: a counter stream follows a shift, a client that knows nothing but
//! the server's reflection finds the service and shifts a weight (as grpcurl does), and the health
//! service says that weir serves.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

#[allow(dead_code, reason = "only calls that answer once are made")]
#[path = "../../agent/tests/common/reflection.rs"]
mod reflection;

use std::net::SocketAddr;
use std::time::Duration;

use reflection::Reflected;
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};
use tokio_stream::StreamExt as _;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use weir::client::Client;
use weir::model::Version;
use weir::node::messages::Counters;
use weir_tests::agent::socket;
use weir_tests::lab::LabBuilder;
use weir_tests::lab::addresses::{Family, HTTP_PORT, vip};
use weir_tests::lab::spec::Protocol;
use weir_tests::load::fresh::{Fresh, FreshPlan};
use weir_tests::node::{Mode, Node};

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// A service with a load of new connections, all to blue.
fn loaded() -> (Fresh, Node) {
    let mut node = Node::start(LabBuilder::new().clients(50), Mode::Tc, &[]).unwrap();
    let target = SocketAddr::new(vip(Family::V4, 0), HTTP_PORT);
    node.apply(&[node.lab().service("web", target, Protocol::Tcp)]).unwrap();
    let plan = FreshPlan::new(target, node.lab().client_addresses(Family::V4)).rate(400);
    (Fresh::start(node.lab().clients(), plan).unwrap(), node)
}

/// New connections of blue, green and canary between two looks.
fn between(earlier: &Counters, later: &Counters) -> [u64; 3] {
    assert_eq!(earlier.epoch, later.epoch);
    let connections =
        |counters: &Counters, version| counters.services[0].versions[version].traffic.connections;
    Version::ALL.map(|version| connections(later, version) - connections(earlier, version))
}

#[test]
fn a_counter_stream_follows_a_shift() {
    let (load, mut node) = loaded();
    let runtime = runtime();
    let watching = async {
        let mut client = Client::connect(&socket(node.lab())).await.unwrap();
        client.watch_counters(&[], Duration::from_millis(200)).await.unwrap()
    };
    let mut stream = Box::pin(runtime.block_on(watching));
    let mut next = || {
        let limit = Duration::from_secs(5);
        runtime
            .block_on(async { tokio::time::timeout(limit, stream.next()).await })
            .unwrap()
            .unwrap()
            .unwrap()
    };
    let mut next = || next().counters;
    let first = next();
    let [blue, others @ ..] = between(&first, &next());
    assert!(blue > 20 && others == [0, 0], "blue {blue}, others {others:?}");

    for (weights, index) in [([0, 10_000, 0], 1), ([0, 0, 10_000], 2), ([10_000, 0, 0], 0)] {
        node.shift(&["web"], weights).unwrap();
        // Two answers may have been on their way while the weights changed.
        let (_, _, base) = (next(), next(), next());
        let seen = between(&base, &next());
        assert!(seen[index] > 20, "{weights:?}: {seen:?}");
        assert_eq!(seen.iter().sum::<u64>(), seen[index], "{weights:?}: {seen:?}");
    }
    load.stop().unwrap().check().unwrap();
}

#[test]
fn a_client_by_reflection_shifts_a_weight() {
    let (load, mut node) = loaded();
    let runtime = runtime();
    let channel = runtime.block_on(connect(&node));
    let reflected = runtime.block_on(Reflected::connect(channel));
    for name in ["weir.v1.Weir", "grpc.health.v1.Health"] {
        assert!(reflected.services.iter().any(|one| one == name), "{:?}", reflected.services);
    }
    let call = |method: &str, request: Value| runtime.block_on(reflected.call(method, request));

    let shift = json!({ "shifts": [{
        "service": "web",
        "set": [{ "version": "VERSION_CANARY", "weightBp": 2500 }],
    }]});
    let answer = call("ShiftWeights", shift).unwrap();
    let change = &answer["changes"][0];
    assert_eq!(
        change["moves"],
        json!([
            { "from": "VERSION_BLUE", "to": "VERSION_CANARY", "slots": 4096 }
        ])
    );
    let status = node.status("web").unwrap();
    assert_eq!(status.versions[Version::Canary].asked.bp(), 2_500);
    assert_eq!(status.versions[Version::Canary].table.slots, 4_096);
    assert_eq!(change["digest"], json!(status.digest));
    let answer = call("Get", json!({ "service": "web" })).unwrap();
    assert_eq!(answer["service"]["versions"][2]["table"]["share"], json!(0.25));

    let before = load.counts();
    std::thread::sleep(Duration::from_millis(500));
    let seen = load.counts().since(&before).by_version();
    assert!(seen[2] > 20 && seen[0] > seen[2], "{seen:?}");

    // Errors come with the field's name, as any client sees them.
    let shift = json!({ "shifts": [{
        "service": "web",
        "set": [{ "version": "VERSION_CANARY", "weightBp": 10001 }],
    }]});
    let refused = call("ShiftWeights", shift).unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    assert!(String::from_utf8_lossy(refused.details()).contains("weight_bp"), "{refused:?}");
    load.stop().unwrap().check().unwrap();
}

#[test]
fn the_health_service_says_serving() {
    let (load, mut node) = loaded();
    let runtime = runtime();
    let channel = runtime.block_on(connect(&node));
    for service in ["", "weir.v1.Weir"] {
        let request = HealthCheckRequest { service: service.to_owned() };
        let answer = runtime.block_on(HealthClient::new(channel.clone()).check(request)).unwrap();
        assert_eq!(answer.into_inner().status(), ServingStatus::Serving, "{service:?}");
    }
    load.stop().unwrap().check().unwrap();
    node.take_agent().unwrap().stop().unwrap();
}

async fn connect(node: &Node) -> Channel {
    let path = socket(node.lab());
    let endpoint = Endpoint::from_shared(format!("unix:{}", path.display())).unwrap();
    endpoint.timeout(Duration::from_secs(10)).connect().await.unwrap()
}
