//! The UDP echo server: answers each datagram with the backend's identity, a line feed and the
//! datagram itself.

use std::io;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::sleep;

use crate::identity::Identity;

/// The longest datagram that is answered in full; of longer ones the rest is lost.
const MAX_DATAGRAM: usize = 2048;

pub(super) async fn serve(
    socket: UdpSocket,
    identity: Identity,
    answered: &AtomicU64,
) -> io::Result<()> {
    let socket = tokio::net::UdpSocket::from_std(socket)?;
    let greeting = format!("{identity}\n").into_bytes();
    let mut answer = greeting.clone();
    answer.resize(greeting.len() + MAX_DATAGRAM, 0);
    loop {
        let Ok((length, client)) = socket.recv_from(&mut answer[greeting.len()..]).await else {
            // Perhaps an ICMP message about an earlier answer. The pause keeps others from spinning.
            sleep(Duration::from_millis(10)).await;
            continue;
        };
        // Counted before it is sent: who has an answer finds it counted.
        answered.fetch_add(1, Ordering::Relaxed);
        // A lost answer is noticed by the client.
        let _ = socket.send_to(&answer[..greeting.len() + length], client).await;
    }
}
