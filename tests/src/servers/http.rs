//! The HTTP server. What it answers:
//!
//! - `GET /bytes/N`: the first N bytes of [`pattern`], at most [`MAX_BYTES`]
//! - `POST /bytes`: `whole N`, if the body is the first N bytes of the pattern, else where it differs
//! - anything else: the backend's identity and a line feed

use std::convert::Infallible;
use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock};

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

/// A prime, so that a lost or repeated packet does not go unnoticed.
const PERIOD: usize = 251;

/// The most bytes that [`pattern`] gives at once.
pub const MAX_PIECE: usize = 64 << 10;

/// The bytes of every transfer from `place` on, `length` of them or, if that is less,
/// [`MAX_PIECE`].
#[must_use]
pub fn pattern(place: usize, length: usize) -> &'static [u8] {
    static PIECE: LazyLock<Vec<u8>> =
        LazyLock::new(|| (0..=250_u8).cycle().take(PERIOD + MAX_PIECE).collect());
    &PIECE[place % PERIOD..][..length.min(MAX_PIECE)]
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
        Some(length) => {
            let mut body = Vec::with_capacity(MAX_BYTES.min(length));
            while body.len() < MAX_BYTES.min(length) {
                body.extend(pattern(body.len(), MAX_BYTES.min(length) - body.len()));
            }
            body.into()
        }
        None => greeting,
    }
}

/// Says whether a body is the pattern.
async fn judge(mut body: Incoming) -> String {
    let mut seen = 0;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return format!("cut after {seen}\n") };
        for piece in frame.into_data().unwrap_or_default().chunks(MAX_PIECE) {
            if piece != pattern(seen, piece.len()) {
                return format!("differs after {seen}\n");
            }
            seen += piece.len();
        }
    }
    format!("whole {seen}\n")
}
