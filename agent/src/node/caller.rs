//! Who asks: the process at the other end of the Unix socket, or whom a certificate names.

use std::fmt;

use crate::tls::Role;

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// A process of this host, as the kernel says who it was when it connected.
    Process {
        /// Its user.
        uid: u32,
        /// Its number; nothing, if it is of another process namespace.
        pid: Option<i32>,
        /// The name of its command, if it still ran.
        command: Option<String>,
    },
    /// Somebody on the network, by a verified certificate.
    Certificate {
        /// Its name.
        name: String,
        /// What it may do.
        role: Role,
    },
}

impl fmt::Display for Caller {
    /// `uid 0 pid 1234 (weir)`, `coordinator-1 (shifter)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process { uid, pid, command } => {
                write!(f, "uid {uid}")?;
                if let Some(pid) = pid {
                    write!(f, " pid {pid}")?;
                }
                command.as_ref().map_or(Ok(()), |command| write!(f, " ({command})"))
            }
            Self::Certificate { name, role } => write!(f, "{name} ({role})"),
        }
    }
}
