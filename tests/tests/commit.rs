//! Commits to the kernel's maps: what was committed is what is there; what fails leaves everything
//! as it was; and nothing leaks.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod frame;

use std::sync::Arc;

use weir::dataplane::kernel::{Kernel, Options};
use weir::dataplane::next_hop::NextHop;
use weir::dataplane::{Commit, DataPlane as _, Error, Image};
use weir::plan::backend_table::Candidate;
use weir::plan::goal::Goal;
use weir::plan::identity::Identity;
use weir::plan::tables::ServiceTables;
use weir::plan::transition::transition;
use weir_ebpf::abi::{
    Address, Backend, Endpoint, HOOK_TC, MAX_LINKS, MAX_LISTENERS, MAX_SERVICES, Reason, Return,
    Service, TCP, VERSION_LINES, VERSIONS,
};

/// Lines of a service whose three backend tables are of the smallest size.
const LINES: u64 = VERSION_LINES as u64 + 3 * 64;

fn kernel(pool_lines: u32) -> Kernel {
    let options = Options { pool_lines, flows: 1_000, udp_flows: 1_000, ..Options::default() };
    Kernel::load(options).unwrap_or_else(|error| panic!("{error}"))
}

/// Tables of a service; each version has so many backends, with indices from `first` on. They
/// follow from `old`, if there is one.
fn tables(
    old: Option<&ServiceTables>,
    weights: [u16; VERSIONS],
    backends: [u16; VERSIONS],
    first: u16,
) -> Arc<ServiceTables> {
    let mut next = 0;
    let candidates = backends.map(|count| {
        let candidate = |n| Candidate { identity: identity(first + n), weight: 100 };
        let these: Vec<Candidate> = (next..next + count).map(candidate).collect();
        next += count;
        these
    });
    let goal = Goal::new([7; 16], weights, candidates.each_ref().map(Vec::as_slice));
    let target = goal.on_this_node(&mut |_, identity| {
        let [.., high, low, _, _] = identity.bytes();
        u16::from_be_bytes([high, low])
    });
    Arc::new(transition(old, &target, &|_| false).tables)
}

/// The address of a backend holds its index.
fn address(index: u16) -> [u8; 4] {
    let [high, low] = index.to_be_bytes();
    [10, 60, high, low]
}

fn identity(index: u16) -> Identity {
    Identity { address: Address::from_v4(address(index)), port: 80 }
}

fn image(tables: &Arc<ServiceTables>) -> Image {
    let record = Service { seed: [1, 2], ..Service::default() };
    Image { record, tables: Arc::clone(tables), steering: Arc::default() }
}

fn endpoint(address: [u8; 4]) -> Endpoint {
    let address = Address::from_v4(address);
    Endpoint { address, port: 80_u16.to_be(), protocol: TCP, pad: 0 }
}

fn listener(n: u16) -> Endpoint {
    let [high, low] = n.to_be_bytes();
    endpoint([10, 50, high, low])
}

/// The record of a backend, and the return path from it to a listener.
fn backend(index: u16, of: Endpoint) -> ((u16, Backend), (Endpoint, Return)) {
    let at = endpoint(address(index));
    let record = Backend { address: at.address, port: at.port, ..Backend::default() };
    ((index, record), (at, Return { address: of.address, port: of.port, backend: index }))
}

/// A commit that makes service `index`, with listener `index` and one backend of that index.
fn one(index: u16, generation: u32, tables: &Arc<ServiceTables>) -> Commit {
    let (record, back) = backend(index, listener(index));
    Commit {
        generation,
        services: vec![(index.into(), Some(image(tables)))],
        backends: vec![record],
        listeners: vec![(listener(index), index.into())],
        returns: vec![back],
        ..Commit::default()
    }
}

/// All weight on blue, which has one backend: `index`.
fn blue(index: u16) -> Arc<ServiceTables> {
    tables(None, [10_000, 0, 0], [1, 0, 0], index)
}

fn pool_lines(kernel: &Kernel) -> u64 {
    used(kernel, "pool_lines")
}

fn used(kernel: &Kernel, resource: &str) -> u64 {
    kernel.uses().into_iter().find(|one| one.resource == resource).unwrap().used
}

/// Gives backends a next hop, so that packets to them count as sent.
fn give_way(kernel: &mut Kernel, backends: &[u16]) {
    let hop = NextHop::plain(1, [2; 6], [4; 6]);
    for backend in backends {
        kernel.set_next_hop(*backend, Some(hop)).unwrap();
    }
}

