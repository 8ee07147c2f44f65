//! The client of an agent: typed calls over its Unix socket or over mutual TLS, and errors fit to be
//! read.

use std::{fmt, time::Duration};

use tokio_stream::{Stream, StreamExt as _};
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt as _;
use weir_proto::v1::{self, weir_client::WeirClient};

mod address;
mod connect;
mod events;
mod guard;
mod lease;
mod trace;

pub use address::{Address, AddressError, TlsAddress};
pub use connect::channel;

use crate::{
    api::{
        MAX_MESSAGE,
        convert::{Malformed, answer, drain, interval, read, request},
    },
    model::{ServiceName, ServiceSpec, Violation},
    node::messages::{
        ChangeOptions, Changed, Commit, Counters, Delete, DrainStatus, NodeStatus, Sample,
        ServiceStatus, SetBackend, Settle, Settled, Shift, Steer,
    },
};

/// Where an agent listens unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/weir/weir.sock";

/// Longer than the agent's own bound on an answer, so that the agent's error is the one that is seen.
const ANSWER_WAIT: Duration = Duration::from_secs(90);

/// Why a call failed.
#[derive(Debug)]
pub enum ClientError {
    /// Nobody listens there.
    NoAgent(Address),
    /// The socket may not be used by this user.
    Denied(Address),
    /// The agent was not reached, or was lost on the way.
    Unreachable {
        /// Where it was looked for.
        address: Address,
        /// What happened.
        message: String,
    },
    /// The agent refused the request; nothing was changed.
    Refused {
        /// The reason that programs can match on, such as `INVALID_REQUEST`; may be empty.
        reason: String,
        /// What is wrong.
        message: String,
        /// Each field that is wrong.
        violations: Vec<Violation>,
    },
    /// The agent failed.
    Failed(String),
    /// The answer is of another version.
    Malformed(Malformed),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAgent(address @ Address::Unix(_)) => write!(
                f,
                "no agent at {address}: is it running? Start it with `weir agent --interface NAME`, or name its \
                 socket with --socket"
            ),
            Self::NoAgent(address @ Address::Tls(_)) => write!(
                f,
                "no agent at {address}: is it running with --listen, and is this its address and port?"
            ),
            Self::Denied(address) => write!(
                f,
                "no permission to use {address}: run as root, or as a member of the socket's group"
            ),
            Self::Unreachable { address, message } => {
                write!(f, "the agent at {address}: {message}")
            }
            Self::Refused { message, violations, .. } => match violations.as_slice() {
                [] => write!(f, "refused: {message}"),
                [only] => write!(f, "refused: {only}"),
                all => {
                    f.write_str("refused:")?;
                    all.iter().try_for_each(|violation| write!(f, "\n  {violation}"))
                }
            },
            Self::Failed(message) => write!(f, "the agent failed: {message}"),
            Self::Malformed(malformed) => malformed.fmt(f),
        }
    }
}

impl std::error::Error for ClientError {}

impl From<Malformed> for ClientError {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

/// A connection to one agent. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    address: Address,
    weir: WeirClient<Channel>,
}

