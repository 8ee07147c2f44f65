//! What happens at the agent, as messages. An agent that is lost is looked for until it is back.

use std::time::Duration;

use tokio::sync::mpsc::Sender;
use tokio::time::sleep;
use tokio_stream::StreamExt as _;

use super::state::{Look, Message};
use crate::client::{Address, Client, ClientError};
use crate::node::events::EventQuery;

/// Time until an agent that was lost is looked for again.
const AGAIN: Duration = Duration::from_millis(500);

/// The screen is gone: nobody wants to know more.
struct Gone;

/// Sends what happens at the agent, until nobody wants to know.
pub(super) async fn feed(
    mut client: Client,
    address: Address,
    every: Duration,
    to: Sender<Message>,
) {
    let mut query = EventQuery::default();
    loop {
        let why = match session(&mut client, &mut query, every, &to).await {
            Ok(Gone) => return,
            Err(error) => error.to_string(),
        };
        if to.send(Message::Lost(why)).await.is_err() {
            return;
        }
        client = loop {
            sleep(AGAIN).await;
            match Client::connect(address.clone()).await {
                Ok(client) => break client,
                Err(_) if to.is_closed() => return,
                Err(_) => {}
            }
        };
    }
}

/// One connection to the agent, to its end.
async fn session(
    client: &mut Client,
    query: &mut EventQuery,
    every: Duration,
    to: &Sender<Message>,
) -> Result<Gone, ClientError> {
    let mut samples = client.watch_counters(&[], every).await?;
    let mut events = client.watch_events(query, true).await?;
    let stopped = || ClientError::Failed("it stopped".to_owned());
    loop {
        let message = tokio::select! {
            sample = samples.next() => Message::Look(Box::new(Look {
                sample: sample.ok_or_else(stopped)??,
                services: client.list().await?,
                drains: client.drains(&[]).await?,
                node: client.status().await?,
            })),
            found = events.next() => {
                let found = found.ok_or_else(stopped)??;
                (query.since, query.epoch) = (found.last_id, Some(found.epoch));
                Message::Events(found)
            }
        };
        if to.send(message).await.is_err() {
            return Ok(Gone);
        }
    }
}
