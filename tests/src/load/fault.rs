//! What can go wrong for a client.

use std::fmt;
use std::io;

use crate::identity::Identity;

/// What went wrong for a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// No connection: RST to the SYN, or an ICMP "port unreachable".
    Refused,
    /// No way there: an ICMP "unreachable".
    Unreachable,
    /// RST in an open connection.
    Reset,
    /// The server ended the connection before it had answered in full.
    Closed,
    /// No answer within the limit.
    Stalled,
    /// Other bytes than the expected ones came.
    WrongBytes,
    /// Another backend answered than the one with which the flow began.
    Moved {
        /// Where the flow began.
        from: Identity,
        /// Who answered now.
        to: Identity,
    },
    /// The client's own machine gave an error, this number of the operating system's (0: none).
    Local(i32),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind;
        match error.kind() {
            ErrorKind::ConnectionRefused => Self::Refused,
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Self::Reset,
            ErrorKind::UnexpectedEof => Self::Closed,
            ErrorKind::TimedOut => Self::Stalled,
            ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => Self::Unreachable,
            _ => Self::Local(error.raw_os_error().unwrap_or(0)),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => out.write_str("refused"),
            Self::Unreachable => out.write_str("unreachable"),
            Self::Reset => out.write_str("reset"),
            Self::Closed => out.write_str("closed"),
            Self::Stalled => out.write_str("stalled"),
            Self::WrongBytes => out.write_str("wrong bytes"),
            Self::Moved { from, to } => write!(out, "moved from {from} to {to}"),
            Self::Local(code) => {
                write!(out, "local error: {}", io::Error::from_raw_os_error(*code))
            }
        }
    }
}
