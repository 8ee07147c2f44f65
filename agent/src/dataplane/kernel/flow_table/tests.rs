//! The table against a map, by random histories, and with several threads at once.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "tests")]

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread;

use proptest::prelude::*;
use weir_ebpf::abi::{Address, FLOW_BUCKET, FlowEntry, FlowKey, SEEN_SYN, TCP, flow_buckets};

use super::{FlowTable, MARKS, WORDS};

fn table(buckets: u32) -> FlowTable<Arc<[AtomicU64]>> {
    let words = (buckets as usize + 1) * WORDS;
    FlowTable::new((0..words).map(|_| AtomicU64::new(0)).collect(), buckets + 1)
}

fn key(client: u32) -> FlowKey {
    FlowKey {
        source: Address::from_v4((0x0a00_0000 | client >> 14).to_be_bytes()),
        destination: Address::from_v4([10, 50, 0, 1]),
        source_port: (1_024 + (client & 0x3fff) as u16).to_be(),
        destination_port: 80_u16.to_be(),
        protocol: TCP,
        pad: [0; 3],
    }
}

fn entry(backend: u16) -> FlowEntry {
    FlowEntry { backend, client: SEEN_SYN, server: 0, seen: 7 }
}

#[derive(Debug, Clone)]
enum Step {
    Put(u32, u16),
    Remove(u32),
    /// Flows at backends of which this is no divisor go.
    Sweep(u16, u32),
}

fn step() -> impl Strategy<Value = Step> {
    let client = 0..60_u32;
    prop_oneof![
        6 => (client.clone(), 0..8_u16).prop_map(|(client, backend)| Step::Put(client, backend)),
        3 => client.prop_map(Step::Remove),
        1 => (1..4_u16, 1..4_u32).prop_map(|(of, buckets)| Step::Sweep(of, buckets)),
    ]
}

proptest! {
    /// From one bucket, where everything meets, to more places than flows.
    #[test]
    fn it_is_a_map_that_may_be_full(
        buckets in 1..20_u32,
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let mut table = table(buckets);
        let mut model: HashMap<u32, FlowEntry> = HashMap::new();
        for step in steps {
            match step {
                Step::Put(client, backend) => {
                    let (taken, places) = table.places(&key(client));
                    let room = taken < places || model.contains_key(&client);
                    prop_assert_eq!(table.put(&key(client), entry(backend)).is_ok(), room);
                    if room {
                        model.insert(client, entry(backend));
                    }
                }
                Step::Remove(client) => {
                    let was = model.remove(&client).is_some();
                    prop_assert_eq!(table.remove(&key(client)), was);
                }
                Step::Sweep(of, at_once) => {
                    let keep = |entry: &FlowEntry| entry.backend.is_multiple_of(of);
                    let (before, mut forgotten) = (model.len(), 0);
                    table.begin_anew();
                    loop {
                        let part = table.sweep(at_once, &mut |_, entry| keep(entry));
                        forgotten += part.forgotten;
                        if part.ended {
                            break;
                        }
                    }
                    model.retain(|_, entry| keep(entry));
                    prop_assert_eq!(forgotten, (before - model.len()) as u64);
                    prop_assert_eq!(table.used().used, model.len() as u64);
                }
            }
            for client in 0..60 {
                prop_assert_eq!(table.get(&key(client)), model.get(&client).copied());
            }
            let all: HashMap<_, _> = table.all().into_iter().collect();
            prop_assert_eq!(all.len(), table.all().len(), "a flow is there twice");
            let known: HashMap<_, _> = model.iter().map(|(c, entry)| (key(*c), *entry)).collect();
            prop_assert_eq!(all, known);
        }
    }
}

/// What `--flows` promises: ports in a row of clients in a row, as a load generator has them.
#[test]
fn there_is_room_for_as_many_as_were_asked_for() {
    for flows in [1, 8, 100, 1_000, 100_000] {
        let table = table(flow_buckets(flows));
        for client in 0..flows {
            table.put(&key(client), entry(1)).unwrap();
        }
        assert!(table.capacity() >= u64::from(flows));
        assert_eq!(table.count(), u64::from(flows));
    }
}

/// Another agent finds what the one before it knew, by the same secret.
#[test]
fn what_is_there_is_taken_up() {
    let first = table(10);
    for client in 0..20 {
        first.put(&key(client), entry(3)).unwrap();
    }
    let second = FlowTable::new(Arc::clone(&first.memory), 11);
    assert_eq!(second.used().used, 20);
    assert!((0..20).all(|client| second.get(&key(client)) == Some(entry(3))));
    assert_eq!(second.get(&key(20)), None);
}

/// The client's port begins a new flow after the sweep has judged the old one: every single difference
/// in the entry keeps it.
#[test]
fn a_flow_that_begins_anew_during_a_sweep_stays() {
    let mut swept = table(10);
    let program = FlowTable::new(Arc::clone(&swept.memory), 11);
    let ended = entry(3);
    let others = [
        FlowEntry { backend: 4, ..ended },
        FlowEntry { client: 0, ..ended },
        FlowEntry { server: SEEN_SYN, ..ended },
        FlowEntry { seen: 8, ..ended },
    ];
    for (client, now) in (0..).zip(others) {
        program.put(&key(client), ended).unwrap();
        let part = swept.sweep(10, &mut |key, entry| {
            assert_eq!(*entry, ended);
            program.put(key, now).unwrap();
            false
        });
        assert_eq!((part.forgotten, part.ended), (0, true));
        assert_eq!(program.get(&key(client)), Some(now));
        assert_eq!(swept.sweep(10, &mut |_, _| false).forgotten, 1);
        assert_eq!(program.get(&key(client)), None);
    }
}

