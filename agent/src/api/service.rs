//! The methods of `weir.v1.Weir`: convert, ask the node, convert back.

use std::{sync::Arc, time::Duration};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch as stop};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use weir_proto::v1::{self, weir_server};

use super::{
    caller::Peer,
    convert::{answer, drain, events as wire, guard, interval as between, lease, request, trace},
    counters,
    error::too_many_watchers,
    events, trace as live, watch,
};
use crate::{
    model::Violation,
    node::{Error, Handle, interval::Interval},
};

/// The most streams of a kind at once.
pub(super) const MAX_WATCHERS: usize = 64;
/// The shortest, longest and default interval of a counter stream.
const INTERVAL_MS: (u32, u32, u32) = (100, 3_600_000, 1_000);

/// The service behind the socket and the port.
pub(super) struct Weir {
    node: Handle,
    /// Room for counter streams, and for event streams.
    watchers: [Arc<Semaphore>; 2],
    /// Turns true when the server stops; ends the streams.
    stopping: stop::Receiver<bool>,
}

impl Weir {
    pub(super) fn new(node: Handle, stopping: stop::Receiver<bool>) -> Self {
        let watchers = [(); 2].map(|()| Arc::new(Semaphore::new(MAX_WATCHERS)));
        Self { node, watchers, stopping }
    }

    /// The node, as whoever has sent this request asks it.
    fn by<T>(&self, request: &Request<T>) -> Handle {
        let peer = request.extensions().get::<Peer>();
        self.node.clone().by(peer.and_then(Peer::caller))
    }

    /// Room for one more stream.
    fn room(&self, kind: Stream) -> Result<OwnedSemaphorePermit, Status> {
        let (watchers, name) = match kind {
            Stream::Counters => (&self.watchers[0], "counter"),
            Stream::Events => (&self.watchers[1], "event"),
        };
        let permit = Arc::clone(watchers).try_acquire_owned();
        permit.map_err(|_| too_many_watchers(name, MAX_WATCHERS))
    }
}

/// What is streamed.
#[derive(Debug, Clone, Copy)]
enum Stream {
    Counters,
    Events,
}

#[tonic::async_trait]
impl weir_server::Weir for Weir {
    type WatchCountersStream = ReceiverStream<Result<v1::WatchCountersResponse, Status>>;
    type TraceLiveStream = ReceiverStream<Result<v1::TraceLiveResponse, Status>>;
    type WatchEventsStream = ReceiverStream<Result<v1::WatchEventsResponse, Status>>;

    async fn apply(
        &self,
        request: Request<v1::ApplyRequest>,
    ) -> Result<Response<v1::ApplyResponse>, Status> {
        let changed = self.by(&request).apply(request::apply(request.into_inner())?).await?;
        Ok(Response::new(v1::ApplyResponse {
            commit: Some(answer::commit(changed.commit)),
            changes: changed.changes.into_iter().map(answer::change).collect(),
        }))
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteRequest>,
    ) -> Result<Response<v1::DeleteResponse>, Status> {
        let commit = self.by(&request).delete(request::delete(request.get_ref())?).await?;
        Ok(Response::new(v1::DeleteResponse { commit: Some(answer::commit(commit)) }))
    }

