//! A node on the kernel's maps and its clients, which take steps.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use weir::dataplane::DataPlane as _;
use weir::dataplane::kernel::{Kernel, Options};
use weir::dataplane::next_hop::{Change, NextHop};
use weir::model::{
    BackendState, Protocol, Rule, ServiceName, SpecFile, Version, Weight, parse_services,
};
use weir::node::messages::{
    Apply, ChangeOptions, Delete, InFlight, RollBack, ServiceShift, SetBackend, Shift, Steer,
};
use weir::node::trace::answer::TraceFlow;
use weir::node::{DEFAULT_IDLE, Error as NodeError, Owner, clock};
use weir::store::{self, Error as StoreError, Loaded, Store, Stored};
use weir_ebpf::abi::{FlowEntry, TCP};

use super::model::{Backend, Flow, Spec};
use super::{Setting, Step};
use crate::frames::{self, Frame, read};
use crate::program::{AWAY, Counts, PROGRAMS, SMALL, Verdict, load};

const SERVICE: &str = "shop";
const SEED: [u8; 16] = *b"weir operations!";
const PORT: u16 = 80;
/// The agent looks after transitions this often.
const ROUND: u32 = 5;
/// At most so many seconds pass between two looks at who must speak.
const PIECE: u32 = 200;
/// Indices of backends that may be in use.
const INDICES: u16 = 512;

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
        self.rolled_back += other.rolled_back;
        self.given_up += other.given_up;
        self.restarts += other.restarts;
        self.traced += other.traced;
        self.remembered = self.remembered.max(other.remembered);
    }
}

/// A store in memory.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Option<Stored>>>);

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
    setting: Setting,
    /// Nothing for an instant only, in a restart.
    owner: Option<Owner<Kernel, Kept>>,
    store: Kept,
    spec: Spec,
    next_backend: u16,
    live: Vec<Flow>,
    /// Flows that were reset, whose ports may be used again.
    reset: Vec<u32>,
    /// The version of each backend there ever was.
    versions: HashMap<SocketAddr, u8>,
    /// Rules have stood in this case: their entries have a base of their own.
    steered: bool,
    /// Weights have been rolled back and not changed since: nothing must be remembered of a flow to
    /// be kept off the version that was left.
    rolled_back: bool,
    next_flow: u32,
    ahead: u32,
    tally: Tally,
}

impl World {
    /// Loads the program.
    #[must_use]
    pub fn new(setting: Setting) -> Self {
        let Setting { room, inserts_per_second, .. } = setting;
        let kernel = load(Options { flows: room, inserts_per_second, ..SMALL });
        let store = Kept::default();
        let owner = Some(Owner::start(kernel, store.clone()).expect("an empty node"));
        Self {
            setting,
            owner,
            store,
            spec: Spec::default(),
            next_backend: 0,
            live: Vec::new(),
            reset: Vec::new(),
            versions: HashMap::new(),
            rolled_back: false,
            steered: false,
            next_flow: 0,
            ahead: 0,
            tally: Tally::default(),
        }
    }

    fn owner(&mut self) -> &mut Owner<Kernel, Kept> {
        self.owner.as_mut().expect("an owner")
    }

    fn kernel(&mut self) -> &mut Kernel {
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
        let _ = self.owner().delete(&Delete { services, request_id: None });
        (self.next_backend, self.next_flow) = (0, 0);
        (self.live, self.reset) = (Vec::new(), Vec::new());
        self.versions.clear();
        (self.rolled_back, self.steered) = (false, false);
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

    // ---- what operators do ----

    fn add(&mut self, version: usize, weight: u16) {
        let [high, low] = self.next_backend.to_be_bytes();
        self.next_backend += 1;
        let address: IpAddr = if self.setting.ipv6 {
            Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, self.next_backend).into()
        } else {
            Ipv4Addr::new(10, 0, high, low).into()
        };
        let at = (address, PORT).into();
        self.spec.backends[version].push(Backend { at, weight });
        self.versions.insert(at, u8::try_from(version).unwrap());
    }

    /// A backend by a number.
    fn place(&self, number: u16) -> Option<(usize, usize)> {
        let places =
            |version: usize| (0..self.spec.backends[version].len()).map(move |p| (version, p));
        let all: Vec<(usize, usize)> = (0..3).flat_map(places).collect();
        all.get(usize::from(number) % all.len().max(1)).copied()
    }

