//! The API under live traffic: a counter stream follows a shift, a client that knows nothing but
//! the server's reflection finds the service and shifts a weight (as grpcurl does), and the health
//! service says that weir serves.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use prost::Message as _;
use prost_reflect::prost_types::FileDescriptorProto;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, SerializeOptions};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};
use tokio_stream::StreamExt as _;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
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
    let services = runtime.block_on(list_services(&channel));
    for name in ["weir.v1.Weir", "grpc.health.v1.Health"] {
        assert!(services.contains(name), "{services:?}");
    }
    let pool = runtime.block_on(descriptors(&channel, "weir.v1.Weir"));
    let call = |method: &str, request: Value| {
        runtime.block_on(call(&channel, &pool, "weir.v1.Weir", method, request))
    };

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

async fn reflect(channel: &Channel, question: MessageRequest) -> MessageResponse {
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(question) };
    let mut client = ServerReflectionClient::new(channel.clone());
    let answers = client.server_reflection_info(tokio_stream::once(request)).await.unwrap();
    answers.into_inner().message().await.unwrap().unwrap().message_response.unwrap()
}

async fn list_services(channel: &Channel) -> BTreeSet<String> {
    match reflect(channel, MessageRequest::ListServices(String::new())).await {
        MessageResponse::ListServicesResponse(list) => {
            list.service.into_iter().map(|service| service.name).collect()
        }
        other => unreachable!("{other:?}"),
    }
}

/// The file of a service and all that it imports.
async fn descriptors(channel: &Channel, service: &str) -> DescriptorPool {
    let mut questions = vec![MessageRequest::FileContainingSymbol(service.to_owned())];
    let (mut asked, mut files) = (BTreeSet::new(), Vec::new());
    while let Some(question) = questions.pop() {
        let answer = reflect(channel, question).await;
        let MessageResponse::FileDescriptorResponse(found) = answer else {
            unreachable!("{answer:?}")
        };
        for bytes in found.file_descriptor_proto {
            let file = FileDescriptorProto::decode(&bytes[..]).unwrap();
            asked.insert(file.name().to_owned());
            for import in &file.dependency {
                if asked.insert(import.clone()) {
                    questions.push(MessageRequest::FileByFilename(import.clone()));
                }
            }
            files.push(file);
        }
    }
    let mut pool = DescriptorPool::new();
    pool.add_file_descriptor_protos(files).unwrap();
    pool
}

/// One call with JSON in and out, by descriptors alone.
async fn call(
    channel: &Channel,
    pool: &DescriptorPool,
    service: &str,
    method: &str,
    request: Value,
) -> Result<Value, Status> {
    let service = pool.get_service_by_name(service).unwrap();
    let method = service.methods().find(|one| one.name() == method).unwrap();
    let message = DynamicMessage::deserialize(method.input(), request).unwrap();
    let path = format!("/{}/{}", service.full_name(), method.name());
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    grpc.ready().await.unwrap();
    let path = PathAndQuery::try_from(path).unwrap();
    let answer = grpc.unary(Request::new(message), path, Dynamic(method.output())).await?;
    let options = SerializeOptions::new().stringify_64_bit_integers(false);
    Ok(answer.into_inner().serialize_with_options(serde_json::value::Serializer, &options).unwrap())
}

/// Carries messages that are known by their descriptors only. Holds the answer's.
struct Dynamic(MessageDescriptor);

impl Codec for Dynamic {
    type Encode = DynamicMessage;
    type Decode = DynamicMessage;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self(self.0.clone())
    }

    fn decoder(&mut self) -> Self {
        Self(self.0.clone())
    }
}

impl Encoder for Dynamic {
    type Item = DynamicMessage;
    type Error = Status;

    fn encode(&mut self, message: DynamicMessage, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        message.encode(to).map_err(|error| Status::internal(error.to_string()))
    }
}

impl Decoder for Dynamic {
    type Item = DynamicMessage;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, Status> {
        let message = DynamicMessage::decode(self.0.clone(), from);
        message.map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}