    async fn get(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<v1::GetResponse>, Status> {
        let status = self.node.get(request::name(request.get_ref())?).await?;
        Ok(Response::new(v1::GetResponse { service: Some(answer::service_status(status)) }))
    }

    async fn list(
        &self,
        _: Request<v1::ListRequest>,
    ) -> Result<Response<v1::ListResponse>, Status> {
        let services = self.node.list().await?.into_iter().map(answer::service_status).collect();
        Ok(Response::new(v1::ListResponse { services }))
    }

    async fn shift_weights(
        &self,
        request: Request<v1::ShiftWeightsRequest>,
    ) -> Result<Response<v1::ShiftWeightsResponse>, Status> {
        let changed = self.by(&request).shift(request::shift(request.get_ref())?).await?;
        Ok(Response::new(v1::ShiftWeightsResponse {
            commit: Some(answer::commit(changed.commit)),
            changes: changed.changes.into_iter().map(answer::change).collect(),
        }))
    }

    async fn roll_back(
        &self,
        request: Request<v1::RollBackRequest>,
    ) -> Result<Response<v1::RollBackResponse>, Status> {
        let changed = self.by(&request).roll_back(lease::roll_back(request.get_ref())?).await?;
        Ok(Response::new(v1::RollBackResponse {
            commit: Some(answer::commit(changed.commit)),
            change: changed.changes.into_iter().next().map(answer::change),
        }))
    }

    async fn renew_lease(
        &self,
        request: Request<v1::RenewLeaseRequest>,
    ) -> Result<Response<v1::RenewLeaseResponse>, Status> {
        let renewed = self.by(&request).renew_lease(lease::renew(request.get_ref())?).await?;
        Ok(Response::new(v1::RenewLeaseResponse { lease: Some(lease::lease(renewed)) }))
    }

    async fn set_backend_state(
        &self,
        request: Request<v1::SetBackendStateRequest>,
    ) -> Result<Response<v1::SetBackendStateResponse>, Status> {
        let changed = self.by(&request).set_backend(drain::set_backend(request.get_ref())?).await?;
        Ok(Response::new(v1::SetBackendStateResponse {
            commit: Some(answer::commit(changed.commit)),
            change: changed.changes.into_iter().next().map(answer::change),
        }))
    }

    async fn list_drains(
        &self,
        request: Request<v1::ListDrainsRequest>,
    ) -> Result<Response<v1::ListDrainsResponse>, Status> {
        let drains = self.node.drains(request::names(&request.get_ref().services)?).await?;
        let drains = drains.into_iter().map(drain::status_to_proto).collect();
        Ok(Response::new(v1::ListDrainsResponse { drains }))
    }

    async fn settle(
        &self,
        request: Request<v1::SettleRequest>,
    ) -> Result<Response<v1::SettleResponse>, Status> {
        let settled = self.by(&request).settle(drain::settle(request.get_ref())?).await?;
        Ok(Response::new(drain::settled_to_proto(settled)))
    }

    async fn steer(
        &self,
        request: Request<v1::SteerRequest>,
    ) -> Result<Response<v1::SteerResponse>, Status> {
        let changed = self.by(&request).steer(request::steer(request.get_ref())?).await?;
        Ok(Response::new(v1::SteerResponse {
            commit: Some(answer::commit(changed.commit)),
            change: changed.changes.into_iter().next().map(answer::change),
        }))
    }

    async fn set_guard(
        &self,
        request: Request<v1::SetGuardRequest>,
    ) -> Result<Response<v1::SetGuardResponse>, Status> {
        let set = self.by(&request).set_guard(guard::set(request.get_ref())?).await?;
        Ok(Response::new(v1::SetGuardResponse { guard: Some(guard::status(&set)) }))
    }

    async fn clear_guard(
        &self,
        request: Request<v1::ClearGuardRequest>,
    ) -> Result<Response<v1::ClearGuardResponse>, Status> {
        self.by(&request).clear_guard(guard::clear(request.get_ref())?).await?;
        Ok(Response::new(v1::ClearGuardResponse {}))
    }

    async fn read_counters(
        &self,
        request: Request<v1::ReadCountersRequest>,
    ) -> Result<Response<v1::ReadCountersResponse>, Status> {
        let request = request.into_inner();
        let services = request::names(&request.services)?;
        let mark = between::mark(request.since)?;
        let counters = self.node.counters(services).await?;
        let interval = mark.map(|mark| between::interval(&Interval::between(&mark, &counters)));
        let counters = Some(answer::counters(counters));
        Ok(Response::new(v1::ReadCountersResponse { counters, interval }))
    }

    async fn watch_counters(
        &self,
        request: Request<v1::WatchCountersRequest>,
    ) -> Result<Response<Self::WatchCountersStream>, Status> {
        let request = request.into_inner();
        let interval = interval(request.interval_ms)?;
        let services = request::names(&request.services)?;
        let permit = self.room(Stream::Counters)?;
        // The first answer is read here, so that a wrong name fails the call and not the stream.
        let first = self.node.counters(services.clone()).await?;
        let node = self.node.clone();
        let feed = |answers| counters::feed(node, services, first, interval, answers);
        Ok(Response::new(watch::start(self.stopping.clone(), permit, feed)))
    }

    async fn watch_events(
        &self,
        request: Request<v1::WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        let request = request.into_inner();
        let query = wire::query(&request)?;
        let permit = self.room(Stream::Events)?;
        let first = self.node.events(query.clone()).await?;
        let node = self.node.clone();
        let feed = move |answers| events::feed(node, query, first, request.follow, answers);
        Ok(Response::new(watch::start(self.stopping.clone(), permit, feed)))
    }

    async fn trace_flow(
        &self,
        request: Request<v1::TraceFlowRequest>,
    ) -> Result<Response<v1::TraceFlowResponse>, Status> {
        let traced = self.node.trace_flow(trace::flow(request.get_ref())?).await?;
        Ok(Response::new(trace::answer(traced)))
    }

    async fn trace_live(
        &self,
        request: Request<v1::TraceLiveRequest>,
    ) -> Result<Response<Self::TraceLiveStream>, Status> {
        let traced = live::begin(&self.node, trace::live(request.get_ref())?).await?;
        let node = self.node.clone();
        let feed = |answers| live::feed(node, traced, answers);
        Ok(Response::new(watch::start(self.stopping.clone(), (), feed)))
    }

    async fn node_status(
        &self,
        _: Request<v1::NodeStatusRequest>,
    ) -> Result<Response<v1::NodeStatusResponse>, Status> {
        Ok(Response::new(answer::node_status(self.node.status().await?)))
    }
}

fn interval(asked_ms: u32) -> Result<Duration, Error> {
    let (shortest, longest, default) = INTERVAL_MS;
    let interval_ms = if asked_ms == 0 { default } else { asked_ms };
    if !(shortest..=longest).contains(&interval_ms) {
        let message = format!("{interval_ms} is not within {shortest} and {longest}");
        return Err(Error::Invalid(vec![Violation { field: "interval_ms".into(), message }]));
    }
    Ok(Duration::from_millis(interval_ms.into()))
}