impl Client {
    /// Connects to an agent; a path is the one of its socket. A connection that is lost is made anew by
    /// the next call.
    ///
    /// # Errors
    ///
    /// Why it cannot be reached.
    pub async fn connect(address: impl Into<Address>) -> Result<Self, ClientError> {
        let address = address.into();
        let weir = WeirClient::new(channel(&address).await?)
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE);
        Ok(Self { address, weir })
    }

    /// Creates or replaces services.
    pub async fn apply(
        &mut self,
        services: &[ServiceSpec],
        options: &ChangeOptions,
    ) -> Result<Changed, ClientError> {
        let request = bounded(request::apply_to_proto(services, options));
        let answer =
            self.weir.apply(request).await.map_err(|status| self.failed(&status))?.into_inner();
        Ok(Changed {
            commit: read::commit(answer.commit)?,
            changes: read::changes(answer.changes)?,
        })
    }

    /// Removes services.
    pub async fn delete(&mut self, delete: &Delete) -> Result<Commit, ClientError> {
        let request = bounded(request::delete_to_proto(delete));
        let answer = self.weir.delete(request).await.map_err(|status| self.failed(&status))?;
        Ok(read::commit(answer.into_inner().commit)?)
    }

    /// One service.
    pub async fn get(&mut self, service: &ServiceName) -> Result<ServiceStatus, ClientError> {
        let request = bounded(v1::GetRequest { service: service.to_string() });
        let answer =
            self.weir.get(request).await.map_err(|status| self.failed(&status))?.into_inner();
        Ok(read::service_status(answer.service.ok_or(Malformed("service"))?)?)
    }

    /// All services, ordered by name.
    pub async fn list(&mut self) -> Result<Vec<ServiceStatus>, ClientError> {
        let answer = self
            .weir
            .list(bounded(v1::ListRequest {}))
            .await
            .map_err(|status| self.failed(&status))?;
        Ok(read::service_statuses(answer.into_inner().services)?)
    }

    /// Changes weights.
    pub async fn shift(&mut self, shift: &Shift) -> Result<Changed, ClientError> {
        let request = bounded(request::shift_to_proto(shift));
        let answer = self
            .weir
            .shift_weights(request)
            .await
            .map_err(|status| self.failed(&status))?
            .into_inner();
        Ok(Changed {
            commit: read::commit(answer.commit)?,
            changes: read::changes(answer.changes)?,
        })
    }

    /// Sets by hand whether a backend takes new connections.
    pub async fn set_backend(&mut self, set: &SetBackend) -> Result<Changed, ClientError> {
        let request = bounded(drain::set_backend_to_proto(set));
        let answer = self.weir.set_backend_state(request).await;
        let answer = answer.map_err(|status| self.failed(&status))?.into_inner();
        Ok(Changed {
            commit: read::commit(answer.commit)?,
            changes: read::changes(answer.change.into_iter().collect())?,
        })
    }

    /// What drains, of the named services, or of all if none is named.
    pub async fn drains(
        &mut self,
        services: &[ServiceName],
    ) -> Result<Vec<DrainStatus>, ClientError> {
        let request = bounded(v1::ListDrainsRequest { services: texts(services) });
        let answer = self.weir.list_drains(request).await.map_err(|status| self.failed(&status))?;
        Ok(read::all(answer.into_inner().drains, drain::status)?)
    }

    /// Ends the transition of a service now.
    pub async fn settle(&mut self, settle: &Settle) -> Result<Settled, ClientError> {
        let request = bounded(drain::settle_to_proto(settle));
        let answer = self.weir.settle(request).await.map_err(|status| self.failed(&status))?;
        Ok(drain::settled(answer.into_inner())?)
    }

    /// Adds and removes steering rules.
    pub async fn steer(&mut self, steer: &Steer) -> Result<Changed, ClientError> {
        let request = bounded(request::steer_to_proto(steer));
        let answer =
            self.weir.steer(request).await.map_err(|status| self.failed(&status))?.into_inner();
        Ok(Changed {
            commit: read::commit(answer.commit)?,
            changes: read::changes(answer.change.into_iter().collect())?,
        })
    }

    /// The counters of the named services, or of all if none is named.
    pub async fn counters(&mut self, services: &[ServiceName]) -> Result<Counters, ClientError> {
        let request = bounded(v1::ReadCountersRequest { services: texts(services), since: None });
        let answer =
            self.weir.read_counters(request).await.map_err(|status| self.failed(&status))?;
        Ok(read::counters(answer.into_inner().counters)?)
    }

    /// The counters now, and what was counted since an earlier answer.
    pub async fn counters_since(
        &mut self,
        services: &[ServiceName],
        mark: Counters,
    ) -> Result<Sample, ClientError> {
        let since = Some(answer::counters(mark));
        let request = bounded(v1::ReadCountersRequest { services: texts(services), since });
        let answer = self.weir.read_counters(request).await;
        let answer = answer.map_err(|status| self.failed(&status))?.into_inner();
        Ok(Sample {
            counters: read::counters(answer.counters)?,
            interval: answer.interval.map(interval::read_interval).transpose()?,
        })
    }

    /// The counters now, then at each interval with what was counted since the answer before, until
    /// the stream is dropped.
    pub async fn watch_counters(
        &mut self,
        services: &[ServiceName],
        every: Duration,
    ) -> Result<impl Stream<Item = Result<Sample, ClientError>> + use<>, ClientError> {
        let interval_ms = u32::try_from(every.as_millis()).unwrap_or(u32::MAX);
        let request = v1::WatchCountersRequest { interval_ms, services: texts(services) };
        let stream = self
            .weir
            .watch_counters(request)
            .await
            .map_err(|status| self.failed(&status))?
            .into_inner();
        let address = self.address.clone();
        Ok(stream.map(move |answer| {
            let answer = answer.map_err(|status| from_status(&address, &status))?;
            Ok(Sample {
                counters: read::counters(answer.counters)?,
                interval: answer.interval.map(interval::read_interval).transpose()?,
            })
        }))
    }

    /// The agent itself.
    pub async fn status(&mut self) -> Result<NodeStatus, ClientError> {
        let request = bounded(v1::NodeStatusRequest {});
        let answer = self.weir.node_status(request).await.map_err(|status| self.failed(&status))?;
        Ok(read::node_status(answer.into_inner())?)
    }

    fn failed(&self, status: &Status) -> ClientError {
        from_status(&self.address, status)
    }
}

/// A request with a bound on the wait for its answer.
pub(crate) fn bounded<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(ANSWER_WAIT);
    request
}

fn texts(services: &[ServiceName]) -> Vec<String> {
    services.iter().map(ToString::to_string).collect()
}

/// Sorts a status: refused by the agent, failed in it, or lost on the way.
pub(crate) fn from_status(address: &Address, status: &Status) -> ClientError {
    let details = status.get_error_details();
    match status.code() {
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::ResourceExhausted
        | Code::OutOfRange
        | Code::PermissionDenied => {
            let violations = details
                .bad_request()
                .map(|bad| bad.field_violations.as_slice())
                .unwrap_or_default();
            let violation = |wrong: &tonic_types::FieldViolation| Violation {
                field: wrong.field.clone(),
                message: wrong.description.clone(),
            };
            ClientError::Refused {
                reason: details.error_info().map(|info| info.reason.clone()).unwrap_or_default(),
                message: status.message().to_owned(),
                violations: violations.iter().map(violation).collect(),
            }
        }
        Code::Unavailable => {
            ClientError::Unreachable { address: address.clone(), message: message(status) }
        }
        Code::Unimplemented => ClientError::Failed(
            "it does not know this call: are agent and command line of the same version?".into(),
        ),
        _ => ClientError::Failed(message(status)),
    }
}

/// What the status says, or its code's meaning if it says nothing.
fn message(status: &Status) -> String {
    if status.message().is_empty() {
        status.code().description().to_owned()
    } else {
        status.message().to_owned()
    }
}
