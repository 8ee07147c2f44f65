//! One check of one backend, over the network.
//!
//! The agent asks the backend itself, at its own address, by the routes of the node. With `nat` that is
//! the way that forwarded packets take too. Each connection ends by RST as soon as the answer is known:
//! thousands of checks a second leave nothing in `TIME_WAIT`, on neither side.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use nix::errno::Errno;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tonic::transport::Endpoint;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use super::{Order, Outcome};
use crate::model::health::{Check, Statuses};

/// The longest head of an answer, in bytes; what comes after it is not read.
const MAX_HEAD: usize = 16 << 10;
/// The most headers of an answer.
const MAX_HEADERS: usize = 100;
/// The longest gRPC answer, in bytes.
const MAX_ANSWER: usize = 4 << 10;
/// The most characters of a reason.
const MAX_REASON: usize = 160;

/// Makes one check, within the time it has.
pub async fn network(order: Order) -> Outcome {
    let Order { address, health } = order;
    let within = health.timeout();
    let asked = async {
        match health.check() {
            Check::Tcp => connect(address).await.map(drop),
            Check::Http { path, host, status } => {
                http(address, path, host.as_deref(), status).await
            }
            Check::Grpc { service } => grpc(address, service).await,
        }
    };
    match timeout(within, asked).await {
        Ok(Ok(())) => Outcome::Well,
        Ok(Err(outcome)) => outcome,
        Err(_) => Outcome::Ill(format!("no answer within {}", humantime::format_duration(within))),
    }
}

/// A connection that ends by RST.
async fn connect(address: SocketAddr) -> Result<TcpStream, Outcome> {
    let connected = async {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_zero_linger()?;
        socket.connect(address).await
    };
    connected.await.map_err(|error| outcome(&error))
}

async fn http(
    address: SocketAddr,
    path: &str,
    host: Option<&str>,
    status: &Statuses,
) -> Result<(), Outcome> {
    let io = TokioIo::new(connect(address).await?);
    let mut builder = http1::Builder::new();
    builder.max_buf_size(MAX_HEAD).max_headers(MAX_HEADERS);
    let (mut sender, connection) = builder.handshake(io).await.map_err(|error| ill(&error))?;
    let host = host.map_or_else(|| address.to_string(), str::to_owned);
    let request = Request::get(path)
        .header(header::HOST, host)
        .header(header::USER_AGENT, concat!("weir/", env!("CARGO_PKG_VERSION")))
        .header(header::ACCEPT, "*/*")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| Outcome::Unknown(short(&error.to_string())))?;
    let answer = beside(sender.send_request(request), connection).await;
    let got = answer.map_err(|error| ill(&error))?.status().as_u16();
    if status.contains(got) {
        Ok(())
    } else {
        Err(Outcome::Ill(format!("status {got}, wanted {status}")))
    }
}

/// An answer, while the connection that brings it is driven.
async fn beside<T>(
    answer: impl Future<Output = T>,
    connection: impl Future<Output = hyper::Result<()>>,
) -> T {
    let (mut answer, connection) = (pin!(answer), pin!(connection));
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        // However it ended, the answer says it.
        _ = connection => answer.await,
    }
}

async fn grpc(address: SocketAddr, service: &str) -> Result<(), Outcome> {
    // Connected here, so that the error is the socket's own and the end is by RST.
    let io = TokioIo::new(connect(address).await?);
    let mut io = Some(io);
    let connector = tower::service_fn(move |_: tonic::codegen::http::Uri| {
        let io = io.take().ok_or_else(|| io::Error::other("the connection was lost"));
        async move { io }
    });
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|error| Outcome::Unknown(short(&error.to_string())))?
        .http2_max_header_list_size(u32::try_from(MAX_HEAD).unwrap_or(u32::MAX));
    let channel = endpoint.connect_with_connector(connector).await.map_err(|error| ill(&error))?;
    let mut client = HealthClient::new(channel).max_decoding_message_size(MAX_ANSWER);
    let request = HealthCheckRequest { service: service.to_owned() };
    match client.check(request).await {
        Ok(answer) => match answer.into_inner().status() {
            ServingStatus::Serving => Ok(()),
            other => Err(Outcome::Ill(format!("it says {}", other.as_str_name()))),
        },
        Err(status) => {
            let message = status.message();
            let message = if message.is_empty() { status.code().description() } else { message };
            Err(Outcome::Ill(short(message)))
        }
    }
}

/// What an error of a socket says of the backend: nothing where this node is what lacks something.
fn outcome(error: &io::Error) -> Outcome {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(
            errno @ (Errno::EMFILE
            | Errno::ENFILE
            | Errno::ENOMEM
            | Errno::ENOBUFS
            | Errno::EADDRNOTAVAIL
            | Errno::EPERM
            | Errno::EACCES),
        ) => Outcome::Unknown(short(errno.desc())),
        Some(errno) => Outcome::Ill(short(errno.desc())),
        None => Outcome::Ill(short(&error.to_string())),
    }
}

/// The innermost reason is the one that helps.
fn ill(error: &(dyn std::error::Error + 'static)) -> Outcome {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    match innermost.downcast_ref::<io::Error>() {
        Some(error) => outcome(error),
        None => Outcome::Ill(short(&innermost.to_string())),
    }
}

/// One line that is not long, in the case of what it stands in.
fn short(text: &str) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    let mut text: String = text.chars().map(clean).take(MAX_REASON).collect();
    // "Connection refused", but not "HTTP".
    let mut first = text.chars();
    if first.next().is_some_and(char::is_uppercase) && first.next().is_some_and(char::is_lowercase)
    {
        text[..1].make_ascii_lowercase();
    }
    text
}
