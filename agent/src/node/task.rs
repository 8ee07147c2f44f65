//! The owner's loop: one request after the other, and next hops as they change.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::Request;
use super::owner::Owner;
use crate::dataplane::DataPlane;
use crate::dataplane::next_hop::{Change, Resolver};
use crate::store::Store;

/// Serves requests until every handle is gone. Next hops are followed by `resolver`, whose changes
/// arrive through `changes`.
pub async fn serve<P: DataPlane, S: Store>(
    mut owner: Owner<P, S>,
    mut requests: mpsc::Receiver<Request>,
    resolver: Resolver,
    mut changes: mpsc::Receiver<Vec<Change>>,
) {
    let mut wanted = Arc::clone(owner.addresses());
    resolver.watch(wanted.as_ref().clone());
    loop {
        tokio::select! {
            request = requests.recv() => match request {
                Some(request) => answer(&mut owner, request),
                None => return,
            },
            Some(batch) = changes.recv() => owner.follow(batch),
        }
        if !Arc::ptr_eq(&wanted, owner.addresses()) {
            wanted = Arc::clone(owner.addresses());
            resolver.watch(wanted.as_ref().clone());
        }
    }
}

/// Carries out one request. The caller may be gone: that is no error.
fn answer<P: DataPlane, S: Store>(owner: &mut Owner<P, S>, request: Request) {
    match request {
        Request::Apply(apply, reply) => drop(reply.send(owner.apply(&apply))),
        Request::Delete(delete, reply) => drop(reply.send(owner.delete(&delete))),
        Request::Get(name, reply) => drop(reply.send(owner.get(&name))),
        Request::List(reply) => drop(reply.send(owner.list())),
        Request::Shift(shift, reply) => drop(reply.send(owner.shift(&shift))),
        Request::Counters(names, reply) => drop(reply.send(owner.counters(&names))),
        Request::Status(reply) => drop(reply.send(Ok(owner.status()))),
    }
}
