//! Requests as they are written, and their answers as they come.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The longest time for an answer.
const LIMIT: Duration = Duration::from_secs(30);

/// An answer. Status 0: none came, or none that could be understood.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    /// A field of the head; its name in small letters.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

pub(crate) async fn get(at: SocketAddr, path: &str) -> Answer {
    get_as(at, path, "*/*").await
}

/// With this `Accept`.
pub(crate) async fn get_as(at: SocketAddr, path: &str, accept: &str) -> Answer {
    request(at, &format!("GET {path} HTTP/1.1\r\nHost: {at}\r\nAccept: {accept}\r\n")).await
}

/// Sends these lines and `Connection: close`, and reads to the end.
pub(crate) async fn request(at: SocketAddr, lines: &str) -> Answer {
    let exchange = async {
        let mut stream = TcpStream::connect(at).await.unwrap();
        // A head that is refused may not be read to its end.
        let _ = stream.write_all(format!("{lines}Connection: close\r\n\r\n").as_bytes()).await;
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes).await;
        bytes
    };
    let bytes = timeout(LIMIT, exchange).await.unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Answer { status, head: head.to_owned(), body: dechunked(head, body) }
}

/// The body without the sizes of its chunks.
fn dechunked(head: &str, body: &str) -> String {
    if !head.contains("transfer-encoding: chunked") {
        return body.to_owned();
    }
    let (mut rest, mut whole) = (body, String::new());
    while let Some((size, more)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        whole.push_str(&more[..size]);
        rest = more[size..].trim_start_matches("\r\n");
    }
    whole
}
