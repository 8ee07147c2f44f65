//! The owner of the node: it alone changes the state, the data plane and the store.
//!
//! A change goes: next state (pure) → commit → store (`commit.rs`) → answer. A store that fails takes
//! the commit back. A crash between two steps leaves the stored state, which the next start applies.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::clock;
use super::counted::{Counted, traffic_of};
use super::draining;
use super::drains::Look;
use super::error::Error;
use super::events::{Event, Kind, Log};
use super::guard::Window;
use super::messages::{
    Apply, ChangeOptions, Changed, Commit, Delete, InFlight, InterfaceStatus, RequestId, Shift,
    Steer,
};
use super::next::Next;
use super::repeats::{Answered, Asked, Repeats};
use super::rounds::Looking;
use super::state::State;
use super::{tunnels, words};
use crate::dataplane::{DataPlane, kernel::BpfLog, next_hop};
use crate::health::Checks;
use crate::model::{PerVersion, ServiceName, Traffic, Version};
use crate::plan::shares;
use crate::store::Store;

/// A flow that is silent for longer has ended, unless the node is told otherwise: 15 minutes.
pub const DEFAULT_IDLE: u32 = 900;

/// What the node knows of itself from its start.
#[derive(Debug, Clone, Default)]
pub struct Identity {
    /// Where the program is attached.
    pub interfaces: Vec<InterfaceStatus>,
    /// Directory of the store.
    pub state_dir: PathBuf,
    /// Where the agent serves HTTP.
    pub http: Option<SocketAddr>,
    /// Where the API listens with mutual TLS.
    pub listen: Option<SocketAddr>,
    /// Which lines the program in the kernel writes.
    pub bpf_log: BpfLog,
    /// What an operator should know.
    pub warnings: Vec<String>,
}

/// The owner, with what it owns.
pub struct Owner<P, S> {
    pub(super) plane: P,
    pub(super) store: S,
    pub(super) state: State,
    /// Number of the last commit.
    pub(super) generation: u32,
    repeats: Repeats,
    pub(super) events: Log,
    /// What was counted of each version when the shares of its service's table changed last.
    pub(super) marks: BTreeMap<ServiceName, PerVersion<Traffic>>,
    /// Addresses of all backends.
    pub(super) addresses: Arc<BTreeSet<IpAddr>>,
    /// Next hops of some of these.
    pub(super) hops: HashMap<IpAddr, next_hop::NextHop>,
    /// The node's interfaces, by index.
    pub(super) devices: BTreeMap<u32, next_hop::Device>,
    /// Interfaces of which the log has said why XDP cannot send through them.
    pub(super) explained: BTreeSet<u32>,
    pub(super) epoch: u64,
    pub(super) started: Instant,
    /// A flow that is silent for longer has ended, in seconds.
    pub(super) idle: u32,
    /// Inserts that have failed, by service, and when one last did: then a flow may live that needs
    /// its base.
    pub(super) failures: BTreeMap<ServiceName, (u64, u32)>,
    /// What the last round saw.
    pub(super) look: Option<Look>,
    /// When the last step of a round was, in seconds since boot, and when the last round began, in
    /// seconds since 1970.
    pub(super) last_round: (u32, u64),
    /// A look at all flows that is under way.
    pub(super) looking: Option<Looking>,
    /// Draining backends with a server id: their packets, and since when they are as many.
    pub(super) reached: BTreeMap<u16, (u64, u32)>,
    /// What backends have counted that are gone.
    pub(super) retired: BTreeMap<(ServiceName, Version), Counted>,
    pub(super) identity: Identity,
    /// What guards see of their versions.
    pub(super) windows: BTreeMap<ServiceName, Window>,
    /// Which backends are well.
    pub(super) checks: Checks,
    /// What an operator should know of what has happened, oldest first, at most [`MAX_NOTES`].
    pub(super) notes: Vec<String>,
    /// What keeps the stored state from being as the node is, or from being on the disk.
    pub(super) unsaved: Option<String>,
}

/// Notes beyond these push the oldest out.
const MAX_NOTES: usize = 32;

