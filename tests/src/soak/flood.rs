//! A flood of SYNs from addresses that nobody has, as a botnet sends them; bounded, and only within
//! the lab's namespaces.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result, bail};
use socket2::{Domain, Protocol, Socket, Type};

use crate::frames::{self, Frame};
use crate::lab::Lab;
use crate::random::Random;

/// Sends so many SYNs to an IPv4 listener, each from another address and port, and gives how many
/// went out.
pub(super) fn flood(lab: &Lab, target: SocketAddr, count: u32, chance: &mut Random) -> Result<u32> {
    let SocketAddr::V4(to) = target else { bail!("floods are of IPv4") };
    let chance = Random(chance.word());
    lab.clients().inside(|| send(*to.ip(), to.port(), count, chance))?
}

fn send(to: Ipv4Addr, port: u16, count: u32, mut chance: Random) -> Result<u32> {
    // With the protocol RAW the packet brings its own IP header.
    let raw = Some(Protocol::from(255));
    let socket = Socket::new(Domain::IPV4, Type::RAW, raw).context("opening a raw socket")?;
    let mut sent = 0;
    for _ in 0..count {
        // Of the clients' network, so that answers have a way; of the part that has no hosts.
        let [a, b] = chance.half().to_be_bytes();
        let from = Ipv4Addr::new(10, 50, 128 | a, b);
        let (from, to) = ((from, 1024 | chance.half()).into(), SocketAddr::from((to, port)));
        let frame = Frame::tcp(from, to, frames::SYN).bytes();
        match socket.send_to(&frame[frames::ETHERNET..], &to.into()) {
            Ok(_) => sent += 1,
            // The queue is full: as good as sent.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.raw_os_error() == Some(nix::libc::ENOBUFS) => {}
            Err(error) => return Err(error).context("sending a SYN"),
        }
    }
    Ok(sent)
}
