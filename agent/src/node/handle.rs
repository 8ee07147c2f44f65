//! The queue to the owner task: requests in, each with the place for its answer.

use std::time::Duration;

use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{
    Caller, Error,
    events::{Event, EventQuery, Look},
    messages::{
        Apply, Changed, ClearGuard, Commit, Counters, Delete, DrainStatus, GuardStatus,
        LeaseStatus, NodeStatus, RenewLease, RollBack, ServiceStatus, SetBackend, SetGuard, Settle,
        Settled, Shift, Steer,
    },
    trace::{
        answer::{AskNames, FlowTrace, Names, TraceFlow},
        live::Tracing,
    },
};
use crate::model::ServiceName;

/// How many requests wait at most.
pub const QUEUE: usize = 64;
/// How long a caller waits for room in the queue.
const ROOM_WAIT: Duration = Duration::from_secs(5);
/// How long a caller waits for its answer.
const ANSWER_WAIT: Duration = Duration::from_secs(60);

/// Where the owner task puts the answer. The caller may be gone: a failure to send is no error.
pub type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// A request, as the owner task receives it.
#[derive(Debug)]
pub enum Request {
    /// Create or replace services.
    Apply(Apply, Reply<Changed>),
    /// Remove services.
    Delete(Delete, Reply<Commit>),
    /// One service.
    Get(ServiceName, Reply<ServiceStatus>),
    /// All services, ordered by name.
    List(Reply<Vec<ServiceStatus>>),
    /// The names of all services, in order.
    Services(Reply<Vec<ServiceName>>),
    /// Change weights.
    Shift(Shift, Reply<Changed>),
    /// Set by hand what a backend is.
    SetBackend(SetBackend, Reply<Changed>),
    /// What drains, of the named services, or of all if none is named.
    Drains(Vec<ServiceName>, Reply<Vec<DrainStatus>>),
    /// End a transition now.
    Settle(Settle, Reply<Settled>),
    /// Restore the last settled weights.
    RollBack(RollBack, Reply<Changed>),
    /// Renew a lease.
    RenewLease(RenewLease, Reply<LeaseStatus>),
    /// Set a guard.
    SetGuard(SetGuard, Reply<GuardStatus>),
    /// End a guard.
    ClearGuard(ClearGuard, Reply<()>),
    /// Change steering rules.
    Steer(Steer, Reply<Changed>),
    /// The counters of the named services, or of all if none is named.
    Counters(Vec<ServiceName>, Reply<Counters>),
    /// The agent itself.
    Status(Reply<NodeStatus>),
    /// What happened.
    Events(EventQuery, Reply<Look>),
    /// Why the packets of a flow go where they go.
    TraceFlow(TraceFlow, Reply<FlowTrace>),
    /// What things are called.
    Names(AskNames, Reply<Names>),
    /// Something that has happened, to be kept among the events.
    Tell(Event),
    /// What somebody asks who is known.
    By(Caller, Box<Self>),
}

/// Speaks to the owner task. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    queue: mpsc::Sender<Request>,
    tracing: Option<Tracing>,
    /// Who asks.
    caller: Option<Caller>,
}

/// A handle, and the end that the owner task receives from.
#[must_use]
pub fn channel() -> (Handle, mpsc::Receiver<Request>) {
    let (queue, requests) = mpsc::channel(QUEUE);
    (Handle { queue, tracing: None, caller: None }, requests)
}

impl Handle {
    /// Creates or replaces services.
    pub async fn apply(&self, apply: Apply) -> Result<Changed, Error> {
        self.ask(|reply| Request::Apply(apply, reply)).await
    }

    /// Removes services.
    pub async fn delete(&self, delete: Delete) -> Result<Commit, Error> {
        self.ask(|reply| Request::Delete(delete, reply)).await
    }

    /// One service.
    pub async fn get(&self, service: ServiceName) -> Result<ServiceStatus, Error> {
        self.ask(|reply| Request::Get(service, reply)).await
    }

    /// All services, ordered by name.
    pub async fn list(&self) -> Result<Vec<ServiceStatus>, Error> {
        self.ask(Request::List).await
    }

    /// The names of all services, in order.
    pub async fn services(&self) -> Result<Vec<ServiceName>, Error> {
        self.ask(Request::Services).await
    }

