//! Servers that are ill, for tests of what weir tells of them.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, recv, send,
    setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::lab::addresses::FAR_END;
use crate::lab::{Namespace, Task};

/// A server that answers SYNs to a port late, frame by frame, and does nothing else. The kernel of
/// its namespace answers them too, with a RST at once: take its way back to the clients away.
#[derive(Debug)]
pub struct Late {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Late {
    /// Answers SYNs to `port` that come from the balancer into `namespace` after `delay`.
    pub fn start(namespace: &Namespace, port: u16, delay: Duration) -> Result<Self> {
        let socket = namespace.inside(packet_socket)??;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            if let Err(error) = answer(&socket, port, delay, &stopped) {
                eprintln!("the late server ended: {error:#}");
            }
        });
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Late {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // A panic in it has been printed by the thread itself.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// All frames of the link to the balancer.
fn packet_socket() -> Result<OwnedFd> {
    let all = SockProtocol::EthAll;
    let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, all)?;
    let mut links = getifaddrs()?.filter(|one| one.interface_name == FAR_END);
    let link: LinkAddr = links
        .find_map(|one| one.address?.as_link_addr().copied())
        .context("no link to the balancer")?;
    bind(socket.as_raw_fd(), &link)?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::milliseconds(2))?;
    Ok(socket)
}

fn answer(socket: &OwnedFd, port: u16, delay: Duration, stop: &AtomicBool) -> Result<()> {
    let (mut waiting, mut room) = (VecDeque::new(), vec![0; 65_536]);
    while !stop.load(Ordering::Relaxed) {
        if let Ok(length) = recv(socket.as_raw_fd(), &mut room, MsgFlags::empty()) {
            let answer = syn_ack(&room[..length], port);
            waiting.extend(answer.map(|frame| (Instant::now() + delay, frame)));
        }
        while waiting.front().is_some_and(|(due, _)| *due <= Instant::now()) {
            let (_, frame) = waiting.pop_front().context("looked at just now")?;
            send(socket.as_raw_fd(), &frame, MsgFlags::empty())?;
        }
    }
    Ok(())
}

/// The answer to a frame that is a SYN to `port`.
fn syn_ack(frame: &[u8], port: u16) -> Option<Vec<u8>> {
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    let TransportSlice::Tcp(tcp) = packet.transport? else { return None };
    if tcp.destination_port() != port || !tcp.syn() || tcp.ack() {
        return None;
    }
    let back = PacketBuilder::ethernet2(frame[..6].try_into().ok()?, frame[6..12].try_into().ok()?);
    let back = match packet.net? {
        NetSlice::Ipv4(ip) => back.ipv4(ip.header().destination(), ip.header().source(), 64),
        NetSlice::Ipv6(ip) => back.ipv6(ip.header().destination(), ip.header().source(), 64),
        NetSlice::Arp(_) => return None,
    };
    let back = back.tcp(port, tcp.source_port(), 1, 64_000).syn();
    let back = back.ack(tcp.sequence_number().wrapping_add(1));
    let mut bytes = vec![0; back.size(0)];
    back.write_to_slice(&mut bytes, &[]).ok()?;
    Some(bytes)
}

/// A server that resets each connection as soon as it is there.
pub fn resetting(namespace: &Namespace, at: Vec<SocketAddr>) -> Result<Task<()>> {
    let bind = |at| -> Result<std::net::TcpListener> {
        let listener = std::net::TcpListener::bind(at).with_context(|| format!("binding {at}"))?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    let listeners = namespace.inside(|| at.into_iter().map(bind).collect::<Result<Vec<_>>>())??;
    namespace.spawn(move || async move {
        let mut all = JoinSet::new();
        for listener in listeners {
            all.spawn(reset(listener));
        }
        while let Some(ended) = all.join_next().await {
            if let Ok(Err(error)) = ended {
                eprintln!("the resetting server ended: {error}");
            }
        }
    })
}

async fn reset(listener: std::net::TcpListener) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        listener.accept().await?.0.set_zero_linger()?;
    }
}
