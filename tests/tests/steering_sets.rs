//! Steering entries in the kernel: they change with their commit, an address is led by its longest
//! prefix, nothing is left over, and a shift does not write them again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::sync::Arc;
use std::time::Instant;

use weir::dataplane::kernel::{Kernel, Options};
use weir::dataplane::next_hop::NextHop;
use weir::dataplane::{Commit, DataPlane as _, Error, Image};
use weir::plan::backend_table::Candidate;
use weir::plan::goal::{Goal, Target};
use weir::plan::identity::Identity;
use weir::plan::steering::{Prefix, Rules, Steering};
use weir::plan::tables::ServiceTables;
use weir::plan::transition::transition;
use weir_ebpf::abi::{Address, BLUE, Backend, CANARY, Endpoint, GREEN, MAX_STEERING, Service, TCP};
use weir_tests::frames::{Frame, SYN};
use weir_tests::program::{SMALL, load};

/// Listener of service 0. Each version has one backend, of its own index.
const LISTENER: ([u8; 4], u16) = ([10, 50, 0, 1], 80);

fn target(canary: u16) -> Target {
    let at = |n| Identity { address: Address::from_v4([10, 60, 0, n]), port: 80 };
    let one = |n| [Candidate { identity: at(n), weight: 100 }];
    let (blue, green, canaries) = (one(0), one(1), one(2));
    let goal = Goal::new([7; 16], [10_000 - canary, 0, canary], [&blue, &green, &canaries]);
    goal.on_this_node(&mut |version, _| u16::try_from(version).unwrap())
}

fn tables(canary: u16) -> Arc<ServiceTables> {
    Arc::new(transition(None, &target(canary), &|_| false).tables)
}

fn rule(source: [u8; 4], length: u8, version: u8) -> (Prefix, u8) {
    (Prefix::new(Address::from_v4(source), 96 + length), version)
}

fn image(tables: &Arc<ServiceTables>, steering: &Arc<Steering>) -> Image {
    let record = Service { seed: [1, 2], ..Service::default() };
    Image { record, tables: Arc::clone(tables), steering: Arc::clone(steering) }
}

fn put(kernel: &mut Kernel, image: Option<Image>) -> Result<(), Error> {
    kernel.commit(&Commit { generation: 1, services: vec![(0, image)], ..Commit::default() })
}

fn node(tables: &Arc<ServiceTables>, steering: &Arc<Steering>) -> Kernel {
    node_with(SMALL, tables, steering)
}

fn node_with(options: Options, tables: &Arc<ServiceTables>, steering: &Arc<Steering>) -> Kernel {
    let mut kernel = load(options);
    let backend = |n: u8| {
        let address = Address::from_v4([10, 60, 0, n]);
        (u16::from(n), Backend { address, port: 80_u16.to_be(), ..Backend::default() })
    };
    let listener = Endpoint {
        address: Address::from_v4(LISTENER.0),
        port: LISTENER.1.to_be(),
        protocol: TCP,
        pad: 0,
    };
    let first = Commit {
        generation: 1,
        services: vec![(0, Some(image(tables, steering)))],
        backends: (0..3).map(backend).collect(),
        listeners: vec![(listener, 0)],
        ..Commit::default()
    };
    kernel.commit(&first).unwrap();
    for backend in 0..3 {
        kernel.set_next_hop(backend, Some(NextHop::plain(1, [2; 6], [4; 6]))).unwrap();
    }
    kernel
}

/// The version that a SYN of this client reaches.
fn reaches(kernel: &Kernel, client: [u8; 4]) -> u8 {
    let counts = || [0, 1, 2].map(|backend| kernel.counters(backend).connections);
    let before = counts();
    let frame = Frame::tcp((client, 4_000).into(), LISTENER.into(), SYN);
    kernel.run_tc(&frame.bytes(), 1).unwrap();
    let after = counts();
    (0..3).find(|version| before[usize::from(*version)] != after[usize::from(*version)]).unwrap()
}

fn entries(kernel: &Kernel) -> u64 {
    kernel.uses().into_iter().find(|one| one.resource == "steering_entries").unwrap().used
}

