//! The event stream.

use tonic::Status;
use weir_proto::v1;

use super::{convert::events::answer, watch::Answers};
use crate::node::{
    Handle,
    events::{EventQuery, Look},
};

/// Sends `first`, and if asked to `follow`, each later event as it happens, until the client leaves
/// or the node fails to answer.
///
/// Nothing is kept here for a slow client: when it is ready for the next answer, the log is asked
/// for all that has happened meanwhile, and says what it has no longer.
pub(super) async fn feed(
    node: Handle,
    mut query: EventQuery,
    first: Look,
    follow: bool,
    answers: Answers<v1::WatchEventsResponse>,
) {
    let Look { events, mut news, .. } = first;
    (query.since, query.epoch) = (events.last_id, Some(events.epoch));
    if answers.send(Ok(answer(events))).await.is_err() || !follow {
        return;
    }
    // An error means that the node is gone.
    while news.wait_for(|newest| *newest > query.since).await.is_ok() {
        let Ok(room) = answers.reserve().await else { return };
        match node.events(query.clone()).await {
            Ok(Look { events, .. }) => {
                query.since = events.last_id;
                if !events.events.is_empty() || events.lost > 0 {
                    room.send(Ok(answer(events)));
                }
            }
            Err(error) => return room.send(Err(Status::from(error))),
        }
    }
}
