//! Streams: one task a watcher, which ends with its client or with the server.

use tokio::sync::{mpsc, watch as stop};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

/// What a stream's task sends into. At most one answer waits in it for a slow client.
pub(super) type Answers<T> = mpsc::Sender<Result<T, Status>>;

/// Starts a task that feeds a stream, and holds `permit` as long, until `feed` is ready, the client leaves or the server stops.
pub(super) fn start<T, F>(
    mut stopping: stop::Receiver<bool>,
    permit: impl Send + 'static,
    feed: impl FnOnce(Answers<T>) -> F,
) -> ReceiverStream<Result<T, Status>>
where
    T: Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let (answers, stream) = mpsc::channel(1);
    let closed = answers.clone();
    let feed = feed(answers);
    tokio::spawn(async move {
        let _permit = permit;
        tokio::select! {
            () = feed => {}
            () = closed.closed() => {}
            // An error means that the server is gone.
            _ = stopping.wait_for(|stopping| *stopping) => {}
        }
    });
    ReceiverStream::new(stream)
}