/// The backend that a SYN to a listener is sent to, if it is sent at all.
fn reaches(kernel: &Kernel, of: u16, backends: &[u16]) -> Option<u16> {
    let counts = |kernel: &Kernel| -> Vec<u64> {
        backends.iter().map(|&backend| kernel.counters(backend).connections).collect()
    };
    let before = counts(kernel);
    let [high, low] = of.to_be_bytes();
    kernel.run_tc(&frame::syn(([10, 9, 0, 1], 4_000), ([10, 50, high, low], 80)), 1).unwrap();
    let after = counts(kernel);
    backends.iter().zip(before.iter().zip(&after)).find(|(_, (b, a))| b != a).map(|(i, _)| *i)
}

/// Whether an answer of a backend is turned back to a client; else it is left alone.
fn comes_back(kernel: &Kernel, backend: u16) -> bool {
    let not_ours = |kernel: &Kernel| kernel.reasons()[HOOK_TC as usize][Reason::NotOurs as usize];
    let before = not_ours(kernel);
    kernel.run_tc(&frame::ack((address(backend), 80), ([10, 9, 0, 1], 4_000)), 1).unwrap();
    not_ours(kernel) == before
}

#[test]
fn links_that_no_backend_uses_make_room_for_others() {
    let mut kernel = kernel(10_000);
    let hop = |mtu| NextHop { mtu, ..NextHop::plain(1, [2; 6], [4; 6]) };
    // The interface's MTU changes more often than there are places.
    for mtu in 1..3 * MAX_LINKS {
        for backend in 0..3 {
            kernel.set_next_hop(backend, Some(hop(mtu))).unwrap();
        }
    }
    kernel.set_next_hop(0, None).unwrap();
    // Each place is in use: index zero is none.
    for index in 1..MAX_LINKS {
        let backend = u16::try_from(index).unwrap();
        kernel.set_next_hop(backend, Some(hop(10_000 + index))).unwrap();
    }
    let error = kernel.set_next_hop(0, Some(hop(1))).unwrap_err().to_string();
    assert!(error.contains("LINKS") && error.contains("255"), "{error}");
    kernel.set_next_hop(7, None).unwrap();
    kernel.set_next_hop(0, Some(hop(1))).unwrap();
}

#[test]
fn a_service_that_is_not_there_has_no_tables() {
    let mut kernel = kernel(4_096);
    assert_eq!(kernel.tables(0).unwrap(), None, "before the first commit");
    kernel.commit(&one(0, 1, &blue(0))).unwrap();
    assert_eq!(kernel.tables(1).unwrap(), None);
    assert_eq!(kernel.tables(MAX_SERVICES - 1).unwrap(), None);
}

#[test]
fn what_is_read_back_is_what_was_committed() {
    let mut kernel = kernel(100_000);
    let mut last: [Option<Arc<ServiceTables>>; 3] = [None, None, None];
    let steps = [
        ([10_000, 0, 0], [3, 0, 0]),
        ([9_000, 0, 1_000], [3, 0, 2]),
        ([0, 5_000, 5_000], [3, 40, 2]),
        ([3_334, 3_333, 3_333], [2, 40, 200]),
        ([10_000, 0, 0], [3, 0, 0]),
    ];
    for (generation, (weights, backends)) in (1..).zip(steps) {
        let mut commit = Commit { generation, ..Commit::default() };
        for (index, last) in (0..).zip(&mut last) {
            let first = 300 * u16::try_from(index).unwrap();
            let next = tables(last.as_deref(), weights, backends, first);
            commit.services.push((index, Some(image(&next))));
            *last = Some(next);
        }
        kernel.commit(&commit).unwrap();
        for (index, last) in (0..).zip(&last) {
            assert_eq!(kernel.tables(index).unwrap().as_ref(), last.as_deref());
        }
    }
}

/// Lines that live tables need, no more: whatever came before.
#[test]
fn the_pool_holds_the_live_tables_and_nothing_else() {
    let mut kernel = kernel(20_000);
    let weights = |n: u16| [10_000 - n * 7, n * 7, 0];
    let mut live: Vec<Option<Arc<ServiceTables>>> = vec![None; 6];
    let mut random = 1_u32;
    for generation in 1..=200 {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let index = (random >> 16) as usize % live.len();
        let n = u16::try_from(generation).unwrap();
        live[index] = (random >> 28 != 0).then(|| {
            let backends = [1 + n % 3, 1 + n % 20, 0];
            tables(live[index].as_deref(), weights(n), backends, 100)
        });
        let image = live[index].as_ref().map(image);
        let services = vec![(u32::try_from(index).unwrap(), image)];
        kernel.commit(&Commit { generation, services, ..Commit::default() }).unwrap();
        let lines = |tables: &Arc<ServiceTables>| -> u64 {
            let slots: usize = tables.backends().iter().map(|table| table.slots().len()).sum();
            u64::from(VERSION_LINES) + slots as u64 / 16
        };
        assert_eq!(pool_lines(&kernel), live.iter().flatten().map(lines).sum::<u64>());
    }
    let services = (0..6).map(|index| (index, None)).collect();
    kernel.commit(&Commit { generation: 201, services, ..Commit::default() }).unwrap();
    assert_eq!(pool_lines(&kernel), 0);
}

