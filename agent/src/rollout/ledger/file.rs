//! The store of one node: a directory.
//!
//! - `lock`: whoever leads holds a lock on it; the kernel takes it back from one that dies
//! - `leader.json`: its fence and name, sealed
//! - `services/NAME/state.json`: an entry, sealed, replaced as a whole; `….prev` is the one before
//! - `services/NAME/events-N.log`: its events, only ever appended to
//! - `services/NAME/revision-N.json`: its revisions, sealed
//! - `commands/NAME/ID.json`: commands that wait, sealed
//!
//! The rename of `state.json` is what makes a save. What belongs to it and is written before is
//! not looked at until then (a revision); what is written after (events, the end of a command) is
//! in the state, too, and made up for by the next save.
//!
//! - `disk`: entries, events and revisions; nothing here waits
//! - `commands`: commands that wait
//! - `event_log`: the text of a log, and back; pure
//! - `lock`: who leads
//! - `files`: reading, listing, sealing

mod commands;
mod disk;
mod event_log;
mod files;
mod lock;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use self::disk::Disk;
use self::lock::Lock;
use super::leadership::{Holding, Sure, claim};
use super::{
    Change, Command, Entry, Error, Event, Fence, Leader, Leadership, Numbered, Revision,
    StateStore, Version,
};
use crate::model::ServiceName;

/// How often a candidate tries.
const TRY_EVERY: Duration = Duration::from_millis(100);
/// How long a call may take: a disk that hangs is an outage.
const LIMIT: Duration = Duration::from_secs(5);

/// Where, and who.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The directory; made if there is none.
    pub directory: PathBuf,
    /// How this coordinator calls itself to others; may hold the address of its API.
    pub name: String,
}

/// The store.
#[derive(Debug, Clone)]
pub struct FileStore {
    name: String,
    disk: Arc<Disk>,
}

impl FileStore {
    /// Makes the directory if there is none.
    ///
    /// # Errors
    ///
    /// It cannot be made.
    pub fn open(options: Options) -> Result<Self, Error> {
        let disk = Arc::new(Disk::open(options.directory)?);
        Ok(Self { name: options.name, disk })
    }

    /// Works on the files, beside the runtime, for as long as a call may take.
    async fn work<T: Send + 'static>(
        &self,
        action: &'static str,
        work: impl FnOnce(&Disk) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let disk = Arc::clone(&self.disk);
        let worked = timeout(LIMIT, spawn_blocking(move || work(&disk))).await;
        let reason = match worked {
            Ok(Ok(done)) => return done,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("the disk has not answered within {} s", LIMIT.as_secs()),
        };
        let store = self.disk.directory().display().to_string();
        Err(Error::Unavailable { store, action, reason })
    }
}

/// Holds the lock until the leadership is given up.
async fn hold(disk: Arc<Disk>, lock: Lock, mut holding: Holding) {
    let told = holding.end.recv().await;
    disk.give_up(lock);
    if let Some(done) = told {
        let _ = done.send(());
    }
}

#[tonic::async_trait]
impl StateStore for FileStore {
    async fn campaign(&self) -> Result<Leadership, Error> {
        loop {
            let name = self.name.clone();
            // A lock that is taken after this future was dropped goes with the work's result.
            let won = self.work("lead", move |disk| disk.take(&name)).await?;
            if let Some((lock, fence)) = won {
                let (claim, holding) = claim(Sure::Always);
                tokio::spawn(hold(Arc::clone(&self.disk), lock, holding));
                return Ok(claim.leads(fence));
            }
            sleep(TRY_EVERY).await;
        }
    }

    async fn leader(&self) -> Result<Option<Leader>, Error> {
        self.work("read who leads", Disk::leader).await
    }

    async fn services(&self) -> Result<Vec<ServiceName>, Error> {
        self.work("list services", Disk::services).await
    }

    async fn load(&self, service: &ServiceName) -> Result<Option<Entry>, Error> {
        let service = service.clone();
        self.work("load a state", move |disk| disk.load(&service)).await
    }

    async fn version(&self, service: &ServiceName) -> Result<Option<Version>, Error> {
        let service = service.clone();
        self.work("load a state", move |disk| disk.version(&service)).await
    }

    async fn save(
        &self,
        fence: Fence,
        service: &ServiceName,
        read: Option<Version>,
        change: Change,
    ) -> Result<Version, Error> {
        let service = service.clone();
        self.work("save a state", move |disk| disk.save(fence, &service, read, change)).await
    }

    async fn events(
        &self,
        service: &ServiceName,
        after: u64,
    ) -> Result<Vec<Numbered<Event>>, Error> {
        let service = service.clone();
        self.work("read events", move |disk| disk.events(&service, after)).await
    }

    async fn revisions(&self, service: &ServiceName) -> Result<Vec<Numbered<Revision>>, Error> {
        let service = service.clone();
        self.work("read revisions", move |disk| disk.revisions(&service)).await
    }

    async fn submit(&self, command: Command) -> Result<(), Error> {
        self.work("put a command", move |disk| disk.submit(&command)).await
    }

    async fn commands(&self) -> Result<Vec<Command>, Error> {
        self.work("read commands", Disk::commands).await
    }
}
