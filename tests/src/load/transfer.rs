//! Files to and from a backend over HTTP, compared bit for bit.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::socket::connect_tcp;
use crate::servers::http::{MAX_PIECE, pattern};

/// No head of an answer is longer.
const MAX_HEAD: usize = 4096;

/// Fetches `length` bytes from the server at `target`.
///
/// # Errors
///
/// It does not come whole within `limit`.
pub async fn download(
    client: SocketAddr,
    target: SocketAddr,
    length: usize,
    limit: Duration,
) -> Result<()> {
    let work = async {
        let mut stream = ask(client, target, &format!("GET /bytes/{length}"), 0, limit).await?;
        let (head, mut rest) = head(&mut stream).await?;
        ensure!(head.starts_with("HTTP/1.1 200"), "the answer begins with {head:?}");
        let mut seen = 0;
        loop {
            let wanted = pattern(seen, rest.len());
            ensure!(rest == wanted, "a byte after {seen} of {length} differs");
            seen += rest.len();
            if seen >= length {
                break;
            }
            rest.resize(MAX_PIECE, 0);
            let read = stream.read(&mut rest).await?;
            ensure!(read > 0, "ended after {seen} of {length} bytes");
            rest.truncate(read);
        }
        ensure!(seen == length, "{seen} bytes came, not {length}");
        Ok(())
    };
    timeout(limit, work).await.with_context(|| format!("{length} bytes from {target}: stalled"))?
}

/// Sends `length` bytes to the server at `target`, and has it compare them.
///
/// # Errors
///
/// They do not arrive whole within `limit`.
pub async fn upload(
    client: SocketAddr,
    target: SocketAddr,
    length: usize,
    limit: Duration,
) -> Result<()> {
    let work = async {
        let mut stream = ask(client, target, "POST /bytes", length, limit).await?;
        let mut sent = 0;
        while sent < length {
            let piece = pattern(sent, length - sent);
            stream.write_all(piece).await?;
            sent += piece.len();
        }
        let (_, mut verdict) = head(&mut stream).await?;
        while !verdict.ends_with(b"\n") {
            ensure!(stream.read_buf(&mut verdict).await? > 0, "no verdict came");
        }
        let verdict = String::from_utf8_lossy(&verdict);
        ensure!(verdict.trim() == format!("whole {length}"), "of {length} bytes: {verdict}");
        Ok(())
    };
    timeout(limit, work).await.with_context(|| format!("{length} bytes to {target}: stalled"))?
}

async fn ask(
    client: SocketAddr,
    target: SocketAddr,
    what: &str,
    length: usize,
    limit: Duration,
) -> Result<TcpStream> {
    let mut stream = connect_tcp(client, target, limit).await.context("connecting")?;
    let request = format!("{what} HTTP/1.1\r\nhost: {target}\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    Ok(stream)
}

/// The head of an answer, and what has come of its body.
async fn head(stream: &mut TcpStream) -> Result<(String, Vec<u8>)> {
    let mut bytes = Vec::with_capacity(MAX_HEAD);
    loop {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        if let Some(end) = end {
            let body = bytes.split_off(end + 4);
            return Ok((String::from_utf8_lossy(&bytes).into_owned(), body));
        }
        if bytes.len() > MAX_HEAD || stream.read_buf(&mut bytes).await? == 0 {
            bail!("no head of an answer: {:?}", String::from_utf8_lossy(&bytes));
        }
    }
}
