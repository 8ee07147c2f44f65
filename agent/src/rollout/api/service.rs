//! The methods of `weir.rollout.v1.Rollouts`: read, ask the coordinator, answer.

use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use weir_proto::rollout::v1::{self, rollouts_server};

use super::Refusal;
use crate::{
    api::caller::Peer,
    model::ServiceName,
    rollout::run::{Coordinator, Wish},
};

/// The most streams at once.
const MAX_WATCHERS: usize = 64;

/// The service behind the socket.
pub(super) struct Rollouts {
    coordinator: Coordinator,
    watchers: Arc<Semaphore>,
    /// Turns true when the server stops; ends the streams.
    stopping: watch::Receiver<bool>,
}

impl Rollouts {
    pub(super) fn new(coordinator: Coordinator, stopping: watch::Receiver<bool>) -> Self {
        Self { coordinator, watchers: Arc::new(Semaphore::new(MAX_WATCHERS)), stopping }
    }
}

/// The service that a request names.
fn service(name: &str) -> Result<ServiceName, Refusal> {
    ServiceName::new(name).map_err(|wrong| Refusal::field("service", wrong))
}

/// Who has sent a request, where that is known better than by its own word: by a certificate.
fn by<T>(request: &Request<T>) -> Option<String> {
    match request.extensions().get::<Peer>()? {
        peer @ Peer::Remote(_) => peer.caller().map(|caller| caller.to_string()),
        Peer::Local(_) => None,
    }
}

#[tonic::async_trait]
impl rollouts_server::Rollouts for Rollouts {
    type WatchStream = ReceiverStream<Result<v1::WatchResponse, Status>>;

    async fn plan(
        &self,
        request: Request<v1::PlanRequest>,
    ) -> Result<Response<v1::PlanResponse>, Status> {
        Ok(Response::new(self.coordinator.plan(&request.get_ref().document).await?))
    }

    async fn start(
        &self,
        request: Request<v1::StartRequest>,
    ) -> Result<Response<v1::StartResponse>, Status> {
        let peer = by(&request);
        let v1::StartRequest { document, who, why } = request.into_inner();
        let who = peer.unwrap_or(who);
        Ok(Response::new(self.coordinator.start_rollout(&document, who, why).await?))
    }

    async fn get(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<v1::GetResponse>, Status> {
        let rollout = self.coordinator.get(&service(&request.get_ref().service)?)?;
        Ok(Response::new(v1::GetResponse { rollout: Some(rollout) }))
    }

    async fn list(
        &self,
        _: Request<v1::ListRequest>,
    ) -> Result<Response<v1::ListResponse>, Status> {
        Ok(Response::new(self.coordinator.list().await?))
    }

    async fn watch(
        &self,
        request: Request<v1::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let service = service(&request.get_ref().service)?;
        let permit = Arc::clone(&self.watchers)
            .try_acquire_owned()
            .map_err(|_| Refusal::TooMany { what: "watchers", limit: MAX_WATCHERS })?;
        let mut rollouts = self.coordinator.watch(&service)?;
        let (answers, stream) = mpsc::channel(1);
        let mut stopping = self.stopping.clone();
        tokio::spawn(async move {
            let _permit = permit;
            let feed = async {
                loop {
                    let rollout = Some(v1::Rollout::clone(&rollouts.borrow_and_update()));
                    let told = answers.send(Ok(v1::WatchResponse { rollout })).await;
                    // The newest is told when there is room; what came between is left out.
                    if told.is_err() || rollouts.changed().await.is_err() {
                        return;
                    }
                }
            };
            tokio::select! {
                () = feed => {}
                () = answers.closed() => {}
                // An error means that the server is gone.
                _ = stopping.wait_for(|stopping| *stopping) => {}
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn command(
        &self,
        request: Request<v1::CommandRequest>,
    ) -> Result<Response<v1::CommandResponse>, Status> {
        let peer = by(&request);
        let v1::CommandRequest { service: name, verb, to_revision, who, why } =
            request.into_inner();
        let who = peer.unwrap_or(who);
        let wish =
            Wish::read(&verb, &to_revision).map_err(|wrong| Refusal::field("verb", wrong))?;
        self.coordinator.command(&service(&name)?, wish, who, why).await?;
        Ok(Response::new(v1::CommandResponse {}))
    }

    async fn history(
        &self,
        request: Request<v1::HistoryRequest>,
    ) -> Result<Response<v1::HistoryResponse>, Status> {
        let service = service(&request.get_ref().service)?;
        Ok(Response::new(self.coordinator.history(&service).await?))
    }
}
