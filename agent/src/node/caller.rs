//! Who asks: the process at the other end of the Unix socket.

use std::fmt;

/// A process, as the kernel says who it was when it connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Its user.
    pub uid: u32,
    /// Its number; nothing, if it is of another process namespace.
    pub pid: Option<i32>,
    /// The name of its command, if it still ran.
    pub command: Option<String>,
}

impl fmt::Display for Caller {
    /// `uid 0 pid 1234 (weir)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "uid {}", self.uid)?;
        if let Some(pid) = self.pid {
            write!(f, " pid {pid}")?;
        }
        match &self.command {
            Some(command) => write!(f, " ({command})"),
            None => Ok(()),
        }
    }
}
