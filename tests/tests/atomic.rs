//! A commit is atomic: for all services named in it, for both tables of each, for its listeners, and
//! for every processor from the moment when it returns.
//!
//! Every commit puts another mark on all of its tables: commit `n` sends everything to version
//! `n % 3`, and each version's backend table holds one backend whose port says `n` and the version.
//! So one frame that goes out tells which commit's record, version table and backend table decided.
//! And every commit has a listener of its own, which the next one closes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use weir::dataplane::kernel::Kernel;
use weir::dataplane::next_hop::NextHop;
use weir::dataplane::{Commit, DataPlane as _};
use weir::plan::backend_table::Candidate;
use weir::plan::goal::Goal;
use weir::plan::identity::Identity;
use weir::plan::tables::ServiceTables;
use weir::plan::transition::transition;
use weir_ebpf::abi::{Service, TCP, VERSIONS};
use weir_tests::frames::{ACK, Frame, SYN, address, endpoint, read};
use weir_tests::program::{PROGRAMS, Program, SMALL, Verdict, backend, commit, image, load};

const LISTENERS: [&str; 2] = ["198.51.100.1:80", "[2001:db8::1]:80"];
const COMMITS: u16 = 300;
/// Runs of each commit, after it has returned, that must all use its tables.
const RUNS_AFTER: u16 = 340;

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// The backend of a service's version in a commit: its port names the commit and the version.
fn marked(service: usize, number: u16, version: u16) -> SocketAddr {
    let ip = if service == 0 { at("10.0.0.1:0") } else { at("[fd00::1]:0") }.ip();
    (ip, 1_000 + number * 3 + version).into()
}

/// Index of that backend.
fn index(service: usize, number: u16, version: usize) -> u16 {
    number * 6 + u16::try_from(service * VERSIONS + version).unwrap()
}

/// The tables of a service in a commit.
fn tables(service: usize, number: u16) -> ServiceTables {
    let candidates: [[Candidate; 1]; VERSIONS] = std::array::from_fn(|version| {
        let target = marked(service, number, u16::try_from(version).unwrap());
        let identity = Identity { address: address(target.ip()), port: target.port() };
        [Candidate { identity, weight: 1 }]
    });
    let mut weights = [0; VERSIONS];
    weights[usize::from(number) % VERSIONS] = 10_000;
    let goal = Goal::new([1; 16], weights, candidates.each_ref().map(|c| &c[..]));
    let target = goal.on_this_node(&mut |version, _| index(service, number, version));
    transition(None, &target, &|_| false).tables
}

fn shift(kernel: &mut Kernel, number: u16) {
    let services = [0, 1].map(|service| {
        // Another affinity with each commit: the record itself changes too.
        let record = Service { affinity: u8::try_from(number % 3).unwrap(), ..Service::default() };
        (u32::try_from(service).unwrap(), Some(image(&record, &tables(service, number))))
    });
    let listeners = vec![(endpoint(own_listener(number), TCP), 0)];
    let closed = number.checked_sub(1).map(|before| endpoint(own_listener(before), TCP));
    let closed = closed.into_iter().collect();
    let services = services.to_vec();
    commit(kernel, Commit { services, listeners, closed, ..Commit::default() });
}

/// The listener that is there between one commit and the next.
fn own_listener(number: u16) -> SocketAddr {
    (at(LISTENERS[0]).ip(), 10_000 + number).into()
}

/// A frame to that one.
fn own_frame(number: u16) -> Vec<u8> {
    Frame::tcp(at("192.0.2.7:7"), own_listener(number), SYN).bytes()
}

/// Whether a commit's own listener is there. If it is, that commit decides.
fn is_open(number: u16, ran: &(Verdict, Vec<u8>)) -> bool {
    if ran.0 == Verdict::Pass {
        return false;
    }
    assert_eq!(decided_by(0, ran), number, "the listener and the tables are of two commits");
    true
}

/// A frame of some flow to one of the services.
fn frame(service: usize, flow: u16) -> Vec<u8> {
    let to = at(LISTENERS[service]);
    let mut from = at(if service == 0 { "192.0.2.7:0" } else { "[2001:db8:7::7]:0" });
    from.set_port(flow);
    Frame::tcp(from, to, if flow.is_multiple_of(2) { SYN } else { ACK }).bytes()
}

