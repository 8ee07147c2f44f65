//! An authority, what it has signed, and both as files.

use std::path::PathBuf;
use std::{fs, io};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, Error, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, SanType,
};
use tempfile::TempDir;

/// An authority.
#[derive(Debug)]
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

impl Authority {
    /// A new one.
    ///
    /// # Errors
    ///
    /// No key can be made.
    pub fn new() -> Result<Self, Error> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Ok(Self(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?))
    }

    /// Its own certificate, in PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// For a server or a client of this name at 127.0.0.1.
    ///
    /// # Errors
    ///
    /// No key can be made.
    pub fn issue(&self, name: &str) -> Result<Identity, Error> {
        self.issue_to(name, &["127.0.0.1".to_owned()], None)
    }

    /// For a server or a client of this name at these addresses or names; with a URI, as a role is.
    ///
    /// # Errors
    ///
    /// No key can be made, or a name cannot stand in a certificate.
    pub fn issue_to(
        &self,
        name: &str,
        at: &[String],
        uri: Option<&str>,
    ) -> Result<Identity, Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(at)?;
        if let Some(uri) = uri {
            params.subject_alt_names.push(SanType::URI(uri.try_into()?));
        }
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.0)?.pem();
        Ok(Identity { certificate, key: key.serialize_pem() })
    }
}

/// Files that programs are given. Dropping it removes them.
#[derive(Debug)]
pub struct Files(TempDir);

impl Files {
    /// None yet.
    pub fn new() -> io::Result<Self> {
        tempfile::tempdir().map(Self)
    }

    /// Writes a file of this name.
    pub fn write(&self, name: &str, text: &str) -> io::Result<PathBuf> {
        let path = self.0.path().join(name);
        fs::write(&path, text)?;
        Ok(path)
    }

    /// Writes a certificate and its key, as `NAME.pem` and `NAME.key`.
    pub fn identity(&self, name: &str, identity: &Identity) -> io::Result<(PathBuf, PathBuf)> {
        let certificate = self.write(&format!("{name}.pem"), &identity.certificate)?;
        Ok((certificate, self.write(&format!("{name}.key"), &identity.key)?))
    }
}
