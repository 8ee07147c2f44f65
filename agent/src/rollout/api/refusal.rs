//! Why a coordinator does not do what is asked, and the gRPC status that says so.
//!
//! | reason | code | details |
//! | --- | --- | --- |
//! | `INVALID_REQUEST` | `INVALID_ARGUMENT` | `BadRequest`: each field |
//! | `NO_ROLLOUT` | `NOT_FOUND` | |
//! | `ACTIVE` | `FAILED_PRECONDITION` | |
//! | `NOT_NOW` | `FAILED_PRECONDITION` | |
//! | `NOT_LEADING` | `FAILED_PRECONDITION` | metadata `leader` |
//! | `TOO_MANY_ROLLOUTS`, `TOO_MANY_WATCHERS` | `RESOURCE_EXHAUSTED` | |
//! | `STORE` | `UNAVAILABLE` | |

use std::collections::HashMap;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

use crate::{
    api::error::DOMAIN,
    model::{ServiceName, Violation},
};

/// A request that was not carried out. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The request is wrong by itself. Never empty.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Invalid(Vec<Violation>),
    /// There is no rollout of the service, and was none.
    #[error("there is no rollout of service {:?}", .0.as_str())]
    NoRollout(ServiceName),
    /// A rollout of the service is active.
    #[error("revision {revision} of {service} is on its way ({phase}); abort it, or wait")]
    Active {
        /// The service.
        service: ServiceName,
        /// What is being released.
        revision: String,
        /// How far it is.
        phase: String,
    },
    /// What is asked does not fit the state that the rollout is in.
    #[error("{0}")]
    NotNow(String),
    /// Another coordinator leads.
    #[error("{} leads; ask there", if .0.is_empty() { "another coordinator, or nobody," } else { .0.as_str() })]
    NotLeading(String),
    /// There are as many as there may be.
    #[error("{limit} {what} already; the most there may be")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The bound.
        limit: usize,
    },
    /// The store does not answer.
    #[error("the state store: {0}")]
    Store(String),
}

impl Refusal {
    /// One field is wrong.
    pub(crate) fn field(field: &str, message: impl Into<String>) -> Self {
        Self::Invalid(vec![Violation { field: field.to_owned(), message: message.into() }])
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let message = refusal.to_string();
        let mut details = ErrorDetails::new();
        let mut metadata = HashMap::new();
        let (code, reason) = match refusal {
            Refusal::Invalid(violations) => {
                let violations = violations.into_iter();
                let violations =
                    violations.map(|wrong| FieldViolation::new(wrong.field, wrong.message));
                details.set_bad_request(violations.collect::<Vec<_>>());
                (Code::InvalidArgument, "INVALID_REQUEST")
            }
            Refusal::NoRollout(_) => (Code::NotFound, "NO_ROLLOUT"),
            Refusal::Active { .. } => (Code::FailedPrecondition, "ACTIVE"),
            Refusal::NotNow(_) => (Code::FailedPrecondition, "NOT_NOW"),
            Refusal::NotLeading(leader) => {
                metadata.insert("leader".into(), leader);
                (Code::FailedPrecondition, "NOT_LEADING")
            }
            Refusal::TooMany { what: "watchers", .. } => {
                (Code::ResourceExhausted, "TOO_MANY_WATCHERS")
            }
            Refusal::TooMany { .. } => (Code::ResourceExhausted, "TOO_MANY_ROLLOUTS"),
            Refusal::Store(_) => (Code::Unavailable, "STORE"),
        };
        details.set_error_info(reason, DOMAIN, metadata);
        Self::with_error_details(code, message, details)
    }
}
