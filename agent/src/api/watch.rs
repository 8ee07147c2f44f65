//! The counter stream: one task a watcher, which ends with its client or with the server.

use std::time::Duration;

use tokio::{
    sync::{OwnedSemaphorePermit, mpsc, watch as stop},
    time::{Instant, MissedTickBehavior, interval_at},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use weir_proto::v1;

use super::convert::answer;
use crate::{
    model::ServiceName,
    node::{Handle, messages::Counters},
};

type Item = Result<v1::WatchCountersResponse, Status>;

/// Sends `first` at once, then the counters at each interval. A slow client gets fewer answers, not old ones:
/// at most one waits for it.
pub(super) fn start(
    node: Handle,
    services: Vec<ServiceName>,
    first: Counters,
    interval: Duration,
    mut stopping: stop::Receiver<bool>,
    permit: OwnedSemaphorePermit,
) -> ReceiverStream<Item> {
    let (answers, stream) = mpsc::channel(1);
    tokio::spawn(async move {
        let _permit = permit;
        let closed = answers.clone();
        tokio::select! {
            () = feed(&node, services, first, interval, answers) => {}
            () = closed.closed() => {}
            // An error means that the server is gone.
            _ = stopping.wait_for(|stopping| *stopping) => {}
        }
    });
    ReceiverStream::new(stream)
}

/// Sends until the client leaves or the node fails to answer.
async fn feed(
    node: &Handle,
    services: Vec<ServiceName>,
    first: Counters,
    interval: Duration,
    answers: mpsc::Sender<Item>,
) {
    let item = |counters| v1::WatchCountersResponse { counters: Some(answer::counters(counters)) };
    if answers.send(Ok(item(first))).await.is_err() {
        return;
    }
    let mut ticks = interval_at(Instant::now() + interval, interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let answer = node.counters(services.clone()).await.map(item).map_err(Status::from);
        let failed = answer.is_err();
        if answers.send(answer).await.is_err() || failed {
            return;
        }
    }
}
