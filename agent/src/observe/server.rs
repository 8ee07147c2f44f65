//! Connections: few at once, none for long without a reason.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::listen::Bound;
use super::patient::Patient;
use super::route::{Answer, Site};
use crate::node::Handle;

/// Connections at once; more wait in the kernel's queue.
const CONNECTIONS: usize = 128;
/// The longest time from the first byte of a request, or from the end of the one before, until its
/// head is whole.
const HEAD_TIME: Duration = Duration::from_secs(5);
/// The longest time that a client may take nothing of an answer.
const WRITE_TIME: Duration = Duration::from_secs(10);
/// Bytes of a request's head, and of an answer that wait to be written, about.
const BUFFER: usize = 16 << 10;
/// Bytes that the kernel keeps for a client, of which it makes the double.
const SEND_BUFFER: usize = 128 << 10;
/// Fields of a request's head.
const FIELDS: usize = 64;
/// The pause after a connection could not be accepted, for want of file descriptors as a rule.
const PAUSE: Duration = Duration::from_millis(100);

/// HTTP being served. Dropping it ends every connection.
#[derive(Debug)]
pub struct Serving {
    _task: JoinSet<()>,
}

/// Something that answers requests.
pub(crate) trait Answers: Send + Sync + 'static {
    /// Answers a request. What a client does not wait for is not done to the end.
    fn answer(&self, request: &Request<Incoming>) -> impl Future<Output = Answer> + Send;
}

/// Serves what the node says. To be called within a tokio runtime.
#[must_use]
pub fn serve(bound: Bound, node: Handle) -> Serving {
    serve_with(bound, |address| Site::new(node, address))
}

/// Serves what a site says, which is made of its address. To be called within a tokio runtime.
pub(crate) fn serve_with<S: Answers>(
    bound: Bound,
    site: impl FnOnce(SocketAddr) -> S + Send + 'static,
) -> Serving {
    let mut task = JoinSet::new();
    task.spawn(async move {
        match TcpListener::from_std(bound.listener) {
            Ok(listener) => accept(listener, Arc::new(site(bound.address))).await,
            Err(error) => tracing::warn!(%error, "HTTP cannot be served"),
        }
    });
    Serving { _task: task }
}

async fn accept<S: Answers>(listener: TcpListener, site: Arc<S>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    // The semaphore is never closed.
    while let Ok(permit) = Arc::clone(&room).acquire_owned().await {
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = listener.accept().await else {
            sleep(PAUSE).await;
            continue;
        };
        let site = Arc::clone(&site);
        connections.spawn(async move {
            connection(stream, &site).await;
            drop(permit);
        });
    }
}

async fn connection<S: Answers>(stream: TcpStream, site: &Arc<S>) {
    // A look a second is not to wait for an acknowledgement. Failures only make it slower.
    let _ = stream.set_nodelay(true);
    let _ = SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER);
    let service = service_fn(move |request| {
        let site = Arc::clone(site);
        async move { Ok::<_, Infallible>(site.answer(&request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(BUFFER)
        .max_headers(FIELDS)
        .serve_connection(TokioIo::new(Patient::new(stream, WRITE_TIME)), service);
    // An error is the client's, which sees it itself.
    if let Err(error) = connection.await {
        tracing::debug!(%error, "an HTTP connection failed");
    }
}
