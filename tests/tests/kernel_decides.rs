//! The loaded programs decide as the host's `decide` does, and remember the same: over random
//! tables and flows, over random histories, with full flow tables and in floods.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use weir::dataplane::inspect::Inspect as _;
use weir::dataplane::kernel::{Kernel, Options};
use weir::dataplane::memory::{FlowTable, MemoryTables};
use weir::dataplane::next_hop::NextHop;
use weir::dataplane::{Commit, DataPlane as _};
use weir::plan::steering::{self, Prefix, Steering};
use weir::plan::tables::ServiceTables;
use weir_ebpf::abi::{
    Address, Backend, BackendSlot, Counters, FlowEntry, FlowKey, GIVEN_UP, Line, NO_BACKEND,
    NextHop as HopWord, Reason, SEEN_DATA, SEEN_FIN, SEEN_RST, SEEN_SYN, Service, SteerSlot, TCP,
    UDP, UDP_IDLE_SECONDS, VERSION_LINES, VersionSlot,
};
use weir_ebpf::decide::{Decision, Undecided, Why, decide, decide_udp, slots};
use weir_tests::frames::{ACK, FIN, Frame, PSH, RST, SYN, address, endpoint, ip, read};
use weir_tests::history::{self, Mirror, Setting, Tally};
use weir_tests::program::{
    PROGRAMS, Program, SMALL, Verdict, backend, commit, image, load, steered_image,
};
use weir_tests::random::Random;

/// Listeners of the services 0 (IPv4) and 1 (IPv6).
const LISTENERS: [&str; 2] = ["198.51.100.1:80", "[2001:db8::200]:80"];
/// The one next hop of all backends. Its link is the first one that the data plane learns of.
const HOP: NextHop = NextHop::plain(7, [2; 6], [4; 6]);
const HOP_WORD: HopWord = HopWord::new(1, [4; 6]);
/// Backends of each family. Their port is [`FIRST_PORT`] and their index.
const BACKENDS: u16 = 2_048;
const FIRST_PORT: u16 = 2_000;

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Where a backend of a family is.
fn target(index: u16, ipv6: bool) -> SocketAddr {
    let ip = at(if ipv6 { "[fd00::1]:0" } else { "10.0.0.1:0" }).ip();
    (ip, FIRST_PORT + index).into()
}

fn record(index: u16, ipv6: bool, given_up: bool) -> Backend {
    let flags = if given_up { GIVEN_UP } else { 0 };
    Backend { flags, next_hop: HOP_WORD.0, ..backend(target(index, ipv6)) }
}

fn monotonic_seconds() -> u32 {
    clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap().tv_sec().try_into().unwrap()
}

/// The program with both listeners, TCP and UDP.
fn node(options: Options) -> Kernel {
    let mut kernel = load(options);
    let mut first = Commit::default();
    for (listener, service) in LISTENERS.into_iter().zip(0..) {
        for protocol in [TCP, UDP] {
            first.listeners.push((endpoint(at(listener), protocol), service));
        }
    }
    commit(&mut kernel, first);
    kernel.set_next_hop(0, Some(HOP)).unwrap();
    kernel
}

/// What a packet with these flags shows of its sender, as RFC 9293 has it.
fn shows(key: &FlowKey, flags: u8) -> u8 {
    if key.protocol == UDP {
        return SEEN_DATA;
    }
    if opens(flags) {
        return SEEN_SYN;
    }
    let fin = if flags & FIN == 0 { 0 } else { SEEN_FIN };
    SEEN_DATA | fin | if flags & RST == 0 { 0 } else { SEEN_RST }
}

fn opens(flags: u8) -> bool {
    flags & (SYN | ACK | RST | FIN) == SYN
}

/// A frame of a flow.
fn frame(key: &FlowKey, flags: u8) -> Frame {
    let from = (ip(key.source), u16::from_be(key.source_port)).into();
    let to = (ip(key.destination), u16::from_be(key.destination_port)).into();
    let frame =
        if key.protocol == TCP { Frame::tcp(from, to, flags) } else { Frame::udp(from, to) };
    assert_eq!(frame.key(), *key);
    frame
}

