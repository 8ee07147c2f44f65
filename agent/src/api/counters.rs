//! The counter stream.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tonic::Status;
use weir_proto::v1;

use super::{
    convert::{answer, interval as wire},
    watch::Answers,
};
use crate::{
    model::ServiceName,
    node::{Handle, interval::Interval, messages::Counters},
};

/// Sends `first` at once, then the counters at each interval with what was
/// counted since the answer before, until the client leaves or the node
/// fails to answer. A slow client gets fewer answers, not old ones.
pub(super) async fn feed(
    node: Handle,
    services: Vec<ServiceName>,
    first: Counters,
    interval: Duration,
    answers: Answers<v1::WatchCountersResponse>,
) {
    let item = |counters: &Counters, interval: Option<Interval>| v1::WatchCountersResponse {
        counters: Some(answer::counters(counters.clone())),
        interval: interval.as_ref().map(wire::interval),
    };
    if answers.send(Ok(item(&first, None))).await.is_err() {
        return;
    }
    let mut last = first;
    let mut ticks = interval_at(Instant::now() + interval, interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let now = match node.counters(services.clone()).await {
            Ok(now) => now,
            Err(error) => {
                // The client may be gone too.
                let _ = answers.send(Err(Status::from(error))).await;
                return;
            }
        };
        let interval = Interval::between(&last, &now);
        if answers.send(Ok(item(&now, Some(interval)))).await.is_err() {
            return;
        }
        last = now;
    }
}
