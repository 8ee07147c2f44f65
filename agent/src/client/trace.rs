//! Traces, as a client asks for them.

use tokio_stream::{Stream, StreamExt as _};

use super::{Client, ClientError, bounded, from_status};
use crate::{
    api::convert::trace::{flow_to_proto, live_to_proto, read, read_packets},
    node::trace::answer::{FlowTrace, TraceFlow, TraceLive, TracedPackets},
};

impl Client {
    /// Why the packets of a flow go where they go.
    pub async fn trace_flow(&mut self, asked: &TraceFlow) -> Result<FlowTrace, ClientError> {
        let answer = self.weir.trace_flow(bounded(flow_to_proto(asked))).await;
        Ok(read(answer.map_err(|status| self.failed(&status))?.into_inner())?)
    }

    /// What becomes of packets as they come, until the stream is dropped. The first item is empty:
    /// it says that the trace has begun.
    pub async fn trace_live(
        &mut self,
        asked: &TraceLive,
    ) -> Result<impl Stream<Item = Result<TracedPackets, ClientError>> + use<>, ClientError> {
        let stream = self.weir.trace_live(live_to_proto(asked)).await;
        let stream = stream.map_err(|status| self.failed(&status))?.into_inner();
        let address = self.address.clone();
        Ok(stream.map(move |answer| {
            Ok(read_packets(answer.map_err(|status| from_status(&address, &status))?)?)
        }))
    }
}