/// Runs one packet, and holds the program to what the host has decided.
fn must_decide(
    kernel: &Kernel,
    program: Program,
    (key, flags): (&FlowKey, u8),
    decided: Result<Decision, Undecided>,
    entry: Option<FlowEntry>,
) {
    let name = || format!("{program:?}, flags {flags:#x}, {key:?}: {decided:?}");
    let frame = frame(key, flags);
    let counted = |index| decided.map_or(Counters::default(), |_| kernel.counters(index));
    let index = decided.map_or(0, |decision| decision.backend);
    let (before, refused) = (counted(index), kernel.reasons()[program.hook()]);
    let (verdict, out) = program.run(kernel, &frame.bytes());
    let (after, now_refused) = (counted(index), kernel.reasons()[program.hook()]);
    match decided {
        Ok(Decision { backend, why }) => {
            assert_eq!(verdict, Verdict::Redirect, "{}", name());
            let to = read(&out).unwrap().to;
            assert_eq!(to, target(backend, frame.to.is_ipv6()), "{}", name());
            let added = |of: fn(&Counters) -> u64| of(&after) - of(&before);
            assert_eq!(added(|c| c.packets_in), 1, "{}", name());
            let begins = if key.protocol == TCP { opens(flags) } else { why == Why::Remembered };
            assert_eq!(added(|c| c.connections), u64::from(begins), "{}", name());
            assert_eq!(added(|c| c.tracked), u64::from(why == Why::Remembered), "{}", name());
            assert_eq!(added(|c| c.fallback_full), u64::from(why == Why::Full), "{}", name());
            assert_eq!(added(|c| c.fallback_flood), u64::from(why == Why::Flooded), "{}", name());
            assert_eq!(now_refused, refused, "{}", name());
        }
        Err(undecided) => {
            let reason = match undecided {
                Undecided::NoBackend => Reason::NoBackend,
                Undecided::NoTable => Reason::NoTable,
            };
            assert_eq!(verdict, Verdict::Drop, "{}", name());
            let mut expected = refused;
            expected[reason as usize] += 1;
            assert_eq!(now_refused, expected, "{}", name());
        }
    }
    let remembered = kernel.flow(key).unwrap();
    let timeless = |entry: FlowEntry| FlowEntry { seen: 0, ..entry };
    assert_eq!(remembered.map(timeless), entry.map(timeless), "{}", name());
    if let (Ok(Decision { why: Why::Pinned | Why::Remembered, .. }), Some(entry)) =
        (decided, remembered)
    {
        let now = monotonic_seconds();
        assert!((now - 2..=now).contains(&entry.seen), "{}: {entry:?} at {now}", name());
    }
}

/// Tables of any slots at all, the sound and the unsound. So many of a hundred slots are tracked.
fn any_tables(random: &mut Random, backends: u16, tracked: usize) -> ServiceTables {
    let mut version_word = || {
        let mut slot = || {
            let three = |random: &mut Random| u8::try_from(random.below(3)).unwrap();
            let (cur, base) = (three(random), three(random));
            VersionSlot::new(cur, base, random.percent(tracked)).0
        };
        u32::from_le_bytes(std::array::from_fn(|_| slot()))
    };
    let versions: Vec<Line> = (0..VERSION_LINES)
        .map(|_| Line { words: std::array::from_fn(|_| version_word()) })
        .collect();
    let tables: [Vec<Line>; 3] = std::array::from_fn(|_| {
        let lines = *random.one(&[64, 64, 64, 128, 256, 1_024]);
        let any = |random: &mut Random| {
            let index = u16::try_from(random.below(usize::from(backends))).unwrap();
            if random.percent(5) { NO_BACKEND } else { index }
        };
        let mut slot = || {
            let (cur, base) = (any(random), any(random));
            let base = if random.percent(30) { cur } else { base };
            BackendSlot::new(cur, base, random.percent(tracked)).0
        };
        (0..lines).map(|_| Line { words: std::array::from_fn(|_| slot()) }).collect()
    });
    ServiceTables::from_lines(&versions, tables.each_ref().map(Vec::as_slice)).unwrap()
}

