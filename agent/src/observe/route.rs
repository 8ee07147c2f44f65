//! From a path to an answer.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use tokio::time::timeout;

use super::collect::{CollectError, Collector, Snapshot};
use super::exposition::Format;
use super::feed::{CLIENTS, Feed};
use super::server::Answers;
use super::{metrics, page, ready};
use crate::node::Handle;

/// How soon the owner task answers when all is well.
const ALIVE: Duration = Duration::from_secs(2);
/// What there is, for whoever asks for something else.
const LIST: &str = "\
/         a page for people
/events   what it shows, as server-sent events
/services/NAME  a service and its backends, as JSON
/metrics  counters and states for Prometheus (OpenMetrics, or the text format 0.0.4)
/healthz  200 if the agent is alive
/readyz   200 if traffic may come, else 503 and what is missing
";

/// The body of an answer: whole, or a stream without end.
pub(crate) type Body = UnsyncBoxBody<Bytes, std::convert::Infallible>;
pub(crate) type Answer = Response<Body>;

/// All that is served.
#[derive(Debug)]
pub(super) struct Site {
    collector: Arc<Collector>,
    feed: Feed,
    /// Only this host reaches it.
    near: bool,
}

impl Site {
    /// To be called within a tokio runtime.
    pub(super) fn new(node: Handle, address: SocketAddr) -> Self {
        let collector = Arc::new(Collector::new(node));
        let feed = Feed::start(Arc::clone(&collector));
        Self { collector, feed, near: address.ip().is_loopback() }
    }
}

impl Answers for Site {
    async fn answer(&self, request: &Request<Incoming>) -> Answer {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut answer =
                text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD: all of it is read-only\n");
            answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return answer;
        }
        if self.near && !names_this_host(request) {
            return text(
                StatusCode::FORBIDDEN,
                "ask by an address or by `localhost`: other names are refused on a loopback \
                 address, for a page of another site could use one to read this\n",
            );
        }
        let path = request.uri().path();
        if let Some(name) = path.strip_prefix("/services/") {
            return self.service(name).await;
        }
        match path {
            "/" => page(),
            "/events" => self.events(),
            "/metrics" => self.metrics(request).await,
            "/healthz" => self.alive().await,
            "/readyz" => self.ready().await,
            path => {
                text(StatusCode::NOT_FOUND, format!("there is no {path:.100}; there are\n{LIST}"))
            }
        }
    }
}

impl Site {
    async fn alive(&self) -> Answer {
        match timeout(ALIVE, self.collector.node().status()).await {
            Ok(Ok(_)) => text(StatusCode::OK, "ok\n"),
            Ok(Err(error)) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")),
            Err(_) => text(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("the owner task has not answered within {ALIVE:?}\n"),
            ),
        }
    }

    async fn ready(&self) -> Answer {
        let status = match timeout(ALIVE, self.collector.node().status()).await {
            Ok(Ok(status)) => status,
            Ok(Err(error)) => return text(StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")),
            Err(_) => return self.alive().await,
        };
        match ready::missing(&status) {
            missing if missing.is_empty() => text(StatusCode::OK, "ready\n"),
            missing => text(StatusCode::SERVICE_UNAVAILABLE, missing.join("\n") + "\n"),
        }
    }

    fn events(&self) -> Answer {
        match self.feed.subscribe() {
            Some(events) => answer(StatusCode::OK, "text/event-stream", events),
            None => text(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("{CLIENTS} clients watch already; close another page\n"),
            ),
        }
    }

    async fn service(&self, name: &str) -> Answer {
        match self.collector.look().await {
            Ok(look) => match self.feed.service(&look, name) {
                Some(json) => whole(StatusCode::OK, "application/json", json),
                None => not_found(name),
            },
            Err(error) => unavailable(&error),
        }
    }

    async fn metrics(&self, request: &Request<Incoming>) -> Answer {
        let accept = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
        let format = Format::negotiate(accept.unwrap_or_default());
        let look = match self.collector.look().await {
            Ok(look) => look,
            Err(error) => return unavailable(&error),
        };
        let Some(body) = rendered(look, format).await else {
            return text(StatusCode::INTERNAL_SERVER_ERROR, "the text could not be made\n");
        };
        let mut answer = whole(StatusCode::OK, format.media_type(), body);
        answer.headers_mut().insert(header::VARY, HeaderValue::from_static("accept"));
        answer
    }
}

/// The text of a look, made once for all who ask, beside the threads that serve.
async fn rendered(look: Arc<Snapshot>, format: Format) -> Option<Bytes> {
    let made = tokio::task::spawn_blocking(move || {
        let text = &look.texts[usize::from(format == Format::OpenMetrics)];
        text.get_or_init(|| metrics::render(&look, format).into()).clone()
    });
    made.await.ok()
}

/// Whether `Host` is an address or `localhost`. A browser can be led to send a request for any other
/// name here, and to show the answer to the page that did so.
pub(crate) fn names_this_host(request: &Request<Incoming>) -> bool {
    let Some(host) = request.headers().get(header::HOST) else { return true };
    let Ok(host) = host.to_str() else { return false };
    if host.parse::<SocketAddr>().is_ok() || host.parse::<IpAddr>().is_ok() {
        return true;
    }
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
}

/// The page, which may fetch from here and from nowhere else.
fn page() -> Answer {
    let mut answer = whole(StatusCode::OK, "text/html; charset=utf-8", page::HTML.clone());
    let fields = [
        (header::CONTENT_SECURITY_POLICY, page::POLICY.clone()),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    for (name, value) in fields {
        answer.headers_mut().insert(name, value);
    }
    answer
}

/// A page with what a browser lets it do.
pub(crate) fn policed(html: impl Into<Bytes>, policy: &'static str) -> Answer {
    let mut answer = whole(StatusCode::OK, "text/html; charset=utf-8", html);
    let fields = [
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy)),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    for (name, value) in fields {
        answer.headers_mut().insert(name, value);
    }
    answer
}

fn not_found(what: &str) -> Answer {
    text(StatusCode::NOT_FOUND, format!("there is no {what:.100}; there are\n{LIST}"))
}

fn unavailable(error: &CollectError) -> Answer {
    text(StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n"))
}

pub(crate) fn text(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    whole(status, "text/plain; charset=utf-8", text)
}

/// An answer with a whole body. Nothing of it is kept by anybody.
pub(crate) fn whole(status: StatusCode, media: &'static str, body: impl Into<Bytes>) -> Answer {
    answer(status, media, Full::new(body.into()).boxed_unsync())
}

fn answer(status: StatusCode, media: &'static str, body: Body) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    let fields: [(HeaderName, &'static str); 3] = [
        (header::CONTENT_TYPE, media),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    for (name, value) in fields {
        answer.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    answer
}
