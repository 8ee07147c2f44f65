//! Who a certificate says somebody is. Pure.
//!
//! The role is a URI among the certificate's subject alternative names: `weir://role/reader`,
//! `weir://role/shifter` or `weir://role/admin`. There must be exactly one. The name, which events
//! tell, is the first DNS name there; without one, the certificate's serial number.

use std::fmt::{self, Write as _};

use rustls::pki_types::CertificateDer;
use serde::Serialize;
use webpki::EndEntityCert;

/// What a role's URI begins with.
pub const ROLE_URI: &str = "weir://role/";
/// The characters of a name that are told.
const MAX_NAME: usize = 64;

/// What a client may do; each role may do all that those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Look.
    Reader,
    /// Lead traffic among the versions and backends that there are.
    Shifter,
    /// Anything.
    Admin,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 3] = [Self::Reader, Self::Shifter, Self::Admin];

    /// The word in certificates.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::Shifter => "shifter",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Why a certificate gives no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoRole {
    /// It names none.
    #[error(
        "its certificate names no role; issue one with the subject alternative name \
         URI:{ROLE_URI}reader, {ROLE_URI}shifter or {ROLE_URI}admin"
    )]
    Absent,
    /// It names one that there is not.
    #[error("its certificate names the role {0:?}; there are reader, shifter and admin")]
    Unknown(String),
    /// It names several.
    #[error("its certificate names more than one role; issue one with a single {ROLE_URI}… URI")]
    Several,
}

/// Who somebody is, by a certificate that an accepted authority has signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// What to call them. Printable.
    pub name: String,
    /// What they may do.
    pub role: Result<Role, NoRole>,
}

impl Identity {
    /// Reads a certificate that was verified.
    #[must_use]
    pub fn of(certificate: &CertificateDer<'_>) -> Self {
        let Ok(certificate) = EndEntityCert::try_from(certificate) else {
            return Self { name: "unreadable".to_owned(), role: Err(NoRole::Absent) };
        };
        let name = match certificate.valid_dns_names().next() {
            Some(name) => printable(name),
            None => certificate.serial().iter().take(MAX_NAME / 2).fold(
                "serial ".to_owned(),
                |mut text, byte| {
                    // Writing to a String cannot fail.
                    let _ = write!(text, "{byte:02x}");
                    text
                },
            ),
        };
        Self { name, role: role(certificate.valid_uri_names()) }
    }
}

/// The one role among the URIs of a certificate.
fn role<'a>(uris: impl Iterator<Item = &'a str>) -> Result<Role, NoRole> {
    let mut words = uris.filter_map(|uri| uri.strip_prefix(ROLE_URI));
    let word = words.next().ok_or(NoRole::Absent)?;
    if words.next().is_some() {
        return Err(NoRole::Several);
    }
    let named = Role::ALL.into_iter().find(|role| role.name() == word);
    named.ok_or_else(|| NoRole::Unknown(printable(word)))
}

fn printable(text: &str) -> String {
    text.chars().take(MAX_NAME).map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_has_one_role() {
        let of = |uris: &[&str]| role(uris.iter().copied());
        assert_eq!(of(&["spiffe://a/b", "weir://role/shifter"]), Ok(Role::Shifter));
        assert_eq!(of(&[]), Err(NoRole::Absent));
        assert_eq!(of(&["weir://roles/admin"]), Err(NoRole::Absent));
        assert_eq!(of(&["weir://role/Admin"]), Err(NoRole::Unknown("Admin".into())));
        assert_eq!(of(&["weir://role/admin/x"]), Err(NoRole::Unknown("admin/x".into())));
        assert_eq!(of(&["weir://role/reader", "weir://role/admin"]), Err(NoRole::Several));
        assert_eq!(of(&["weir://role/a\nb"]), Err(NoRole::Unknown("a?b".into())));
    }

    #[test]
    fn roles_are_ordered() {
        assert!(Role::Reader < Role::Shifter && Role::Shifter < Role::Admin);
    }
}