/// With room for one version table more and no backend table, only what changes can be written.
#[test]
fn tables_that_do_not_change_are_not_written_again() {
    let old = blue(0);
    let mut kernel = kernel(u32::try_from(LINES).unwrap() + VERSION_LINES);
    kernel.commit(&one(0, 1, &old)).unwrap();
    for (generation, share) in [(2, 1), (3, 5_000), (4, 0)] {
        let shifted = tables(Some(&old), [10_000 - share, 0, share], [1, 0, 0], 0);
        let services = vec![(0, Some(image(&shifted)))];
        kernel.commit(&Commit { generation, services, ..Commit::default() }).unwrap();
        assert_eq!(kernel.tables(0).unwrap().as_ref(), Some(&*shifted));
        assert_eq!(pool_lines(&kernel), LINES);
    }
    let other = tables(Some(&old), [5_000, 5_000, 0], [2, 0, 0], 0);
    let services = vec![(0, Some(image(&other)))];
    let error = kernel.commit(&Commit { generation: 5, services, ..Commit::default() });
    assert!(matches!(error, Err(Error::PoolFull { .. })), "{error:?}");
}

#[test]
fn a_full_pool_refuses_and_leaves_everything() {
    let mut kernel = kernel(u32::try_from(LINES * 2).unwrap() + 100);
    let (first, second) = (blue(0), blue(1));
    kernel.commit(&one(0, 1, &first)).unwrap();
    kernel.commit(&one(1, 2, &second)).unwrap();
    give_way(&mut kernel, &[0, 1, 2]);
    let before = pool_lines(&kernel);

    // The first of the two would fit by itself; it takes over the listener of the other.
    let mut commit = one(2, 3, &blue(2));
    commit.listeners.push((listener(1), 2));
    commit
        .services
        .insert(0, (0, Some(image(&tables(Some(&first), [10_000, 0, 0], [2, 0, 0], 0)))));
    let error = kernel.commit(&commit).unwrap_err();
    let Error::PoolFull { asked, free, size } = error else { panic!("{error}") };
    assert_eq!((asked, free, u64::from(size)), (VERSION_LINES, 36, LINES * 2 + 100));

    assert_eq!(pool_lines(&kernel), before);
    assert_eq!(kernel.tables(0).unwrap().as_ref(), Some(&*first));
    assert_eq!(kernel.tables(1).unwrap().as_ref(), Some(&*second));
    assert_eq!(kernel.tables(2).unwrap(), None);
    let reached: Vec<_> = (0..3).map(|of| reaches(&kernel, of, &[0, 1, 2])).collect();
    assert_eq!(reached, [Some(0), Some(1), None]);
    assert!(comes_back(&kernel, 0) && comes_back(&kernel, 1) && !comes_back(&kernel, 2));
    // It is not stuck.
    let services = vec![(0, None)];
    kernel.commit(&Commit { generation: 3, services, ..Commit::default() }).unwrap();
    kernel.commit(&one(2, 4, &blue(2))).unwrap();
    give_way(&mut kernel, &[2]);
    assert_eq!(reaches(&kernel, 2, &[0, 1, 2]), Some(2));
}

