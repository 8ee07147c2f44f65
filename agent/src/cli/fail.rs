//! Errors of the command line, and their exit codes.

use std::{io, process::ExitCode};

use crate::client::ClientError;

/// Why a verb failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// Exit code 1.
    Failed(String),
    /// Exit code 2: found wrong after the command line was parsed.
    Usage(String),
    /// Exit code 3.
    NoAgent(String),
    /// Exit code 4.
    Refused(String),
    /// Exit code 5: changed, but not with the effect that was asked for.
    Differs(String),
    /// Exit code 6: changed, but with what effect cannot be told.
    Untold(String),
    /// An exit code of the verb's own.
    Exit(u8, String),
    /// The reader of the output is gone: not worth a word.
    Closed,
}

impl Failure {
    /// Prints the error; the exit code says which kind it is.
    pub(super) fn report(self) -> ExitCode {
        let (code, message) = match self {
            Self::Failed(message) => (1, message),
            Self::Usage(message) => (2, message),
            Self::NoAgent(message) => (3, message),
            Self::Refused(message) => (4, message),
            Self::Differs(message) => (5, message),
            Self::Untold(message) => (6, message),
            Self::Exit(code, message) => (code, message),
            Self::Closed => return ExitCode::SUCCESS,
        };
        eprintln!("weir: {message}");
        ExitCode::from(code)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let message = error.to_string();
        match error {
            ClientError::NoAgent(_) | ClientError::Denied(_) | ClientError::Unreachable { .. } => {
                Self::NoAgent(message)
            }
            ClientError::Refused { .. } => Self::Refused(message),
            ClientError::Failed(_) | ClientError::Malformed(_) => Self::Failed(message),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::Closed
        } else {
            Self::Failed(error.to_string())
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(format!("{error:#}"))
    }
}