/// Entries that say anything at all, about half of the clients of a round; in some rounds none.
fn any_steering(random: &mut Random, ipv6: bool, tracked: usize) -> Steering {
    let count = *random.one(&[0, 1, 30, 300]);
    let mut entries = BTreeMap::new();
    for _ in 0..count {
        let length = u8::try_from(112 + random.below(17)).unwrap();
        let prefix = Prefix::new(client(random, ipv6), length);
        let three_or_table = |random: &mut Random| u8::try_from(random.below(4)).unwrap();
        let (cur, base) = (three_or_table(random), three_or_table(random));
        entries.insert(prefix, SteerSlot::new(cur, base, random.percent(tracked)));
    }
    Steering::new(
        entries.into_iter().map(|(prefix, slot)| steering::Entry { prefix, slot }).collect(),
    )
}

/// A client of a round, of 65 536.
fn client(random: &mut Random, ipv6: bool) -> Address {
    let mut source = address(at(if ipv6 { "[2001:db8:7::]:0" } else { "192.0.2.0:0" }).ip());
    source.0[3] = u32::from_be_bytes([192, 0, random.byte(), random.byte()]).to_be();
    source
}

/// What a random packet finds remembered of its flow: in the kernel, and as the host sees it.
fn any_entry(random: &mut Random, key: &FlowKey, backends: u16) -> Option<(FlowEntry, bool)> {
    if random.percent(50) {
        return None;
    }
    let silent = if random.percent(20) { u32::from(UDP_IDLE_SECONDS) + 5 } else { 5 };
    let entry = FlowEntry {
        // Also one that does not exist.
        backend: u16::try_from(random.below(usize::from(backends))).unwrap(),
        client: random.byte() & 15,
        server: random.byte() & 15 & !SEEN_SYN,
        seen: monotonic_seconds() - silent,
    };
    Some((entry, key.protocol == TCP || silent <= u32::from(UDP_IDLE_SECONDS)))
}

