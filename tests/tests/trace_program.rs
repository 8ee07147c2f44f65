//! The program's side of live traces: what it tells, whom, of which frame, and when it stops. Run
//! over frames, without an interface.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use weir::dataplane::kernel::{Kernel, KernelTap};
use weir::dataplane::tap::{Filter, Tap, Told};
use weir::dataplane::{Commit, DataPlane as _};
use weir::node::trace::live::Tracing;
use weir::plan::backend_table::Candidate;
use weir::plan::goal::Goal;
use weir::plan::identity::Identity;
use weir::plan::steering::Prefix;
use weir::plan::transition::transition;
use weir_ebpf::abi::{
    HOOK_TC, HOOK_XDP, NO_BACKEND, NO_SERVICE, Reason, Service, TCP, TRACE_DROPPED, TRACE_PASSED,
    TRACE_SENT, TRACERS, UDP,
};
use weir_tests::cases::nodes::AWAY;
use weir_tests::frames::{ACK, Frame, PSH, SYN, address, endpoint};
use weir_tests::program::{
    Counts, PROGRAMS, Program, SMALL, Verdict, backend, commit, image, load,
};
use weir_tests::random::Random;

const LISTENERS: [&str; 3] = ["198.51.100.1:80", "[2001:db8::200]:80", "198.51.100.3:80"];
const CLIENTS: [&str; 2] = ["192.0.2.7:4000", "[2001:db8:7::7]:4000"];

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Two services, of either family, and one without a backend.
fn node() -> (Kernel, KernelTap) {
    let mut kernel = load(SMALL);
    let tap = kernel.take_tap().unwrap();
    let mut change = Commit::default();
    for (index, target) in (0..).zip(["10.0.0.1:80", "[fd00::1]:80"]) {
        let target = at(target);
        let identity = Identity { address: address(target.ip()), port: target.port() };
        let candidate = Candidate { identity, weight: 100 };
        let goal = Goal::new([1; 16], [10_000, 0, 0], [&[candidate], &[], &[]]);
        let goal = goal.on_this_node(&mut |_, _| index);
        let tables = transition(None, &goal, &|_| false).tables;
        change.services.push((index.into(), Some(image(&Service::default(), &tables))));
        change.backends.push((index, backend(target)));
    }
    let nothing = Goal::new([1; 16], [10_000, 0, 0], [&[], &[], &[]]);
    let tables = transition(None, &nothing.on_this_node(&mut |_, _| 0), &|_| false).tables;
    change.services.push((2, Some(image(&Service::default(), &tables))));
    for (listener, service) in LISTENERS.into_iter().zip(0..) {
        for protocol in [TCP, UDP] {
            change.listeners.push((endpoint(at(listener), protocol), service));
        }
    }
    commit(&mut kernel, change);
    for backend in 0..2 {
        kernel.set_next_hop(backend, Some(AWAY)).unwrap();
    }
    (kernel, tap)
}

const ALL: Filter = Filter {
    client: None,
    service: None,
    sent: true,
    dropped: true,
    passed: true,
    sample: 1,
    frame: 256,
};

fn until(later: Duration) -> u64 {
    let now = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap());
    u64::try_from((now + later).as_nanos()).unwrap()
}

fn minute() -> u64 {
    until(Duration::from_secs(60))
}

fn told(tap: &mut KernelTap) -> Vec<Told> {
    let mut all = Vec::new();
    tap.take(usize::MAX, &mut |told| all.push(told));
    all
}

fn syn(family: usize) -> Frame {
    Frame::tcp(at(CLIENTS[family]), at(LISTENERS[family]), SYN)
}

