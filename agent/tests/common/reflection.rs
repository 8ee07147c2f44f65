//! A client that knows nothing of `weir.proto`: it asks the server for the descriptors, as grpcurl does, and
//! speaks in JSON.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use prost_reflect::prost_types::{FileDescriptorProto, ServiceDescriptorProto};
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, prost::Message as _};
use serde_json::Value;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{
    Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
    transport::Channel,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

/// A client made from what the server says of itself.
pub(crate) struct Reflected {
    channel: Channel,
    /// The services that the server lists.
    pub(crate) services: Vec<String>,
    pool: DescriptorPool,
}

impl Reflected {
    /// Asks for the services and for the file of `weir.v1.Weir`.
    pub(crate) async fn connect(channel: Channel) -> Self {
        let MessageResponse::ListServicesResponse(list) =
            ask(&channel, MessageRequest::ListServices(String::new())).await
        else {
            panic!("not a list of services")
        };
        let services = list.service.into_iter().map(|service| service.name).collect();
        let mut pool = DescriptorPool::new();
        let mut wanted = vec![MessageRequest::FileContainingSymbol("weir.v1.Weir".into())];
        let mut files = Vec::new();
        while let Some(request) = wanted.pop() {
            let MessageResponse::FileDescriptorResponse(answer) = ask(&channel, request).await
            else {
                panic!("not a file")
            };
            for file in answer.file_descriptor_proto {
                let file = FileDescriptorProto::decode(file.as_slice()).unwrap();
                wanted.extend(file.dependency.iter().cloned().map(MessageRequest::FileByFilename));
                files.push(file);
            }
        }
        // A file comes after those it imports.
        files.reverse();
        pool.add_file_descriptor_protos(files).unwrap();
        Self { channel, services, pool }
    }

    /// Calls a method that answers once.
    pub(crate) async fn call(&self, method: &str, request: Value) -> Result<Value, Status> {
        let (path, request, codec) = self.prepare(method, request);
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready().await.unwrap();
        let answer = grpc.unary(Request::new(request), path, codec).await?;
        Ok(serde_json::to_value(answer.into_inner()).unwrap())
    }

    /// Calls a method that answers with a stream.
    pub(crate) async fn stream(
        &self,
        method: &str,
        request: Value,
    ) -> Result<impl Stream<Item = Value> + use<>, Status> {
        let (path, request, codec) = self.prepare(method, request);
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready().await.unwrap();
        let answers = grpc.server_streaming(Request::new(request), path, codec).await?.into_inner();
        Ok(answers.map(|answer| serde_json::to_value(answer.unwrap()).unwrap()))
    }

    fn prepare(&self, method: &str, request: Value) -> (PathAndQuery, DynamicMessage, Dynamic) {
        let service = self.pool.get_service_by_name("weir.v1.Weir").unwrap();
        let method = service.methods().find(|known| known.name() == method).expect("a method");
        let request = DynamicMessage::deserialize(method.input(), request).unwrap();
        let path = format!("/{}/{}", service.full_name(), method.name()).parse().unwrap();
        (path, request, Dynamic(method.output()))
    }
}

/// The paths of all methods that a server lists.
#[allow(dead_code, reason = "not every test asks")]
pub(crate) async fn methods(channel: &Channel) -> Vec<String> {
    let list = ask(channel, MessageRequest::ListServices(String::new())).await;
    let MessageResponse::ListServicesResponse(list) = list else {
        panic!("not a list of services")
    };
    let mut methods = Vec::new();
    for name in list.service.into_iter().map(|service| service.name) {
        let file = ask(channel, MessageRequest::FileContainingSymbol(name.clone())).await;
        let MessageResponse::FileDescriptorResponse(file) = file else { panic!("not a file") };
        for file in file.file_descriptor_proto {
            let file = FileDescriptorProto::decode(file.as_slice()).unwrap();
            let named = |service: &&ServiceDescriptorProto| {
                format!("{}.{}", file.package(), service.name()) == name
            };
            for method in file.service.iter().filter(named).flat_map(|service| &service.method) {
                methods.push(format!("/{name}/{}", method.name()));
            }
        }
    }
    methods
}

async fn ask(channel: &Channel, request: MessageRequest) -> MessageResponse {
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(request) };
    let mut client = ServerReflectionClient::new(channel.clone());
    let answers = client.server_reflection_info(tokio_stream::once(request)).await.unwrap();
    answers.into_inner().message().await.unwrap().unwrap().message_response.unwrap()
}

/// Encodes any message, and decodes messages of the kind that it holds.
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

    fn encode(
        &mut self,
        message: DynamicMessage,
        buffer: &mut EncodeBuf<'_>,
    ) -> Result<(), Status> {
        message.encode(buffer).map_err(|error| Status::internal(error.to_string()))
    }
}

impl Decoder for Dynamic {
    type Item = DynamicMessage;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, Status> {
        let message = DynamicMessage::decode(self.0.clone(), buffer);
        message.map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}
