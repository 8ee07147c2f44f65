//! The counter stream.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tonic::Status;
use weir_proto::v1;

use super::{convert::answer, watch::Answers};
use crate::{
    model::ServiceName,
    node::{Handle, messages::Counters},
};

/// Sends `first` at once, then the counters at each interval, until the client leaves or the node
/// fails to answer. A slow client gets fewer answers, not old ones.
pub(super) async fn feed(
    node: Handle,
    services: Vec<ServiceName>,
    first: Counters,
    interval: Duration,
    answers: Answers<v1::WatchCountersResponse>,
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
