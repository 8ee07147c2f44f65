//! The loop of one service: look, tick, persist, carry out.

use std::{
    collections::{BTreeMap, VecDeque},
    mem,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
    time::{Instant, sleep, sleep_until},
};
use weir_proto::rollout::v1;

use super::{
    coordinator::Shared,
    court::Court,
    jumps::Jumps,
    kept::Kept,
    recent::Recent,
    tell::{self, Known},
};
use crate::{
    fault::{self, Point},
    model::{Fence, ServiceName},
    rollout::{
        external::{Hooks, Http, Notifier},
        fleet::{
            Fleet,
            orders::{Order, Orders},
            seen::Seen,
            view::view,
        },
        ledger::{self, CommandId},
        machine::{Command, Effect, Observed, State, Verb, tick},
        name::AgentName,
        time::Timestamp,
    },
};

/// Time between two turns, if nothing is heard.
const TURN: Duration = Duration::from_secs(1);
/// The least time between two turns.
const REST: Duration = Duration::from_millis(50);
/// How often the evidence and the clock are saved while nothing else changes.
const SAVE: Duration = Duration::from_secs(1);
/// Ids of answered commands that are remembered.
const ANSWERED: usize = 64;

/// The way to a runner. When the last is dropped, the runner ends.
#[derive(Debug, Clone)]
pub(super) struct Handle {
    /// The rollout, as it is told.
    pub(super) told: watch::Receiver<Arc<v1::Rollout>>,
    inbox: Arc<Inbox>,
    _task: Arc<Ending>,
}

/// What others have for a runner.
#[derive(Debug, Default)]
struct Inbox {
    /// The commands that wait in the store, oldest first.
    commands: Mutex<Vec<ledger::Command>>,
    /// Somebody wants an abort that could not be put into the store.
    abort: Mutex<Option<String>>,
    /// There is one.
    urgent: Notify,
    news: Notify,
}

/// Ends the task when dropped.
#[derive(Debug)]
struct Ending(AbortHandle);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Handle {
    /// Gives it the commands that wait in the store.
    pub(super) fn tell(&self, commands: Vec<ledger::Command>) {
        let mut known = self.inbox.commands.lock().unwrap_or_else(PoisonError::into_inner);
        if *known != commands {
            *known = commands;
            self.inbox.news.notify_one();
        }
    }

    /// Aborts without the store.
    pub(super) fn abort(&self, who: String) {
        *self.inbox.abort.lock().unwrap_or_else(PoisonError::into_inner) = Some(who);
        self.inbox.urgent.notify_one();
        self.inbox.news.notify_one();
    }
}

/// The work on one service.
#[derive(Debug)]
pub(super) struct Runner {
    shared: Arc<Shared>,
    service: ServiceName,
    inbox: Arc<Inbox>,
    told: watch::Sender<Arc<v1::Rollout>>,
    fleet: Fleet,
    jumps: Jumps,
    kept: Kept,
    court: Court,
    http: Http,
    hooks: Hooks,
    notifier: Notifier,
    /// What happened last, of this process's knowledge.
    recent: Recent,
    /// The commands that were answered last: the store may still be said to hold them.
    answered: VecDeque<CommandId>,
    /// The number by which it led in the last turn.
    fence: Option<ledger::Fence>,
    /// The last number by which this process led: an abort without the store carries it.
    last_fence: Option<ledger::Fence>,
}

impl Runner {
    /// Begins to work.
    pub(super) fn start(shared: Arc<Shared>, service: ServiceName) -> Handle {
        let (told, telling) = watch::channel(Arc::new(tell::nothing(&service)));
        let inbox = Arc::new(Inbox::default());
        let store = Arc::clone(&shared.options.store);
        let runner = Self {
            fleet: Fleet::start(&shared.options.agents, &service),
            jumps: Jumps::new(),
            kept: Kept::new(store, service.clone()),
            court: Court::default(),
            hooks: Hooks::new(shared.options.http.clone()),
            notifier: Notifier::new(shared.options.http.clone()),
            http: shared.options.http.clone(),
            recent: Recent::default(),
            answered: VecDeque::new(),
            inbox: Arc::clone(&inbox),
            told,
            shared,
            service,
            fence: None,
            last_fence: None,
        };
        let task = tokio::spawn(runner.run()).abort_handle();
        Handle { told: telling, inbox, _task: Arc::new(Ending(task)) }
    }

    async fn run(mut self) {
        loop {
            self.turn().await;
            let next = Instant::now() + TURN;
            tokio::select! {
                () = self.fleet.news() => {}
                () = self.inbox.news.notified() => {}
                () = self.hooks.news() => {}
                () = sleep_until(next) => {}
            }
            sleep(REST).await;
        }
    }

