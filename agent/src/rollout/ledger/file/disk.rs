//! The files. One writer at a time: whoever holds the lock, and in that process one call.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::entry::{limits, within};
use super::super::record::{Added, Record};
use super::super::{Change, Entry, Error, Event, Fence, Leader, Numbered, Revision, Version};
use super::event_log;
use super::files::{io_error, list, make_directory, read, sealed, unsealed};
use super::lock::Lock;
use crate::model::ServiceName;
use crate::store;
use crate::store::sealed_file::{Found, SealedFile};

/// The text of `state.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    version: Version,
    /// What the last save has added to the log. A crash may have kept it from there.
    added: Vec<Numbered<Event>>,
    evidence: Value,
    record: Record,
}

/// A directory with all files.
#[derive(Debug)]
pub(super) struct Disk {
    directory: PathBuf,
    /// The fence of the lock that this process holds.
    holds: Mutex<Option<Fence>>,
}

impl Disk {
    pub(super) fn open(directory: PathBuf) -> Result<Self, Error> {
        make_directory(&directory)?;
        Ok(Self { directory, holds: Mutex::new(None) })
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    fn holds(&self) -> MutexGuard<'_, Option<Fence>> {
        self.holds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_file(&self) -> PathBuf {
        self.directory.join("lock")
    }

    fn leader_file(&self) -> SealedFile {
        sealed(self.directory.join("leader.json"))
    }

    fn of(&self, service: &ServiceName) -> PathBuf {
        self.directory.join("services").join(service.as_str())
    }

    /// The lock and a new fence, unless somebody leads.
    pub(super) fn take(&self, name: &str) -> Result<Option<(Lock, Fence)>, Error> {
        let mut holds = self.holds();
        let path = self.lock_file();
        let Some(lock) = Lock::take(&path).map_err(io_error("lock", &path))? else {
            return Ok(None);
        };
        let last = self.leader_file().load(unsealed::<Leader>)?.content.map_or(0, |l| l.fence.0);
        // Where the file was lost, or there was a store of another kind, agents know a fence: the
        // time is beyond it.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let fence = Fence(u64::try_from(now).unwrap_or(0).max(last + 1));
        let leader = Leader { name: name.to_owned(), fence };
        self.leader_file().replace(&within("the leader", &leader, limits::EVENT)?)?;
        *holds = Some(leader.fence);
        Ok(Some((lock, leader.fence)))
    }

    /// Lets others lead.
    pub(super) fn give_up(&self, lock: Lock) {
        // A save that is under way ends before.
        *self.holds() = None;
        drop(lock);
    }

    pub(super) fn leader(&self) -> Result<Option<Leader>, Error> {
        let path = self.lock_file();
        if Lock::is_taken(&path).map_err(io_error("look at", &path))? {
            Ok(self.leader_file().look(unsealed)?.content)
        } else {
            Ok(None)
        }
    }

    pub(super) fn services(&self) -> Result<Vec<ServiceName>, Error> {
        let names = list(&self.directory.join("services"))?;
        let mut names: Vec<_> = names.iter().filter_map(|n| ServiceName::new(n).ok()).collect();
        names.sort();
        names.retain(|name| self.of(name).join("state.json").exists());
        Ok(names)
    }

    fn state_file(&self, service: &ServiceName) -> SealedFile {
        sealed(self.of(service).join("state.json"))
    }

    fn state(&self, service: &ServiceName) -> Result<Found<State>, Error> {
        Ok(self.state_file(service).look(unsealed)?)
    }

    /// The record of a service's entry.
    pub(super) fn record(&self, service: &ServiceName) -> Result<Option<Record>, Error> {
        Ok(self.state(service)?.content.map(|state| state.record))
    }

    pub(super) fn load(&self, service: &ServiceName) -> Result<Option<Entry>, Error> {
        let Found { content, warning } = self.state(service)?;
        Ok(content.map(|State { version, evidence, record, .. }| Entry {
            version,
            document: record.document,
            evidence,
            warning,
        }))
    }

    pub(super) fn version(&self, service: &ServiceName) -> Result<Option<Version>, Error> {
        Ok(self.state(service)?.content.map(|state| state.version))
    }

    pub(super) fn save(
        &self,
        fence: Fence,
        service: &ServiceName,
        read: Option<Version>,
        change: Change,
    ) -> Result<Version, Error> {
        change.check()?;
        let holds = self.holds();
        // The file is looked at, too: somebody may have put another in the lock's place.
        if *holds != Some(fence) || self.leader()?.map(|leader| leader.fence) != Some(fence) {
            return Err(Error::Fenced { fence, leads: self.leader()?.map(|leader| leader.fence) });
        }
        let before = self.state_file(service).load(unsealed::<State>)?.content;
        let found = before.as_ref().map(|state| state.version);
        if found != read {
            return Err(Error::Conflict { read, found });
        }
        let directory = self.of(service);
        let record = match before {
            Some(State { record, added, .. }) => {
                append(&directory, &added)?;
                record
            }
            None if self.services()?.len() >= limits::SERVICES => {
                return Err(Error::Full { what: "services", limit: limits::SERVICES });
            }
            None => {
                make_directory(&directory)?;
                Record::default()
            }
        };
        let (record, Added { events, revision }, evidence) = record.after(change);
        within("the document", &record.document, limits::DOCUMENT)?;
        within("the evidence", &evidence, limits::EVIDENCE)?;
        for event in &events {
            within("an event", event, limits::EVENT)?;
        }
        if let Some(revision) = revision {
            let text = within("a revision", &revision, limits::REVISION)?;
            sealed(revision_file(&directory, revision.number)).replace(&text)?;
        }
        let version = Version(found.map_or(1, |version| version.0 + 1));
        let state = State { version, added: events, evidence, record };
        let text = within("the state", &state, limits::STATE)?;
        if let store::Kept::Unflushed(reason) = self.state_file(service).replace(&text)? {
            tracing::warn!("the state of the rollout is not sure to be on the disk: {reason}");
        }
        // It is saved. What is left to do now is done by the next save if it cannot be done.
        if let Err(error) = append(&directory, &state.added) {
            tracing::warn!("the event log will be made up for with the next save: {error}");
        }
        self.tidy(service, &state.record);
        Ok(version)
    }

    /// Removes commands that are answered, and what has become too old.
    fn tidy(&self, service: &ServiceName, record: &Record) {
        let commands = self.commands_of(service);
        for name in list(&commands).unwrap_or_default() {
            let id = name.strip_suffix(".json").unwrap_or_default();
            if record.handled.iter().any(|handled| handled.as_str() == id) {
                let _ = fs::remove_file(commands.join(name));
            }
        }
        let directory = self.of(service);
        for name in list(&directory).unwrap_or_default() {
            let number = |before: &str| {
                let digits: String =
                    name.strip_prefix(before)?.chars().take_while(char::is_ascii_digit).collect();
                digits.parse::<u64>().ok()
            };
            let old = number("events-").is_some_and(|n| n < segment(record.first_event()))
                || number("revision-").is_some_and(|n| n < record.first_revision());
            if old {
                let _ = fs::remove_file(directory.join(name));
            }
        }
    }

    pub(super) fn events(
        &self,
        service: &ServiceName,
        after: u64,
    ) -> Result<Vec<Numbered<Event>>, Error> {
        let Some(State { record, added, .. }) = self.state(service)?.content else {
            return Ok(Vec::new());
        };
        let first = record.first_event().max(after.saturating_add(1));
        let mut events = Vec::new();
        for segment in segment(first)..=segment(record.last_event.max(first)) {
            events.extend(event_log::read(&read(&segment_file(&self.of(service), segment))?));
        }
        events.extend(added);
        // Events that were appended since the state was read are not of this state.
        events.retain(|event| (first..=record.last_event).contains(&event.number));
        events.sort_by_key(|event| event.number);
        events.dedup_by_key(|event| event.number);
        Ok(events)
    }

    pub(super) fn revisions(
        &self,
        service: &ServiceName,
    ) -> Result<Vec<Numbered<Revision>>, Error> {
        let Some(record) = self.record(service)? else { return Ok(Vec::new()) };
        let numbers = record.first_revision()..=record.last_revision;
        let revision = |number| {
            let file = sealed(revision_file(&self.of(service), number));
            file.look(unsealed).map(|found| found.content).transpose()
        };
        Ok(numbers.filter_map(revision).collect::<Result<_, _>>()?)
    }
}

fn revision_file(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("revision-{number}.json"))
}

/// Which file of the log an event is in.
fn segment(number: u64) -> u64 {
    number / limits::EVENTS
}

fn segment_file(directory: &Path, segment: u64) -> PathBuf {
    directory.join(format!("events-{segment}.log"))
}

/// Appends to the log what of these events is not there.
fn append(directory: &Path, events: &[Numbered<Event>]) -> Result<(), Error> {
    for events in events.chunk_by(|a, b| segment(a.number) == segment(b.number)) {
        let path = segment_file(directory, segment(events[0].number));
        let more = event_log::missing(&read(&path)?, events)
            .map_err(|e| Error::Unwritable { what: "an event", reason: e.to_string() })?;
        let append = || {
            let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path)?;
            file.write_all(more.as_bytes())?;
            file.sync_data()
        };
        if !more.is_empty() {
            append().map_err(io_error("append to", &path))?;
        }
    }
    Ok(())
}