/// The commit that decided where this frame goes.
fn decided_by(service: usize, (verdict, frame): &(Verdict, Vec<u8>)) -> u16 {
    assert_eq!(*verdict, Verdict::Redirect);
    let to = read(frame).unwrap().to;
    let mark = to.port() - 1_000;
    let (number, version) = (mark / 3, mark % 3);
    assert_eq!(to, marked(service, number, version));
    assert_eq!(version, number % 3, "the version table of another commit than {number}");
    number
}

/// The program with both services, as the first commit leaves it. All backends have next hops.
fn node() -> Kernel {
    let mut kernel = load(SMALL);
    let mut first = Commit::default();
    for (service, listener) in LISTENERS.into_iter().enumerate() {
        let owner = u32::try_from(service).unwrap();
        first.listeners.push((endpoint(at(listener), TCP), owner));
        for number in 0..=COMMITS {
            for version in 0..3 {
                let target = backend(marked(service, number, version));
                first.backends.push((index(service, number, version.into()), target));
            }
        }
    }
    commit(&mut kernel, first);
    let hop = NextHop::plain(7, [2; 6], [4; 6]);
    for index in 0..(COMMITS + 1) * 6 {
        kernel.set_next_hop(index, Some(hop)).unwrap();
    }
    shift(&mut kernel, 0);
    kernel
}

/// What the other processor saw.
struct Watched {
    runs: u64,
    /// Commits of which it saw the change happen: the one before and this one, run after run.
    changes: u64,
    /// Runs in which it found a commit's own listener.
    open: u64,
}

/// Runs flows of both services in turn until told to stop. What decides them only ever gets newer,
/// over both services.
fn watch(run: impl Fn(&[u8]) -> (Verdict, Vec<u8>), stop: &AtomicBool) -> Watched {
    let frames: Vec<_> =
        (0..128_u16).map(|n| (usize::from(n % 2), frame(usize::from(n % 2), n))).collect();
    let mut watched = Watched { runs: 0, changes: 0, open: 0 };
    let mut newest = 0;
    while !stop.load(Ordering::Relaxed) {
        for (service, frame) in &frames {
            let number = decided_by(*service, &run(frame));
            assert!(number >= newest, "commit {number} decides after commit {newest}");
            watched.runs += 1;
            watched.changes += u64::from(number == newest + 1);
            newest = number;
            for own in [newest, newest + 1] {
                watched.open += u64::from(is_open(own, &run(&own_frame(own))));
            }
        }
    }
    watched
}

#[test]
fn two_services_change_together_and_for_good() {
    let mut kernel = node();
    let runner = kernel.runner().unwrap();
    let stop = AtomicBool::new(false);
    let mut after = 0;
    let watched = thread::scope(|scope| {
        let watcher = scope
            .spawn(|| watch(|frame| Program::Tc.said(runner.run_tc(frame, 1).unwrap()), &stop));
        // Stops the watcher also when an assertion below fails.
        let _stop = OnDrop(|| stop.store(true, Ordering::Relaxed));
        for number in 1..=COMMITS {
            shift(&mut kernel, number);
            for flow in 0..RUNS_AFTER {
                let (program, service) = (PROGRAMS[usize::from(flow / 2 % 2)], flow % 2);
                let ran = program.run(&kernel, &frame(service.into(), flow));
                assert_eq!(decided_by(service.into(), &ran), number, "{program:?}, run {flow}");
                after += 1;
            }
            for program in PROGRAMS {
                let is_open = |own| is_open(own, &program.run(&kernel, &own_frame(own)));
                assert!(is_open(number) && !is_open(number - 1), "{program:?}, commit {number}");
            }
            if watcher.is_finished() {
                break;
            }
        }
        stop.store(true, Ordering::Relaxed);
        watcher.join().expect("the watcher has seen nothing wrong")
    });
    println!("{} runs beside the commits, {after} after them", watched.runs);
    assert!(after >= 100_000);
    assert!(watched.open > watched.runs / 2, "{} of {}", watched.open, watched.runs);
    assert!(watched.changes > u64::from(COMMITS) / 2, "it saw {} changes", watched.changes);
}

struct OnDrop<F: Fn()>(F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        self.0();
    }
}
