//! The way to an agent: over a Unix socket, or over TCP with mutual TLS.

use std::{error::Error as _, io, path::Path, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use tokio::{io::AsyncBufReadExt as _, net::TcpStream, task::spawn_blocking, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Channel, Endpoint, Error};
use tower::service_fn;

use super::{Address, ClientError, TlsAddress};
use crate::causes::causes;
use crate::tls::explain;

/// How long it may take to connect.
const CONNECT_WAIT: Duration = Duration::from_secs(5);
/// Details of an error travel in headers; an answer with all violations is some 20 KiB.
const MAX_HEADERS: u32 = 128 << 10;
/// Over TCP, how often it is asked whether the agent is still there while calls are under way, and how
/// long its answer may take.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(10));

/// Connects to whatever is served at an address. A connection that is lost is made anew by the next
/// call.
///
/// # Errors
///
/// Why it cannot be reached.
pub async fn channel(address: &Address) -> Result<Channel, ClientError> {
    match address {
        Address::Unix(path) => unix(address, path).await,
        Address::Tls(tls) => self::tls(address, tls).await,
    }
}

async fn unix(address: &Address, path: &Path) -> Result<Channel, ClientError> {
    let fail = |message: String| unreachable(address, message);
    let text = path.to_str().ok_or_else(|| fail("the path is not UTF-8".to_owned()))?;
    let endpoint = Endpoint::from_shared(format!("unix:{text}"))
        .map_err(|error| fail(error.to_string()))?
        .connect_timeout(CONNECT_WAIT)
        .http2_max_header_list_size(MAX_HEADERS);
    endpoint.connect().await.map_err(|error| failed(address, &error))
}

async fn tls(address: &Address, tls: &Arc<TlsAddress>) -> Result<Channel, ClientError> {
    // The transport need not know that this is TLS: the connector sees to it.
    let endpoint = Endpoint::from_shared(format!("http://{}", tls.authority))
        .map_err(|error| unreachable(address, error.to_string()))?
        .http2_max_header_list_size(MAX_HEADERS)
        .http2_keep_alive_interval(KEEP_ALIVE.0)
        .keep_alive_timeout(KEEP_ALIVE.1);
    let tls = Arc::clone(tls);
    let connector = service_fn(move |_| {
        let tls = Arc::clone(&tls);
        async move {
            match timeout(CONNECT_WAIT, open(&tls)).await {
                Ok(stream) => Ok(TokioIo::new(stream?)),
                Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time")),
            }
        }
    });
    endpoint.connect_with_connector(connector).await.map_err(|error| failed(address, &error))
}

/// A stream to an agent that has accepted our certificate.
async fn open(tls: &TlsAddress) -> io::Result<TlsStream<TcpStream>> {
    let files = tls.files.clone();
    let load = move || files.client(&files.read()?);
    let config = spawn_blocking(load).await.map_err(io::Error::other)?.map_err(io::Error::other)?;
    let stream = TcpStream::connect(&tls.authority).await?;
    stream.set_nodelay(true)?;
    let explained = |error: io::Error| {
        let why = explain::to_client(&error, &tls.name.to_str(), &tls.files);
        io::Error::other(why)
    };
    let connector = TlsConnector::from(Arc::clone(&config));
    let mut stream = connector.connect(tls.name.clone(), stream).await.map_err(explained)?;
    // Whether it accepts our certificate, an agent says only after the handshake: either with an alert,
    // or with the first words of HTTP/2.
    if stream.fill_buf().await.map_err(explained)?.is_empty() {
        return Err(io::Error::other("it closed the connection after the TLS handshake"));
    }
    Ok(stream)
}

fn unreachable(address: &Address, message: String) -> ClientError {
    ClientError::Unreachable { address: address.clone(), message }
}

fn failed(address: &Address, error: &Error) -> ClientError {
    match io_error(error) {
        Some(error) if error.kind() == io::ErrorKind::NotFound => {
            ClientError::NoAgent(address.clone())
        }
        Some(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            ClientError::NoAgent(address.clone())
        }
        Some(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            ClientError::Denied(address.clone())
        }
        Some(error) if matches!(address, Address::Tls(_)) => {
            unreachable(address, error.to_string())
        }
        _ => unreachable(address, causes(error)),
    }
}

/// The operating system's error at the root of a transport error.
fn io_error(error: &Error) -> Option<&io::Error> {
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref() {
            return Some(error);
        }
        source = error.source();
    }
    None
}
