//! Where etcd is, and who this coordinator is to it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::super::Error;

/// Where etcd is, and who this coordinator is to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// `http://HOST:PORT` or `https://HOST:PORT`, of each member.
    pub endpoints: Vec<String>,
    /// What all keys begin with.
    pub prefix: String,
    /// How this coordinator calls itself to others; may hold the address of its API.
    pub name: String,
    /// How long it leads without a word to etcd, in whole seconds; so long a takeover takes.
    pub lease: Duration,
    /// How long a call may take.
    pub limit: Duration,
    /// By TLS. Without it, traffic to etcd can be read and changed by others.
    pub tls: Option<Tls>,
    /// With a password.
    pub user: Option<User>,
}

impl Options {
    /// What keys begin with if nothing else is said.
    pub const PREFIX: &str = "/weir";
    /// How long a leadership lasts without a word to etcd if nothing else is said.
    pub const LEASE: Duration = Duration::from_secs(5);
    /// How long a call may take if nothing else is said.
    pub const LIMIT: Duration = Duration::from_secs(2);
    /// The shortest and the longest lease, in seconds. Shorter ones etcd makes longer.
    pub const LEASES: std::ops::RangeInclusive<u64> = 2..=300;

    /// These endpoints, and the rest as usual.
    #[must_use]
    pub fn new(endpoints: Vec<String>, name: String) -> Self {
        Self {
            endpoints,
            prefix: Self::PREFIX.to_owned(),
            name,
            lease: Self::LEASE,
            limit: Self::LIMIT,
            tls: None,
            user: None,
        }
    }

    /// That they make sense.
    ///
    /// # Errors
    ///
    /// Which one does not, and why.
    pub(super) fn check(&self) -> Result<(), Error> {
        let wrong = |option, reason: String| Err(Error::Option { option, reason });
        if self.endpoints.is_empty() {
            return wrong("endpoints", "none is given; write http://HOST:2379".to_owned());
        }
        let scheme = if self.tls.is_some() { "https://" } else { "http://" };
        for endpoint in &self.endpoints {
            if !endpoint.starts_with(scheme) {
                let with = if self.tls.is_some() { "with" } else { "without" };
                let reason = format!("{endpoint:?} must begin with {scheme} {with} a CA");
                return wrong("endpoints", reason);
            }
            if let Err(error) = endpoint.parse::<tonic::codegen::http::Uri>() {
                return wrong("endpoints", format!("{endpoint:?}: {error}"));
            }
        }
        let good = |c: char| c.is_ascii_graphic();
        if self.prefix.trim_end_matches('/').is_empty() || !self.prefix.chars().all(good) {
            let reason = format!("{:?} must be visible ASCII, such as /weir", self.prefix);
            return wrong("prefix", reason);
        }
        if self.lease.subsec_nanos() != 0 || !Self::LEASES.contains(&self.lease.as_secs()) {
            let reason = format!(
                "{} is not a whole number of seconds from {} to {}",
                humantime::format_duration(self.lease),
                Self::LEASES.start(),
                Self::LEASES.end()
            );
            return wrong("lease", reason);
        }
        if self.limit.is_zero() || self.limit > self.lease {
            return wrong("limit", "must be more than 0, and not longer than the lease".to_owned());
        }
        Ok(())
    }
}

/// Files in PEM. They are read whenever a connection is made, so that they may be renewed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The certificates by which etcd's own is judged.
    pub ca: PathBuf,
    /// This coordinator's certificate and key, where etcd asks for one.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// A user of etcd's.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub name: String,
    /// Its password.
    pub password: String,
}

impl fmt::Debug for User {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User").field("name", &self.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn what_is_wrong_is_named() {
        let good = || Options::new(vec!["http://127.0.0.1:2379".to_owned()], "me".to_owned());
        good().check().unwrap();
        let tls = Tls { ca: "ca.pem".into(), identity: None };
        for (options, expected) in [
            (Options { endpoints: Vec::new(), ..good() }, "endpoints: none is given"),
            (Options { endpoints: vec!["h:1".to_owned()], ..good() }, "must begin with http://"),
            (Options { tls: Some(tls), ..good() }, "must begin with https:// with a CA"),
            (Options { endpoints: vec!["http://a b".to_owned()], ..good() }, "endpoints: \"http"),
            (Options { prefix: "//".to_owned(), ..good() }, "prefix: \"//\""),
            (Options { lease: Duration::from_millis(2500), ..good() }, "lease: 2s 500ms is not"),
            (Options { lease: Duration::from_secs(1), ..good() }, "from 2 to 300"),
            (Options { limit: Duration::ZERO, ..good() }, "limit: must be"),
        ] {
            let said = options.check().unwrap_err().to_string();
            assert!(said.contains(expected), "{said}");
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        let user = User { name: "ann".to_owned(), password: "secret".to_owned() };
        assert!(!format!("{user:?}").contains("secret"));
    }
}