#[test]
fn what_is_told_is_what_was_done() {
    let (kernel, mut tap) = node();
    assert!(!tap.is_on());
    for program in PROGRAMS {
        let _ = program.run(&kernel, &syn(0).bytes());
    }
    assert_eq!(told(&mut tap), [], "nobody traces");
    tap.set(2, Some(&ALL), minute());
    assert!(tap.is_on());
    for (family, program) in (0..2).flat_map(|family| PROGRAMS.map(|program| (family, program))) {
        let hook = if program == Program::Xdp { HOOK_XDP } else { HOOK_TC };
        for flags in [SYN, PSH | ACK] {
            let frame = Frame { payload: vec![7; 300], ..syn(family) };
            let frame = Frame { segment: Frame::tcp(frame.from, frame.to, flags).segment, ..frame };
            let bytes = frame.bytes();
            let (verdict, out) = program.run(&kernel, &bytes);
            assert_eq!(verdict, Verdict::Redirect);
            assert_ne!(out, bytes);
            let [one] = &told(&mut tap)[..] else { panic!("one packet, one event") };
            let event = one.event;
            assert_eq!(one.frame, bytes[..256], "as it came in");
            assert_eq!((event.key, event.flags), (frame.key(), flags));
            assert_eq!(event.length as usize, bytes.len());
            assert_eq!((event.what.into(), event.tracers), (TRACE_SENT, 0b100));
            assert_eq!([event.service, event.backend.into()], [u32::try_from(family).unwrap(); 2]);
            assert_eq!((event.hook.into(), event.opens != 0), (hook, flags == SYN));
            let now = until(Duration::ZERO);
            assert!(event.time <= now && now - event.time < 5_000_000_000);
        }
    }
    // A service without a backend.
    let dropped = Frame::udp(at(CLIENTS[0]), at(LISTENERS[2]));
    for program in PROGRAMS {
        assert_eq!(program.run(&kernel, &dropped.bytes()).0, Verdict::Drop);
        let [one] = &told(&mut tap)[..] else { panic!("one packet, one event") };
        assert_eq!(u32::from(one.event.what), TRACE_DROPPED);
        assert_eq!(one.event.reason, Reason::NoBackend as u32);
        assert_eq!((one.event.service, one.event.backend), (NO_SERVICE, NO_BACKEND));
        assert_eq!((one.event.key, &one.frame), (dropped.key(), &dropped.bytes()));
    }
    // To nobody, and not of IP at all: XDP leaves both to TC, which leaves them to the host.
    let nobody = Frame::tcp(at(CLIENTS[0]), at("198.51.100.9:80"), SYN);
    let arp = [&[0xff; 6][..], &[2; 6], &[8, 6], &[0; 46]].concat();
    for (bytes, reason, key) in
        [(nobody.bytes(), Reason::NotOurs, Some(nobody.key())), (arp, Reason::NotIp, None)]
    {
        assert_eq!(Program::Xdp.run(&kernel, &bytes).0, Verdict::Pass);
        assert_eq!(told(&mut tap), []);
        assert_eq!(Program::Tc.run(&kernel, &bytes).0, Verdict::Pass);
        let [one] = &told(&mut tap)[..] else { panic!("one packet, one event") };
        assert_eq!(u32::from(one.event.what), TRACE_PASSED);
        assert_eq!(one.event.reason, reason as u32);
        assert_eq!(Some(one.event.key).filter(|key| key.protocol != 0), key);
        assert_eq!(one.frame, bytes);
    }
    tap.set(2, None, minute());
    assert!(!tap.is_on());
    let _ = Program::Tc.run(&kernel, &syn(0).bytes());
    assert_eq!(told(&mut tap), []);
}

/// What XDP has decided and left to TC is told once, by TC; and is not taken for another packet's.
#[test]
fn what_is_left_is_told_by_whom_it_is_left_to() {
    let (mut kernel, mut tap) = node();
    kernel.set_next_hop(0, None).unwrap();
    tap.set(0, Some(&ALL), minute());
    let bytes = syn(0).bytes();
    assert_eq!(Program::Xdp.run(&kernel, &bytes).0, Verdict::Pass);
    assert_eq!(told(&mut tap), []);
    let dropped = Frame::udp(at(CLIENTS[0]), at(LISTENERS[2]));
    assert_eq!(Program::Xdp.run(&kernel, &dropped.bytes()).0, Verdict::Drop);
    assert_eq!(told(&mut tap)[0].event.key, dropped.key());
    // The kernel knows no way.
    assert_eq!(Program::Tc.run(&kernel, &bytes).0, Verdict::Drop);
    let [one] = &told(&mut tap)[..] else { panic!("one packet, one event") };
    assert_eq!((one.event.reason, one.event.backend), (Reason::NoRoute as u32, 0));
    assert_eq!((one.event.service, one.event.opens), (0, 1), "it was decided");
}

#[test]
fn each_tracer_is_told_of_what_it_asked_for() {
    let (kernel, mut tap) = node();
    let prefix = |text: &str, length| Some(Prefix::new(address(at(text).ip()), length));
    let drops = Filter { sent: false, passed: false, ..ALL };
    let filters = [
        Filter { client: prefix("192.0.2.0:0", 96 + 24), frame: 64, ..ALL },
        Filter { service: Some(1), frame: 0, ..ALL },
        drops,
        Filter { client: prefix("[2001:db8:7::]:0", 48), ..drops },
    ];
    for (tracer, filter) in filters.iter().enumerate() {
        tap.set(tracer, Some(filter), minute());
    }
    let mut tracers = |frame: Frame| {
        let _ = Program::Tc.run(&kernel, &frame.bytes());
        let told = told(&mut tap);
        assert!(told.len() <= 1);
        told.first().map_or(0, |told| told.event.tracers)
    };
    assert_eq!(tracers(syn(0)), 0b0001);
    assert_eq!(tracers(syn(1)), 0b0010);
    assert_eq!(tracers(Frame::tcp(at("192.0.3.7:1"), at(LISTENERS[0]), SYN)), 0);
    assert_eq!(tracers(Frame::tcp(at("192.0.2.9:1"), at(LISTENERS[2]), SYN)), 0b0101);
    assert_eq!(tracers(Frame::tcp(at("192.0.3.9:1"), at(LISTENERS[2]), SYN)), 0b0100);
}