/// `LISTENERS` is written after the tables and the return paths, so its failure undoes most.
#[test]
fn a_commit_that_fails_late_is_undone() {
    let mut kernel = kernel(8_192);
    let mut commit = one(0, 1, &blue(0));
    let most = u16::try_from(MAX_LISTENERS).unwrap();
    commit.listeners.extend((100..100 + most - 2).map(|n| (listener(n), 0)));
    kernel.commit(&commit).unwrap();
    kernel.commit(&one(1, 2, &blue(1))).unwrap();
    give_way(&mut kernel, &[0, 1, 2]);
    assert_eq!(used(&kernel, "listeners"), u64::from(MAX_LISTENERS));
    let before = pool_lines(&kernel);

    // Takes over listener 1 and the answers of backend 1, before it finds no room for its own.
    let mut commit = one(2, 3, &blue(2));
    commit.listeners.insert(0, (listener(1), 2));
    let (_, (at, back)) = backend(1, listener(1));
    commit.returns.insert(0, (at, Return { backend: 2, ..back }));
    let error = kernel.commit(&commit).unwrap_err();
    assert!(matches!(error, Error::Map { map: "LISTENERS", .. }), "{error}");

    assert_eq!(pool_lines(&kernel), before);
    assert_eq!(used(&kernel, "listeners"), u64::from(MAX_LISTENERS));
    assert_eq!(kernel.tables(2).unwrap(), None);
    assert_eq!(reaches(&kernel, 1, &[0, 1, 2]), Some(1));
    assert!(!comes_back(&kernel, 2));
    assert!(comes_back(&kernel, 1));
    // When one goes, the new one fits.
    let closed = vec![listener(100)];
    kernel.commit(&Commit { generation: 3, closed, ..Commit::default() }).unwrap();
    kernel.commit(&one(2, 4, &blue(2))).unwrap();
    give_way(&mut kernel, &[2]);
    assert_eq!(reaches(&kernel, 2, &[0, 1, 2]), Some(2));
}

#[test]
fn what_is_closed_and_severed_is_gone() {
    let mut kernel = kernel(8_192);
    kernel.commit(&one(0, 1, &blue(0))).unwrap();
    kernel.commit(&one(1, 2, &blue(1))).unwrap();
    give_way(&mut kernel, &[0, 1]);
    assert_eq!(reaches(&kernel, 0, &[0, 1]), Some(0));
    assert!(comes_back(&kernel, 0));
    let commit = Commit {
        generation: 3,
        services: vec![(0, None)],
        closed: vec![listener(0)],
        severed: vec![endpoint(address(0))],
        ..Commit::default()
    };
    kernel.commit(&commit).unwrap();
    assert_eq!(reaches(&kernel, 0, &[0, 1]), None);
    assert!(!comes_back(&kernel, 0));
    assert_eq!(kernel.reasons()[HOOK_TC as usize][Reason::NotOurs as usize], 2);
    assert_eq!(used(&kernel, "listeners"), 1);
    assert_eq!(reaches(&kernel, 1, &[0, 1]), Some(1));
    assert!(comes_back(&kernel, 1));
}

#[test]
fn flows_of_a_backend_are_forgotten_and_no_others() {
    let mut kernel = kernel(8_192);
    for index in [0, 1] {
        kernel.commit(&one(index, 1, &blue(index))).unwrap();
    }
    for (index, canary) in [(0_u16, 10), (1, 11)] {
        // Everything moves from blue to canary, so that each flow is remembered.
        let old = kernel.tables(index.into()).unwrap().unwrap();
        let goal = Goal::new(
            [7; 16],
            [0, 0, 10_000],
            [
                &[Candidate { identity: identity(index), weight: 100 }],
                &[],
                &[Candidate { identity: identity(canary), weight: 100 }],
            ],
        );
        let target = goal.on_this_node(&mut |version, _| if version == 0 { index } else { canary });
        let next = Arc::new(transition(Some(&old), &target, &|_| false).tables);
        let (record, back) = backend(canary, listener(index));
        let commit = Commit {
            generation: 2,
            services: vec![(index.into(), Some(image(&next)))],
            backends: vec![record],
            returns: vec![back],
            ..Commit::default()
        };
        kernel.commit(&commit).unwrap();
        give_way(&mut kernel, &[index, canary]);
        for port in 1_000..1_050 {
            let [high, low] = index.to_be_bytes();
            let syn = frame::syn(([10, 9, 0, 1], port), ([10, 50, high, low], 80));
            kernel.run_tc(&syn, 1).unwrap();
        }
        assert_eq!(kernel.counters(canary).tracked, 50);
    }
    assert_eq!(kernel.flows(TCP).unwrap().len(), 100);
    assert_eq!(kernel.forget(&|_, flow| [0, 10].contains(&flow.backend)).unwrap(), 50);
    assert_eq!(kernel.flows(TCP).unwrap().len(), 50);
    assert_eq!(used(&kernel, "flows"), 50);
    assert_eq!(kernel.forget(&|_, flow| flow.backend == 10).unwrap(), 0);

    kernel.clear_counters(&[10].into());
    assert_eq!(kernel.counters(10).connections, 0);
    assert_eq!(kernel.counters(11).connections, 50);
}
