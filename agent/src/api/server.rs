//! What is served on the socket and the port, and until when.

use std::{future::Future, time::Duration};

use tokio::{net::UnixListener, sync::watch, time::sleep};
use tonic::transport::Server;
use tonic_reflection::server::Builder;
use tower::limit::GlobalConcurrencyLimitLayer;
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

/// Serves the API on a socket that [`super::socket::bind`] made, and on a port if there is one, until `shutdown` is
/// ready; then removes the socket's file and lets calls under way end for a few seconds.
pub async fn serve(
    listener: UnixListener,
    port: Option<Port>,
    guard: &SocketGuard,
    node: Handle,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let (stop, stopping) = watch::channel(false);
    let (connections, accepted) = clients::channel();
    tokio::spawn(clients::accept(listener, connections.clone()));
    if let Some(port) = port {
        tokio::spawn(port::accept(port, Some(node.clone()), connections));
    }
    let weir = WeirServer::new(Weir::new(node, stopping.clone()))
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE);
    let (health, health_server) = tonic_health::server::health_reporter();
    health.set_serving::<WeirServer<Weir>>().await;
    let reflection = || {
        Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
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
        .add_service(weir)
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
        guard.unlink();
        stop.send_replace(true);
        sleep(GRACE).await;
    };
    tokio::select! {
        result = server => Ok(result?),
        () = stop => Ok(()),
    }
}
