//! The link to one agent: a task that connects, listens, looks, and carries out what is asked.
//!
//! An agent that is not there is a state with a beginning, not an error that ends anything: the task
//! tries again, with pauses that grow to [`LONGEST_PAUSE`].

use std::{
    convert::Infallible,
    future::Future,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_stream::StreamExt as _;

use super::{
    agents::Agent,
    orders::{self, AGAIN, Numbered, Orders},
    seen::{Reach, Seen},
};
use crate::{
    client::{Client, ClientError},
    model::{Agreement, ServiceName},
    node::{events::EventQuery, messages::Sample},
};

/// Time between two samples of the counters. A candidate that is silent shows it by the SYNs that
/// clients send again after a second: what is lost until that is seen should be less than that again.
const SAMPLE: Duration = Duration::from_millis(500);
/// An agent that says nothing for so long is not reachable: it sends samples all the time.
const SILENCE: Duration = Duration::from_secs(4);
/// The longest wait for the answer to one call, and for a connection.
pub(super) const ANSWER: Duration = Duration::from_secs(5);
/// Time between two looks while it is not yet told how new connections are shared.
const QUICK_LOOK: Duration = Duration::from_millis(100);
/// For so long after a change looks are quick.
const QUICK_FOR: Duration = Duration::from_secs(10);
/// The first pause before another attempt to connect; each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest of these pauses.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// One end of the link.
#[derive(Debug)]
pub(super) struct Link {
    agent: Agent,
    service: ServiceName,
    seen: watch::Sender<Seen>,
    orders: watch::Receiver<Numbered>,
    /// Told of each thing that was not known before.
    news: Arc<Notify>,
    /// Looks are quick until then.
    quick_until: Instant,
    /// The last orders, and when they were tried.
    tried: Option<(Orders, Instant)>,
}

impl Link {
    /// A link that tells what it sees and does what it is ordered. It works while [`Link::run`] does.
    pub(super) fn new(
        agent: Agent,
        service: ServiceName,
        seen: watch::Sender<Seen>,
        orders: watch::Receiver<Numbered>,
        news: Arc<Notify>,
    ) -> Self {
        Self { agent, service, seen, orders, news, quick_until: Instant::now(), tried: None }
    }

    /// Connects, again and again, until nobody wants to know any more.
    pub(super) async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        while !self.seen.is_closed() {
            let began = Instant::now();
            let Err(error) = self.session().await;
            self.lost(error);
            if began.elapsed() > SILENCE {
                pause = FIRST_PAUSE;
            }
            tokio::select! {
                () = sleep(pause) => {}
                () = self.seen.closed() => return,
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Notes that the agent is not reachable; since when it is not stays as it was.
    fn lost(&self, error: String) {
        self.tell(|seen| {
            let (since, at) = match seen.reach {
                Reach::Lost { since, at, .. } => (since, at),
                Reach::Reached { .. } => {
                    tracing::warn!(agent = %self.agent.name, error, "lost");
                    (SystemTime::now(), Instant::now())
                }
            };
            seen.reach = Reach::Lost { since, at, error };
        });
    }

    /// One connection, until it breaks.
    async fn session(&mut self) -> Result<Infallible, String> {
        let mut client = within(Client::connect(self.agent.address.clone())).await?;
        let services = [self.service.clone()];
        let mut samples = Box::pin(within(client.watch_counters(&services, SAMPLE)).await?);
        let query = EventQuery { service: Some(self.service.clone()), ..EventQuery::default() };
        let mut events = Box::pin(within(client.watch_events(&query, true)).await?);
        // The first answer is of what was.
        timeout(ANSWER, events.next()).await.map_err(|_| "no events".to_owned())?;
        self.look(&mut client, None, None).await?;
        self.orders.mark_changed();
        let mut heard = Instant::now();
        loop {
            tokio::select! {
                // What was heard comes first: only silence is a reason to give up.
                biased;
                sample = samples.next() => {
                    let sample = sample.ok_or("it ended the stream of counters")?;
                    let sample = sample.map_err(|error| error.to_string())?;
                    heard = Instant::now();
                    self.look(&mut client, Some(sample), None).await?;
                }
                changed = self.orders.changed() => {
                    changed.map_err(|_| "nobody gives orders any more".to_owned())?;
                    let Numbered { number, orders, .. } = self.orders.borrow_and_update().clone();
                    if !self.is_due(&orders) {
                        self.tell(|seen| seen.done = number);
                        continue;
                    }
                    self.carry_out(&mut client, &orders).await;
                    self.quick_until = Instant::now() + QUICK_FOR;
                    self.look(&mut client, None, Some((number, &orders))).await?;
                    // What is counted from here on is of the new state.
                    let counters = within(client.counters(&services)).await?;
                    self.tell(|seen| {
                        let tables = seen.status.clone();
                        seen.take(Sample { counters, interval: None }, tables);
                    });
                }
                event = events.next() => {
                    event.ok_or("it ended the stream of events")?.map_err(|error| error.to_string())?;
                    self.look(&mut client, None, None).await?;
                }
                () = sleep(QUICK_LOOK), if self.is_quick() => self.look(&mut client, None, None).await?,
                () = sleep_until(heard + SILENCE) => {
                    return Err(format!("it has said nothing for {} s", SILENCE.as_secs()));
                }
            }
        }
    }

    /// Whether the next look should come soon: a change is young, and its effect not yet told.
    fn is_quick(&self) -> bool {
        let untold = |seen: &Seen| {
            let status = seen.status.as_ref();
            status.is_some_and(|status| status.sample_ratio.agreement == Agreement::TooFew)
        };
        Instant::now() < self.quick_until && untold(&self.seen.borrow())
    }

    /// Reads back what the agent does with the service, beside a sample that was taken just before.
    /// `done`: the orders that this shows the effect of.
    async fn look(
        &self,
        client: &mut Client,
        sample: Option<Sample>,
        done: Option<(u64, &Orders)>,
    ) -> Result<(), String> {
        let status = Arc::new(within(client.get(&self.service)).await?);
        let drains = within(client.drains(std::slice::from_ref(&self.service))).await?;
        self.tell(|seen| {
            if let Reach::Lost { .. } = seen.reach {
                tracing::info!(agent = %self.agent.name, "reached");
                seen.reach = Reach::Reached { since: SystemTime::now() };
            }
            let before = seen.status.replace(Arc::clone(&status));
            seen.drains = drains.into();
            if let Some(sample) = sample {
                // Tables that are the same before and after are those that decided.
                seen.take(sample, before.filter(|before| before.digest == status.digest));
            }
            if let Some((number, orders)) = done {
                // The same that was asked for again meanwhile is done, too.
                let newest = self.orders.borrow();
                let same = newest.orders.list == orders.list;
                seen.done = if same { newest.number } else { number };
            }
        });
        Ok(())
    }

    /// Whether there is something to do that was not just tried, and was not worked out from what has
    /// changed since.
    fn is_due(&mut self, orders: &Orders) -> bool {
        let tried = self.tried.as_ref();
        let generation = self.seen.borrow().status.as_ref().map(|status| status.generation);
        let due = !orders.list.is_empty()
            && generation == Some(orders.generation)
            && tried.is_none_or(|(last, at)| last != orders || at.elapsed() >= AGAIN);
        if due {
            self.tried = Some((orders.clone(), Instant::now()));
        }
        due
    }

    /// Carries out orders one after the other, up to the first that fails; the next tick gives those
    /// that are left again.
    async fn carry_out(&self, client: &mut Client, orders: &Orders) {
        let mut failed = None;
        for (place, order) in orders.list.iter().enumerate() {
            let call = orders::carry_out(client, &self.service, (orders, place));
            let outcome = timeout(ANSWER, call).await.unwrap_or_else(|_| Err(silent()));
            if let Err(error) = outcome {
                tracing::warn!(agent = %self.agent.name, ?order, error, "not done");
                failed = Some(error);
                break;
            }
            tracing::debug!(agent = %self.agent.name, ?order, "done");
        }
        self.seen.send_modify(|seen| seen.failed = failed);
    }

    /// Changes what is seen, and says that it has changed.
    fn tell(&self, change: impl FnOnce(&mut Seen)) {
        self.seen.send_modify(change);
        self.news.notify_one();
    }
}

/// What is said of an agent that does not answer.
fn silent() -> String {
    format!("no answer within {} s", ANSWER.as_secs())
}

/// A call with a bound on its time, and its error in words.
async fn within<T>(call: impl Future<Output = Result<T, ClientError>>) -> Result<T, String> {
    match timeout(ANSWER, call).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(silent()),
    }
}