/// A hundred thousand flows over a hundred tables: the kernel and the host agree on where each
/// goes, why, and on what is remembered of it.
#[test]
fn kernel_and_host_agree_on_any_flow() {
    const ROUNDS: u64 = 100;
    const FLOWS: u16 = 1_000;
    const OF_ROUND: u16 = 32;
    let mut kernel = node(SMALL);
    let mut whys = [0_u32; 4];
    for round in 0..ROUNDS {
        let mut random = Random(round);
        let tracked = *random.one(&[0, 3, 50, 100]);
        let given_up: HashSet<u16> = (0..OF_ROUND).filter(|_| random.percent(15)).collect();
        let ipv6 = round % 2 == 1;
        let tables = any_tables(&mut random, OF_ROUND, tracked);
        let steering = any_steering(&mut random, ipv6, tracked);
        let service = Service {
            seed: [random.word(), random.word()],
            affinity: u8::try_from(random.below(3)).unwrap(),
            udp_idle: UDP_IDLE_SECONDS,
            ..Service::default()
        };
        commit(
            &mut kernel,
            Commit {
                services: vec![(
                    u32::from(ipv6),
                    Some(steered_image(&service, &tables, &steering)),
                )],
                backends: (0..OF_ROUND)
                    .map(|index| (index, record(index, ipv6, given_up.contains(&index))))
                    .collect(),
                ..Commit::default()
            },
        );
        let listener = at(LISTENERS[usize::from(ipv6)]);
        for flow in 0..FLOWS {
            let key = FlowKey {
                source: client(&mut random, ipv6),
                destination: address(listener.ip()),
                source_port: random.half(),
                destination_port: listener.port().to_be(),
                protocol: if random.percent(70) { TCP } else { UDP },
                pad: [0; 3],
            };
            let flows = RefCell::new(FlowTable { capacity: usize::MAX, ..FlowTable::default() });
            if let Some((entry, holds)) = any_entry(&mut random, &key, OF_ROUND) {
                kernel.put_flow(&key, entry).unwrap();
                if holds {
                    flows.borrow_mut().entries.insert(key, entry);
                }
            }
            let stale = kernel.flow(&key).unwrap().is_some() && flows.borrow().entries.is_empty();
            for _ in 0..=random.below(3) {
                let flags = match random.below(3) {
                    _ if key.protocol == UDP => 0,
                    0 => SYN,
                    1 => *random.one(&[ACK, PSH | ACK, FIN | ACK, RST, RST | ACK, SYN | ACK]),
                    _ => random.byte() & (SYN | ACK | FIN | RST | PSH),
                };
                let lost = |backend| given_up.contains(&backend);
                let view = MemoryTables {
                    tables: &tables,
                    steering: &steering,
                    flows: &flows,
                    given_up: &lost,
                    key,
                };
                let at = slots(&service, &key);
                let decided = if key.protocol == TCP {
                    decide(&view, at, opens(flags))
                } else {
                    decide_udp(&view, at)
                };
                if let Ok(Decision { why, .. }) = decided {
                    whys[why as usize] += 1;
                    if let Some(entry) = flows.borrow_mut().entries.get_mut(&key)
                        && matches!(why, Why::Pinned | Why::Remembered)
                    {
                        entry.client |= shows(&key, flags);
                    }
                }
                let entry = flows.borrow().entries.get(&key).copied();
                // A stale datagram flow that found no backend is still there.
                if stale && entry.is_none() {
                    break;
                }
                let program = PROGRAMS[random.below(2)];
                must_decide(&kernel, program, (&key, flags), decided, entry);
            }
            kernel.remove_flow(&key).unwrap();
            assert!(flow % 100 != 0 || kernel.flows(TCP).unwrap().is_empty());
        }
    }
    println!("by table, pinned, remembered: {whys:?}");
    assert!(whys[..3].iter().all(|count| *count > 10_000), "all ways are met");
}

/// Does in the kernel what a history does in memory.
struct Beside<'a> {
    kernel: &'a mut Kernel,
    service: Service,
    ipv6: bool,
    given_up: HashSet<u16>,
    random: Random,
    /// Packets compared.
    packets: &'a mut u64,
}

impl<'a> Beside<'a> {
    /// Makes the kernel ready for another history.
    fn new(kernel: &'a mut Kernel, setting: &Setting, packets: &'a mut u64) -> Self {
        for protocol in [TCP, UDP] {
            for (key, _) in kernel.flows(protocol).unwrap() {
                kernel.remove_flow(&key).unwrap();
            }
        }
        let ipv6 = setting.ipv6;
        let backends = (0..BACKENDS).map(|index| (index, record(index, ipv6, false))).collect();
        commit(kernel, Commit { backends, ..Commit::default() });
        Self {
            kernel,
            service: setting.service(),
            ipv6,
            given_up: HashSet::new(),
            random: Random(setting.seed),
            packets,
        }
    }
}

