//! The fake node: what it holds, and who answers what.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use tokio::sync::mpsc;
use weir::model::{Service, ServiceName, Weights};
use weir::node::Request;
use weir::node::events::Log;
use weir::node::messages::{Changed, GuardStatus, LeaseStatus, RequestId};
use weir::node::trace::answer::Names;

use super::trace;

/// Slots of a version table.
pub(super) const SLOTS: u32 = 16_384;
/// New connections of blue, green and canary, if not 20 000 by weight.
pub(super) type Planted = Arc<Mutex<Option<[u64; 3]>>>;

/// The state of the fake.
pub(super) struct Node {
    pub(super) services: BTreeMap<ServiceName, (u64, Service)>,
    pub(super) generation: u64,
    pub(super) done: HashMap<RequestId, Changed>,
    pub(super) reads: u64,
    pub(super) events: Log,
    pub(super) planted: Planted,
    /// The weights of services before they were changed last,
    pub(super) before: BTreeMap<ServiceName, Weights>,
    /// and leases on the new ones.
    pub(super) leases: BTreeMap<ServiceName, LeaseStatus>,
}

impl Node {
    fn handle(&mut self, request: Request) {
        // A caller that is gone is no error.
        match request {
            Request::Apply(apply, reply) => drop(reply.send(self.apply(apply))),
            Request::Delete(delete, reply) => drop(reply.send(self.delete(&delete))),
            Request::Get(name, reply) => drop(reply.send(self.get(&name))),
            Request::List(reply) => {
                drop(reply.send(self.services.keys().map(|name| self.get(name)).collect()));
            }
            Request::Services(reply) => {
                drop(reply.send(Ok(self.services.keys().cloned().collect())));
            }
            Request::Shift(shift, reply) => drop(reply.send(self.shift(shift))),
            Request::RollBack(roll_back, reply) => drop(reply.send(self.roll_back(&roll_back))),
            Request::RenewLease(renew, reply) => drop(reply.send(self.renew(&renew))),
            Request::SetBackend(set, reply) => drop(reply.send(self.set_backend(&set))),
            Request::Drains(names, reply) => drop(reply.send(self.drains(&names))),
            Request::Settle(settle, reply) => drop(reply.send(self.settle(&settle))),
            Request::SetGuard(set, reply) => {
                let status =
                    GuardStatus { guard: set.guard, connections: 41, failures: 3, tripped: None };
                drop(reply.send(self.get(&set.service).map(|_| status)));
            }
            Request::ClearGuard(clear, reply) => {
                drop(reply.send(self.get(&clear.service).map(|_| ())));
            }
            Request::Steer(steer, reply) => drop(reply.send(self.steer(&steer))),
            Request::Counters(names, reply) => drop(reply.send(self.counters(&names))),
            Request::Status(reply) => drop(reply.send(Ok(self.status()))),
            Request::Events(query, reply) => drop(reply.send(Ok(self.events.look(&query)))),
            Request::TraceFlow(asked, reply) => drop(reply.send(Ok(trace::any(&asked)))),
            Request::Tell(event) => self.events.push(event),
            Request::By(caller, request) => {
                self.events.set_caller(Some(caller));
                self.handle(*request);
                self.events.set_caller(None);
            }
            Request::Names(_, reply) => drop(reply.send(Ok(Names::default()))),
        }
    }
}

/// Answers for as long as somebody can ask.
pub(super) async fn run(mut requests: mpsc::Receiver<Request>, planted: Planted) {
    let mut node = Node {
        services: BTreeMap::new(),
        generation: 0,
        done: HashMap::new(),
        reads: 0,
        events: Log::new(1),
        before: BTreeMap::new(),
        planted,
        leases: BTreeMap::new(),
    };
    while let Some(request) = requests.recv().await {
        node.handle(request);
    }
}
