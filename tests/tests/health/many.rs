//! As many checks as a version has backends, over real sockets: how evenly they come, what they cost,
//! and how long it takes until all that has died is known to be dead.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use nix::time::{ClockId, clock_gettime};
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use weir::health::{Asked, Checks, Subject, Wanted, board, check, run};
use weir::model::{Health, ServiceName, SpecFile, Version, parse_services};

const BACKENDS: u16 = 4_096;
const INTERVAL: Duration = Duration::from_secs(2);
const TIMEOUT: Duration = Duration::from_secs(1);
/// Half of the backends are at this port; the others are at the next one.
const PORT: u16 = 7_000;
const BUCKET: Duration = Duration::from_millis(100);

fn health() -> Arc<Health> {
    let file = "services: [{ name: a, listeners: [{ address: 10.0.0.1, port: 80, protocol: tcp }],
        health: { type: tcp }, versions: { blue: { weight: 100%, backends: [{ address: 10.0.0.2, port: 80 }] } } }]";
    let services = parse_services(&SpecFile::parse(file).unwrap().services, false).unwrap();
    let health = Arc::clone(services[0].health().unwrap());
    assert_eq!((health.interval(), health.timeout(), health.fall()), (INTERVAL, TIMEOUT, 3));
    health
}

/// Backends on addresses of the loopback interface.
fn wanted() -> Wanted {
    let health = health();
    let one = |number: u16| {
        let [high, low] = number.to_be_bytes();
        let subject = Subject {
            service: ServiceName::new("a").unwrap(),
            version: Version::Blue,
            address: Ipv4Addr::new(127, 1, high, low).into(),
            port: PORT + number % 2,
        };
        (subject, Asked { health: Arc::clone(&health), failing: false })
    };
    (0..BACKENDS).map(one).collect()
}

/// When each connection came.
type Arrivals = Arc<Mutex<Vec<Instant>>>;

/// Takes connections on both ports until told, first on the second one.
async fn serve(arrivals: Arrivals, die: oneshot::Receiver<()>, end: oneshot::Receiver<()>) {
    let accept = |port: u16| {
        let arrivals = Arc::clone(&arrivals);
        async move {
            let at = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
            let listener = tokio::net::TcpListener::bind(at).await.unwrap();
            loop {
                if let Ok((stream, _)) = listener.accept().await {
                    arrivals.lock().unwrap().push(Instant::now());
                    drop(stream);
                }
            }
        }
    };
    let first = tokio::spawn(accept(PORT));
    let second = tokio::spawn(accept(PORT + 1));
    let _ = die.await;
    second.abort();
    let _ = end.await;
    first.abort();
}

fn cpu() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
}

/// The most arrivals in any [`BUCKET`], and how many there were.
fn burst(arrivals: &[Instant]) -> (usize, usize) {
    let most = arrivals
        .iter()
        .enumerate()
        .map(|(i, from)| arrivals[i..].iter().take_while(|at| **at - *from < BUCKET).count());
    (most.max().unwrap_or(0), arrivals.len())
}

#[test]
fn thousands_are_checked_without_a_storm() {
    // A thread of its own, for its network namespace, which ends with it.
    thread::spawn(in_a_namespace).join().unwrap();
}

fn in_a_namespace() {
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
    let arrivals = Arrivals::default();
    let (die, dies) = oneshot::channel();
    let (end, ends) = oneshot::channel();
    let seen = Arc::clone(&arrivals);
    // Threads are born in the namespace of those who start them.
    let servers = thread::spawn(|| {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(serve(seen, dies, ends));
    });
    thread::sleep(Duration::from_millis(200));
    let (checks, task) = board::new();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        tokio::spawn(run::run(task, run::PLACES, check::network));
        spread(&checks, &arrivals).await;
        die.send(()).unwrap();
        all_are_found(&checks).await;
    });
    drop(end);
    servers.join().unwrap();
}

#[allow(clippy::cast_precision_loss, reason = "counts are small")]
async fn spread(checks: &Checks, arrivals: &Arrivals) {
    checks.ask(wanted());
    tokio::time::sleep(2 * INTERVAL).await;
    let (began, used) = (Instant::now(), cpu());
    arrivals.lock().unwrap().clear();
    tokio::time::sleep(5 * INTERVAL).await;
    let (took, used) = (began.elapsed(), cpu().saturating_sub(used));
    let (most, all) = burst(&arrivals.lock().unwrap());
    let counts = checks.counts();
    let rate = all as f64 / took.as_secs_f64();
    let even = rate * BUCKET.as_secs_f64();
    let core = used.as_secs_f64() / took.as_secs_f64();
    println!(
        "{all} checks in {took:?}: {rate:.0} a second, {even:.0} in {BUCKET:?} if even, {most} at most; \
         {:.1} % of a core; {counts:?}",
        core * 100.0
    );
    assert_eq!((counts.backends, counts.failing), (u64::from(BACKENDS), 0));
    // Each once in 1.8 s on average.
    let asked = f64::from(BACKENDS) / 1.8;
    assert!((asked * 0.9..asked * 1.1).contains(&rate), "{rate}");
    assert!((most as f64) < even * 2.0, "a burst");
}

async fn all_are_found(checks: &Checks) {
    let died = Instant::now();
    let half = u64::from(BACKENDS) / 2;
    while checks.counts().failing < half {
        assert!(died.elapsed() < Duration::from_secs(20), "{:?}", checks.counts());
        checks.changed().await;
    }
    println!("{half} that died at once are known after {:?}", died.elapsed());
    assert!(died.elapsed() < 3 * INTERVAL + TIMEOUT + Duration::from_millis(500));
    tokio::time::sleep(INTERVAL).await;
    assert_eq!(checks.counts().failing, half, "the others are well");
}
