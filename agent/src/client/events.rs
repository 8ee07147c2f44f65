//! Events, as a client reads them.

use tokio_stream::{Stream, StreamExt as _};

use super::{Client, ClientError, from_status};
use crate::{
    api::convert::events::{query_to_proto, read},
    node::events::{EventQuery, Events},
};

impl Client {
    /// The events that are wanted, as far as the agent has them; and if asked to `follow`, those
    /// that come, until the stream is dropped. The first item comes at once, also without events.
    pub async fn watch_events(
        &mut self,
        query: &EventQuery,
        follow: bool,
    ) -> Result<impl Stream<Item = Result<Events, ClientError>> + use<>, ClientError> {
        let request = query_to_proto(query, follow);
        let stream = self.weir.watch_events(request).await;
        let stream = stream.map_err(|status| self.failed(&status))?.into_inner();
        let address = self.address.clone();
        Ok(stream
            .map(move |answer| Ok(read(answer.map_err(|status| from_status(&address, &status))?)?)))
    }
}
