//! A long-lived UDP flow to an echo server. Datagrams may be lost, so they are sent again; what
//! may not change is who answers.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout, timeout_at};

use super::Fault;
use super::socket::connect_udp;
use crate::identity::Identity;

/// How long to wait for an answer before sending again.
const RESEND_AFTER: Duration = Duration::from_millis(500);

pub(super) struct UdpLink {
    socket: UdpSocket,
    identity: Identity,
}

impl UdpLink {
    /// Sends `line` as the first datagram; who answers is where the flow belongs.
    pub(super) async fn open(
        client: SocketAddr,
        target: SocketAddr,
        line: &[u8],
        limit: Duration,
    ) -> Result<(Self, SocketAddr, Identity), Fault> {
        let socket = connect_udp(client, target).await?;
        let local = socket.local_addr()?;
        let (identity, _) = ask(&socket, line, limit).await?;
        Ok((Self { socket, identity }, local, identity))
    }

    /// Sends `line` and expects it back from the same backend. Gives the number of resends.
    pub(super) async fn exchange(&mut self, line: &[u8], limit: Duration) -> Result<u64, Fault> {
        let (identity, resent) = ask(&self.socket, line, limit).await?;
        if identity != self.identity {
            return Err(Fault::Moved { from: self.identity, to: identity });
        }
        Ok(resent)
    }
}

/// Sends `line` until it is answered. Gives who answered and the number of resends.
async fn ask(socket: &UdpSocket, line: &[u8], limit: Duration) -> Result<(Identity, u64), Fault> {
    let mut resent = 0;
    let sending = async {
        loop {
            socket.send(line).await?;
            if let Ok(answer) = timeout(RESEND_AFTER, answer_to(socket, line)).await {
                return answer.map(|identity| (identity, resent));
            }
            resent += 1;
        }
    };
    timeout_at(Instant::now() + limit, sending).await.unwrap_or(Err(Fault::Stalled))
}

/// Waits for the answer to `line`. Answers to earlier lines are late copies: passed over.
async fn answer_to(socket: &UdpSocket, line: &[u8]) -> Result<Identity, Fault> {
    let mut datagram = [0; 256];
    loop {
        let length = socket.recv(&mut datagram).await?;
        let (identity, echo) = parse_answer(&datagram[..length]).ok_or(Fault::WrongBytes)?;
        if echo == line {
            return Ok(identity);
        }
        if echo.len() != line.len() || echo > line {
            return Err(Fault::WrongBytes);
        }
    }
}

/// Splits an answer into who gave it and what it echoes.
fn parse_answer(datagram: &[u8]) -> Option<(Identity, &[u8])> {
    let end = datagram.iter().position(|&byte| byte == b'\n')?;
    let identity = str::from_utf8(&datagram[..end]).ok()?.parse().ok()?;
    Some((identity, &datagram[end + 1..]))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use super::*;

    #[test]
    fn an_answer_is_an_identity_and_an_echo() {
        let (identity, echo) = parse_answer(b"green fd62::2\n0001 0002\n").unwrap();
        assert_eq!(identity.to_string(), "green fd62::2");
        assert_eq!(echo, b"0001 0002\n");
        for other in [&b""[..], b"green fd62::2", b"red fd62::2\nx", b"\xff\nx"] {
            assert_eq!(parse_answer(other), None);
        }
    }
}
