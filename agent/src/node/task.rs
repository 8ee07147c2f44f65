//! The owner's loop: one request after the other, next hops and health as they change, every few
//! seconds a round of what transitions need, step by step, some times a second handshakes that are
//! over, and every second a look at leases.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, sleep_until};

use super::Request;
use super::clock;
use super::owner::Owner;
use crate::dataplane::DataPlane;
use crate::dataplane::next_hop::{Change, Resolver};
use crate::store::Store;

/// Time until transitions are looked after again where that has failed.
const RETRY: Duration = Duration::from_secs(5);
/// How often it is looked whether the program is still attached everywhere.
const LOOK: Duration = Duration::from_secs(2);
/// How often leases are looked after: so late may one end.
const SECOND: Duration = Duration::from_secs(1);
/// How often guards look at what was counted, and a quarter of the handshakes under way is looked at.
const GUARDS: Duration = Duration::from_millis(250);

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
    let mut next_step = Instant::now();
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seconds = tokio::time::interval(SECOND);
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut guards = tokio::time::interval(GUARDS);
    guards.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let began = Instant::now();
    let checks = owner.checks.clone();
    loop {
        tokio::select! {
            request = requests.recv() => match request {
                Some(request) => answer(&mut owner, request),
                None => return owner,
            },
            Some(batch) = changes.recv() => owner.follow(batch),
            () = checks.changed() => owner.hear(),
            _ = looks.tick() => owner.keep_attached(),
            () = sleep_until(next_step) => {
                owner.hear();
                next_step = Instant::now() + step(&mut owner);
            }
            _ = seconds.tick() => {
                if let Err(error) = owner.expire(clock::unix_milliseconds()) {
                    tracing::warn!(%error, "a lease ran out and could not be ended; it is tried again");
                }
            }
            now = guards.tick() => {
                owner.plane().end_some_handshakes();
                let now = now.duration_since(began).as_millis();
                owner.watch_guards(u64::try_from(now).unwrap_or(u64::MAX));
            }
            _ = &mut stop => return owner,
        }
        if !Arc::ptr_eq(&wanted, owner.addresses()) {
            wanted = Arc::clone(owner.addresses());
            resolver.watch(wanted.as_ref().clone());
        }
    }
}

/// Takes a step of a round, and gives the time until the next one.
fn step<P: DataPlane, S: Store>(owner: &mut Owner<P, S>) -> Duration {
    match owner.step(clock::seconds()) {
        Ok(step) => step.pause,
        Err(error) => {
            tracing::warn!(%error, "a transition could not go on; it is tried again");
            RETRY
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
        Request::Services(reply) => drop(reply.send(Ok(owner.services()))),
        Request::Shift(shift, reply) => drop(reply.send(owner.shift(&shift))),
        Request::SetBackend(set, reply) => drop(reply.send(owner.set_backend(&set))),
        Request::Drains(names, reply) => drop(reply.send(owner.drains(&names))),
        Request::Settle(settle, reply) => drop(reply.send(owner.settle_now(&settle))),
        Request::RollBack(roll_back, reply) => drop(reply.send(owner.roll_back(&roll_back))),
        Request::RenewLease(renew, reply) => drop(reply.send(owner.renew(&renew))),
        Request::SetGuard(set, reply) => drop(reply.send(owner.set_guard(&set))),
        Request::ClearGuard(clear, reply) => drop(reply.send(owner.clear_guard(&clear))),
        Request::Steer(steer, reply) => drop(reply.send(owner.steer(&steer))),
        Request::Counters(names, reply) => drop(reply.send(owner.counters(&names))),
        Request::Status(reply) => drop(reply.send(Ok(owner.status()))),
        Request::Events(query, reply) => drop(reply.send(Ok(owner.events.look(&query)))),
        Request::TraceFlow(asked, reply) => drop(reply.send(owner.trace_flow(&asked))),
        Request::Tell(event) => owner.events.push(event),
        Request::By(caller, request) => {
            owner.events.set_caller(Some(caller));
            answer(owner, *request);
            owner.events.set_caller(None);
        }
        Request::Names(asked, reply) => drop(reply.send(owner.names(&asked))),
    }
}
