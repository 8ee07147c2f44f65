//! The client of a coordinator: typed calls, and errors fit to be read.

use tokio_stream::{Stream, StreamExt as _};
use tonic::{Status, transport::Channel};
use weir_proto::rollout::v1::{self, rollouts_client::RolloutsClient};

use crate::{
    api::{MAX_MESSAGE, convert::Malformed},
    client::{Address, ClientError, bounded, channel, from_status},
    model::ServiceName,
};

/// A connection to one coordinator. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Remote {
    address: Address,
    rollouts: RolloutsClient<Channel>,
}

impl Remote {
    /// Connects to a coordinator.
    pub async fn connect(address: &Address) -> Result<Self, ClientError> {
        let channel = channel(address).await?;
        let rollouts = RolloutsClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE);
        Ok(Self { address: address.clone(), rollouts })
    }

    /// What a rollout would do.
    pub async fn plan(&mut self, document: &str) -> Result<v1::PlanResponse, ClientError> {
        let request = bounded(v1::PlanRequest { document: document.to_owned() });
        Ok(self.rollouts.plan(request).await.map_err(|status| self.failed(&status))?.into_inner())
    }

    /// Begins a rollout.
    pub async fn start(
        &mut self,
        request: v1::StartRequest,
    ) -> Result<v1::StartResponse, ClientError> {
        let answer = self.rollouts.start(bounded(request)).await;
        Ok(answer.map_err(|status| self.failed(&status))?.into_inner())
    }

    /// The rollout of a service.
    pub async fn get(&mut self, service: &ServiceName) -> Result<v1::Rollout, ClientError> {
        let request = bounded(v1::GetRequest { service: service.to_string() });
        let answer = self.rollouts.get(request).await.map_err(|status| self.failed(&status))?;
        Ok(answer.into_inner().rollout.ok_or(Malformed("rollout"))?)
    }

    /// All rollouts.
    pub async fn list(&mut self) -> Result<v1::ListResponse, ClientError> {
        let answer = self.rollouts.list(bounded(v1::ListRequest {})).await;
        Ok(answer.map_err(|status| self.failed(&status))?.into_inner())
    }

    /// The rollout of a service, now and whenever it changes, until the stream is dropped.
    pub async fn watch(
        &mut self,
        service: &ServiceName,
    ) -> Result<impl Stream<Item = Result<v1::Rollout, ClientError>> + use<>, ClientError> {
        let request = v1::WatchRequest { service: service.to_string() };
        let stream = self.rollouts.watch(request).await;
        let stream = stream.map_err(|status| self.failed(&status))?.into_inner();
        let address = self.address.clone();
        Ok(stream.map(move |answer| {
            let answer = answer.map_err(|status| from_status(&address, &status))?;
            Ok(answer.rollout.ok_or(Malformed("rollout"))?)
        }))
    }

    /// Tells what a person wants of a rollout.
    pub async fn command(&mut self, request: v1::CommandRequest) -> Result<(), ClientError> {
        let answer = self.rollouts.command(bounded(request)).await;
        answer.map(drop).map_err(|status| self.failed(&status))
    }

    /// The revisions of a service, and what happened to it.
    pub async fn history(
        &mut self,
        service: &ServiceName,
    ) -> Result<v1::HistoryResponse, ClientError> {
        let request = bounded(v1::HistoryRequest { service: service.to_string() });
        let answer = self.rollouts.history(request).await;
        Ok(answer.map_err(|status| self.failed(&status))?.into_inner())
    }

    fn failed(&self, status: &Status) -> ClientError {
        from_status(&self.address, status)
    }
}
