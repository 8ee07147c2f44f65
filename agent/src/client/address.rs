//! Where an agent is, and how to reach it.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::pki_types::ServerName;

use crate::tls::Files;

/// Where an agent is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// At a Unix socket of this host.
    Unix(PathBuf),
    /// At a TCP port, with mutual TLS.
    Tls(Arc<TlsAddress>),
}

/// A TCP port, and what is needed to speak to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsAddress {
    /// `HOST:PORT`, with brackets around an IPv6 address.
    pub(super) authority: String,
    /// The name that the agent's certificate must have.
    pub(super) name: ServerName<'static>,
    /// Our certificate, its key, and the authority of the agent's. Read at each connection, so that
    /// files may change.
    pub(super) files: Files,
}

/// Why a text is no address of an agent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It is of no known form.
    #[error("{0:?} is neither unix:PATH nor https://HOST:PORT")]
    Form(String),
    /// There is no TLS without files.
    #[error("{0} takes --tls-cert, --tls-key and --tls-ca: agents speak mutual TLS only")]
    NoFiles(String),
    /// No certificate can be for that name.
    #[error("{0:?} is neither a DNS name nor an IP address, so no certificate can be for it")]
    Name(String),
}

impl Address {
    /// Reads `unix:PATH` or `https://HOST:PORT`. The latter takes `files`, and the agent's
    /// certificate must be for HOST, or for `name` if that is given.
    ///
    /// # Errors
    ///
    /// What is wrong or missing.
    pub fn parse(
        text: &str,
        files: Option<&Files>,
        name: Option<&str>,
    ) -> Result<Self, AddressError> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Self::Unix(path.into()));
        }
        let form = || AddressError::Form(text.to_owned());
        let authority = text.strip_prefix("https://").ok_or_else(form)?.trim_end_matches('/');
        let (host, port) = authority.rsplit_once(':').ok_or_else(form)?;
        let host = match host.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').ok_or_else(form)?,
            None => host,
        };
        let port: u16 = port.parse().map_err(|_| form())?;
        if host.is_empty() || port == 0 {
            return Err(form());
        }
        let files = files.ok_or_else(|| AddressError::NoFiles(text.to_owned()))?.clone();
        let name = name.unwrap_or(host);
        let name = ServerName::try_from(name.to_owned())
            .map_err(|_| AddressError::Name(name.to_owned()))?;
        Ok(Self::Tls(Arc::new(TlsAddress { authority: authority.to_owned(), name, files })))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => path.display().fmt(f),
            Self::Tls(address) => write!(f, "https://{}", address.authority),
        }
    }
}

impl<T: AsRef<Path> + ?Sized> From<&T> for Address {
    fn from(path: &T) -> Self {
        Self::Unix(path.as_ref().to_owned())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

    use super::*;

    fn files() -> Files {
        Files { certificate: "c".into(), key: "k".into(), authority: "a".into() }
    }

    #[test]
    fn sockets_and_ports() {
        let parse = |text| Address::parse(text, Some(&files()), None);
        assert_eq!(
            parse("unix:/run/weir/weir.sock").unwrap(),
            Address::from("/run/weir/weir.sock")
        );
        for text in ["https://lb1.example:9443", "https://10.0.0.1:9443", "https://[fd00::1]:9443"]
        {
            let address = parse(text).unwrap();
            assert_eq!(address.to_string(), text);
        }
        let Address::Tls(address) = parse("https://[fd00::1]:9443/").unwrap() else { panic!() };
        assert_eq!(address.name, ServerName::try_from("fd00::1").unwrap());
        for text in ["", "lb1:9443", "http://lb1:9443", "https://lb1", "https://:1", "https://a:0"]
        {
            assert_eq!(parse(text), Err(AddressError::Form(text.to_owned())));
        }
    }

    #[test]
    fn tls_takes_files_and_a_name() {
        let text = "https://10.0.0.1:9443";
        assert_eq!(Address::parse(text, None, None), Err(AddressError::NoFiles(text.to_owned())));
        let named = Address::parse(text, Some(&files()), Some("lb1.example")).unwrap();
        let Address::Tls(address) = named else { panic!() };
        assert_eq!(address.name, ServerName::try_from("lb1.example").unwrap());
        let wrong = Address::parse(text, Some(&files()), Some("not a name"));
        assert_eq!(wrong, Err(AddressError::Name("not a name".to_owned())));
    }
}
