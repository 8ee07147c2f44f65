//! Traces, as a client asks for them.

use super::{Client, ClientError, bounded};
use crate::{
    api::convert::trace::{flow_to_proto, read},
    node::trace::answer::{FlowTrace, TraceFlow},
};

impl Client {
    /// Why the packets of a flow go where they go.
    pub async fn trace_flow(&mut self, asked: &TraceFlow) -> Result<FlowTrace, ClientError> {
        let answer = self.weir.trace_flow(bounded(flow_to_proto(asked))).await;
        Ok(read(answer.map_err(|status| self.failed(&status))?.into_inner())?)
    }
}
