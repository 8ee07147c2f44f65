//! The clients' connections: no more at once than the agent has room for.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

use super::caller::Peer;

/// The most connections at once, at the socket and at the port each. Further clients wait in the
/// backlog until one leaves.
pub(crate) const MAX_CONNECTIONS: usize = 1_024;

/// What clients speak through.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection, which makes room when it is dropped.
pub(crate) struct Connection {
    stream: Box<dyn Stream>,
    peer: Peer,
    _room: OwnedSemaphorePermit,
}

impl Connection {
    pub(crate) fn new(
        stream: impl Stream + 'static,
        peer: Peer,
        room: OwnedSemaphorePermit,
    ) -> Self {
        Self { stream: Box::new(stream), peer, _room: room }
    }
}

/// Where connections are handed over to the server.
pub(crate) type Connections = mpsc::Sender<io::Result<Connection>>;

/// The connections of the server, and where they come from.
pub(crate) fn channel() -> (Connections, ReceiverStream<io::Result<Connection>>) {
    let (connections, accepted) = mpsc::channel(1);
    (connections, ReceiverStream::new(accepted))
}

/// Accepts connections at the Unix socket until nobody takes them any more.
pub(crate) async fn accept(listener: UnixListener, connections: Connections) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    // The semaphore is never closed.
    while let Ok(room) = Arc::clone(&room).acquire_owned().await {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = connections.closed() => return,
        };
        let connection = accepted.map(|(stream, _)| {
            let peer = Peer::Local(stream.connect_info());
            Connection::new(stream, peer, room)
        });
        if connections.send(connection).await.is_err() {
            return;
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
