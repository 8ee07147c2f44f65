//! The HTTP server. What it answers:
//!
//! - `GET /bytes/N`: the first N bytes of [`pattern`], at most [`MAX_BYTES`]
//! - `POST /bytes`: `whole N`, if the body is the first N bytes of the pattern, else where it differs
//! - anything else: the backend's identity and a line feed

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::Counters;
use crate::identity::Identity;

/// The longest transfer.
pub const MAX_BYTES: usize = 64 << 20;

/// The byte at `place` of every transfer. Its period is a prime, so that a lost or repeated packet
/// does not go unnoticed.
#[must_use]
pub fn pattern(place: usize) -> u8 {
    // Below 251, so nothing is cut.
    u8::try_from(place % 251).unwrap_or_default()
}

pub(super) async fn serve(stream: TcpStream, identity: Identity, counters: Arc<Counters>) {
    let greeting = Bytes::from(format!("{identity}\n"));
    let service = service_fn(|request| {
        counters.http_requests.fetch_add(1, Ordering::Relaxed);
        let greeting = greeting.clone();
        async move { Ok::<_, Infallible>(Response::new(Full::new(answer(request, greeting).await))) }
    });
    // An error is the client's: it sees it itself, and it is the client that is judged.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(request: Request<Incoming>, greeting: Bytes) -> Bytes {
    if request.method() == Method::POST {
        return Bytes::from(judge(request.into_body()).await);
    }
    let asked = request.uri().path().strip_prefix("/bytes/").and_then(|text| text.parse().ok());
    match asked {
        Some(length) => (0..MAX_BYTES.min(length)).map(pattern).collect(),
        None => greeting,
    }
}

/// Says whether a body is the pattern.
async fn judge(mut body: Incoming) -> String {
    let mut seen = 0;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return format!("cut after {seen}\n") };
        for byte in frame.into_data().unwrap_or_default() {
            if byte != pattern(seen) {
                return format!("differs at {seen}\n");
            }
            seen += 1;
        }
    }
    format!("whole {seen}\n")
}
