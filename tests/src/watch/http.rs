//! Plain requests from inside a namespace.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::lab::Namespace;
use crate::pace;

/// The longest time for an answer.
const LIMIT: Duration = Duration::from_secs(10);

/// The body at `path`, if the status is 200. `accept`: the media types that are wanted.
///
/// # Errors
///
/// There is no such answer.
pub fn get(namespace: &Namespace, at: SocketAddr, path: &str, accept: &str) -> Result<String> {
    let (status, body) = exchange(namespace, at, path, accept)?;
    if status != 200 {
        bail!("{path}: status {status}: {body:.300}");
    }
    Ok(body)
}

/// Status and body at `path`.
///
/// # Errors
///
/// Nobody answers, or nothing that makes sense.
pub fn exchange(
    namespace: &Namespace,
    at: SocketAddr,
    path: &str,
    accept: &str,
) -> Result<(u16, String)> {
    let mut stream = namespace.inside(|| TcpStream::connect(at))??;
    stream.set_read_timeout(Some(pace::wait(LIMIT)))?;
    // HTTP/1.0, so that the answer is whole and ends with the connection.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {at}\r\nAccept: {accept}\r\n\r\n")?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).with_context(|| format!("reading {path} of {at}"))?;
    let text = String::from_utf8(bytes).with_context(|| format!("{path} of {at}"))?;
    let (head, body) = text.split_once("\r\n\r\n").context("an answer without an end")?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.with_context(|| format!("no status in {head:?}"))?, body.to_owned()))
}

/// What `text` is inside a query of a URL.
#[must_use]
pub fn escape(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' | b'.' => {
            char::from(byte).to_string()
        }
        other => format!("%{other:02X}"),
    };
    text.bytes().map(byte).collect()
}