    /// One turn.
    async fn turn(&mut self) {
        let fence = self.shared.lead.borrow().fence();
        let inbox = Arc::clone(&self.inbox);
        let interrupted = tokio::select! {
            biased;
            () = inbox.urgent.notified() => true,
            () = self.refresh(fence) => false,
        };
        // An abort waits for no store: it is told later.
        self.kept.stale |= interrupted;
        let (now, jump) = self.jumps.look();
        if let (Some(state), 1..) = (&mut self.kept.state, jump.unsigned_abs()) {
            tracing::warn!(service = %self.service, ms = jump, "the clock has jumped");
            state.clock.jump(jump);
        }
        let seen = self.fleet.seen();
        let (commands, ids) = self.commands(fence.is_some(), now);
        if let Some(state) = self.kept.state.clone() {
            if fence.is_some() || self.kept.ahead {
                let ticks = self.court.observe(&self.http, &self.service, &state, &seen);
                self.shared.record(&self.service, &ticks);
            }
            if fence.is_some() || !commands.is_empty() || self.kept.ahead {
                let observed = self.observed(fence.is_some(), &seen, commands);
                self.act(&state, &observed, (fence, ids), &seen, now).await;
            }
        }
        self.publish(&seen);
    }

    /// Loads what others have saved, and what the store has when this process begins to lead.
    async fn refresh(&mut self, fence: Option<ledger::Fence>) {
        let begins = fence.is_some() && fence != self.fence;
        self.fence = fence;
        self.last_fence = fence.or(self.last_fence);
        let follows = fence.is_none();
        if !(begins || follows || self.kept.stale) {
            return;
        }
        if let Some(evidence) = self.kept.refresh().await {
            self.court.resume(evidence);
            // Of a rollout that began elsewhere, what happened to it before.
            if self.recent.is_empty()
                && let Ok(events) = self.shared.options.store.events(&self.service, 0).await
            {
                self.recent.recall(&events);
            }
        }
    }

    /// What people want that was not heard yet, with the ids that it has in the store. A service's
    /// first rollout begins here.
    fn commands(&mut self, leads: bool, now: Timestamp) -> (Vec<Command>, Vec<(u64, CommandId)>) {
        let urgent =
            mem::take(&mut *self.inbox.abort.lock().unwrap_or_else(PoisonError::into_inner));
        let waiting = if leads && !self.kept.stale {
            self.inbox.commands.lock().unwrap_or_else(PoisonError::into_inner).clone()
        } else {
            Vec::new()
        };
        let (mut commands, mut ids) = (Vec::new(), Vec::new());
        for one in waiting {
            if self.answered.contains(&one.id) {
                continue;
            }
            let Ok(verb) = serde_json::from_value::<Verb>(one.request.clone()) else {
                tracing::warn!(id = %one.id, "a command that nobody understands");
                continue;
            };
            if let (None, Verb::Run(rollout)) = (&self.kept.state, &verb) {
                self.kept.state = Some(State::new(rollout.as_ref().clone(), now));
                // Answered by the first save.
                ids.push((0, one.id));
                continue;
            }
            let id = self.heard() + commands.len() as u64 + 1;
            commands.push(Command { id, by: one.who, verb });
            ids.push((id, one.id));
        }
        if let Some(by) = urgent {
            let id = self.heard() + commands.len() as u64 + 1;
            commands.push(Command { id, by, verb: Verb::Abort });
        }
        (commands, ids)
    }

    fn heard(&self) -> u64 {
        self.kept.state.as_ref().map_or(0, |state| state.heard)
    }

    fn observed(
        &self,
        leading: bool,
        seen: &BTreeMap<AgentName, Seen>,
        commands: Vec<Command>,
    ) -> Observed {
        Observed {
            leading,
            store_ok: self.kept.failing.is_none(),
            agents: seen.iter().map(|(name, seen)| (name.clone(), view(seen))).collect(),
            verdict: self.court.verdict(),
            hooks: self.hooks.answers(),
            commands,
        }
    }

