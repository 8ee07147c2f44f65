//! Certificate, key and authority: read from disk and made into configurations.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig, crypto};
use webpki::{EndEntityCert, KeyUsage};

/// No file of these is as long, in bytes.
const MAX_LENGTH: u64 = 1 << 20;
/// What is spoken over TLS: HTTP/2.
const PROTOCOL: &[u8] = b"h2";

/// Where the three files are, all in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// Our certificate, followed by those between it and its authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities whose certificates are accepted from the other end.
    pub authority: PathBuf,
}

/// What the three files held at one moment.
#[derive(Clone, PartialEq, Eq)]
pub struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
    authority: Vec<u8>,
}

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file cannot be read.
    #[error("{}: {error}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file holds something else.
    #[error("{}: {message}", .path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        message: String,
    },
}

impl Files {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// Which of them cannot be read.
    pub fn read(&self) -> Result<Contents, LoadError> {
        Ok(Contents {
            certificate: read(&self.certificate)?,
            key: read(&self.key)?,
            authority: read(&self.authority)?,
        })
    }

    /// How a server speaks that has these files: it wants a certificate of every client.
    ///
    /// # Errors
    ///
    /// Which file is wrong.
    pub fn server(&self, contents: &Contents) -> Result<Arc<ServerConfig>, LoadError> {
        let (chain, key) = self.own(contents)?;
        let provider = Arc::new(crypto::ring::default_provider());
        let roots = Arc::new(self.roots(contents)?);
        let clients = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider));
        let clients = clients.build().map_err(|error| wrong(&self.authority, error.to_string()))?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| wrong(&self.certificate, error.to_string()))?
            .with_client_cert_verifier(clients)
            .with_single_cert(chain, key)
            .map_err(|error| self.mismatch(&error))?;
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        // A resumed session would be as good as a certificate that has expired since.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }

    /// How a client speaks that has these files.
    ///
    /// # Errors
    ///
    /// Which file is wrong.
    pub fn client(&self, contents: &Contents) -> Result<Arc<ClientConfig>, LoadError> {
        let (chain, key) = self.own(contents)?;
        let mut config =
            ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
                .with_protocol_versions(&[&TLS13])
                .map_err(|error| wrong(&self.certificate, error.to_string()))?
                .with_root_certificates(self.roots(contents)?)
                .with_client_auth_cert(chain, key)
                .map_err(|error| self.mismatch(&error))?;
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        config.resumption = rustls::client::Resumption::disabled();
        Ok(Arc::new(config))
    }

    /// Why our own certificate is not valid at a time since 1970; nothing if it is.
    ///
    /// Its authority is the other end's to judge.
    #[must_use]
    pub fn outdated(&self, contents: &Contents, now: Duration) -> Option<LoadError> {
        let (chain, _) = self.own(contents).ok()?;
        let (first, between) = chain.split_first()?;
        let roots = self.roots(contents).ok()?;
        let algorithms = crypto::ring::default_provider().signature_verification_algorithms;
        let certificate = EndEntityCert::try_from(first).ok()?;
        let verified = certificate.verify_for_usage(
            algorithms.all,
            &roots.roots,
            between,
            UnixTime::since_unix_epoch(now),
            KeyUsage::server_auth(),
            None,
            None,
        );
        let message = match verified.err()? {
            webpki::Error::CertExpired { .. } => "this certificate has expired",
            webpki::Error::CertNotValidYet { .. } => "this certificate is not valid yet",
            _ => return None,
        };
        Some(wrong(&self.certificate, message))
    }

    /// Our certificates and the key.
    fn own(
        &self,
        contents: &Contents,
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), LoadError> {
        let chain = certificates(&self.certificate, &contents.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(&contents.key).map_err(|error| match error {
            pem::Error::NoItemsFound => wrong(
                &self.key,
                "holds no private key in PEM (an encrypted one is none: take its passphrase off)",
            ),
            error => wrong(&self.key, error.to_string()),
        })?;
        Ok((chain, key))
    }

    fn roots(&self, contents: &Contents) -> Result<RootCertStore, LoadError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.authority, &contents.authority)? {
            roots.add(certificate).map_err(|error| {
                wrong(&self.authority, format!("holds a certificate that is none: {error}"))
            })?;
        }
        Ok(roots)
    }

    fn mismatch(&self, error: &rustls::Error) -> LoadError {
        let key = self.key.display();
        match error {
            rustls::Error::InconsistentKeys(_) => wrong(
                &self.certificate,
                format!(
                    "is not the certificate of the key in {key}: give the two that belong together"
                ),
            ),
            error => wrong(&self.certificate, format!("cannot be used with {key}: {error}")),
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, LoadError> {
    let fail = |error| LoadError::Read { path: path.to_owned(), error };
    let mut text = Vec::new();
    File::open(path).map_err(fail)?.take(MAX_LENGTH + 1).read_to_end(&mut text).map_err(fail)?;
    if text.len() as u64 > MAX_LENGTH {
        return Err(wrong(path, format!("is longer than {MAX_LENGTH} bytes")));
    }
    Ok(text)
}

/// All certificates of a file; at least one.
fn certificates(path: &Path, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, LoadError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    let all = all.map_err(|error| wrong(path, error.to_string()))?;
    if all.is_empty() {
        return Err(wrong(path, "holds no certificate in PEM"));
    }
    Ok(all)
}

fn wrong(path: &Path, message: impl Into<String>) -> LoadError {
    LoadError::Wrong { path: path.to_owned(), message: message.into() }
}
