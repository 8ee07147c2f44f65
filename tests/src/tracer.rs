//! A live trace of a lab's agent, read beside the test.

use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tokio::runtime;
use tokio::time::timeout;
use tokio_stream::{Stream, StreamExt as _};
use weir::client::{Client, ClientError};
use weir::node::trace::answer::{TraceLive, TracedPacket, TracedPackets};

use crate::agent::socket;
use crate::lab::Lab;
use crate::pace;

/// All packets, without their frames.
pub const EVERYTHING: TraceLive = TraceLive {
    client: None,
    service: None,
    drops: false,
    passed: false,
    sample: 1,
    frame_bytes: 0,
};

/// How long nothing may come until the trace is taken to have told everything.
const QUIET: Duration = Duration::from_millis(1_500);
/// The longest time for a trace to begin.
const BEGIN: Duration = Duration::from_secs(10);

/// A trace that runs.
#[derive(Debug)]
pub struct Tracer {
    /// Dropped to say that no more packets will come.
    last: mpsc::Sender<()>,
    reader: JoinHandle<Result<(u64, Vec<TracedPacket>)>>,
}

impl Tracer {
    /// Begins a trace, whose first packets are read after `asleep`. Ready when it has begun.
    pub fn start(lab: &Lab, asked: TraceLive, asleep: Duration) -> Result<Self> {
        let (socket, (last, over), (ready, begun)) =
            (socket(lab), mpsc::channel(), mpsc::channel());
        let reader = thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let mut client = Client::connect(&socket).await?;
                let mut stream = Box::pin(client.trace_live(&asked).await?);
                let first = stream.next().await.context("no answer")??;
                if first != TracedPackets::default() {
                    bail!("a trace begins with {first:?}");
                }
                ready.send(())?;
                tokio::time::sleep(asleep).await;
                read(stream, &over).await
            })
        });
        match begun.recv_timeout(pace::wait(BEGIN)) {
            Ok(()) => Ok(Self { last, reader }),
            Err(_) => {
                Err(Self { last, reader }.finish().err().context("the trace did not begin")?)
            }
        }
    }

    /// Reads until nothing comes any more. Gives how many packets were lost, and the others.
    pub fn finish(self) -> Result<(u64, Vec<TracedPacket>)> {
        drop(self.last);
        match self.reader.join() {
            Ok(read) => read,
            Err(_) => bail!("the trace's reader panicked"),
        }
    }
}

async fn read(
    mut stream: impl Stream<Item = Result<TracedPackets, ClientError>> + Unpin,
    over: &mpsc::Receiver<()>,
) -> Result<(u64, Vec<TracedPacket>)> {
    let (mut lost, mut packets) = (0, Vec::new());
    let mut heard = Instant::now();
    loop {
        if let Ok(item) = timeout(Duration::from_millis(100), stream.next()).await {
            let traced = item.context("the trace ended")??;
            if traced.lost < lost {
                bail!("{} lost after {lost}", traced.lost);
            }
            lost = traced.lost;
            packets.extend(traced.packets);
            heard = Instant::now();
            continue;
        }
        let ended = over.try_recv() == Err(mpsc::TryRecvError::Disconnected);
        if ended && heard.elapsed() > pace::wait(QUIET) {
            return Ok((lost, packets));
        }
    }
}
