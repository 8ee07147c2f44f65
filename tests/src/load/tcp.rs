//! A long-lived TCP connection to an echo server.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Fault;
use super::socket::connect_tcp;
use crate::identity::Identity;

/// No identity is longer.
const MAX_GREETING: u64 = 128;

pub(super) struct TcpLink {
    stream: BufReader<TcpStream>,
}

impl TcpLink {
    /// Connects and reads who answers.
    pub(super) async fn open(
        client: SocketAddr,
        target: SocketAddr,
        limit: Duration,
    ) -> Result<(Self, SocketAddr, Identity), Fault> {
        let stream = connect_tcp(client, target, limit).await?;
        let local = stream.local_addr()?;
        // The longest line sent or received fits: thousands of connections share the memory.
        let mut stream = BufReader::with_capacity(128, stream);
        let mut greeting = String::new();
        within(limit, async {
            let length = (&mut stream).take(MAX_GREETING).read_line(&mut greeting).await?;
            if length == 0 { Err(Fault::Closed) } else { Ok(()) }
        })
        .await?;
        let identity = greeting.trim_end().parse().map_err(|_| Fault::WrongBytes)?;
        Ok((Self { stream }, local, identity))
    }

    /// Sends `line` and expects it back.
    pub(super) async fn exchange(&mut self, line: &[u8], limit: Duration) -> Result<(), Fault> {
        within(limit, async {
            self.stream.write_all(line).await?;
            let mut echo = vec![0; line.len()];
            self.stream.read_exact(&mut echo).await?;
            if echo == line { Ok(()) } else { Err(Fault::WrongBytes) }
        })
        .await
    }

    /// Waits, usually for ever, for something to happen on a connection on which nothing should.
    pub(super) async fn broken(&mut self) -> Fault {
        match self.stream.fill_buf().await {
            Ok([]) => Fault::Closed,
            Ok(_) => Fault::WrongBytes,
            Err(error) => error.into(),
        }
    }
}

async fn within(
    limit: Duration,
    work: impl Future<Output = Result<(), Fault>>,
) -> Result<(), Fault> {
    timeout(limit, work).await.unwrap_or(Err(Fault::Stalled))
}
