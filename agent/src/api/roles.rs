//! Which role may call which method: one table, and the layer that keeps to it.
//!
//! Who comes by the Unix socket is an admin: its mode says who may use it. Who comes over TLS is what
//! its certificate says. A method that is not in the table is an admin's.

use std::collections::HashMap;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::{Request, Response};
use tonic::body::Body;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use tower::{Layer, Service};

use super::caller::Peer;
use super::error::DOMAIN;
use crate::tls::Role;

/// The least role that may call a method, by the path of its requests.
pub const TABLE: &[(&str, Role)] = &[
    ("/weir.v1.Weir/Get", Role::Reader),
    ("/weir.v1.Weir/List", Role::Reader),
    ("/weir.v1.Weir/ListDrains", Role::Reader),
    ("/weir.v1.Weir/ReadCounters", Role::Reader),
    ("/weir.v1.Weir/WatchCounters", Role::Reader),
    ("/weir.v1.Weir/WatchEvents", Role::Reader),
    ("/weir.v1.Weir/TraceFlow", Role::Reader),
    ("/weir.v1.Weir/NodeStatus", Role::Reader),
    ("/weir.v1.Weir/ShiftWeights", Role::Shifter),
    ("/weir.v1.Weir/RollBack", Role::Shifter),
    ("/weir.v1.Weir/RenewLease", Role::Shifter),
    ("/weir.v1.Weir/SetBackendState", Role::Shifter),
    ("/weir.v1.Weir/Settle", Role::Shifter),
    ("/weir.v1.Weir/Steer", Role::Shifter),
    ("/weir.v1.Weir/SetGuard", Role::Shifter),
    ("/weir.v1.Weir/ClearGuard", Role::Shifter),
    // What exists, and whom packets are for.
    ("/weir.v1.Weir/Apply", Role::Admin),
    ("/weir.v1.Weir/Delete", Role::Admin),
    // It shows what is in packets.
    ("/weir.v1.Weir/TraceLive", Role::Admin),
    ("/weir.rollout.v1.Rollouts/Plan", Role::Reader),
    ("/weir.rollout.v1.Rollouts/Get", Role::Reader),
    ("/weir.rollout.v1.Rollouts/List", Role::Reader),
    ("/weir.rollout.v1.Rollouts/Watch", Role::Reader),
    ("/weir.rollout.v1.Rollouts/History", Role::Reader),
    ("/weir.rollout.v1.Rollouts/Command", Role::Shifter),
    // Its hooks are programs that the coordinator runs.
    ("/weir.rollout.v1.Rollouts/Start", Role::Admin),
    ("/grpc.health.v1.Health/Check", Role::Reader),
    ("/grpc.health.v1.Health/Watch", Role::Reader),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Role::Reader),
    ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Role::Reader),
];

/// The least role that may call the method of a path.
fn needed(path: &str) -> Role {
    let found = TABLE.iter().find(|(method, _)| *method == path);
    found.map_or(Role::Admin, |(_, role)| *role)
}

/// Whether whoever is at the other end may call the method of a path.
fn check(peer: Option<&Peer>, path: &str) -> Result<(), Status> {
    let identity = match peer {
        Some(Peer::Local(_)) => return Ok(()),
        Some(Peer::Remote(identity)) => identity,
        None => return Err(denied("the connection is of nobody", "NO_ROLE", &HashMap::new())),
    };
    let (name, needed) = (&identity.name, needed(path));
    let mut metadata = HashMap::from([
        ("caller".to_owned(), name.clone()),
        ("needed".to_owned(), needed.to_string()),
    ]);
    match &identity.role {
        Ok(role) if *role >= needed => Ok(()),
        Ok(role) => {
            metadata.insert("role".to_owned(), role.to_string());
            let method = path.rsplit('/').next().unwrap_or(path);
            let message = format!(
                "{name} has the role {role}, and {method} takes {needed}: use a certificate with \
                 URI:weir://role/{needed}"
            );
            Err(denied(&message, "ROLE", &metadata))
        }
        Err(none) => Err(denied(&format!("{name} has no role: {none}"), "NO_ROLE", &metadata)),
    }
}

fn denied(message: &str, reason: &str, metadata: &HashMap<String, String>) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info(reason, DOMAIN, metadata.clone());
    Status::with_error_details(Code::PermissionDenied, message, details)
}

/// Lets through what the table allows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Roles;

impl<S> Layer<S> for Roles {
    type Service = Checked<S>;

    fn layer(&self, inner: S) -> Checked<S> {
        Checked { inner }
    }
}

/// A service of which callers get what the table allows.
#[derive(Debug, Clone)]
pub(crate) struct Checked<S> {
    inner: S,
}

impl<S, B> Service<Request<B>> for Checked<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let checked = check(request.extensions().get::<Peer>(), request.uri().path());
        match checked {
            Ok(()) => Box::pin(self.inner.call(request)),
            Err(denied) => Box::pin(async move { Ok(denied.into_http()) }),
        }
    }
}
