//! Authorities and certificates, made for a test.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "tests fail by panicking; no test uses all of this"
)]

use std::fs;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
    date_time_ymd,
};
use weir::tls::Files;

/// The DNS name of every agent.
pub(crate) const AGENT: &str = "lb1.weir.example";

/// Somebody who signs certificates.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// What is asked of a certificate.
#[derive(Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// Its DNS name.
    pub(crate) name: &'a str,
    /// Its URIs.
    pub(crate) uris: &'a [&'a str],
    /// It is valid no longer.
    pub(crate) expired: bool,
}

impl Authority {
    pub(crate) fn new() -> Self {
        Self::named("weir")
    }

    pub(crate) fn named(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Writes a new certificate, its key, and the certificate of `trusted`.
    pub(crate) fn issue(&self, to: &Path, wanted: Wanted<'_>, trusted: &Self) -> Files {
        let mut params = CertificateParams::new(vec![wanted.name.to_owned()]).unwrap();
        for uri in wanted.uris {
            params.subject_alt_names.push(SanType::URI((*uri).try_into().unwrap()));
        }
        let loopback = SanType::IpAddress(std::net::Ipv4Addr::LOCALHOST.into());
        if wanted.name == AGENT {
            params.subject_alt_names.push(loopback);
        }
        if wanted.expired {
            (params.not_before, params.not_after) =
                (date_time_ymd(2001, 1, 1), date_time_ymd(2001, 2, 1));
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        fs::create_dir_all(to).unwrap();
        let files = Files {
            certificate: to.join("cert.pem"),
            key: to.join("key.pem"),
            authority: to.join("ca.pem"),
        };
        fs::write(&files.certificate, certificate.pem()).unwrap();
        fs::write(&files.key, key.serialize_pem()).unwrap();
        fs::write(&files.authority, &trusted.pem).unwrap();
        files
    }

    /// The files of an agent that trusts this authority.
    pub(crate) fn agent(&self, to: &Path) -> Files {
        self.issue(to, Wanted { name: AGENT, uris: &[], expired: false }, self)
    }

    /// The files of a client, by its role's URI.
    pub(crate) fn client(&self, to: &Path, name: &str, uri: &str) -> Files {
        self.issue(to, Wanted { name, uris: &[uri], expired: false }, self)
    }
}
