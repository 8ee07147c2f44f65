//! What went wrong in a handshake, and what to do about it. Pure.

use std::error::Error;
use std::io;

use rustls::{AlertDescription, CertificateError};

use super::Files;

/// The error of TLS at the root of an error of a stream.
fn root(error: &io::Error) -> Option<&rustls::Error> {
    let mut source: Option<&(dyn Error + 'static)> = error.get_ref().map(|error| error as _);
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref() {
            return Some(error);
        }
        source = error.source();
    }
    None
}

/// To a client: why an agent at the other end, which is called `name`, was not reached.
#[must_use]
pub fn to_client(error: &io::Error, name: &str, files: &Files) -> String {
    let (own, authority) = (files.certificate.display(), files.authority.display());
    match root(error) {
        Some(rustls::Error::InvalidCertificate(wrong)) => match wrong {
            // The signature is another's where authorities have the same name.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => format!(
                "its certificate is not signed by an authority in {authority}: give the one that \
                 has signed it with --tls-ca"
            ),
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "its certificate has expired: give it a new one (and compare the clocks)".to_owned()
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "its certificate is not valid yet: compare the clocks".to_owned()
            }
            CertificateError::NotValidForName => format!(
                "its certificate is not for the name {name}: connect by a name that it has, or \
                 give that with --tls-name"
            ),
            CertificateError::NotValidForNameContext { presented, .. } => format!(
                "its certificate is not for the name {name}, but for {}: connect by such a name, \
                 or give it with --tls-name",
                presented.join(", ")
            ),
            wrong => format!("its certificate is wrong: {wrong}"),
        },
        Some(rustls::Error::AlertReceived(alert)) => match alert {
            AlertDescription::UnknownCA | AlertDescription::DecryptError => format!(
                "it does not accept our certificate {own}: no authority in its --tls-ca has signed it"
            ),
            AlertDescription::CertificateExpired => format!(
                "it does not accept our certificate {own}, which has expired: get a new one (and \
                 compare the clocks)"
            ),
            AlertDescription::CertificateRequired => {
                "it wants a certificate of us: give --tls-cert and --tls-key".to_owned()
            }
            alert => format!("it does not accept our certificate {own}: it says {alert:?}"),
        },
        Some(rustls::Error::InvalidMessage(_)) => {
            "what answers there does not speak TLS: is it the agent's --listen address?".to_owned()
        }
        Some(other) => format!("TLS: {other}"),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            "it closed the connection in the middle of the TLS handshake".to_owned()
        }
        None => error.to_string(),
    }
}

/// To an agent: why a client was turned away.
#[must_use]
pub fn to_server(error: &io::Error) -> String {
    match root(error) {
        Some(rustls::Error::NoCertificatesPresented) => "it showed no certificate".to_owned(),
        Some(rustls::Error::InvalidCertificate(wrong)) => match wrong {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "no authority in --tls-ca has signed its certificate".to_owned()
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "its certificate has expired".to_owned()
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "its certificate is not valid yet: compare the clocks".to_owned()
            }
            wrong => format!("its certificate is wrong: {wrong}"),
        },
        Some(rustls::Error::AlertReceived(alert)) => {
            format!("it does not accept our certificate: it says {alert:?}")
        }
        Some(rustls::Error::InvalidMessage(_)) => "it does not speak TLS".to_owned(),
        Some(other) => other.to_string(),
        None => error.to_string(),
    }
}
