//! The servers: as little as answers HTTP, so that what is measured is the way to them.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::lab::{Namespace, Task};

/// Where they listen.
pub(super) const PORT: u16 = 8_080;
/// What is asked on a connection that stays, and on one that ends.
pub(super) const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: lab\r\n\r\n";
pub(super) const LAST_REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n";
/// The answer to both.
pub(super) const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n";
/// Connections waiting to be accepted.
const BACKLOG: i32 = 16_384;

/// Serves on all addresses of a namespace, for as long as the task lives.
pub(super) fn start(namespace: &Namespace) -> Result<Task<()>> {
    let listener: std::net::TcpListener = namespace.inside(listen)?.context("listening")?.into();
    namespace.spawn(move || async move {
        // It cannot fail: the socket is one that polls.
        let Ok(listener) = TcpListener::from_std(listener) else { return };
        // An error is a client's that is gone already.
        loop {
            if let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream));
            }
        }
    })
}

fn listen() -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT)).into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Answers until the client, or its request, says that it was the last. Clients send a request in one
/// piece and wait for the answer, so a piece is a request.
async fn serve(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut request = [0; 256];
    loop {
        let length = stream.read(&mut request).await?;
        if length == 0 {
            return Ok(());
        }
        stream.write_all(ANSWER).await?;
        if length != REQUEST.len() {
            return Ok(());
        }
    }
}