impl Mirror for Beside<'_> {
    fn tables(&mut self, tables: &ServiceTables, steering: &Steering, given_up: &HashSet<u16>) {
        let image = steered_image(&self.service, tables, steering);
        let service = (u32::from(self.ipv6), Some(image));
        let changed = self.given_up.symmetric_difference(given_up);
        let backends = changed
            .map(|index| (*index, record(*index, self.ipv6, given_up.contains(index))))
            .collect();
        let services = vec![service];
        commit(self.kernel, Commit { services, backends, ..Commit::default() });
        self.given_up.clone_from(given_up);
    }

    fn packet(
        &mut self,
        key: &FlowKey,
        shows: u8,
        decided: Result<Decision, Undecided>,
        entry: Option<FlowEntry>,
    ) {
        let flags = match shows {
            SEEN_SYN => SYN,
            shows if shows & SEEN_FIN != 0 => FIN | ACK,
            shows if shows & SEEN_RST != 0 => RST,
            _ => PSH | ACK,
        };
        let program = PROGRAMS[self.random.below(2)];
        must_decide(self.kernel, program, (key, flags), decided, entry);
        *self.packets += 1;
    }

    fn forget(&mut self, key: &FlowKey) {
        assert!(self.kernel.remove_flow(key).unwrap(), "it was remembered here only: {key:?}");
    }

    fn has_room(&self, key: &FlowKey) -> Option<bool> {
        Some(has_room(self.kernel, key))
    }
}

/// Whether a place is free of those that this flow may have.
fn has_room(kernel: &Kernel, key: &FlowKey) -> bool {
    let room = kernel.room(key).unwrap();
    room.used < room.capacity
}

/// Flows stay where they began, in the kernel, through random histories.
fn histories(seeds: std::ops::Range<u64>, room: u32) {
    let mut kernel = node(Options { flows: room, ..SMALL });
    let (mut total, mut packets) = (Tally::default(), 0);
    let count = seeds.end - seeds.start;
    for seed in seeds {
        let room = usize::try_from(room).unwrap();
        let (ipv6, steered) = (seed % 2 == 1, seed % 4 > 1);
        let setting = Setting { seed, room, floods: false, ipv6, steered };
        total += history::run(setting, Beside::new(&mut kernel, &setting, &mut packets));
    }
    println!("room for {room}: {count} histories, {packets} packets, {total:?}");
    assert_eq!(packets, total.packets);
    assert!(total.pinned > 0 && total.remembered > 0 && total.reused > 0 && total.void > 0);
    assert!(total.settled > 0 && total.untracked > 0 && total.retransmitted > 0);
    assert_eq!(total.fallback > 0, room < 1_000);
}

#[test]
fn flows_stay_with_room_for_all() {
    histories(0..20, 16_384);
}

#[test]
fn flows_stay_with_room_for_some() {
    histories(100..115, 20);
}

#[test]
fn flows_stay_with_room_for_few() {
    histories(200..215, 2);
}

#[test]
fn udp_flows_stay_while_there_is_room() {
    let mut kernel = node(SMALL);
    for seed in 0..4 {
        let (ipv6, steered) = (seed % 2 == 1, seed % 4 > 1);
        let setting = Setting { seed, room: usize::MAX, floods: false, ipv6, steered };
        let mut packets = 0;
        let left = history::run_udp(setting, Beside::new(&mut kernel, &setting, &mut packets));
        println!("{left} flows left, {packets} packets");
        assert!(packets > 10_000);
    }
}

/// Tables in the middle of a shift from backend 0 to backend 1: every slot is tracked.
fn all_moved(kernel: &mut Kernel) {
    let versions = [0x80; 4].map(|_| VersionSlot::new(0, 0, false).0);
    let line = Line { words: [u32::from_le_bytes(versions); 16] };
    let versions = vec![line; VERSION_LINES as usize];
    let table = vec![Line { words: [BackendSlot::new(1, 0, true).0; 16] }; 64];
    let tables = ServiceTables::from_lines(&versions, [&table, &table, &table]).unwrap();
    let services = vec![(0, Some(image(&Service::default(), &tables)))];
    let backends = (0..2).map(|index| (index, record(index, false, false))).collect();
    commit(kernel, Commit { services, backends, ..Commit::default() });
}

fn key(port: u16) -> FlowKey {
    let (from, to) = (at("192.0.2.7:0").ip(), at(LISTENERS[0]));
    Frame::tcp((from, port).into(), to, SYN).key()
}

/// Sends a SYN, and says which of the two backends it reached.
fn open(kernel: &Kernel, program: Program, port: u16) -> u16 {
    let (verdict, out) = program.run(kernel, &frame(&key(port), SYN).bytes());
    assert_eq!(verdict, Verdict::Redirect);
    read(&out).unwrap().to.port() - FIRST_PORT
}

