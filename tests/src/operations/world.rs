//! A node on the kernel's maps and its clients, which take steps.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use weir::dataplane::kernel::{Kernel, Options};
use weir::health::Checks;
use weir::model::ServiceName;
use weir::node::messages::{Delete, InFlight};
use weir::node::{DEFAULT_IDLE, Owner, clock};
use weir::store::{self, Error as StoreError, Loaded, Store, Stored};
use weir_ebpf::abi::TCP;

use super::model::{Flow, Spec};
use super::{Setting, Step};
use crate::frames;
use crate::program::{SMALL, load};

pub(super) const SERVICE: &str = "shop";
pub(super) const SEED: [u8; 16] = *b"weir operations!";
pub(super) const PORT: u16 = 80;
/// The agent looks after transitions this often.
const ROUND: u32 = 5;
/// At most so many seconds pass between two looks at who must speak.
const PIECE: u32 = 200;
/// Indices of backends that may be in use.
pub(super) const INDICES: u16 = 512;

/// What was exercised, so that a test which exercises nothing is seen.
#[derive(Clone, Copy, Default, Debug)]
pub struct Tally {
    /// Packets sent through the program.
    pub packets: u64,
    /// Flows that began.
    pub flows: u64,
    /// Requests carried out.
    pub changes: u64,
    /// Requests refused.
    pub refused: u64,
    /// Flows that found no room, or came too fast.
    pub fallbacks: u64,
    /// Flows that ended by being silent.
    pub silent: u64,
    /// Backends that died.
    pub deaths: u64,
    /// Transitions that were ended by hand.
    pub settled: u64,
    /// Rollbacks.
    pub rolled_back: u64,
    /// Flows given up.
    pub given_up: u64,
    /// Agents that took up what another had left.
    pub restarts: u64,
    /// Packets that went where a trace had said.
    pub traced: u64,
    /// Most flows remembered at one time.
    pub remembered: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.packets += other.packets;
        self.flows += other.flows;
        self.changes += other.changes;
        self.refused += other.refused;
        self.fallbacks += other.fallbacks;
        self.silent += other.silent;
        self.deaths += other.deaths;
        self.settled += other.settled;
        self.rolled_back += other.rolled_back;
        self.given_up += other.given_up;
        self.restarts += other.restarts;
        self.traced += other.traced;
        self.remembered = self.remembered.max(other.remembered);
    }
}

/// A store in memory.
#[derive(Clone, Default)]
pub(super) struct Kept(Arc<Mutex<Option<Stored>>>);

impl Store for Kept {
    fn load(&mut self) -> Result<Loaded, StoreError> {
        Ok(Loaded { state: self.0.lock().unwrap().clone(), warning: None })
    }

    fn save(&mut self, state: &Stored) -> Result<store::Kept, StoreError> {
        *self.0.lock().unwrap() = Some(state.clone());
        Ok(store::Kept::Durably)
    }
}

/// A node and its clients.
pub struct World {
    pub(super) setting: Setting,
    /// Nothing for an instant only, in a restart.
    pub(super) owner: Option<Owner<Kernel, Kept>>,
    pub(super) store: Kept,
    /// Nobody makes these: steps say what they find.
    pub(super) checks: Checks,
    pub(super) spec: Spec,
    pub(super) next_backend: u16,
    pub(super) live: Vec<Flow>,
    /// Flows that were reset, whose ports may be used again.
    pub(super) reset: Vec<u32>,
    /// The version of each backend there ever was.
    pub(super) versions: HashMap<SocketAddr, u8>,
    /// Rules have stood in this case: their entries have a base of their own.
    pub(super) steered: bool,
    /// Weights have been rolled back and not changed since: nothing must be remembered of a flow to
    /// be kept off the version that was left.
    pub(super) rolled_back: bool,
    /// Versions whose connections were given up: no slot's flows belong there any more, so that a way
    /// back to them is a shift like any other.
    pub(super) given_up: [bool; 3],
    pub(super) next_flow: u32,
    pub(super) ahead: u32,
    pub(super) tally: Tally,
}

impl World {
    /// Loads the program.
    #[must_use]
    pub fn new(setting: Setting) -> Self {
        let Setting { room, inserts_per_second, .. } = setting;
        let kernel = load(Options { flows: room, inserts_per_second, ..SMALL });
        // Another world may have been here before, on this thread.
        clock::set_ahead(0);
        let store = Kept::default();
        let checks = Checks::default();
        let mut owner = Owner::start(kernel, store.clone()).expect("an empty node");
        owner.rely_on(checks.clone());
        Self {
            setting,
            owner: Some(owner),
            store,
            checks,
            spec: Spec::default(),
            next_backend: 0,
            live: Vec::new(),
            reset: Vec::new(),
            versions: HashMap::new(),
            rolled_back: false,
            given_up: [false; 3],
            steered: false,
            next_flow: 0,
            ahead: 0,
            tally: Tally::default(),
        }
    }