    /// Ticks, persists what has changed, and then carries out what follows.
    async fn act(
        &mut self,
        state: &State,
        observed: &Observed,
        (fence, ids): (Option<ledger::Fence>, Vec<(u64, CommandId)>),
        seen: &BTreeMap<AgentName, Seen>,
        now: Timestamp,
    ) {
        let (next, effects) = tick(state, observed, now);
        for effect in &effects {
            match effect {
                Effect::JudgeFrom { start, config } => self.court.begin(*start, config, seen, now),
                Effect::JudgeStop => self.court.stop(),
                _ => {}
            }
        }
        let handled = ids.into_iter().filter(|(id, _)| *id <= next.heard).map(|(_, id)| id);
        let handled: Vec<CommandId> = handled.collect();
        let news = !same(state, &next) || !handled.is_empty() || self.kept.ahead;
        let due = !next.is_at_rest() && self.kept.saved.elapsed() >= SAVE;
        if news {
            fault::point(Point::Ticked);
        }
        let saved = match fence {
            // The store has not answered in this turn: it is not asked again.
            Some(_) if self.kept.stale => false,
            Some(fence) if news || due => {
                let (who, evidence) = (&self.shared.options.name, self.court.evidence.as_ref());
                let saved = self.kept.save(fence, &next, evidence, (who, handled.clone())).await;
                if saved {
                    self.answered.extend(handled);
                    let old = self.answered.len().saturating_sub(ANSWERED);
                    self.answered.drain(..old);
                }
                saved
            }
            Some(_) => {
                self.kept.state = Some(next.clone());
                true
            }
            None => false,
        };
        if news {
            fault::point(Point::Persisted);
        }
        if !saved && !next.is_going_back() {
            return;
        }
        if !saved {
            self.kept.run_ahead(next.clone());
        }
        self.carry_out(&next, effects, observed);
        if news {
            fault::point(Point::Ordered);
        }
    }

    /// Hands effects to whom they are for.
    fn carry_out(&mut self, state: &State, effects: Vec<Effect>, observed: &Observed) {
        let mut orders: BTreeMap<AgentName, Vec<Order>> = BTreeMap::new();
        let mut asked = Vec::new();
        let about = tell::about(state);
        for effect in effects {
            match effect {
                Effect::CallHook { key, call } => asked.push((key, call)),
                Effect::Notify(event) => {
                    self.notifier.notify(&about, &state.rollout.hooks, &event);
                }
                Effect::JudgeFrom { .. } | Effect::JudgeStop => {}
                effect => {
                    if let Some((agent, order)) = order(effect) {
                        orders.entry(agent).or_default().push(order);
                    }
                }
            }
        }
        self.hooks.call(&about, asked);
        let holder = &self.shared.options.name;
        let fence = self.last_fence.and_then(|fence| Fence::new(holder, fence.0).ok());
        let names: Vec<AgentName> = self.fleet.names().cloned().collect();
        for name in names {
            let list = orders.remove(&name).unwrap_or_default();
            let request = format!("{}/{}/{name}", self.service, state.transition);
            let generation = observed.agents.get(&name).map_or(0, |view| view.generation);
            let (list, fence) = (list.into(), fence.clone());
            self.fleet.order(&name, Orders { list, name: request, generation, fence });
        }
    }

    /// Tells people, if something has changed.
    fn publish(&mut self, seen: &BTreeMap<AgentName, Seen>) {
        let Some(state) = &self.kept.state else { return };
        let held = match (&self.kept.failing, self.fence) {
            (Some(error), _) => format!("nothing advances: {error}"),
            (None, None) => "this coordinator follows".to_owned(),
            (None, Some(_)) => String::new(),
        };
        self.recent.see(state);
        let (evidence, recent) = (self.court.evidence.as_ref(), &self.recent);
        let known = Known { state, seen, evidence, recent, held };
        let rollout = tell::rollout(&known, &self.shared.options.name);
        self.told.send_if_modified(|told| {
            let news = **told != rollout;
            if news {
                *told = Arc::new(rollout);
            }
            news
        });
    }
}

/// Whether two states are the same but for the clock.
fn same(state: &State, next: &State) -> bool {
    let State { clock, .. } = state;
    State { clock: *clock, ..next.clone() } == *state
}

/// What an agent is asked for, if it is one that is asked.
fn order(effect: Effect) -> Option<(AgentName, Order)> {
    Some(match effect {
        Effect::SetWeights { agent, weights, in_flight, lease } => {
            (agent, Order::Weights { weights, in_flight, lease })
        }
        Effect::RenewLease { agent, lease } => (agent, Order::Renew(lease)),
        Effect::SetSteering { agent, add, remove } => (agent, Order::Steer { add, remove }),
        Effect::SetBackend { agent, backend, state } => (agent, Order::Backend { backend, state }),
        Effect::SetGuard { agent, guard } => (agent, Order::Guard(guard)),
        Effect::CallHook { .. }
        | Effect::Notify(_)
        | Effect::JudgeFrom { .. }
        | Effect::JudgeStop => return None,
    })
}