#[test]
fn the_longest_prefix_leads_and_none_outlives_its_commit() {
    let tables = tables(0);
    let rules = Rules::new([
        rule([10, 9, 0, 0], 16, CANARY),
        rule([10, 9, 1, 0], 24, GREEN),
        rule([10, 9, 1, 7], 32, BLUE),
    ]);
    let steering = Arc::new(Steering::first(&rules));
    let mut kernel = node(&tables, &steering);
    let all = |kernel: &Kernel| {
        [[10, 9, 7, 7], [10, 9, 1, 6], [10, 9, 1, 7], [10, 8, 0, 1]].map(|c| reaches(kernel, c))
    };
    assert_eq!(all(&kernel), [CANARY, GREEN, BLUE, BLUE]);
    assert_eq!((entries(&kernel), &kernel.steering(0)), (3, &steering));

    // Fewer rules: the same prefixes, until they have settled.
    let (fewer, moved) = steering.lead(&Rules::new([rule([10, 9, 1, 0], 24, CANARY)]));
    assert_eq!(moved, 3);
    let fewer = Arc::new(fewer);
    put(&mut kernel, Some(image(&tables, &fewer))).unwrap();
    assert_eq!(all(&kernel), [BLUE, CANARY, CANARY, BLUE]);
    assert_eq!((entries(&kernel), &kernel.steering(0)), (3, &fewer));
    let mut settled = Steering::clone(&fewer);
    assert!(settled.settle() && settled.untrack(&|_| false));
    put(&mut kernel, Some(image(&tables, &Arc::new(settled)))).unwrap();
    assert_eq!(all(&kernel), [BLUE, CANARY, CANARY, BLUE]);
    assert_eq!(entries(&kernel), 1);

    // A commit that fails after the set was written leaves all as it was.
    let mut commit = Commit { generation: 2, ..Commit::default() };
    commit.services.push((0, Some(image(&tables, &steering))));
    let listener = |n: u16| {
        let [high, low] = n.to_be_bytes();
        let address = Address::from_v4([10, 51, high, low]);
        (Endpoint { address, port: 80, protocol: TCP, pad: 0 }, 0)
    };
    commit.listeners = (0..u16::MAX).map(listener).collect();
    let error = kernel.commit(&commit).unwrap_err();
    assert!(matches!(error, Error::Map { map: "LISTENERS", .. }), "{error}");
    assert_eq!(all(&kernel), [BLUE, CANARY, CANARY, BLUE]);
    assert_eq!(entries(&kernel), 1);

    put(&mut kernel, None).unwrap();
    assert_eq!(entries(&kernel), 0);
    put(&mut kernel, Some(image(&tables, &Arc::default()))).unwrap();
    assert_eq!(all(&kernel), [BLUE; 4]);
}

/// With a flow table for one flow and hardly an insert a second.
#[test]
fn a_settled_rule_needs_no_memory_in_a_flood() {
    let rules = Rules::new([rule([10, 9, 0, 0], 16, CANARY)]);
    let steering = Arc::new(Steering::first(&rules));
    let flood = Options { flows: 1, inserts_per_second: 1, ..SMALL };
    let mut kernel = node_with(flood, &tables(0), &steering);
    for client in 0..=255 {
        assert_eq!(reaches(&kernel, [10, 9, 9, client]), CANARY);
        assert_eq!(reaches(&kernel, [10, 8, 9, client]), BLUE);
    }
    // The table moves; who goes by a rule does not notice.
    let old = kernel.tables(0).unwrap().unwrap();
    let moved = Arc::new(transition(Some(&old), &target(10_000), &|_| false).tables);
    put(&mut kernel, Some(image(&moved, &steering))).unwrap();
    for client in 0..=255 {
        assert_eq!(reaches(&kernel, [10, 9, 9, client]), CANARY);
    }
    assert!(kernel.flows(TCP).unwrap().is_empty());
}

#[test]
fn a_shift_writes_no_rule_and_too_many_are_refused() {
    const RULES: u32 = 100_000;
    let many = |first: u32, version| {
        let rule = move |n: u32| rule((0x1400_0000 | (first + n) << 8).to_be_bytes(), 24, version);
        Arc::new(Steering::first(&Rules::new((0..RULES).map(rule))))
    };
    let tables = [tables(0), tables(5_000)];
    let steering = many(0, CANARY);
    let start = Instant::now();
    let mut kernel = node(&tables[0], &steering);
    println!("{RULES} rules and the load: {:?}", start.elapsed());
    assert_eq!(entries(&kernel), u64::from(RULES));

    let start = Instant::now();
    for n in 0..20 {
        put(&mut kernel, Some(image(&tables[n % 2], &steering))).unwrap();
    }
    let shift = start.elapsed() / 20;
    let start = Instant::now();
    put(&mut kernel, Some(image(&tables[0], &many(1, CANARY)))).unwrap();
    let rules = start.elapsed();
    println!("a shift {shift:?}, other rules {rules:?}");
    assert!(shift * 4 < rules, "a shift takes as long as to write the rules");
    assert_eq!(entries(&kernel), u64::from(RULES));
    assert_eq!(reaches(&kernel, [20, 0, 0, 9]), BLUE);
    assert_eq!(reaches(&kernel, [20, 0, 1, 9]), CANARY);

    // Room is left for four sets more.
    let sets = [2, 3, 4, 5].map(|n| (n, Some(image(&tables[0], &many(n, GREEN)))));
    kernel.commit(&Commit { generation: 9, services: sets.into(), ..Commit::default() }).unwrap();
    let error = put(&mut kernel, Some(image(&tables[0], &many(7, GREEN)))).unwrap_err();
    let Error::SteeringFull { asked, free, size } = error else { panic!("{error}") };
    assert_eq!((asked, free, size), (RULES, MAX_STEERING - 5 * RULES, MAX_STEERING));
    assert_eq!(entries(&kernel), u64::from(5 * RULES));
    assert_eq!(reaches(&kernel, [20, 0, 1, 9]), CANARY);
}