#[test]
fn a_full_table_sends_flows_where_older_ones_go() {
    const ROOM: u16 = 64;
    let mut kernel = node(Options { flows: ROOM.into(), ..SMALL });
    all_moved(&mut kernel);
    for program in PROGRAMS {
        let before = [kernel.counters(0), kernel.counters(1)];
        // More than it has places.
        let (fit, refused): (Vec<u16>, Vec<u16>) = (0..5 * ROOM).partition(|port| {
            let fits = has_room(&kernel, &key(*port));
            assert!(fits || *port >= ROOM, "there is room for flow {port}");
            assert_eq!(open(&kernel, program, *port), u16::from(fits), "flow {port}");
            assert_eq!(kernel.flow(&key(*port)).unwrap().is_some(), fits);
            fits
        });
        let [some, others] = [&fit, &refused].map(|ports| ports.len() as u64);
        assert!(others > 0);
        for port in &fit {
            assert_eq!(open(&kernel, program, *port), 1, "flow {port} stays");
        }
        for port in &refused {
            assert_eq!(open(&kernel, program, *port), 0, "there is no room for flow {port}");
        }
        // Its place is one that the last one may have.
        let last = key(*refused.last().unwrap());
        let gone = fit.iter().find(|port| {
            assert!(kernel.remove_flow(&key(**port)).unwrap());
            has_room(&kernel, &last)
        });
        let gone = 1 + fit.iter().position(|port| Some(port) == gone).unwrap() as u64;
        assert_eq!(open(&kernel, program, *refused.last().unwrap()), 1, "room for one");
        let [old, new] = [kernel.counters(0), kernel.counters(1)];
        assert_eq!(old.fallback_full - before[0].fallback_full, 2 * others);
        assert_eq!(old.connections - before[0].connections, 2 * others);
        assert_eq!(new.tracked - before[1].tracked, some + 1);
        assert_eq!((new.fallback_full, new.fallback_flood, old.fallback_flood), (0, 0, 0));
        let left = kernel.flows(TCP).unwrap();
        assert_eq!(left.len() as u64, some + 1 - gone);
        for (key, _) in left {
            assert!(kernel.remove_flow(&key).unwrap());
        }
    }
}

/// More new flows a second than allowed: those beyond go where older ones go. The allowance comes
/// back with time, also when somebody never stops asking, and however small it is.
#[test]
fn a_flood_sends_flows_where_older_ones_go() {
    const RATE: u64 = 50;
    const TIME: Duration = Duration::from_secs(2);
    for program in PROGRAMS {
        let mut kernel = node(Options { inserts_per_second: RATE, ..SMALL });
        all_moved(&mut kernel);
        let (start, mut reached, mut port) = (Instant::now(), [0_u64; 2], 0);
        while start.elapsed() < TIME && port < u16::MAX {
            reached[usize::from(open(&kernel, program, port))] += 1;
            let pinned = kernel.flow(&key(port)).unwrap();
            assert!(pinned.is_none_or(|entry| entry.backend == 1));
            port += 1;
            std::thread::sleep(Duration::from_micros(200));
        }
        let [old, new] = reached;
        let seconds = start.elapsed().as_secs() + 1;
        println!("{program:?}: {new} flows were let in, {old} not, in {:?}", start.elapsed());
        assert_eq!(kernel.counters(0).fallback_flood, old);
        assert_eq!((kernel.counters(1).tracked, kernel.counters(1).connections), (new, new));
        // Each processor has an allowance of its own.
        let processors = std::thread::available_parallelism().unwrap().get() as u64;
        let burst = RATE / 10 + 1;
        assert!(new <= processors * (burst + RATE * seconds), "{new} in {seconds} s");
        assert!(new >= RATE, "only {new} in {seconds} s");
        assert!(old > new);
    }
}
