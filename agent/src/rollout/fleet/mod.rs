//! The agents that a rollout works with: what they are seen to do, and what they are ordered to do.
//!
//! - [`agents`]: the file that names them
//! - `link`: one task for each: connects, listens, looks, carries out
//! - [`orders`]: what an agent is asked for, in order
//! - [`seen`]: what was seen of one last
//! - [`view`]: the same, as the machine looks at it
//! - [`sample`]: two samples of counters as a tick for the judge

pub mod agents;
mod link;
pub mod orders;
pub mod sample;
pub mod seen;
pub mod view;

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
    time::Instant,
};

use self::{
    agents::Agent,
    link::Link,
    orders::{AGAIN, Numbered, Orders},
    seen::Seen,
};
use crate::{model::ServiceName, rollout::name::AgentName};

/// Links to all agents, for one service. Dropping it ends them.
#[derive(Debug)]
pub struct Fleet {
    members: BTreeMap<AgentName, Member>,
    news: Arc<Notify>,
}

#[derive(Debug)]
struct Member {
    seen: watch::Receiver<Seen>,
    orders: watch::Sender<Numbered>,
    task: JoinHandle<()>,
}

impl Drop for Member {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Fleet {
    /// Begins to connect to all of them. Must be called within a tokio runtime.
    #[must_use]
    pub fn start(agents: &[Agent], service: &ServiceName) -> Self {
        let news = Arc::new(Notify::new());
        let member = |agent: &Agent| {
            let (told, seen) = watch::channel(Seen::nothing(SystemTime::now()));
            let (orders, given) = watch::channel(Numbered::nothing());
            let link = Link::new(agent.clone(), service.clone(), told, given, Arc::clone(&news));
            (agent.name.clone(), Member { seen, orders, task: tokio::spawn(link.run()) })
        };
        Self { members: agents.iter().map(member).collect(), news }
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &AgentName> {
        self.members.keys()
    }

    /// What was seen of each agent last.
    #[must_use]
    pub fn seen(&self) -> BTreeMap<AgentName, Seen> {
        let seen = |(name, member): (&AgentName, &Member)| {
            let seen = member.seen.borrow().clone();
            let pending = seen.done < member.orders.borrow().number;
            (name.clone(), Seen { pending, ..seen })
        };
        self.members.iter().map(seen).collect()
    }

    /// Waits until something was seen that was not known before.
    pub async fn news(&self) {
        self.news.notified().await;
    }

    /// Asks an agent for these things, in order, in place of all that it was asked before and has not
    /// begun yet.
    pub fn order(&self, agent: &AgentName, orders: Orders) {
        if let Some(member) = self.members.get(agent) {
            // Worked out from what has changed since: the next tick knows better.
            let status = member.seen.borrow().status.clone();
            let known = status.is_some_and(|status| status.generation == orders.generation);
            if !known && !orders.list.is_empty() {
                return;
            }
            // What is asked for again is tried again after a while.
            member.orders.send_if_modified(|given| {
                if orders.list.is_empty() {
                    // What has not begun is withdrawn, and nothing is under way for it.
                    given.orders = orders;
                    return false;
                }
                if given.orders == orders && given.at.elapsed() < AGAIN {
                    return false;
                }
                *given = Numbered { number: given.number + 1, at: Instant::now(), orders };
                true
            });
        }
    }
}
