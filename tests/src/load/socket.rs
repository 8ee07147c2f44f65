//! Client sockets, bound to a chosen source address.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::IpBindAddressNoPort;
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::time::timeout;

/// Opens a TCP connection from `client` to `target`. Port 0 lets the kernel choose when it
/// connects, so that the same port serves connections to several targets.
pub(crate) async fn connect_tcp(
    client: SocketAddr,
    target: SocketAddr,
    limit: Duration,
) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(client), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    setsockopt(&socket, IpBindAddressNoPort, &true)?;
    socket.bind(&client.into())?;
    let socket = TcpSocket::from_std_stream(socket.into());
    let stream = timeout(limit, socket.connect(target)).await??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Makes a UDP socket on `client` that talks with `target` alone.
pub(super) async fn connect_udp(client: SocketAddr, target: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(client).await?;
    socket.connect(target).await?;
    Ok(socket)
}
