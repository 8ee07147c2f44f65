//! From the node's errors to gRPC statuses: the one place where this is decided.
//!
//! Every status carries `google.rpc.ErrorInfo` with the domain `weir` and a reason that programs can match on;
//! the table below says which further details it has.
//!
//! | reason | code | details |
//! | --- | --- | --- |
//! | `INVALID_REQUEST` | `INVALID_ARGUMENT` | `BadRequest`: each field |
//! | `NOT_FOUND` | `NOT_FOUND` | `ResourceInfo`: the service |
//! | `GENERATION_MISMATCH` | `FAILED_PRECONDITION` | `PreconditionFailure`; metadata `expected`, `actual` |
//! | `STALE_FENCE` | `FAILED_PRECONDITION` | `PreconditionFailure`; metadata `holder`, `number`, `given` |
//! | `NO_READY_BACKEND` | `FAILED_PRECONDITION` | `PreconditionFailure`; metadata `version` |
//! | `GUARD_TRIPPED` | `FAILED_PRECONDITION` | `PreconditionFailure`; metadata `version` |
//! | `NOTHING_TO_ROLL_BACK` | `FAILED_PRECONDITION` | `PreconditionFailure` |
//! | `NO_LEASE` | `FAILED_PRECONDITION` | `PreconditionFailure` |
//! | `LAST_BACKEND` | `FAILED_PRECONDITION` | `PreconditionFailure`; metadata `version`, `backend` |
//! | `REQUEST_ID_REUSED` | `ALREADY_EXISTS` | |
//! | `EXHAUSTED` | `RESOURCE_EXHAUSTED` | `QuotaFailure`; metadata `limit`, `asked` |
//! | `TOO_MANY_WATCHERS` | `RESOURCE_EXHAUSTED` | `QuotaFailure` |
//! | `BUSY` | `UNAVAILABLE` | `RetryInfo` |
//! | `STOPPING` | `UNAVAILABLE` | |
//! | `TIMED_OUT` | `DEADLINE_EXCEEDED` | |
//! | `ROLE`, `NO_ROLE` | `PERMISSION_DENIED` | metadata `caller`, `role`, `needed`; said by `roles` |
//! | `DATA_PLANE`, `STORE` | `INTERNAL` | |

use std::{collections::HashMap, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

use crate::node::Error;

/// The domain of every reason.
pub const DOMAIN: &str = "weir";

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        let mut details = ErrorDetails::new();
        let mut metadata = HashMap::new();
        let (code, reason) = match error {
            Error::Invalid(violations) => {
                let violations = violations.into_iter();
                let violations =
                    violations.map(|wrong| FieldViolation::new(wrong.field, wrong.message));
                details.set_bad_request(violations.collect::<Vec<_>>());
                (Code::InvalidArgument, "INVALID_REQUEST")
            }
            Error::NotFound(service) => {
                details.set_resource_info("weir.v1.Service", service.as_str(), "", &message);
                (Code::NotFound, "NOT_FOUND")
            }
            Error::GenerationMismatch { service, expected, actual } => {
                details.add_precondition_failure_violation(
                    "GENERATION",
                    service.as_str(),
                    &message,
                );
                metadata.insert("expected".into(), expected.to_string());
                metadata.insert("actual".into(), actual.to_string());
                (Code::FailedPrecondition, "GENERATION_MISMATCH")
            }
            Error::StaleFence { service, given, known } => {
                details.add_precondition_failure_violation("FENCE", service.as_str(), &message);
                metadata.insert("holder".into(), known.holder().to_owned());
                metadata.insert("number".into(), known.number().to_string());
                metadata.insert("given".into(), given.number().to_string());
                (Code::FailedPrecondition, "STALE_FENCE")
            }
            Error::NoReadyBackend { service, version } => {
                details.add_precondition_failure_violation(
                    "READY_BACKEND",
                    service.as_str(),
                    &message,
                );
                metadata.insert("version".into(), version.to_string());
                (Code::FailedPrecondition, "NO_READY_BACKEND")
            }
            Error::GuardTripped { service, version, .. } => {
                details.add_precondition_failure_violation("GUARD", service.as_str(), &message);
                metadata.insert("version".into(), version.to_string());
                (Code::FailedPrecondition, "GUARD_TRIPPED")
            }
            Error::NothingToRollBack { service, .. } => {
                details.add_precondition_failure_violation("UNSETTLED", service.as_str(), &message);
                (Code::FailedPrecondition, "NOTHING_TO_ROLL_BACK")
            }
            Error::NoLease(service) => {
                details.add_precondition_failure_violation("LEASE", service.as_str(), &message);
                (Code::FailedPrecondition, "NO_LEASE")
            }
            Error::LastBackend { service, version, backend } => {
                details.add_precondition_failure_violation(
                    "READY_BACKEND",
                    service.as_str(),
                    &message,
                );
                metadata.insert("version".into(), version.to_string());
                metadata.insert("backend".into(), backend.to_string());
                (Code::FailedPrecondition, "LAST_BACKEND")
            }
            Error::RequestIdReused(_) => (Code::AlreadyExists, "REQUEST_ID_REUSED"),
            Error::Exhausted { what, limit, asked } => {
                details.add_quota_failure_violation(what, &message);
                metadata.insert("limit".into(), limit.to_string());
                metadata.insert("asked".into(), asked.to_string());
                (Code::ResourceExhausted, "EXHAUSTED")
            }
            Error::Busy => {
                details.set_retry_info(Some(Duration::from_secs(1)));
                (Code::Unavailable, "BUSY")
            }
            Error::Stopping => (Code::Unavailable, "STOPPING"),
            Error::TimedOut => (Code::DeadlineExceeded, "TIMED_OUT"),
            Error::DataPlane(_) => (Code::Internal, "DATA_PLANE"),
            Error::Store(_) => (Code::Internal, "STORE"),
        };
        details.set_error_info(reason, DOMAIN, metadata);
        Self::with_error_details(code, message, details)
    }
}

/// The status for one stream of a kind too many.
pub(super) fn too_many_watchers(kind: &str, limit: usize) -> Status {
    let message = format!("{limit} {kind} streams are open already; close one");
    let mut details = ErrorDetails::with_quota_failure_violation("watchers", &message);
    details.set_error_info("TOO_MANY_WATCHERS", DOMAIN, HashMap::new());
    Status::with_error_details(Code::ResourceExhausted, message, details)
}