impl<P: DataPlane, S: Store> Owner<P, S> {
    /// Takes ownership, and applies what the store holds.
    ///
    /// # Errors
    ///
    /// The stored state cannot be read or applied. It is left as it is. Or there is none, and none
    /// can be stored.
    pub fn start(plane: P, store: S) -> Result<Self, Error> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let epoch = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let mut owner = Self {
            plane,
            store,
            state: State::default(),
            generation: 0,
            repeats: Repeats::default(),
            events: Log::new(epoch),
            marks: BTreeMap::new(),
            addresses: Arc::default(),
            hops: HashMap::new(),
            devices: BTreeMap::new(),
            explained: BTreeSet::new(),
            epoch,
            started: Instant::now(),
            idle: DEFAULT_IDLE,
            failures: BTreeMap::new(),
            look: None,
            last_round: (clock::seconds(), 0),
            looking: None,
            reached: BTreeMap::new(),
            retired: BTreeMap::new(),
            identity: Identity::default(),
            windows: BTreeMap::new(),
            checks: Checks::default(),
            notes: Vec::new(),
            unsaved: None,
        };
        let loaded = owner.store.load()?;
        if let Some(warning) = loaded.warning {
            owner.note(warning);
        }
        let first = loaded.state.is_none();
        owner.restore(&loaded.state.unwrap_or_default())?;
        // Those that ran out while no agent ran. What cannot be ended now is tried again.
        let now = clock::unix_milliseconds();
        owner.state.bound_leases(now);
        if let Err(error) = owner.expire(now) {
            tracing::warn!(%error, "a lease ran out and could not be ended; it is tried again");
        }
        if first {
            owner.save()?;
        } else {
            // What is stored holds; a full disk must not keep an agent from coming back.
            owner.save_or_note();
        }
        Ok(owner)
    }

    /// Creates or replaces services.
    ///
    /// # Errors
    ///
    /// Why nothing was changed.
    pub fn apply(&mut self, apply: &Apply) -> Result<Changed, Error> {
        let asked = Asked::Apply(apply);
        if let Some(answer) = self.repeated(&apply.options, asked)? {
            return Ok(answer);
        }
        tunnels::check(&apply.services, self.plane.outer_source())?;
        let next = self.state.apply(&apply.services, apply.options.force, clock::seconds())?;
        let names: Vec<ServiceName> =
            apply.services.iter().map(|service| service.name().clone()).collect();
        self.change(&next, &names, &apply.options, asked)
    }

    /// Changes weights.
    ///
    /// # Errors
    ///
    /// Why nothing was changed.
    pub fn shift(&mut self, shift: &Shift) -> Result<Changed, Error> {
        let asked = Asked::Shift(shift);
        // Before the generation is compared, which the first time has raised.
        if let Some(answer) = self.repeated(&shift.options, asked)? {
            return Ok(answer);
        }
        let mut next = self.state.shift(&shift.shifts, shift.options.force, clock::seconds())?;
        for one in &shift.shifts {
            let named: Vec<Version> = one.set.iter().map(|(version, _)| *version).collect();
            let about = (&one.service, named.as_slice());
            draining::in_flight(&self.state, &mut next, about, shift.in_flight, clock::wall());
        }
        let names: Vec<ServiceName> =
            shift.shifts.iter().map(|shift| shift.service.clone()).collect();
        if let Some(terms) = shift.lease {
            next.lease(&self.state, &names, terms, clock::unix_milliseconds());
        }
        let answer = self.change(&next, &names, &shift.options, asked)?;
        if shift.in_flight == InFlight::Reset && !shift.options.dry_run {
            self.forget_given_up();
        }
        Ok(answer)
    }

    /// Adds and removes steering rules.
    ///
    /// # Errors
    ///
    /// Why nothing was changed.
    pub fn steer(&mut self, steer: &Steer) -> Result<Changed, Error> {
        let asked = Asked::Steer(steer);
        if let Some(answer) = self.repeated(&steer.options, asked)? {
            return Ok(answer);
        }
        let next = self.state.steer(steer, clock::seconds())?;
        self.change(&next, std::slice::from_ref(&steer.service), &steer.options, asked)
    }

    /// The answer that this request got the first time.
    ///
    /// # Errors
    ///
    /// Nobody may ask for it: who did was overtaken, or its id is another request's.
    pub(super) fn repeated(
        &mut self,
        options: &ChangeOptions,
        asked: Asked<'_>,
    ) -> Result<Option<Changed>, Error> {
        match self.found(options.request_id.as_ref(), asked)? {
            Some(Answered::Changed(answer)) => Ok(Some(answer)),
            _ => Ok(None),
        }
    }

    fn found(
        &mut self,
        id: Option<&RequestId>,
        asked: Asked<'_>,
    ) -> Result<Option<Answered>, Error> {
        self.state.admit(&asked.services(), asked.fence())?;
        let found = self.repeats.find(id, asked)?;
        // The next leader has repeated it: the one before may do nothing more.
        if found.is_some() && self.state.raise(&asked.services(), asked.fence()) {
            self.save()?;
        }
        Ok(found)
    }

    pub(super) fn change(
        &mut self,
        next: &Next,
        names: &[ServiceName],
        options: &ChangeOptions,
        asked: Asked<'_>,
    ) -> Result<Changed, Error> {
        let observed = names.iter().map(|name| (name.clone(), self.observed(name))).collect();
        let mut state = next.state.clone();
        self.state.heed_guards(&mut state, names, options.force)?;
        if options.dry_run {
            let commit = self.commit_answer(Duration::ZERO, true);
            return Ok(self.changed(commit, names, next, &self.state, &observed));
        }
        let before = self.state.clone();
        state.raise(&asked.services(), asked.fence());
        let took = self.carry_out(state)?;
        self.mark(&before, names);
        let commit = self.commit_answer(took, false);
        let answer = self.changed(commit, names, next, &before, &observed);
        for change in &answer.changes {
            let kind = if change.created { Kind::Created } else { asked.kind() };
            let past = before.past_fence(&change.service, asked.fence());
            let text = format!("{}{}{past}", asked.about(), words::of_change(change));
            let [before, after] = words::weights(change);
            let event = Event::new(kind, text).of(&change.service).from_to(before, after);
            self.events.push(event.asked_by(options.request_id.as_ref()));
        }
        self.repeats.keep(options.request_id.as_ref(), asked, Answered::Changed(answer.clone()));
        Ok(answer)
    }

    /// Removes services.
    ///
    /// # Errors
    ///
    /// Why nothing was changed.
    pub fn delete(&mut self, delete: &Delete) -> Result<Commit, Error> {
        let asked = Asked::Delete(delete);
        if let Some(Answered::Commit(answer)) = self.found(delete.request_id.as_ref(), asked)? {
            return Ok(answer);
        }
        let next = self.state.delete(&delete.services)?;
        let before = self.state.clone();
        let took = self.carry_out(next)?;
        for name in &delete.services {
            self.marks.remove(name);
            self.failures.remove(name);
            self.retired.retain(|(service, _), _| service != name);
            let past = before.past_fence(name, delete.fence.as_ref());
            let event = Event::new(Kind::Deleted, format!("the service is gone{past}")).of(name);
            self.events.push(event.asked_by(delete.request_id.as_ref()));
        }
        let answer = self.commit_answer(took, false);
        self.repeats.keep(delete.request_id.as_ref(), asked, Answered::Commit(answer));
        Ok(answer)
    }

    /// Tells the operator of something that has happened: in the log, and with the node's status.
    pub(super) fn note(&mut self, what: String) {
        tracing::warn!("{what}");
        if self.notes.len() == MAX_NOTES {
            self.notes.remove(0);
        }
        self.notes.push(what);
    }

    /// Ends, and gives the data plane back as it is: the next owner takes it up.
    #[must_use]
    pub fn into_plane(self) -> P {
        self.plane
    }

    /// The data plane, to attach it.
    pub fn plane(&mut self) -> &mut P {
        &mut self.plane
    }

    /// Sets for how many seconds a flow may be silent without being forgotten.
    pub fn set_idle(&mut self, seconds: u32) {
        self.idle = seconds;
    }

    /// Tells the node what to say of itself.
    pub fn introduce(&mut self, identity: Identity) {
        self.identity = identity;
    }

    /// Addresses whose next hop is wanted. The same `Arc` as long as they do not change.
    pub fn addresses(&self) -> &Arc<BTreeSet<IpAddr>> {
        &self.addresses
    }

    /// Notes the counts from which shares are observed, for services whose weights have changed, or
    /// the shares of their tables without them, because backends stand in for others.
    pub(super) fn mark(&mut self, before: &State, names: &[ServiceName]) {
        for name in names {
            let shares = |state: &State| {
                let entry = state.services.get(name)?;
                Some((*entry.service.weights(), shares::by_version(&entry.tables)))
            };
            if shares(before) != shares(&self.state) {
                let counts = self.counted(name);
                self.marks.insert(name.clone(), counts);
            }
        }
    }

    pub(super) fn mark_all(&mut self) {
        let names: Vec<ServiceName> = self.state.services.keys().cloned().collect();
        self.mark(&State::default(), &names);
    }

    /// What the kernel has counted of each version of a service, with what backends that are gone
    /// have served.
    pub(super) fn counted(&self, name: &ServiceName) -> PerVersion<Traffic> {
        let mut counts = PerVersion::from_fn(|version| {
            self.retired
                .get(&(name.clone(), version))
                .map_or_else(Traffic::default, |gone| gone.traffic)
        });
        for (key, place) in self.state.directory.of(name) {
            counts[key.version].add(&traffic_of(&self.plane, place.index));
        }
        counts
    }

    pub(super) fn commit_answer(&self, duration: Duration, dry_run: bool) -> Commit {
        Commit { generation: u64::from(self.generation), dry_run, duration }
    }
}
