//! Where the coordinator's state lives, and who may change it.
//!
//! A [`StateStore`] keeps an [`Entry`] for each service: a document (the state machine's state) and
//! the judge's evidence, with an event log, kept revisions, and commands that wait. Of several
//! coordinators one leads. Its [`Leadership`] has a [`Fence`], a number that only grows; each write
//! names it, and a write with a number that leads no longer is refused, by the store itself.
//!
//! What holds of every store (`tests/tests/ledger.rs` runs the same tests against each):
//!
//! - A save is one transaction: document, evidence, events, revision and the commands it answers
//!   are kept together or not at all, and only if the fence leads and the entry is the one that the
//!   writer has read. So a save whose answer was lost can do no harm: load, and go on from there.
//! - A command is taken by the save of the state that results from it. So it is done exactly once,
//!   whoever leads. Anybody may put one.
//! - No call waits longer than the store's limit. A store that does not answer is
//!   [`Error::Unavailable`].
//! - All sizes are bounded ([`entry::limits`]).
//!
//! Two stores: [`file`] for one node, [`etcd`] for a fleet.

pub mod entry;
pub mod error;
pub mod etcd;
pub mod file;
pub mod leadership;
mod record;

use std::fmt;
use std::time::Duration;

pub use self::entry::{Change, Command, CommandId, Entry, Event, Numbered, Revision, Version};
pub use self::error::Error;
pub use self::leadership::{Fence, Leader, Leadership};
use crate::model::ServiceName;

/// How often a waiting reader looks whether something has changed.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// A store of the coordinator's state.
///
/// Unless said otherwise, an error means that nothing was changed. After [`Error::Unavailable`] a
/// change may have been made or not: load before the next one.
#[tonic::async_trait]
pub trait StateStore: fmt::Debug + Send + Sync {
    /// Waits until this coordinator leads. Dropping the future gives the candidacy up.
    ///
    /// # Errors
    ///
    /// The store cannot be reached, or does not allow it: wait a little and try again.
    async fn campaign(&self) -> Result<Leadership, Error>;

    /// Who leads now, if anybody does.
    async fn leader(&self) -> Result<Option<Leader>, Error>;

    /// The services of which there is an entry, in their order.
    async fn services(&self) -> Result<Vec<ServiceName>, Error>;

    /// What is kept of a service.
    async fn load(&self, service: &ServiceName) -> Result<Option<Entry>, Error>;

    /// The version of a service's entry; cheaper than [`StateStore::load`].
    async fn version(&self, service: &ServiceName) -> Result<Option<Version>, Error>;

    /// Keeps a change of a service's entry, in one transaction, and gives the entry's new version.
    /// `read`: the version from which the change was worked out; none if there was no entry.
    ///
    /// # Errors
    ///
    /// [`Error::Fenced`]: another coordinator leads: stop. [`Error::Conflict`]: the entry is another
    /// than the one read: load it. [`Error::TooLarge`], [`Error::Full`]: the change is beyond a limit.
    async fn save(
        &self,
        fence: Fence,
        service: &ServiceName,
        read: Option<Version>,
        change: Change,
    ) -> Result<Version, Error>;

    /// The kept events of a service with a greater number than `after`, oldest first.
    async fn events(
        &self,
        service: &ServiceName,
        after: u64,
    ) -> Result<Vec<Numbered<Event>>, Error>;

    /// The kept revisions of a service, oldest first.
    async fn revisions(&self, service: &ServiceName) -> Result<Vec<Numbered<Revision>>, Error>;

    /// Puts a command for whoever leads. The same one put again, by its id, is still one.
    async fn submit(&self, command: Command) -> Result<(), Error>;

    /// The commands that wait, oldest first.
    async fn commands(&self) -> Result<Vec<Command>, Error>;

    /// Waits until the entry of a service has another version than `seen`, and gives that.
    async fn changed(
        &self,
        service: &ServiceName,
        seen: Option<Version>,
    ) -> Result<Option<Version>, Error> {
        loop {
            let version = self.version(service).await?;
            if version != seen {
                return Ok(version);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}