    /// Changes weights.
    pub async fn shift(&self, shift: Shift) -> Result<Changed, Error> {
        self.ask(|reply| Request::Shift(shift, reply)).await
    }

    /// Restores the last settled weights of a service.
    pub async fn roll_back(&self, roll_back: RollBack) -> Result<Changed, Error> {
        self.ask(|reply| Request::RollBack(roll_back, reply)).await
    }

    /// Renews a lease.
    pub async fn renew_lease(&self, renew: RenewLease) -> Result<LeaseStatus, Error> {
        self.ask(|reply| Request::RenewLease(renew, reply)).await
    }

    /// Changes steering rules.
    pub async fn steer(&self, steer: Steer) -> Result<Changed, Error> {
        self.ask(|reply| Request::Steer(steer, reply)).await
    }

    /// Sets a limit that the agent enforces on its own.
    pub async fn set_guard(&self, set: SetGuard) -> Result<GuardStatus, Error> {
        self.ask(|reply| Request::SetGuard(set, reply)).await
    }

    /// Ends the guard of a service.
    pub async fn clear_guard(&self, clear: ClearGuard) -> Result<(), Error> {
        self.ask(|reply| Request::ClearGuard(clear, reply)).await
    }

    /// Sets by hand what a backend is.
    pub async fn set_backend(&self, set: SetBackend) -> Result<Changed, Error> {
        self.ask(|reply| Request::SetBackend(set, reply)).await
    }

    /// What drains, of the named services, or of all if none is named.
    pub async fn drains(&self, services: Vec<ServiceName>) -> Result<Vec<DrainStatus>, Error> {
        self.ask(|reply| Request::Drains(services, reply)).await
    }

    /// Ends a transition now.
    pub async fn settle(&self, settle: Settle) -> Result<Settled, Error> {
        self.ask(|reply| Request::Settle(settle, reply)).await
    }

    /// The counters of the named services, or of all if none is named.
    pub async fn counters(&self, services: Vec<ServiceName>) -> Result<Counters, Error> {
        self.ask(|reply| Request::Counters(services, reply)).await
    }

    /// The agent itself.
    pub async fn status(&self) -> Result<NodeStatus, Error> {
        self.ask(Request::Status).await
    }

    /// What happened, and how to hear of what happens next.
    pub async fn events(&self, query: EventQuery) -> Result<Look, Error> {
        self.ask(|reply| Request::Events(query, reply)).await
    }

    /// Why the packets of a flow go where they go.
    pub async fn trace_flow(&self, asked: TraceFlow) -> Result<FlowTrace, Error> {
        self.ask(|reply| Request::TraceFlow(asked, reply)).await
    }

    /// What things are called.
    pub async fn names(&self, asked: AskNames) -> Result<Names, Error> {
        self.ask(|reply| Request::Names(asked, reply)).await
    }

    /// Has something kept among the events, unless the node has stopped.
    pub async fn tell(&self, event: Event) {
        let _ = self.queue.send(Request::Tell(event)).await;
    }

    /// The same handle, for what this caller asks.
    #[must_use]
    pub fn by(self, caller: Option<Caller>) -> Self {
        Self { caller, ..self }
    }

    /// The same handle, through which packets can be traced as they come.
    #[must_use]
    pub fn with_tracing(self, tracing: Tracing) -> Self {
        Self { tracing: Some(tracing), ..self }
    }

    /// Traces packets as they come; nothing, if the data plane cannot.
    #[must_use]
    pub fn tracing(&self) -> Option<&Tracing> {
        self.tracing.as_ref()
    }

    async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        let room = timeout(ROOM_WAIT, self.queue.reserve()).await.map_err(|_| Error::Busy)?;
        let request = request(reply);
        let request = match self.caller.clone() {
            Some(caller) => Request::By(caller, Box::new(request)),
            None => request,
        };
        room.map_err(|_| Error::Stopping)?.send(request);
        // A dropped reply means that the owner task ended before it answered.
        timeout(ANSWER_WAIT, answer)
            .await
            .map_err(|_| Error::TimedOut)?
            .map_err(|_| Error::Stopping)?
    }
}
