//! What can be asked of a coordinator. One runner does the work for each service.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
    time::{sleep, timeout},
};
use weir_proto::rollout::v1;

use super::{
    lead, plan,
    record::Record,
    runner::{Handle, Runner},
    tell,
};
use crate::{
    model::{ServiceName, Violation},
    rollout::{
        api::Refusal,
        external::Http,
        fleet::{agents::Agent, view::timestamp},
        judge::Tick,
        ledger::{self, Command, CommandId, StateStore},
        machine::Verb,
        spec,
    },
};

/// The most services that have had a rollout.
pub const MAX_ROLLOUTS: usize = 64;

/// How long a first rollout is waited for until it is known, and the time between two looks.
const KNOWN: Duration = Duration::from_secs(10);
/// How long an abort waits for the store before it is carried out without it.
const ABORT_WAIT: Duration = Duration::from_millis(500);
const LOOK: Duration = Duration::from_millis(20);

/// What a coordinator is started with.
#[derive(Debug)]
pub struct Options {
    /// What it is called in event logs.
    pub name: String,
    /// The fleet; no name and no address twice.
    pub agents: Vec<Agent>,
    /// Where states are kept.
    pub store: Arc<dyn StateStore>,
    /// How hooks and other systems are asked.
    pub http: Http,
    /// What is judged is also written there, as lines of JSON that `weir rollout replay` reads.
    pub record: Option<Record>,
}

/// A coordinator. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Coordinator {
    pub(super) shared: Arc<Shared>,
}

/// What all parts of a coordinator share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) options: Options,
    pub(super) runners: Mutex<BTreeMap<ServiceName, Handle>>,
    /// This process leads.
    pub(super) lead: watch::Sender<lead::Lead>,
    /// Somebody has asked for something.
    pub(super) asked: Notify,
    /// Counts the commands of this process.
    commands: AtomicU64,
    /// What ends with the coordinator.
    tasks: Mutex<Vec<AbortHandle>>,
}

impl Shared {
    /// Writes what is judged, if that is wanted.
    pub(super) fn record(&self, service: &ServiceName, ticks: &[Tick]) {
        if let Some(record) = &self.options.record {
            record.write(service, ticks);
        }
    }

    pub(super) fn runners(&self) -> MutexGuard<'_, BTreeMap<ServiceName, Handle>> {
        self.runners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a person wants of a rollout that there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// Go on; with `full` without the steps that are left.
    Promote {
        /// Leave out all steps.
        full: bool,
    },
    /// Hold.
    Pause,
    /// Go on after a pause.
    Resume,
    /// Go back.
    Abort,
    /// Begin again.
    Retry,
    /// Return to a revision; nothing: the one before.
    Undo(Option<String>),
}

impl Wish {
    /// From the words of the API.
    pub(crate) fn read(verb: &str, to_revision: &str) -> Result<Self, String> {
        Ok(match verb {
            "promote" => Self::Promote { full: false },
            "promote-full" => Self::Promote { full: true },
            "pause" => Self::Pause,
            "resume" => Self::Resume,
            "abort" => Self::Abort,
            "retry" => Self::Retry,
            "undo" => Self::Undo((!to_revision.is_empty()).then(|| to_revision.to_owned())),
            _ => {
                return Err(format!(
                    "{verb:?} is not a command; they are promote, promote-full, pause, resume, \
                     abort, retry and undo"
                ));
            }
        })
    }

    fn verb(self) -> Verb {
        match self {
            Self::Promote { full } => Verb::Promote { full },
            Self::Pause => Verb::Pause,
            Self::Resume => Verb::Resume,
            Self::Abort => Verb::Abort,
            Self::Retry => Verb::Retry,
            Self::Undo(to_revision) => Verb::Undo { to_revision },
        }
    }
}

