//! Events, both ways.

use weir_proto::v1;

use super::Malformed;
use crate::{
    model::{ServiceName, Violation},
    node::{
        Error,
        events::{Event, EventQuery, Events, Recorded},
        messages::RequestId,
    },
};

/// From the wire: which events are wanted.
pub fn query(request: &v1::WatchEventsRequest) -> Result<EventQuery, Error> {
    let service = optional(&request.service, ServiceName::new).map_err(|message| {
        Error::Invalid(vec![Violation { field: "service".to_owned(), message }])
    })?;
    Ok(EventQuery { since: request.since_id, epoch: request.epoch, service })
}

/// For the wire: which events are wanted, and whether to go on with those that come.
#[must_use]
pub fn query_to_proto(query: &EventQuery, follow: bool) -> v1::WatchEventsRequest {
    v1::WatchEventsRequest {
        since_id: query.since,
        service: query.service.as_ref().map(ToString::to_string).unwrap_or_default(),
        follow,
        epoch: query.epoch,
    }
}

/// For the wire: events.
#[must_use]
pub fn answer(events: Events) -> v1::WatchEventsResponse {
    let event = |Recorded { id, time, event }| v1::Event {
        id,
        time: Some(time.into()),
        service: event.service.map(|service| service.to_string()).unwrap_or_default(),
        kind: event.kind.name().to_owned(),
        text: event.text,
        request_id: event.request_id.map(|id| id.as_str().to_owned()).unwrap_or_default(),
        who: event.who.unwrap_or_default(),
    };
    v1::WatchEventsResponse {
        epoch: events.epoch,
        lost: events.lost,
        last_id: events.last_id,
        events: events.events.into_iter().map(event).collect(),
    }
}

/// As the client reads them from the wire.
pub fn read(answer: v1::WatchEventsResponse) -> Result<Events, Malformed> {
    let event = |event: v1::Event| {
        let time = event.time.and_then(|time| time.try_into().ok());
        Ok(Recorded {
            id: event.id,
            time: time.ok_or(Malformed("time"))?,
            event: Event {
                service: optional(&event.service, ServiceName::new)
                    .map_err(|_| Malformed("service"))?,
                kind: event.kind.parse().map_err(|_| Malformed("kind"))?,
                text: event.text,
                request_id: optional(&event.request_id, RequestId::new)
                    .map_err(|_| Malformed("request_id"))?,
                who: Some(event.who).filter(|who| !who.is_empty()),
                change: None,
            },
        })
    };
    Ok(Events {
        epoch: answer.epoch,
        lost: answer.lost,
        last_id: answer.last_id,
        events: answer.events.into_iter().map(event).collect::<Result<_, Malformed>>()?,
    })
}

/// What a text says, unless it is empty.
fn optional<T>(
    text: &str,
    read: impl FnOnce(&str) -> Result<T, String>,
) -> Result<Option<T>, String> {
    if text.is_empty() { Ok(None) } else { read(text).map(Some) }
}
