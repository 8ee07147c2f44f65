//! What tests of the coordinator's state need: an etcd, and processes that hold the leadership.

pub mod etcd;
pub mod holder;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use weir::rollout::ledger::StateStore;
use weir::rollout::ledger::etcd::{EtcdStore, Options};
use weir::rollout::ledger::file::{self, FileStore};

/// Where a state is kept: as text, so that another process can be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// `file:DIRECTORY`.
    File(PathBuf),
    /// `etcd:LEASE:ENDPOINT`, the lease in seconds.
    Etcd {
        /// Where it listens.
        endpoint: String,
        /// How long a leadership lasts.
        lease: Duration,
    },
}

impl Place {
    /// The place of a text.
    ///
    /// # Errors
    ///
    /// It is none.
    pub fn parse(text: &str) -> Result<Self> {
        match text.split_once(':') {
            Some(("file", directory)) => Ok(Self::File(directory.into())),
            Some(("etcd", rest)) => {
                let (lease, endpoint) = rest.split_once(':').context("etcd:LEASE:ENDPOINT")?;
                let lease = Duration::from_secs(lease.parse().context("the lease")?);
                Ok(Self::Etcd { endpoint: endpoint.to_owned(), lease })
            }
            _ => bail!("{text:?} is neither file:DIRECTORY nor etcd:LEASE:ENDPOINT"),
        }
    }

    /// Its text.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::File(directory) => format!("file:{}", directory.display()),
            Self::Etcd { endpoint, lease } => format!("etcd:{}:{endpoint}", lease.as_secs()),
        }
    }

    /// A store there, for a coordinator of this name.
    ///
    /// # Errors
    ///
    /// It cannot be opened.
    pub fn open(&self, name: &str) -> Result<Arc<dyn StateStore>> {
        Ok(match self {
            Self::File(directory) => {
                let options = file::Options { directory: directory.clone(), name: name.to_owned() };
                Arc::new(FileStore::open(options)?)
            }
            Self::Etcd { endpoint, lease } => {
                let options = Options::new(vec![endpoint.clone()], name.to_owned());
                let limit = Duration::from_secs(1);
                Arc::new(EtcdStore::new(Options { lease: *lease, limit, ..options })?)
            }
        })
    }
}
