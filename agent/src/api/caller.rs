//! Who is at the other end of the socket.

use std::fs;

use tonic::Request;
use tonic::transport::server::UdsConnectInfo;

use crate::node::Caller;

/// The characters of a command's name that are told; the kernel keeps fifteen.
const NAME: usize = 15;

/// Who has sent a request, as the kernel says of the connection (`SO_PEERCRED`).
pub(super) fn of<T>(request: &Request<T>) -> Option<Caller> {
    let peer = request.extensions().get::<UdsConnectInfo>()?.peer_cred?;
    let name = |pid| fs::read_to_string(format!("/proc/{pid}/comm")).ok();
    let name = peer.pid().and_then(name);
    // Its own choice, so not to be trusted with the form of our log.
    let printable = |c: char| if c.is_control() { '?' } else { c };
    let name = name.map(|name| name.trim_end().chars().take(NAME).map(printable).collect());
    Some(Caller { uid: peer.uid(), pid: peer.pid(), command: name })
}
