//! Whether backends are well.
//!
//! - [`judge`]: from the results of checks to up and down; pure
//! - [`check`]: one check of one backend
//! - [`board`]: what is asked of the checks, and what they have found
//! - [`run`]: the task that makes them, each at its time
//!
//! The owner of the node says which backends are to be checked ([`Checks::ask`]), waits until
//! [`Checks::changed`] and then looks at what was found ([`Checks::report`]). Nothing is sent to it that
//! it could miss, and a check that finds nothing new costs it nothing.

pub mod board;
pub mod check;
pub mod judge;
pub mod run;

use std::net::IpAddr;
use std::sync::Arc;

pub use board::{Asked, Checks, Counts, Report, Wanted};

use crate::model::{Health, ServiceName, Version};

/// A backend, by what names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject {
    /// Its service.
    pub service: ServiceName,
    /// Its version.
    pub version: Version,
    /// Its address.
    pub address: IpAddr,
    /// Its port; 0 where the packet's own is kept.
    pub port: u16,
}

/// Starts the task that makes checks. It ends with the last of the [`Checks`].
#[must_use]
pub fn start() -> Checks {
    let (checks, task) = board::new();
    tokio::spawn(run::run(task, run::PLACES, check::network));
    checks
}

/// What one check has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The backend is well.
    Well,
    /// It is not; why, in words.
    Ill(String),
    /// Nothing was learnt of it, for this node failed; why, in words.
    Unknown(String),
}

/// A check to be made.
#[derive(Debug, Clone)]
pub struct Order {
    /// Where.
    pub address: std::net::SocketAddr,
    /// How.
    pub health: Arc<Health>,
}
