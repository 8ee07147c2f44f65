//! Who is at the other end of a connection.

use std::fs;
use std::sync::Arc;

use tonic::transport::server::UdsConnectInfo;

use crate::node::Caller;
use crate::tls::Identity;

/// The characters of a command's name that are told; the kernel keeps fifteen.
const NAME: usize = 15;

/// The other end of a connection. Every request that comes by it has this among its extensions.
#[derive(Debug, Clone)]
pub(crate) enum Peer {
    /// A process of this host, which the socket's mode has let in.
    Local(UdsConnectInfo),
    /// A client on the network, whose certificate was verified.
    Remote(Arc<Identity>),
}

impl Peer {
    /// Who that is.
    pub(crate) fn caller(&self) -> Option<Caller> {
        match self {
            Self::Local(info) => process(info),
            Self::Remote(identity) => {
                let (name, role) = (identity.name.clone(), identity.role.as_ref().ok()?);
                Some(Caller::Certificate { name, role: *role })
            }
        }
    }
}

/// A process, as the kernel says of the connection (`SO_PEERCRED`).
fn process(info: &UdsConnectInfo) -> Option<Caller> {
    let peer = info.peer_cred?;
    let name = |pid| fs::read_to_string(format!("/proc/{pid}/comm")).ok();
    let name = peer.pid().and_then(name);
    // Its own choice, so not to be trusted with the form of our log.
    let printable = |c: char| if c.is_control() { '?' } else { c };
    let command = name.map(|name| name.trim_end().chars().take(NAME).map(printable).collect());
    Some(Caller::Process { uid: peer.uid(), pid: peer.pid(), command })
}
