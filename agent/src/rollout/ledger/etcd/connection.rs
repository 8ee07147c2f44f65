//! The client: bounded waits, errors with their causes, a new client after an outage.

use std::fs;
use std::future::Future;
use std::path::Path;
use std::time::Duration;

use etcd_client::{
    Certificate, Client, ConnectOptions, Identity, KeyValue, TlsOptions, TxnOpResponse, TxnResponse,
};
use tokio::sync::Mutex;
use tokio::time::timeout;
use tonic::Code;

use super::super::Error;
use super::Options;
use crate::causes::causes;

/// How often the connection is asked whether it lives. etcd takes more than one in 5 s amiss.
const PING_EVERY: Duration = Duration::from_secs(10);
/// How long it may take to answer.
const PING_LIMIT: Duration = Duration::from_secs(5);

/// A client that is made when it is needed, and again after it has failed.
#[derive(Debug)]
pub(super) struct Connection {
    options: Options,
    client: Mutex<Option<DebugClient>>,
}

/// So that whatever holds it can be shown.
struct DebugClient(Client);

impl std::fmt::Debug for DebugClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

impl Connection {
    pub(super) fn new(options: Options) -> Self {
        Self { options, client: Mutex::new(None) }
    }

    /// How long a call may take.
    pub(super) fn limit(&self) -> Duration {
        self.options.limit
    }

    /// The client. Without a password that sends nothing yet.
    pub(super) async fn client(&self, action: &'static str) -> Result<Client, Error> {
        let made = timeout(self.options.limit, async {
            let mut client = self.client.lock().await;
            if let Some(DebugClient(client)) = &*client {
                return Ok(client.clone());
            }
            let options = connect_options(&self.options)?;
            let made = Client::connect(&self.options.endpoints, Some(options)).await;
            let made = made.map_err(|error| self.refused(action, &error))?;
            *client = Some(DebugClient(made.clone()));
            Ok(made)
        });
        made.await.unwrap_or_else(|_| Err(self.silent(action)))
    }

    /// An answer, within the limit. After an outage the next call makes a new client: the old one
    /// may still wait for an answer on a connection that is long dead.
    pub(super) async fn bounded<T>(
        &self,
        action: &'static str,
        call: impl Future<Output = Result<T, etcd_client::Error>>,
    ) -> Result<T, Error> {
        let answer = match timeout(self.options.limit, call).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => self.refused(action, &error),
            Err(_) => self.silent(action),
        };
        self.forget().await;
        Err(answer)
    }

    /// Lets the next call make a new client.
    pub(super) async fn forget(&self) {
        self.client.lock().await.take();
    }

    /// What an error of etcd's means.
    pub(super) fn refused(&self, action: &'static str, error: &etcd_client::Error) -> Error {
        let store = self.store();
        match error {
            etcd_client::Error::GRpcStatus(status) => {
                let reason = causes(status);
                match status.code() {
                    Code::Unauthenticated
                    | Code::PermissionDenied
                    | Code::InvalidArgument
                    | Code::FailedPrecondition => Error::Denied { store, action, reason },
                    _ => Error::Unavailable { store, action, reason },
                }
            }
            etcd_client::Error::TransportError(error) => {
                Error::Unavailable { store, action, reason: causes(error) }
            }
            other => Error::Unavailable { store, action, reason: other.to_string() },
        }
    }

    fn silent(&self, action: &'static str) -> Error {
        let within = humantime::format_duration(self.options.limit);
        Error::Unavailable {
            store: self.store(),
            action,
            reason: format!("no answer within {within}"),
        }
    }

    /// That something else than a call has failed.
    pub(super) fn lost(&self, action: &'static str, reason: String) -> Error {
        Error::Unavailable { store: self.store(), action, reason }
    }

    fn store(&self) -> String {
        format!("etcd at {}", self.options.endpoints.join(", "))
    }
}

fn connect_options(options: &Options) -> Result<ConnectOptions, Error> {
    let mut connect = ConnectOptions::new()
        .with_connect_timeout(options.limit)
        .with_keep_alive(PING_EVERY, PING_LIMIT)
        .with_require_leader(true)
        .with_auto_token_refresh(true);
    if let Some(tls) = &options.tls {
        let ca = Certificate::from_pem(read("CA", &tls.ca)?);
        let mut with = TlsOptions::new().ca_certificate(ca);
        if let Some((certificate, key)) = &tls.identity {
            let certificate = read("certificate", certificate)?;
            with = with.identity(Identity::from_pem(certificate, read("key", key)?));
        }
        connect = connect.with_tls(with);
    }
    if let Some(user) = &options.user {
        connect = connect.with_user(&user.name, &user.password);
    }
    Ok(connect)
}

fn read(option: &'static str, path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|e| Error::Option { option, reason: format!("{}: {e}", path.display()) })
}

/// Of each operation of a transaction that gets something, the first key.
pub(super) fn first_of_each(answer: &TxnResponse) -> Vec<Option<KeyValue>> {
    let first = |operation| match operation {
        TxnOpResponse::Get(mut get) => Some(get.take_kvs().into_iter().next()),
        _ => None,
    };
    answer.op_responses().into_iter().filter_map(first).collect()
}
