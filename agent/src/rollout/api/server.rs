//! What a coordinator serves.

use std::future::Future;

use weir_proto::{ROLLOUT_DESCRIPTOR_SET, rollout::v1::rollouts_server::RolloutsServer};

use super::service::Rollouts;
use crate::{
    api::{
        MAX_MESSAGE,
        server::{self, Ends, ServeError},
    },
    rollout::run::Coordinator,
};

/// Serves the coordinator's API until `shutdown` is ready, as an agent does its own.
pub async fn serve(
    ends: Ends<'_>,
    coordinator: Coordinator,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let rollouts = |stopping| {
        RolloutsServer::new(Rollouts::new(coordinator, stopping))
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE)
    };
    server::run(ends, None, ROLLOUT_DESCRIPTOR_SET, rollouts, shutdown).await
}
