//! The HTTP server: answers every request with the backend's identity and a line feed.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use http_body_util::Full;
use hyper::Response;
use hyper::body::Bytes;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::Counters;
use crate::identity::Identity;

pub(super) async fn serve(stream: TcpStream, identity: Identity, counters: Arc<Counters>) {
    let body = Bytes::from(format!("{identity}\n"));
    let answer = service_fn(|_request| {
        counters.http_requests.fetch_add(1, Ordering::Relaxed);
        let response = Response::new(Full::new(body.clone()));
        async move { Ok::<_, Infallible>(response) }
    });
    // An error is the client's: it sees it itself, and it is the client that is judged.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
}
