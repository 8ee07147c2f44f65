//! A web server that answers by a script and remembers what it was asked.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// How it answers.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// With a status and a body.
    Says(u16, String),
    /// Not at all, with the connection open.
    Nothing,
    /// By closing the connection.
    HangsUp,
}

pub(crate) fn says(status: &str) -> Answer {
    Answer::Says(200, format!(r#"{{"status":"{status}","message":"so it is"}}"#))
}

/// One request: its id, and its body.
pub(crate) type Asked = (String, Value);

/// The server; it ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) at: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    task: JoinHandle<()>,
}

impl Server {
    /// Answers as the script says, the last answer again and again.
    pub(crate) async fn start(script: Vec<Answer>) -> Self {
        Self::at("127.0.0.1:0".parse().unwrap(), script, None).await
    }

    pub(crate) async fn at(at: SocketAddr, script: Vec<Answer>, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind(at).await.unwrap();
        let at = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (seen, script, tls) = (Arc::clone(&seen), script.clone(), tls.clone());
                connections.spawn(async move {
                    match tls {
                        None => serve(stream, script, seen).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, script, seen).await;
                            }
                        }
                    }
                });
            }
        });
        Self { at, asked, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/hook", self.at)
    }

    /// What it was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// Waits until it was asked so often.
    pub(crate) async fn was_asked(&self, times: usize) -> Vec<Asked> {
        for _ in 0..600 {
            if self.asked().len() >= times {
                return self.asked();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("it was asked {} times, not {times}", self.asked().len())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    script: Vec<Answer>,
    seen: Arc<Mutex<Vec<Asked>>>,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let (script, seen) = (script.clone(), Arc::clone(&seen));
        async move {
            let id = request.headers().get("idempotency-key");
            let id = id.map_or("", |id| id.to_str().unwrap()).to_owned();
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let turn = {
                let mut seen = seen.lock().unwrap();
                seen.push((id, serde_json::from_slice(&body).unwrap_or(Value::Null)));
                seen.len() - 1
            };
            match script[turn.min(script.len() - 1)].clone() {
                Answer::Says(status, body) => {
                    let answer = Response::builder().status(status).body(Full::from(body));
                    Ok::<Response<Full<Bytes>>, Infallible>(answer.unwrap())
                }
                Answer::Nothing => std::future::pending().await,
                Answer::HangsUp => panic!("hangs up"),
            }
        }
    });
    // A task that panics closes its connection: that is the answer then.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}
