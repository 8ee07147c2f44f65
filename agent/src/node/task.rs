//! The owner's loop: one request after the other, next hops as they change, every few seconds a look
//! at transitions, and every second one at leases.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;

use super::Request;
use super::clock;
use super::owner::Owner;
use crate::dataplane::DataPlane;
use crate::dataplane::next_hop::{Change, Resolver};
use crate::store::Store;

/// How often transitions are looked after.
const ROUND: Duration = Duration::from_secs(5);
/// How often leases are looked after: so late may one end.
const LEASES: Duration = Duration::from_secs(1);

/// Serves requests until `stop` is ready or dropped, or every handle is gone, and gives the owner
/// back. Next hops are followed by `resolver`, whose changes arrive through `changes`.
pub async fn serve<P: DataPlane, S: Store>(
    mut owner: Owner<P, S>,
    mut requests: mpsc::Receiver<Request>,
    resolver: Resolver,
    mut changes: mpsc::Receiver<Vec<Change>>,
    mut stop: oneshot::Receiver<()>,
) -> Owner<P, S> {
    let mut wanted = Arc::clone(owner.addresses());
    resolver.watch(wanted.as_ref().clone());
    let mut rounds = tokio::time::interval(ROUND);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut leases = tokio::time::interval(LEASES);
    leases.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let checks = owner.checks.clone();
    loop {
        tokio::select! {
            request = requests.recv() => match request {
                Some(request) => answer(&mut owner, request),
                None => return owner,
            },
            Some(batch) = changes.recv() => owner.follow(batch),
            () = checks.changed() => owner.hear(),
            _ = rounds.tick() => {
                owner.hear();
                if let Err(error) = owner.round(clock::seconds()) {
                    tracing::warn!(%error, "a transition could not go on; it is tried again");
                }
            }
            _ = leases.tick() => {
                if let Err(error) = owner.expire(clock::unix_milliseconds()) {
                    tracing::warn!(%error, "a lease ran out and could not be ended; it is tried again");
                }
            }
            _ = &mut stop => return owner,
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
        Request::SetBackend(set, reply) => drop(reply.send(owner.set_backend(&set))),
        Request::Drains(names, reply) => drop(reply.send(owner.drains(&names))),
        Request::Settle(settle, reply) => drop(reply.send(owner.settle_now(&settle))),
        Request::RollBack(roll_back, reply) => drop(reply.send(owner.roll_back(&roll_back))),
        Request::RenewLease(renew, reply) => drop(reply.send(owner.renew(&renew))),
        Request::Steer(steer, reply) => drop(reply.send(owner.steer(&steer))),
        Request::Counters(names, reply) => drop(reply.send(owner.counters(&names))),
        Request::Status(reply) => drop(reply.send(Ok(owner.status()))),
        Request::Events(query, reply) => drop(reply.send(Ok(owner.events.look(&query)))),
    }
}
