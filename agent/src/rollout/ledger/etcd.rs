//! The store of a fleet: etcd, 3.4 or newer.
//!
//! Below a prefix (`/weir/` by default):
//!
//! - `election/LEASE`: one key a candidate; the oldest leads. Its create revision and `epoch` make
//!   the fence.
//! - `status/NAME`: the document of a service, with what numbers its logs. Its modification
//!   revision is the entry's version.
//! - `evidence/NAME`, `events/NAME/NUMBER`, `revisions/NAME/NUMBER`, `commands/NAME/ID`
//!
//! Each save is one transaction, on the condition that the leader's key is still the one of the
//! fence and the status the one that was read.
//!
//! - `connection`: the client: bounded waits, errors, a new client after an outage
//! - `election`: a lease, kept alive, then a campaign
//! - `keys`: what is kept where; pure
//! - `commands`: commands that wait

mod commands;
mod connection;
mod election;
mod keys;
mod options;

use std::sync::{Arc, Mutex, PoisonError};

use etcd_client::{
    Compare, CompareOp, DeleteOptions, GetOptions, KeyValue, SortOrder, SortTarget, Txn, TxnOp,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use self::options::{Options, Tls, User};

use self::connection::Connection;
use self::election::Won;
use self::keys::Keys;
use super::entry::{limits, within};
use super::record::{Added, Record};
use super::{
    Change, Command, Entry, Error, Event, Fence, Leader, Leadership, Numbered, Revision,
    StateStore, Version,
};
use crate::model::ServiceName;

/// Things in one answer: so that it stays below gRPC's limit of 4 MiB.
const SMALL_A_PAGE: i64 = 500;
/// The same of things that may be large.
const LARGE_A_PAGE: i64 = 8;

/// The store.
#[derive(Debug)]
pub struct EtcdStore {
    connection: Arc<Connection>,
    keys: Keys,
    name: String,
    lease: std::time::Duration,
    /// What this process has won last.
    won: Mutex<Option<Won>>,
}

impl EtcdStore {
    /// A store with these options. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// An option is wrong.
    pub fn new(options: Options) -> Result<Self, Error> {
        options.check()?;
        let Options { prefix, name, lease, .. } = &options;
        Ok(Self {
            keys: Keys::new(prefix),
            name: name.clone(),
            lease: *lease,
            won: Mutex::new(None),
            connection: Arc::new(Connection::new(options)),
        })
    }

    /// All keys and values from `first` on, before `end`, in the keys' order; page by page.
    async fn range(
        &self,
        action: &'static str,
        (first, end): (String, String),
        page: i64,
        options: GetOptions,
    ) -> Result<Vec<KeyValue>, Error> {
        let mut all: Vec<KeyValue> = Vec::new();
        let mut from = first.into_bytes();
        loop {
            let mut client = self.connection.client(action).await?;
            let options = options
                .clone()
                .with_range(end.clone())
                .with_sort(SortTarget::Key, SortOrder::Ascend)
                .with_limit(page);
            let get = client.get(from.clone(), Some(options));
            let mut answer = self.connection.bounded(action, get).await?;
            all.extend(answer.take_kvs());
            let most = limits::SERVICES * limits::COMMANDS;
            match all.last() {
                Some(last) if answer.more() && all.len() < most => {
                    from = [last.key(), b"\0"].concat();
                }
                _ => return Ok(all),
            }
        }
    }

    /// The record of a service, with its version.
    async fn record(
        &self,
        action: &'static str,
        service: &ServiceName,
    ) -> Result<Option<(Version, Record)>, Error> {
        let mut client = self.connection.client(action).await?;
        let get = client.get(self.keys.status(service), None);
        let answer = self.connection.bounded(action, get).await?;
        answer.kvs().first().map(|kv| Ok((version(kv), parsed(kv)?))).transpose()
    }

    fn won(&self, fence: Fence) -> Option<Won> {
        let won = self.won.lock().unwrap_or_else(PoisonError::into_inner);
        won.clone().filter(|won| won.fence == fence)
    }

    async fn fenced(&self, fence: Fence) -> Error {
        match self.leader().await {
            Ok(leader) => Error::Fenced { fence, leads: leader.map(|leader| leader.fence) },
            Err(error) => error,
        }
    }

    /// The operations of a save.
    fn operations(
        &self,
        service: &ServiceName,
        record: &Record,
        added: &Added,
        evidence: &Value,
        handled: &[super::CommandId],
    ) -> Result<Vec<TxnOp>, Error> {
        let document = within("the document", &record.document, limits::DOCUMENT)?;
        let status = within("the status", record, document.len() + (64 << 10))?;
        let evidence = within("the evidence", evidence, limits::EVIDENCE)?;
        let mut operations = vec![
            TxnOp::put(self.keys.status(service), status, None),
            TxnOp::put(self.keys.evidence(service), evidence, None),
        ];
        let older = |(first, end): (String, String)| {
            TxnOp::delete(first, Some(DeleteOptions::new().with_range(end)))
        };
        for event in &added.events {
            let text = within("an event", event, limits::EVENT)?;
            operations.push(TxnOp::put(self.keys.event(service, event.number), text, None));
        }
        if !added.events.is_empty() {
            operations.push(older(self.keys.events(service, 0, record.first_event())));
        }
        if let Some(revision) = &added.revision {
            let text = within("a revision", revision, limits::REVISION)?;
            operations.push(TxnOp::put(self.keys.revision(service, revision.number), text, None));
            operations.push(older(self.keys.revisions(service, 0, record.first_revision())));
        }
        let commands = handled.iter().map(|id| self.keys.command(service, id));
        operations.extend(commands.map(|key| TxnOp::delete(key, None)));
        Ok(operations)
    }
}

/// What a value says.
fn parsed<T: DeserializeOwned>(kv: &KeyValue) -> Result<T, Error> {
    serde_json::from_slice(kv.value()).map_err(|error| Error::Damaged {
        at: format!("etcd's key {}", String::from_utf8_lossy(kv.key())),
        reason: error.to_string(),
    })
}

fn version(status: &KeyValue) -> Version {
    Version(status.mod_revision().cast_unsigned())
}

#[tonic::async_trait]
impl StateStore for EtcdStore {
    async fn campaign(&self) -> Result<Leadership, Error> {
        let (leadership, won) =
            election::campaign(&self.connection, &self.keys, &self.name, self.lease).await?;
        *self.won.lock().unwrap_or_else(PoisonError::into_inner) = Some(won);
        Ok(leadership)
    }

    async fn leader(&self) -> Result<Option<Leader>, Error> {
        let action = "read who leads";
        let mut client = self.connection.client(action).await?;
        let oldest = GetOptions::new()
            .with_prefix()
            .with_sort(SortTarget::Create, SortOrder::Ascend)
            .with_limit(1);
        let oldest = TxnOp::get(format!("{}/", self.keys.election()), Some(oldest));
        let both = Txn::new().and_then([oldest, TxnOp::get(self.keys.epoch(), None)]);
        let answer = self.connection.bounded(action, client.txn(both)).await?;
        match connection::first_of_each(&answer).as_slice() {
            [Some(leader), Some(epoch)] => Ok(Some(Leader {
                name: String::from_utf8_lossy(leader.value()).into_owned(),
                fence: election::fence(epoch, leader.create_revision())?,
            })),
            _ => Ok(None),
        }
    }

    async fn services(&self) -> Result<Vec<ServiceName>, Error> {
        let keys_only = GetOptions::new().with_keys_only();
        let all = self.keys.all_status();
        let keys = self.range("list services", all, SMALL_A_PAGE, keys_only).await?;
        Ok(keys.iter().filter_map(|kv| keys::service(kv.key())).collect())
    }

    async fn load(&self, service: &ServiceName) -> Result<Option<Entry>, Error> {
        let action = "load a state";
        let mut client = self.connection.client(action).await?;
        // Both in one transaction: of the same save.
        let both = [self.keys.status(service), self.keys.evidence(service)];
        let both = both.map(|key| TxnOp::get(key, None));
        let txn = client.txn(Txn::new().and_then(both));
        let answer = self.connection.bounded(action, txn).await?;
        let kvs = connection::first_of_each(&answer);
        let [Some(status), evidence] = kvs.as_slice() else { return Ok(None) };
        let record: Record = parsed(status)?;
        Ok(Some(Entry {
            version: version(status),
            document: record.document,
            evidence: evidence.as_ref().map_or(Ok(Value::Null), parsed)?,
            warning: None,
        }))
    }

    async fn version(&self, service: &ServiceName) -> Result<Option<Version>, Error> {
        let action = "load a state";
        let mut client = self.connection.client(action).await?;
        let get = client.get(self.keys.status(service), Some(GetOptions::new().with_keys_only()));
        let answer = self.connection.bounded(action, get).await?;
        Ok(answer.kvs().first().map(version))
    }

    async fn save(
        &self,
        fence: Fence,
        service: &ServiceName,
        read: Option<Version>,
        change: Change,
    ) -> Result<Version, Error> {
        let action = "save a state";
        change.check()?;
        let Some(won) = self.won(fence) else { return Err(self.fenced(fence).await) };
        // If it is another than the one read, the transaction says so; it also knows who leads.
        let before = self.record(action, service).await?;
        if before.is_none() && self.services().await?.len() >= limits::SERVICES {
            return Err(Error::Full { what: "services", limit: limits::SERVICES });
        }
        let handled = change.handled.clone();
        let (record, added, evidence) =
            before.map_or_else(Record::default, |(_, record)| record).after(change);
        let operations = self.operations(service, &record, &added, &evidence, &handled)?;

        let status = self.keys.status(service);
        let leads = Compare::create_revision(won.key.clone(), CompareOp::Equal, won.revision);
        let read_revision = read.map_or(0, |version| version.0.cast_signed());
        let unchanged = Compare::mod_revision(status.clone(), CompareOp::Equal, read_revision);
        let keys_only = || Some(GetOptions::new().with_keys_only());
        let txn = Txn::new()
            .when([leads, unchanged])
            .and_then(operations)
            .or_else([TxnOp::get(won.key, keys_only()), TxnOp::get(status, keys_only())]);
        let mut client = self.connection.client(action).await?;
        let answer = self.connection.bounded(action, client.txn(txn)).await?;
        if answer.succeeded() {
            let revision = answer.header().map_or(0, etcd_client::ResponseHeader::revision);
            return Ok(Version(revision.cast_unsigned()));
        }
        match connection::first_of_each(&answer).as_slice() {
            [Some(leader), status] if leader.create_revision() == won.revision => {
                Err(Error::Conflict { read, found: status.as_ref().map(version) })
            }
            _ => Err(self.fenced(fence).await),
        }
    }

    async fn events(
        &self,
        service: &ServiceName,
        after: u64,
    ) -> Result<Vec<Numbered<Event>>, Error> {
        let range = self.keys.events(service, after.saturating_add(1), u64::MAX);
        let kvs = self.range("read events", range, SMALL_A_PAGE, GetOptions::new()).await?;
        kvs.iter().map(parsed).collect()
    }

    async fn revisions(&self, service: &ServiceName) -> Result<Vec<Numbered<Revision>>, Error> {
        let range = self.keys.revisions(service, 0, u64::MAX);
        let kvs = self.range("read revisions", range, LARGE_A_PAGE, GetOptions::new()).await?;
        kvs.iter().map(parsed).collect()
    }

    async fn submit(&self, command: Command) -> Result<(), Error> {
        self.put(&command).await
    }

    async fn commands(&self) -> Result<Vec<Command>, Error> {
        self.waiting().await
    }
}