/// Without an agent that renews it, a trace ends, and the program looks for tracers no more.
#[test]
fn a_trace_that_nobody_renews_ends() {
    let (kernel, mut tap) = node();
    let bytes = syn(0).bytes();
    for program in PROGRAMS {
        tap.set(1, Some(&ALL), until(Duration::from_millis(300)));
        let _ = program.run(&kernel, &bytes);
        assert_eq!(told(&mut tap).len(), 1);
        tap.renew(until(Duration::from_millis(300)));
        sleep(Duration::from_millis(400));
        assert!(tap.is_on());
        let _ = program.run(&kernel, &bytes);
        assert_eq!(told(&mut tap), []);
        assert!(!tap.is_on(), "the program has set the word to zero");
    }
}

#[test]
fn what_does_not_fit_into_the_ring_is_counted() {
    const COUNT: u64 = 10_000;
    let (kernel, mut tap) = node();
    tap.set(0, Some(&ALL), minute());
    tap.set(3, Some(&ALL), minute());
    let before = Counts::read(&kernel, 1);
    let _ = kernel.run_tc(&Frame { payload: vec![0; 300], ..syn(0) }.bytes(), 1);
    for _ in 1..COUNT {
        let _ = kernel.run_tc(&Frame { payload: vec![0; 300], ..syn(0) }.bytes(), 1);
    }
    let sent = Counts::read(&kernel, 1).since(&before).backends[0].packets_in;
    let (seen, lost) = (told(&mut tap).len() as u64, tap.lost());
    println!("{seen} of {sent} in the ring, {lost:?} lost");
    assert!(seen > 2_000 && sent == COUNT);
    assert_eq!(lost, [COUNT - seen, 0, 0, COUNT - seen]);
}

#[test]
fn a_sample_is_about_right() {
    const COUNT: u32 = 20_000;
    let (kernel, mut tap) = node();
    let mut random = Random(1);
    for sample in [2, 10, 100] {
        tap.set(0, Some(&Filter { sample, frame: 0, ..ALL }), minute());
        let mut seen = 0;
        for _ in 0..COUNT {
            let program = *random.one(&PROGRAMS);
            let _ = program.run_once(&kernel, &syn(0).bytes());
            seen += u32::try_from(told(&mut tap).len()).unwrap();
        }
        let expected = f64::from(COUNT / sample);
        println!("1/{sample}: {seen}");
        assert!((f64::from(seen) - expected).abs() < 6.0 * expected.sqrt(), "1/{sample}: {seen}");
    }
}

/// A tap in two hands.
struct Shared(Arc<Mutex<KernelTap>>);

impl Tap for Shared {
    fn set(&mut self, tracer: usize, filter: Option<&Filter>, until: u64) {
        self.0.lock().unwrap().set(tracer, filter, until);
    }

    fn renew(&mut self, until: u64) {
        self.0.lock().unwrap().renew(until);
    }

    fn take(&mut self, limit: usize, show: &mut dyn FnMut(Told)) -> usize {
        self.0.lock().unwrap().take(limit, show)
    }

    fn lost(&self) -> [u64; TRACERS] {
        self.0.lock().unwrap().lost()
    }
}

/// The program is told that nobody traces as soon as the last tracer has left.
#[test]
fn the_word_is_off_when_the_tracer_has_left() {
    let (kernel, tap) = node();
    let tap = Arc::new(Mutex::new(tap));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let tracing = Tracing::start(Box::new(Shared(Arc::clone(&tap))));
        let on = || tap.lock().unwrap().is_on();
        assert!(!on());
        let mut one = tracing.trace(&ALL).unwrap();
        let two = tracing.trace(&Filter { frame: 100, ..ALL }).unwrap();
        assert!(on());
        let _ = Program::Tc.run(&kernel, &Frame { payload: vec![0; 300], ..syn(0) }.bytes());
        let told = one.next().await;
        assert_eq!((told.len(), told[0].frame.len()), (1, 256));
        drop(one);
        assert!(on());
        drop(two);
        assert!(!on());
    });
}