/// Threads open, close and sweep flows of their own and a few of everyone's, in a table where they
/// meet in every bucket. One that nobody touches is there all the time, and never another's.
#[test]
fn several_at_once_never_lose_or_double_a_flow() {
    const ROUNDS: u32 = 20_000;
    let (table, over) = (table(40), AtomicBool::new(false));
    let stays = |client: u32| entry(1_000 + client as u16);
    for client in 0..50 {
        table.put(&key(client), stays(client)).unwrap();
    }
    thread::scope(|scope| {
        let churn = |thread: u32| {
            let (table, over) = (&table, &over);
            move || {
                for round in 0..ROUNDS {
                    // One of eight that all threads open and close.
                    let shared = key(100 + round % 8);
                    let own = key(1_000 * (1 + thread) + round % 5);
                    let _ = table.put(&shared, entry(thread as u16));
                    if table.put(&own, entry(round as u16)).is_ok() {
                        assert_eq!(table.get(&own), Some(entry(round as u16)));
                        assert!(table.remove(&own));
                    }
                    table.remove(&shared);
                    assert_eq!(table.get(&own), None);
                }
                over.store(true, Ordering::Relaxed);
            }
        };
        for thread in 0..3 {
            scope.spawn(churn(thread));
        }
        scope.spawn(|| {
            let mut looks = 0_u32;
            while !over.load(Ordering::Relaxed) || looks < 1_000 {
                for client in 0..50 {
                    assert_eq!(table.get(&key(client)), Some(stays(client)));
                }
                looks += 1;
            }
        });
    });
    for client in 0..50 {
        assert_eq!(table.get(&key(client)), Some(stays(client)));
        assert!(table.remove(&key(client)));
    }
    for shared in 100..108 {
        table.remove(&key(shared));
    }
    assert_eq!(table.all(), [], "some were there twice");
    let places = (0..40 * FLOW_BUCKET).filter(|place| {
        let bucket = (1 + place / FLOW_BUCKET) * WORDS;
        table.memory[bucket + place % FLOW_BUCKET].load(Ordering::Relaxed) != 0
    });
    assert_eq!(places.count(), 0, "a place is claimed for ever");
}

/// Two that begin at one moment, again and again.
fn together(rounds: u32, act: impl Fn(u32, u32) + Sync) {
    let (arrived, act) = (AtomicU32::new(0), &act);
    let meet = |count: u32| {
        arrived.fetch_add(1, Ordering::SeqCst);
        for turn in 1_u32.. {
            if arrived.load(Ordering::SeqCst) >= count {
                break;
            }
            // The other one may have no processor yet.
            if turn.is_multiple_of(1_000) { thread::yield_now() } else { std::hint::spin_loop() }
        }
    };
    thread::scope(|scope| {
        for thread in 0..2 {
            scope.spawn(move || {
                for round in 0..rounds {
                    meet(2 * round + 2);
                    act(thread, round);
                }
            });
        }
    });
}

/// A packet sent twice meets two processors: the flow is there once, wherever it finds room.
#[test]
fn two_that_put_one_flow_in_leave_one() {
    let table = table(100);
    for client in 0..200 {
        table.put(&key(client), entry(1)).unwrap();
    }
    for part in 0..20 {
        together(100, |thread, round| {
            let flow = key(1_000 + part * 100 + round).words();
            let flow = table.flow(&flow);
            let number = flow.put(&&table, entry(thread as u16)).unwrap();
            if let Some(twin) = flow.find(&&table, number) {
                flow.alone(&&table, number, twin.number);
            }
        });
        assert_eq!(table.count(), 300);
        for round in 0..100 {
            assert!(table.remove(&key(1_000 + part * 100 + round)));
        }
        assert_eq!(table.count(), 200, "one was there twice");
    }
}

/// Two flows that no byte of the table tells apart but the keys come and go in one place.
#[test]
fn an_entry_that_changes_while_it_is_read_is_nobody_elses() {
    let table = table(1);
    for client in 0..6 {
        table.put(&key(client), entry(9)).unwrap();
    }
    let mark = |client: u32| {
        table.put(&key(client), entry(0)).unwrap();
        let mark = u64::from_le(table.memory[WORDS + MARKS].load(Ordering::Relaxed)) >> 48;
        table.remove(&key(client));
        mark
    };
    let one = mark(10);
    let like = (11..10_000).find(|client| mark(*client) == one).unwrap();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for seen in 0..100_000 {
                for (client, backend) in [(10, 1), (like, 2)] {
                    table.put(&key(client), FlowEntry { seen, ..entry(backend) }).unwrap();
                    table.remove(&key(client));
                }
            }
            over.store(true, Ordering::Relaxed);
        });
        while !over.load(Ordering::Relaxed) {
            for (client, backend) in [(10, 1), (like, 2)] {
                let found = table.get(&key(client));
                assert!(found.is_none_or(|found| found.backend == backend), "{client}: {found:?}");
            }
        }
    });
}
