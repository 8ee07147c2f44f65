//! What a coordinator serves on its socket, and until when.

use std::{future::Future, time::Duration};

use tokio::{net::UnixListener, sync::watch, time::sleep};
use tonic::transport::Server;
use tonic_reflection::server::Builder;
use tower::limit::GlobalConcurrencyLimitLayer;
use weir_proto::{ROLLOUT_DESCRIPTOR_SET, rollout::v1::rollouts_server::RolloutsServer};

use super::{MAX_MESSAGE, service::Rollouts};
use crate::{
    api::{
        clients,
        port::{self, Port},
        roles::Roles,
        server::ServeError,
        socket::SocketGuard,
    },
    rollout::run::Coordinator,
};

/// The most calls at once on one connection.
const MAX_STREAMS: u32 = 128;
/// The most calls that are worked on at once, over all connections.
const MAX_CALLS: usize = 32;
/// How long a call may take until its answer begins.
const CALL_WAIT: Duration = Duration::from_secs(60);
/// How long calls under way may take to end when the server stops.
const GRACE: Duration = Duration::from_secs(2);

/// Serves the API on a socket that [`crate::api::socket::bind`] made, and on a port if there is one, until `shutdown` is ready; then
/// removes the socket's file and lets calls under way end.
pub async fn serve(
    listener: UnixListener,
    port: Option<Port>,
    guard: &SocketGuard,
    coordinator: Coordinator,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let (stop, stopping) = watch::channel(false);
    let (connections, accepted) = clients::channel();
    tokio::spawn(clients::accept(listener, connections.clone()));
    if let Some(port) = port {
        tokio::spawn(port::accept(port, None, connections));
    }
    let rollouts = RolloutsServer::new(Rollouts::new(coordinator, stopping.clone()))
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE);
    let (health, health_server) = tonic_health::server::health_reporter();
    health.set_serving::<RolloutsServer<Rollouts>>().await;
    let reflection = Builder::configure()
        .register_encoded_file_descriptor_set(ROLLOUT_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
    let mut stopped = stopping.clone();
    let server = Server::builder()
        .max_concurrent_streams(MAX_STREAMS)
        .timeout(CALL_WAIT)
        .layer(Roles)
        .layer(GlobalConcurrencyLimitLayer::new(MAX_CALLS))
        .add_service(rollouts)
        .add_service(health_server)
        .add_service(reflection.build_v1()?)
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
