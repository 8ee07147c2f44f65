//! What a coordinator serves over HTTP, read-only: a page for people, the rollouts as JSON, and series
//! for Prometheus in the words of Argo Rollouts.
//!
//! - [`metrics`]: the series; pure
//! - [`page`]: the page; pure

pub mod metrics;
pub mod page;

use std::net::SocketAddr;

use hyper::{Method, Request, StatusCode, body::Incoming, header};
use weir_proto::rollout::v1::Rollout;

use super::run::Coordinator;
use crate::observe::{
    Bound, Serving,
    exposition::Format,
    route::{self, Answer},
    server::{Answers, serve_with},
};

/// Where, unless a coordinator is told otherwise.
pub const DEFAULT: &str = "127.0.0.1:9181";
/// What there is, for whoever asks for something else.
const LIST: &str = "\
/          a page for people
/rollouts  all rollouts, as JSON
/metrics   series for Prometheus
/healthz   200 if the coordinator is alive
";

/// Serves what the coordinator says. To be called within a tokio runtime.
#[must_use]
pub fn serve(bound: Bound, coordinator: Coordinator) -> Serving {
    serve_with(bound, move |address: SocketAddr| Site {
        coordinator,
        near: address.ip().is_loopback(),
    })
}

struct Site {
    coordinator: Coordinator,
    /// Only this host reaches it.
    near: bool,
}

impl Answers for Site {
    async fn answer(&self, request: &Request<Incoming>) -> Answer {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let text = "only GET and HEAD: promote and abort with `weir rollout`\n";
            return route::text(StatusCode::METHOD_NOT_ALLOWED, text);
        }
        if self.near && !route::names_this_host(request) {
            let text = "ask by an address or by `localhost`\n";
            return route::text(StatusCode::FORBIDDEN, text);
        }
        let rollouts = self.coordinator.told();
        match request.uri().path() {
            "/" => route::policed(page::render(&rollouts, super::run::tell::now()), page::POLICY),
            "/rollouts" => json(&rollouts),
            "/metrics" => {
                let accept = request.headers().get(header::ACCEPT);
                let accept = accept.and_then(|accept| accept.to_str().ok()).unwrap_or_default();
                let format = Format::negotiate(accept);
                let text = metrics::render(&rollouts, self.coordinator.leads(), format);
                route::whole(StatusCode::OK, format.media_type(), text)
            }
            "/healthz" => route::text(StatusCode::OK, "ok\n"),
            path => {
                let text = format!("there is no {path:.100}; there are\n{LIST}");
                route::text(StatusCode::NOT_FOUND, text)
            }
        }
    }
}

fn json(rollouts: &[Rollout]) -> Answer {
    match serde_json::to_vec(rollouts) {
        Ok(body) => route::whole(StatusCode::OK, "application/json", body),
        Err(error) => route::text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}