impl Coordinator {
    /// Begins to campaign, and to work on all rollouts of the store. Must be called within a tokio
    /// runtime.
    #[must_use]
    pub fn start(options: Options) -> Self {
        let (lead, _) = watch::channel(lead::Lead::Follows);
        let shared = Arc::new(Shared {
            options,
            runners: Mutex::default(),
            lead,
            asked: Notify::new(),
            commands: AtomicU64::new(0),
            tasks: Mutex::default(),
        });
        let campaign = tokio::spawn(lead::campaign(Arc::clone(&shared))).abort_handle();
        let follow = tokio::spawn(lead::follow(Arc::clone(&shared))).abort_handle();
        shared.tasks.lock().unwrap_or_else(PoisonError::into_inner).extend([campaign, follow]);
        Self { shared }
    }

    /// Stops all work and gives leadership up. What was set at the agents stays.
    pub async fn stop(&self) {
        self.shared.runners().clear();
        for task in self.shared.tasks.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            task.abort();
        }
        if let lead::Lead::Leads(leadership) = self.shared.lead.send_replace(lead::Lead::Follows)
            && let Some(leadership) = Arc::into_inner(leadership)
        {
            leadership.resign().await;
        }
    }

    /// What a rollout would do.
    pub async fn plan(&self, document: &str) -> Result<v1::PlanResponse, Refusal> {
        let rollout = read(document)?;
        Ok(plan::plan(&rollout, &self.shared.options.agents).await)
    }

    /// Begins a rollout, or a new revision beside the one that is on its way.
    pub async fn start_rollout(
        &self,
        document: &str,
        who: String,
        why: String,
    ) -> Result<v1::StartResponse, Refusal> {
        let rollout = read(document)?;
        let (service, revision) = (rollout.service.clone(), rollout.revision.clone());
        let known = self.shared.runners().len();
        if known >= MAX_ROLLOUTS && !self.shared.runners().contains_key(&service) {
            return Err(Refusal::TooMany { what: "rollouts", limit: MAX_ROLLOUTS });
        }
        let before = self.shared.runners().get(&service).map(|handle| handle.told.borrow().clone());
        let active = before.filter(|told| !tell::is_over(&told.phase));
        if let Some(active) = &active
            && rollout.on_new_revision == spec::OnNewRevision::Reject
        {
            let (revision, phase) = (active.revision.clone(), active.phase.clone());
            return Err(Refusal::Active { service, revision, phase });
        }
        let who = with_reason(who, &why);
        self.submit(&service, Verb::Run(Box::new(rollout)), who).await?;
        self.known(&service).await;
        let outcome = if active.is_some() { "queued" } else { "started" }.to_owned();
        Ok(v1::StartResponse { service: service.to_string(), revision, outcome })
    }

    /// Waits, for a while, until the first rollout of a service is known here: whoever has begun one will
    /// ask for it at once.
    async fn known(&self, service: &ServiceName) {
        let known = async {
            while self.handle(service).is_none_or(|handle| handle.told.borrow().revision.is_empty())
            {
                sleep(LOOK).await;
            }
        };
        // If it takes longer, whoever asks is told that there is none yet.
        let _ = timeout(KNOWN, known).await;
    }

    /// Tells whoever leads what a person wants. An abort that cannot be told, because the store does
    /// not answer, this coordinator carries out by itself.
    pub async fn command(
        &self,
        service: &ServiceName,
        wish: Wish,
        who: String,
        why: String,
    ) -> Result<(), Refusal> {
        let Some(handle) = self.handle(service) else {
            return Err(Refusal::NoRollout(service.clone()));
        };
        let abort = wish == Wish::Abort;
        let who = with_reason(who, &why);
        let submitted = self.submit(service, wish.verb(), who.clone());
        if !abort {
            return submitted.await;
        }
        let error = match timeout(ABORT_WAIT, submitted).await {
            Ok(Err(Refusal::Store(error))) => error,
            Ok(other) => return other,
            Err(late) => late.to_string(),
        };
        tracing::warn!(%service, error, "the store does not answer; aborting without it");
        handle.abort(who);
        Ok(())
    }

    /// The rollout of a service.
    pub fn get(&self, service: &ServiceName) -> Result<v1::Rollout, Refusal> {
        Ok(v1::Rollout::clone(&self.watch(service)?.borrow()))
    }

    /// All rollouts, without their agents and events.
    pub async fn list(&self) -> Result<v1::ListResponse, Refusal> {
        let told = |handle: &Handle| {
            let mut rollout = v1::Rollout::clone(&handle.told.borrow());
            rollout.agents.clear();
            rollout.events.clear();
            rollout
        };
        let rollouts = self.shared.runners().values().map(told).collect();
        let leading = self.shared.lead.borrow().leads();
        let leader = match self.shared.options.store.leader().await {
            Ok(leader) => leader.map(|leader| leader.name).unwrap_or_default(),
            Err(error) => return Err(Refusal::Store(error.to_string())),
        };
        Ok(v1::ListResponse { rollouts, leader, leading })
    }

    /// All rollouts, as they are told.
    pub(crate) fn told(&self) -> Vec<v1::Rollout> {
        let runners = self.shared.runners();
        runners.values().map(|handle| v1::Rollout::clone(&handle.told.borrow())).collect()
    }

    /// Whether this coordinator leads.
    pub(crate) fn leads(&self) -> bool {
        self.shared.lead.borrow().leads()
    }

    /// The rollout of a service, as it changes.
    pub fn watch(
        &self,
        service: &ServiceName,
    ) -> Result<watch::Receiver<Arc<v1::Rollout>>, Refusal> {
        let handle = self.handle(service).ok_or_else(|| Refusal::NoRollout(service.clone()))?;
        Ok(handle.told.clone())
    }

    /// The revisions of a service, and what happened to it.
    pub async fn history(&self, service: &ServiceName) -> Result<v1::HistoryResponse, Refusal> {
        let store = &self.shared.options.store;
        let events = store.events(service, 0).await.map_err(|error| failed(&error))?;
        let revisions = store.revisions(service).await.map_err(|error| failed(&error))?;
        if events.is_empty() && revisions.is_empty() && self.handle(service).is_none() {
            return Err(Refusal::NoRollout(service.clone()));
        }
        Ok(v1::HistoryResponse {
            revisions: revisions.into_iter().map(|one| tell::revision(one.item)).collect(),
            events: events.into_iter().map(|one| tell::event(one.number, one.item)).collect(),
        })
    }

    fn handle(&self, service: &ServiceName) -> Option<Handle> {
        self.shared.runners().get(service).cloned()
    }

    /// Puts a command for whoever leads.
    async fn submit(&self, service: &ServiceName, verb: Verb, who: String) -> Result<(), Refusal> {
        let number = self.shared.commands.fetch_add(1, Ordering::Relaxed);
        let at = timestamp(SystemTime::now()).0;
        let id = format!("{at:x}-{:x}-{number:x}", std::process::id());
        let id = CommandId::new(&id).map_err(Refusal::NotNow)?;
        let request =
            serde_json::to_value(&verb).map_err(|error| Refusal::NotNow(error.to_string()))?;
        let command = Command { id, service: service.clone(), at_ms: at, who, request };
        let store = &self.shared.options.store;
        store.submit(command).await.map_err(|error| failed(&error))?;
        self.shared.asked.notify_one();
        Ok(())
    }
}

impl Shared {
    /// The runner of a service; one that begins if there is none.
    pub(super) fn runner(self: &Arc<Self>, service: &ServiceName) -> Handle {
        let mut runners = self.runners();
        let start = || Runner::start(Arc::clone(self), service.clone());
        runners.entry(service.clone()).or_insert_with(start).clone()
    }
}

/// Who asks, and why if they have said it.
fn with_reason(who: String, why: &str) -> String {
    if why.is_empty() { who } else { format!("{who}: {why}") }
}

/// Why the store did not do what was asked.
fn failed(error: &ledger::Error) -> Refusal {
    match error {
        ledger::Error::Full { what, limit } => Refusal::TooMany { what, limit: *limit },
        other => Refusal::Store(other.to_string()),
    }
}

/// A document as a rollout.
fn read(document: &str) -> Result<spec::Rollout, Refusal> {
    spec::parse(document).map_err(|problems| {
        let violation = |problem: &spec::Problem| Violation {
            field: problem.field.clone(),
            message: format!(
                "line {}, column {}: {}",
                problem.line, problem.column, problem.message
            ),
        };
        Refusal::Invalid(problems.iter().map(violation).collect())
    })
}
