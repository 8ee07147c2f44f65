//! Every TCP packet that goes through a namespace, with the time at which it did: an account that is
//! not weir's own, by a packet socket.

use std::io::IoSliceMut;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use etherparse::{LaxNetSlice, LaxSlicedPacket, TransportSlice};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType,
    recvmsg, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};

use crate::frames::{ACK, FIN, RST, SYN};
use crate::lab::Namespace;

/// Room for what comes while the thread does not run.
const BUFFER: usize = 64 << 20;
/// The headers, and no more.
const HEADERS: usize = 128;

/// A TCP packet that was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// When, since 1970.
    pub at: Duration,
    /// Who sent it.
    pub from: SocketAddr,
    /// Whom it is for.
    pub to: SocketAddr,
    /// TCP's flags, as [`crate::frames`] has them.
    pub flags: u8,
    /// TCP's sequence number.
    pub sequence: u32,
    /// Bytes of the frame.
    pub bytes: u64,
}

impl Seen {
    /// Whether it begins a connection.
    #[must_use]
    pub fn opens(&self) -> bool {
        self.flags & (SYN | ACK | RST | FIN) == SYN
    }

    /// Whether it answers one that does.
    #[must_use]
    pub fn accepts(&self) -> bool {
        self.flags & (SYN | ACK) == SYN | ACK
    }
}

/// A capture that goes on.
#[derive(Debug)]
pub struct Capture {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Vec<Seen>>>>,
}

impl Capture {
    /// Begins to note what goes through any interface of a namespace. Needs root.
    pub fn start(namespace: &Namespace) -> Result<Self> {
        let opened = namespace.inside(open)??;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name(format!("capture {}", namespace.name()))
            .spawn(move || note(&opened, &stopped))?;
        Ok(Self { stop, thread: Some(thread) })
    }

    /// All that was seen until now, in its order. Ends the capture.
    pub fn end(mut self) -> Result<Vec<Seen>> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("it has ended")?;
        thread.join().map_err(|_| anyhow!("the thread of a capture has ended"))?
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Nobody wants to know any more.
            let _ = thread.join();
        }
    }
}

fn open() -> Result<OwnedFd> {
    let all = SockProtocol::EthAll;
    let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, all)?;
    setsockopt(&socket, sockopt::RcvBufForce, &BUFFER)?;
    setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::milliseconds(100))?;
    Ok(socket)
}

fn note(socket: &OwnedFd, stop: &AtomicBool) -> Result<Vec<Seen>> {
    let (mut all, mut buffer) = (Vec::new(), [0; HEADERS]);
    let mut control = nix::cmsg_space!(nix::sys::time::TimeSpec);
    loop {
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let flags = MsgFlags::MSG_TRUNC;
        let received =
            match recvmsg::<LinkAddr>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags) {
                Ok(received) => received,
                Err(Errno::EAGAIN) if stop.load(Ordering::Relaxed) => return Ok(all),
                Err(Errno::EAGAIN | Errno::EINTR) => continue,
                Err(error) => bail!("a packet socket: {error}"),
            };
        let time = received.cmsgs()?.find_map(|message| match message {
            ControlMessageOwned::ScmTimestampns(time) => Some(Duration::from(time)),
            _ => None,
        });
        // With `MSG_TRUNC`, the length is that of the whole frame.
        let bytes = received.bytes;
        let at = time.context("a packet without a time")?;
        all.extend(read(&buffer[..bytes.min(HEADERS)], bytes as u64, at));
    }
}

/// What a frame says, if it is of TCP.
fn read(head: &[u8], bytes: u64, at: Duration) -> Option<Seen> {
    // A part of the payload is enough, so lengths are not held against it.
    let packet = LaxSlicedPacket::from_ethernet(head).ok()?;
    let (from, to) = match packet.net? {
        LaxNetSlice::Ipv4(ip) => {
            (ip.header().source_addr().into(), ip.header().destination_addr().into())
        }
        LaxNetSlice::Ipv6(ip) => {
            (ip.header().source_addr().into(), ip.header().destination_addr().into())
        }
        LaxNetSlice::Arp(_) => return None,
    };
    let TransportSlice::Tcp(tcp) = packet.transport? else { return None };
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    let flags =
        flag(tcp.syn(), SYN) | flag(tcp.ack(), ACK) | flag(tcp.rst(), RST) | flag(tcp.fin(), FIN);
    Some(Seen {
        at,
        from: SocketAddr::new(from, tcp.source_port()),
        to: SocketAddr::new(to, tcp.destination_port()),
        flags,
        sequence: tcp.sequence_number(),
        bytes,
    })
}