    fn listener(&self) -> SocketAddr {
        let address: IpAddr = if self.setting.ipv6 {
            Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x200).into()
        } else {
            Ipv4Addr::new(198, 51, 100, 1).into()
        };
        (address, PORT).into()
    }

    fn yaml(&self) -> String {
        let mut text = format!("services:\n  - name: {SERVICE}\n    seed: \"");
        for byte in SEED {
            write!(text, "{byte:02x}").unwrap();
        }
        let at = self.listener();
        writeln!(text, "\"\n    listeners:").unwrap();
        writeln!(text, "      - {{ address: \"{}\", port: {PORT}, protocol: tcp }}", at.ip())
            .unwrap();
        if !self.spec.rules.is_empty() {
            writeln!(text, "    steering:").unwrap();
        }
        for (network, version) in &self.spec.rules {
            let version = Version::ALL[usize::from(*version)];
            let source = self.network(*network);
            writeln!(text, "      - {{ source: \"{source}\", version: {version} }}").unwrap();
        }
        writeln!(text, "    versions:").unwrap();
        for (version, backends) in Version::ALL.into_iter().zip(&self.spec.backends) {
            let weight = self.spec.weights[version.index()];
            writeln!(text, "      {version}:\n        weight: {weight}\n        backends:")
                .unwrap();
            for Backend { at, weight } in backends {
                let (address, port) = (at.ip(), at.port());
                writeln!(
                    text,
                    "          - {{ address: \"{address}\", port: {port}, weight: {weight} }}"
                )
                .unwrap();
            }
            if backends.is_empty() {
                text.truncate(text.trim_end().len());
                text += " []\n";
            }
        }
        text
    }

    /// Makes the node what the spec says, unless that is refused; then what was before holds.
    fn apply(&mut self, before: Spec) -> Result<(), String> {
        let file = SpecFile::parse(&self.yaml()).map_err(|error| error.to_string())?;
        let done = match parse_services(&file.services, false) {
            Ok(services) => {
                let apply = Apply { services, options: ChangeOptions::default() };
                self.owner().apply(&apply).map(drop)
            }
            Err(violations) => Err(NodeError::Invalid(violations)),
        };
        if !self.carried_out(done)? {
            self.spec = before;
        }
        self.tell_hops();
        Ok(())
    }

    /// Whether a request was carried out, or refused because it asks for what cannot be. Anything
    /// else is an error.
    fn carried_out(&mut self, done: Result<(), NodeError>) -> Result<bool, String> {
        match done {
            Ok(()) => self.tally.changes += 1,
            Err(
                NodeError::Invalid(_)
                | NodeError::NoReadyBackend { .. }
                | NodeError::NothingToRollBack { .. },
            ) => {
                self.tally.refused += 1;
                return Ok(false);
            }
            Err(error) => return Err(error.to_string()),
        }
        Ok(true)
    }

    /// As the resolver does: every backend is behind one next hop.
    fn tell_hops(&mut self) {
        let addresses: BTreeSet<IpAddr> = self.owner().addresses().as_ref().clone();
        let hop = NextHop::plain(AWAY, [2; 6], [4; 6]);
        let hops = addresses.into_iter().map(|address| Change::Hop(address, Some(hop))).collect();
        self.owner().follow(hops);
    }

    /// Says whether it was carried out.
    fn shift(&mut self, weights: [u16; 3], in_flight: InFlight) -> Result<bool, String> {
        let mut set = Vec::new();
        for (version, bp) in Version::ALL.into_iter().zip(weights) {
            set.push((version, Weight::from_bp(bp.into()).ok_or("a weight above 10000")?));
        }
        let service = ServiceName::new(SERVICE)?;
        let shift =
            ServiceShift { service, set, remainder: Version::Blue, expected_generation: None };
        let (shifts, options) = (vec![shift], ChangeOptions::default());
        let shift = Shift { shifts, lease: None, in_flight, options };
        let done = self.owner().shift(&shift).map(drop);
        if self.carried_out(done)? {
            self.spec.weights = weights;
            self.rolled_back = false;
            return Ok(true);
        }
        Ok(false)
    }

    /// What versions without weight still had is void.
    fn abandon(&mut self, weights: [u16; 3]) -> Result<(), String> {
        if self.shift(weights, InFlight::Reset)? {
            let left = |flow: &Flow| weights[usize::from(self.versions[&flow.home])] == 0;
            let (void, live) = std::mem::take(&mut self.live).into_iter().partition(left);
            self.live = live;
            let void: Vec<Flow> = void;
            self.tally.given_up += void.len() as u64;
        }
        Ok(())
    }

    fn set_by_hand(&mut self, backend: u16, state: u8) -> Result<(), String> {
        let Some((version, place)) = self.place(backend) else { return Ok(()) };
        let at = self.spec.backends[version][place].at;
        let state =
            [BackendState::Active, BackendState::Draining, BackendState::Down][usize::from(state)];
        let options = ChangeOptions { force: true, ..ChangeOptions::default() };
        let service = ServiceName::new(SERVICE)?;
        let set = SetBackend { service, address: at.ip(), port: at.port(), state, options };
        let done = self.owner().set_backend(&set).map(drop);
        if self.carried_out(done)? {
            if state == BackendState::Active {
                self.spec.out.remove(&at);
            } else {
                self.spec.out.insert(at);
            }
        }
        Ok(())
    }

    fn roll_back(&mut self) -> Result<(), String> {
        let roll_back = RollBack {
            in_flight: InFlight::default(),
            service: ServiceName::new(SERVICE)?,
            expected_generation: None,
            options: ChangeOptions::default(),
        };
        let done = self.owner().roll_back(&roll_back);
        let weights = done.as_ref().ok().map(|changed| {
            let change = &changed.changes[0];
            Version::ALL.map(|version| change.versions[version].asked)
        });
        if self.carried_out(done.map(drop))? {
            let weights = weights.ok_or("no weights")?;
            self.spec.weights = weights.map(|weight| u16::try_from(weight.bp()).unwrap());
            self.rolled_back = true;
            self.tally.rolled_back += 1;
        }
        Ok(())
    }

    fn steer(&mut self, network: u8, version: Option<u8>) -> Result<(), String> {
        let source = self.network(network).parse().map_err(|_| "a network")?;
        let rule = |version: u8| Rule { source, version: Version::ALL[usize::from(version)] };
        let steer = Steer {
            service: ServiceName::new(SERVICE)?,
            add: version.map(rule).into_iter().collect(),
            remove: if version.is_none() { vec![source] } else { Vec::new() },
            expected_generation: None,
            options: ChangeOptions::default(),
        };
        let done = self.owner().steer(&steer).map(drop);
        match version {
            _ if !self.carried_out(done)? => None,
            Some(version) => {
                self.steered = true;
                self.spec.rules.insert(network, version)
            }
            None => self.spec.rules.remove(&network),
        };
        Ok(())
    }

    /// Another agent takes up what this one leaves.
    fn restart(&mut self) -> Result<(), String> {
        let kernel = self.owner.take().ok_or("no owner")?.into_plane();
        let owner = Owner::start(kernel, self.store.clone()).map_err(|error| error.to_string())?;
        self.owner = Some(owner);
        self.tell_hops();
        self.tally.restarts += 1;
        Ok(())
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

    // ---- what clients do ----

    /// A network of clients: four of them, by number.
    fn network(&self, number: u8) -> String {
        let number = number % 4;
        if self.setting.ipv6 {
            format!("2001:db8::{number}00/120")
        } else {
            format!("192.0.{number}.0/24")
        }
    }

    fn frame(&self, number: u32, flags: u8) -> (Frame, u8) {
        let [.., a, b] = number.to_be_bytes();
        let (network, host) = (b % 4, 1 + a % 200);
        let address: IpAddr = if self.setting.ipv6 {
            let last = u16::from(network) << 8 | u16::from(host);
            Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last).into()
        } else {
            Ipv4Addr::new(192, 0, network, host).into()
        };
        let port = 1_024 + u16::try_from(number % 60_000).unwrap();
        (Frame::tcp((address, port).into(), self.listener(), flags), network)
    }

    /// Sends a packet of a flow, and gives the backend that it reached.
    fn send(&mut self, number: u32, flags: u8) -> Result<Option<SocketAddr>, String> {
        let (frame, _) = self.frame(number, flags);
        self.tally.packets += 1;
        let program = PROGRAMS[usize::from(self.tally.packets.is_multiple_of(2))];
        let said = if self.setting.traced { Some(self.trace(&frame, flags)?) } else { None };
        let (verdict, out) = program.run(self.kernel(), &frame.bytes());
        let key = frame.key();
        // The kernel's clock stands still while hours pass here.
        let entry = self.kernel().flow(&key).map_err(|error| error.to_string())?;
        if let Some(entry) = entry {
            let entry = FlowEntry { seen: clock::seconds(), ..entry };
            self.kernel().put_flow(&key, entry).map_err(|error| error.to_string())?;
        }
        let reached = match verdict {
            Verdict::Redirect => Some(read(&out)?.to),
            Verdict::Drop => None,
            other => return Err(format!("{program:?}: {other:?}")),
        };
        if let Some((at, walk)) = said.filter(|(at, _)| *at != reached) {
            return Err(format!("flow {number} reached {reached:?}, not {at:?} as said: {walk}"));
        }
        self.tally.traced += u64::from(self.setting.traced);
        Ok(reached)
    }

    /// Where a packet will go, as the node says, and all that it says of it. Nothing may change.
    fn trace(&mut self, frame: &Frame, flags: u8) -> Result<(Option<SocketAddr>, String), String> {
        let state = |kernel: &Kernel| {
            let mut flows = kernel.flows(TCP).map_err(|error| error.to_string())?;
            flows.sort_unstable_by_key(|(key, _)| (key.source, key.source_port));
            Ok::<_, String>((flows, Counts::read(kernel, INDICES)))
        };
        // Reading all of it takes time; chance has it often enough.
        let look = self.tally.packets.is_multiple_of(16);
        let before = if look { Some(state(self.kernel())?) } else { None };
        let asked = TraceFlow {
            from: frame.from,
            to: Some(frame.to),
            protocol: Protocol::Tcp,
            service: Some(ServiceName::new(SERVICE)?),
        };
        let traced = self.owner().trace_flow(&asked).map_err(|error| error.to_string())?;
        if look && Some(state(self.kernel())?) != before {
            return Err(format!("a trace has changed something: {traced:?}"));
        }
        let walk = traced.walk.ok_or("the listener is not found")?;
        let way = if flags == frames::SYN { &walk.opens } else { &walk.continues };
        let at = way.goes.as_ref().map(|goes| goes.backend.address);
        Ok((at, format!("{walk:?}")))
    }

    fn open(&mut self) -> Result<(), String> {
        let number = if self.next_flow % 3 == 2 { self.reset.pop() } else { None };
        let number = number.unwrap_or_else(|| {
            self.next_flow += 1;
            self.next_flow
        });
        let before = self.fallbacks();
        let (frame, network) = self.frame(number, frames::SYN);
        let home = self.send(number, frames::SYN)?;
        let home = home.ok_or("a new flow was dropped")?;
        let fell_back = self.fallbacks() > before;
        let version = self.spec.version(SEED, &frame.key(), network);
        let off = self.rolled_back && !self.steered;
        if fell_back && off && self.versions.get(&home) != Some(&version) {
            return Err(format!("flow {number} of {version} went to {home} after a rollback"));
        }
        if fell_back {
            self.tally.fallbacks += 1;
        } else if !self.spec.ready(version).contains(&home) {
            return Err(format!("new flow {number} of version {version} went to {home}"));
        }
        self.tally.flows += 1;
        // A flow of which nothing but a SYN was ever seen need not be remembered for long.
        let mut flow = Flow { number, home, spoke: clock::seconds() };
        self.go_on(&mut flow, frames::ACK)?;
        self.live.push(flow);
        Ok(())
    }

    /// Flows that found no room, or came too fast, so far.
    fn fallbacks(&mut self) -> u64 {
        let kernel = self.kernel();
        let counters = (0..INDICES).map(|index| kernel.counters(index));
        counters.map(|counters| counters.fallback_full + counters.fallback_flood).sum()
    }

    /// The model: a flow stays where it began.
    fn go_on(&mut self, flow: &mut Flow, flags: u8) -> Result<(), String> {
        let reached = self.send(flow.number, flags)?;
        if reached != Some(flow.home) {
            let Flow { number, home, .. } = flow;
            return Err(format!("flow {number} began at {home} and reached {reached:?}"));
        }
        flow.spoke = clock::seconds();
        Ok(())
    }

    fn speak(&mut self, count: u16) -> Result<(), String> {
        self.live.sort_by_key(|flow| (flow.spoke, flow.number));
        let count = usize::from(count).min(self.live.len());
        for at in 0..count {
            let mut flow = self.live[at];
            self.go_on(&mut flow, frames::PSH | frames::ACK)?;
            self.live[at] = flow;
        }
        Ok(())
    }

    /// By FIN, by RST, or without a word.
    fn end(&mut self, number: u16) -> Result<(), String> {
        if self.live.is_empty() {
            return Ok(());
        }
        let at = usize::from(number) * 7 % self.live.len();
        let mut flow = self.live.swap_remove(at);
        match number % 3 {
            0 => self.go_on(&mut flow, frames::FIN | frames::ACK),
            1 => {
                self.reset.push(flow.number);
                self.go_on(&mut flow, frames::RST)
            }
            _ => Ok(()),
        }
    }
}
