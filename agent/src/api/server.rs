//! What is served on the socket and the port, and until when.

use std::{convert::Infallible, future::Future, time::Duration};

use http::{Request, Response};
use tokio::{net::UnixListener, sync::watch, time::sleep};
use tonic::{body::Body, server::NamedService, transport::Server};
use tonic_reflection::server::Builder;
use tower::{Service, limit::GlobalConcurrencyLimitLayer};
use weir_proto::{FILE_DESCRIPTOR_SET, v1::weir_server::WeirServer};

use super::{
    MAX_MESSAGE, clients,
    port::{self, Port},
    roles::Roles,
    service::Weir,
    socket::SocketGuard,
};
use crate::node::Handle;

/// The most calls at once on one connection.
const MAX_STREAMS: u32 = 128;
/// The most calls that are worked on at once, over all connections; streams count until they begin.
/// Others wait. What a call may hold is a message, so this bounds the memory that clients can take.
const MAX_CALLS: usize = 32;
/// How long a call may take until its answer begins. A client that begins a message and does not end
/// it is in the way of others for so long.
const CALL_WAIT: Duration = Duration::from_secs(90);
/// What a client may send ahead, on a stream and on a connection, in bytes.
const WINDOWS: (u32, u32) = (64 << 10, 256 << 10);
/// A connection on which nothing was heard for so long is asked whether somebody is there, and given
/// up when there is no answer for as long as the second.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));
/// How long calls under way may take to end when the server stops.
const GRACE: Duration = Duration::from_secs(5);

/// Why the server failed.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The built-in descriptors cannot be read.
    #[error("reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The transport failed.
    #[error("gRPC server: {0}")]
    Transport(#[from] tonic::transport::Error),
}

/// Where an API is served.
pub struct Ends<'a> {
    /// A socket that [`super::socket::bind`] made.
    pub socket: UnixListener,
    /// Its file.
    pub guard: &'a SocketGuard,
    /// The port, if there is one.
    pub port: Option<Port>,
}

/// Serves the agent's API until `shutdown` is ready; then removes the socket's file and lets calls
/// under way end for a few seconds.
pub async fn serve(
    ends: Ends<'_>,
    node: Handle,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let weir = |stopping| {
        WeirServer::new(Weir::new(node.clone(), stopping))
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE)
    };
    run(ends, Some(node.clone()), FILE_DESCRIPTOR_SET, weir, shutdown).await
}

/// Serves an API and what goes with each, within the bounds of each. `service` gets what says that the
/// server stops; `node` is told what becomes of the port's files, if there is one.
pub(crate) async fn run<S>(
    ends: Ends<'_>,
    node: Option<Handle>,
    descriptors: &'static [u8],
    service: impl FnOnce(watch::Receiver<bool>) -> S,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + NamedService
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
{
    let (stop, stopping) = watch::channel(false);
    let (connections, accepted) = clients::channel();
    tokio::spawn(clients::accept(ends.socket, connections.clone()));
    if let Some(port) = ends.port {
        tokio::spawn(port::accept(port, node, connections));
    }
    let (health, health_server) = tonic_health::server::health_reporter();
    health.set_serving::<S>().await;
    let reflection = || {
        Builder::configure()
            .register_encoded_file_descriptor_set(descriptors)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let mut stopped = stopping.clone();
    let server = Server::builder()
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(WINDOWS.0)
        .initial_connection_window_size(WINDOWS.1)
        .http2_keepalive_interval(Some(KEEP_ALIVE.0))
        .http2_keepalive_timeout(Some(KEEP_ALIVE.1))
        .timeout(CALL_WAIT)
        .layer(Roles)
        .layer(GlobalConcurrencyLimitLayer::new(MAX_CALLS))
        .add_service(service(stopping))
        .add_service(health_server)
        .add_service(reflection().build_v1()?)
        // grpcurl before 1.9 speaks only the older name of the protocol.
        .add_service(reflection().build_v1alpha()?)
        .serve_with_incoming_shutdown(accepted, async move {
            // An error means that the sender is gone, which is a stop too.
            let _ = stopped.wait_for(|stop| *stop).await;
        });
    let stop = async {
        shutdown.await;
        // No new client may find the socket while the old ones leave.
        ends.guard.unlink();
        stop.send_replace(true);
        sleep(GRACE).await;
    };
    tokio::select! {
        result = server => Ok(result?),
        () = stop => Ok(()),
    }
}