    pub(super) fn owner(&mut self) -> &mut Owner<Kernel, Kept> {
        self.owner.as_mut().expect("an owner")
    }

    pub(super) fn kernel(&mut self) -> &mut Kernel {
        self.owner().plane()
    }

    /// Takes all steps, on a node without a past.
    ///
    /// # Errors
    ///
    /// What differs from the model, and where.
    pub fn run(&mut self, steps: &[Step]) -> Result<Tally, String> {
        self.begin()?;
        for (number, step) in steps.iter().enumerate() {
            self.take(step).map_err(|error| format!("step {number}, {step:?}: {error}"))?;
            let remembered = self.remembered()?;
            self.tally.remembered = self.tally.remembered.max(remembered);
        }
        Ok(self.tally)
    }

    /// The service as it begins: each version with two backends, all weight on blue.
    fn begin(&mut self) -> Result<(), String> {
        let services = vec![ServiceName::new(SERVICE)?];
        // It fails on the first time, when there is none.
        let _ = self.owner().delete(&Delete { services, request_id: None, fence: None });
        self.checks = Checks::default();
        let checks = self.checks.clone();
        self.owner().rely_on(checks);
        (self.next_backend, self.next_flow) = (0, 0);
        (self.live, self.reset) = (Vec::new(), Vec::new());
        self.versions.clear();
        (self.rolled_back, self.steered, self.given_up) = (false, false, [false; 3]);
        self.tally = Tally::default();
        self.spec = Spec { weights: [10_000, 0, 0], ..Spec::default() };
        for version in 0..3 {
            for _ in 0..2 {
                self.add(version, 100);
            }
        }
        self.apply(Spec::default())?;
        match self.remembered()? {
            0 => Ok(()),
            left => Err(format!("{left} flows of a service that is gone are remembered")),
        }
    }

    fn remembered(&mut self) -> Result<u64, String> {
        Ok(self.kernel().flows(TCP).map_err(|error| error.to_string())?.len() as u64)
    }

    fn take(&mut self, step: &Step) -> Result<(), String> {
        match *step {
            Step::Open(count) => (0..count).try_for_each(|_| self.open()),
            Step::Speak(count) => self.speak(count),
            Step::End(count) => (0..count).try_for_each(|number| self.end(number)),
            Step::Wait(seconds) => self.wait(seconds),
            Step::Shift(weights) => self.shift(weights, InFlight::default()).map(drop),
            Step::Abandon(weights) => self.abandon(weights),
            Step::ByHand(backend, state) => self.set_by_hand(backend, state),
            Step::Die(backend) => self.check(backend, Some("it is dead")),
            Step::Return(backend) => self.check(backend, None),
            Step::Settle => self.settle(),
            Step::RollBack => self.roll_back(),
            Step::Steer(network, version) => self.steer(network, version),
            Step::Add(version, weight) => {
                let before = self.spec.clone();
                self.add(usize::from(version), weight);
                self.apply(before)
            }
            Step::Remove(backend) => {
                let before = self.spec.clone();
                if let Some((version, place)) = self.place(backend) {
                    self.spec.backends[version].remove(place);
                }
                self.apply(before)
            }
            Step::Reweigh(backend, weight) => {
                let before = self.spec.clone();
                if let Some((version, place)) = self.place(backend) {
                    self.spec.backends[version][place].weight = weight;
                }
                self.apply(before)
            }
            Step::Restart => self.restart(),
        }
    }

    /// Time passes. Some flows must speak to live on; the others end without a word.
    fn wait(&mut self, seconds: u32) -> Result<(), String> {
        let mut left = seconds;
        while left > 0 {
            let piece = left.min(PIECE);
            left -= piece;
            for _ in 0..2 {
                self.ahead += piece / 2;
                clock::set_ahead(self.ahead);
                let now = clock::seconds();
                self.owner().round(now).map_err(|error| error.to_string())?;
            }
            self.ahead += ROUND;
            clock::set_ahead(self.ahead);
            let now = clock::seconds();
            let (old, young): (Vec<Flow>, Vec<Flow>) = std::mem::take(&mut self.live)
                .into_iter()
                .partition(|flow| now - flow.spoke + PIECE + 2 * ROUND >= DEFAULT_IDLE);
            self.live = young;
            for mut flow in old {
                if flow.number % 3 == 0 {
                    self.tally.silent += 1;
                    continue;
                }
                self.go_on(&mut flow, frames::PSH | frames::ACK)?;
                self.live.push(flow);
            }
        }
        Ok(())
    }
}
