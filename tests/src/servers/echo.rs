//! The TCP echo server: a line with the backend's identity, then every byte back.

use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::identity::Identity;

pub(super) async fn serve(mut stream: TcpStream, identity: Identity) {
    // An error is the client's: it sees it itself, and it is the client that is judged.
    let _ = greet_and_echo(&mut stream, identity).await;
}

async fn greet_and_echo(stream: &mut TcpStream, identity: Identity) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(format!("{identity}\n").as_bytes()).await?;
    // Small, because there are thousands of connections.
    let mut buffer = [0; 1024];
    loop {
        let length = stream.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..length]).await?;
    }
}
