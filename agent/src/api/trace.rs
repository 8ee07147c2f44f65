//! The stream of a live trace.

use std::time::Duration;

use tokio::time::timeout;
use tonic::Status;
use weir_ebpf::abi::TRACERS;
use weir_proto::v1;

use super::{convert::trace::packets, error::too_many_watchers, watch::Answers};
use crate::dataplane::tap::Filter;
use crate::node::{
    Error, Handle,
    trace::{
        answer::{AskNames, TraceLive, TracedPackets},
        live::Trace,
        told,
    },
};
use crate::plan::steering::Prefix;

/// What is lost is told this often where nothing else is.
const QUIET: Duration = Duration::from_secs(1);

/// Begins a trace.
pub(super) async fn begin(node: &Handle, asked: TraceLive) -> Result<Trace, Status> {
    let names = AskNames { index_of: asked.service.clone(), ..AskNames::default() };
    let filter = Filter {
        client: asked.client.map(Prefix::from),
        service: node.names(names).await?.index,
        sent: !asked.drops,
        dropped: true,
        passed: asked.passed,
        sample: asked.sample,
        frame: asked.frame_bytes,
    };
    let tracing = node.tracing();
    let tracing = tracing.ok_or_else(|| Error::DataPlane("it cannot be traced".to_owned()))?;
    tracing.trace(&filter).map_err(|_| too_many_watchers("trace", TRACERS))
}

/// Sends what is told, until the client leaves or the node fails to answer. A slow client loses what
/// it has no room for, and is told how much.
pub(super) async fn feed(node: Handle, mut trace: Trace, answers: Answers<v1::TraceLiveResponse>) {
    // That the trace has begun.
    let mut answer = Ok(TracedPackets::default());
    loop {
        let failed = answer.is_err();
        let said = answer.as_ref().map_or(0, |answer| answer.lost);
        let item = answer.map(packets).map_err(Status::from);
        if answers.send(item).await.is_err() || failed {
            return;
        }
        answer = loop {
            match timeout(QUIET, trace.next()).await {
                Ok(told) => {
                    let names = node.names(told::needed(&told)).await;
                    let lost = trace.lost();
                    break names
                        .map(|names| TracedPackets { lost, packets: told::packets(told, &names) });
                }
                Err(_) if trace.lost() > said => {
                    break Ok(TracedPackets { lost: trace.lost(), packets: Vec::new() });
                }
                Err(_) => {}
            }
        };
    }
}
