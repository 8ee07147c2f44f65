//! The schedule, with a clock that stands still but for the time that everyone waits.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Mutex;

use tokio::time::{advance, sleep, timeout};

use super::super::board::{self, Checks, Counts};
use super::*;
use crate::model::{ServiceName, SpecFile, Version, parse_services};

const SECOND: Duration = Duration::from_secs(1);

/// A check as in a spec file.
fn health(text: &str) -> Arc<Health> {
    let file = format!(
        "services: [{{ name: a, listeners: [{{ address: 10.0.0.1, port: 80, protocol: tcp }}], health: {{ {text} }},
         versions: {{ blue: {{ weight: 100%, backends: [{{ address: 10.0.0.2, port: 80 }}] }} }} }}]"
    );
    let file = SpecFile::parse(&file).unwrap();
    let services = parse_services(&file.services, false).unwrap();
    Arc::clone(services[0].health().unwrap())
}

fn subject(number: u16) -> Subject {
    let [high, low] = number.to_be_bytes();
    let address = Ipv4Addr::new(10, 1, high, low).into();
    Subject { service: ServiceName::new("a").unwrap(), version: Version::Blue, address, port: 80 }
}

fn wanted(numbers: impl Iterator<Item = u16>, health: &Arc<Health>) -> Wanted {
    let asked = |number| (subject(number), Asked { health: Arc::clone(health), failing: false });
    numbers.map(asked).collect()
}

/// What backends would answer, after how long; and when each was asked.
#[derive(Default)]
struct World {
    answers: Mutex<HashMap<IpAddr, (Duration, Option<Outcome>)>>,
    begun: Mutex<Vec<(Instant, IpAddr)>>,
    most: Mutex<(usize, usize)>,
}

impl World {
    fn answer(&self, number: u16, after: Duration, outcome: Option<Outcome>) {
        self.answers.lock().unwrap().insert(subject(number).address, (after, outcome));
    }

    /// When a backend was asked.
    fn times(&self, number: u16) -> Vec<Instant> {
        let of = |(at, address): &(Instant, IpAddr)| {
            (*address == subject(number).address).then_some(*at)
        };
        self.begun.lock().unwrap().iter().filter_map(of).collect()
    }
}

fn start(places: usize) -> (Checks, Arc<World>) {
    let (checks, task) = board::new();
    let world = Arc::new(World::default());
    let there = Arc::clone(&world);
    let check = move |order: Order| {
        let world = Arc::clone(&there);
        async move {
            let address = order.address.ip();
            world.begun.lock().unwrap().push((Instant::now(), address));
            {
                let mut most = world.most.lock().unwrap();
                most.0 += 1;
                most.1 = most.1.max(most.0);
            }
            let (after, outcome) = world
                .answers
                .lock()
                .unwrap()
                .get(&address)
                .cloned()
                .unwrap_or((Duration::ZERO, Some(Outcome::Well)));
            sleep(after).await;
            world.most.lock().unwrap().0 -= 1;
            outcome.unwrap_or_else(|| panic!("as the test asks for"))
        }
    };
    tokio::spawn(run(task, places, check));
    (checks, world)
}

fn ill() -> Outcome {
    Outcome::Ill("it is ill".into())
}

#[tokio::test(start_paused = true)]
async fn many_are_spread_over_the_interval_and_stay_so() {
    let (checks, world) = start(PLACES);
    checks.ask(wanted(0..4_096, &health("type: tcp")));
    sleep(20 * SECOND).await;
    let begun = world.begun.lock().unwrap().clone();
    // 1.8 s each.
    assert!((4_096 * 10..=4_096 * 12).contains(&begun.len()), "{}", begun.len());
    let first = begun[0].0;
    let mut buckets = vec![0_u32; 201];
    for (at, _) in &begun {
        buckets[usize::try_from((*at - first).as_millis() / 100).unwrap()] += 1;
    }
    let even = 4_096 / 18;
    let burst = buckets.iter().max().unwrap();
    println!("{} checks, at most {burst} in 100 ms, {even} were even", begun.len());
    assert!(*burst < even * 3 / 2, "{buckets:?}");
    for number in [0, 99, 4_095] {
        let times = world.times(number);
        for pair in times.windows(2) {
            let apart = pair[1] - pair[0];
            assert!((1_599..=2_002).contains(&apart.as_millis()), "{apart:?}");
        }
    }
    let counts = checks.counts();
    assert_eq!((counts.backends, counts.failing, counts.waited), (4_096, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn one_that_fails_is_down_in_time_and_told_once() {
    for timeout_ms in [0, 500, 1_000] {
        let (checks, world) = start(PLACES);
        checks.ask(wanted(0..10, &health("type: tcp")));
        sleep(7 * SECOND).await;
        let died = Instant::now();
        world.answer(3, Duration::from_millis(timeout_ms), Some(ill()));
        checks.changed().await;
        let bound = 3 * 2 * SECOND + SECOND + Duration::from_millis(10);
        assert!(died.elapsed() <= bound, "{:?}", died.elapsed());
        let report = checks.report(&subject(3)).unwrap();
        assert!(report.failing && report.error.as_deref() == Some("it is ill"));
        assert_eq!(checks.counts().failing, 1);
        assert!(timeout(60 * SECOND, checks.changed()).await.is_err(), "nothing else has changed");
        world.answer(3, Duration::ZERO, Some(Outcome::Well));
        checks.changed().await;
        assert!(!checks.report(&subject(3)).unwrap().failing);
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_place_is_counted_and_not_ill() {
    let (checks, world) = start(4);
    for number in 0..20 {
        world.answer(number, SECOND, Some(Outcome::Well));
    }
    checks.ask(wanted(0..20, &health("type: tcp")));
    sleep(60 * SECOND).await;
    let counts = checks.counts();
    let Counts { backends, failing, in_flight, waiting, made, waited } = counts;
    assert_eq!((backends, failing, in_flight), (20, 0, 4));
    assert!(waiting >= 10 && waited > 100, "{counts:?}");
    assert!((220..=240).contains(&made), "four a second: {made}");
    assert_eq!(world.most.lock().unwrap().1, 4);
    // Nobody waits for ever: all have had their turns.
    assert!((0..20).all(|number| world.times(number).len() >= 10));
}

#[tokio::test(start_paused = true)]
async fn what_this_node_lacks_says_nothing_of_a_backend() {
    let (checks, world) = start(PLACES);
    world.answer(1, Duration::ZERO, Some(Outcome::Unknown("no file is left".into())));
    world.answer(2, Duration::ZERO, None);
    checks.ask(wanted(0..3, &health("type: tcp")));
    assert!(timeout(60 * SECOND, checks.changed()).await.is_err());
    let report = checks.report(&subject(1)).unwrap();
    assert_eq!(
        (report.failing, report.error.as_deref()),
        (false, Some("not checked: no file is left"))
    );
    assert!(checks.report(&subject(2)).unwrap().error.unwrap().contains("failed by itself"));
    assert!(world.times(1).len() > 25 && world.times(2).len() > 25, "they are tried again");
}

#[tokio::test(start_paused = true)]
async fn who_is_asked_for_is_checked_and_nobody_else() {
    let (checks, world) = start(PLACES);
    let often = health("type: tcp, interval: 500ms");
    world.answer(1, SECOND / 4, Some(ill()));
    checks.ask(wanted(0..3, &often));
    checks.changed().await;
    checks.ask(wanted(1..3, &often));
    sleep(SECOND).await;
    let before = world.times(0).len();
    sleep(10 * SECOND).await;
    assert_eq!(world.times(0).len(), before);
    assert!(checks.report(&subject(0)).is_none() && checks.report(&subject(1)).unwrap().failing);
    // Asked otherwise it stays what it is, and is asked so soon.
    checks.ask(wanted(1..3, &health("type: tcp, interval: 1h")));
    sleep(FIRST + SECOND).await;
    let slow = world.times(1).len();
    assert!(checks.report(&subject(1)).unwrap().failing);
    // After the first its place in the hour may be anywhere, so also within these minutes.
    sleep(600 * SECOND).await;
    assert!(world.times(1).len() <= slow + 1);
    checks.ask(wanted(1..3, &often));
    sleep(10 * SECOND).await;
    assert!(world.times(1).len() >= slow + 15);
    checks.ask(Wanted::new());
    sleep(SECOND).await;
    assert_eq!(checks.counts().backends, 0);
}

#[tokio::test(start_paused = true)]
async fn one_that_is_known_to_fail_stays_so_until_it_is_well() {
    let (checks, world) = start(PLACES);
    let asked = Asked { health: health("type: tcp"), failing: true };
    world.answer(0, Duration::ZERO, Some(ill()));
    checks.ask([(subject(0), asked)].into());
    sleep(10 * SECOND).await;
    assert!(checks.report(&subject(0)).unwrap().failing);
    world.answer(0, Duration::ZERO, Some(Outcome::Well));
    checks.changed().await;
    assert!(!checks.report(&subject(0)).unwrap().failing);
}

#[tokio::test(start_paused = true)]
async fn the_task_ends_with_those_who_ask() {
    let (checks, task) = board::new();
    let ended = tokio::spawn(run(task, 1, |_| async { Outcome::Well }));
    checks.ask(wanted(0..3, &health("type: tcp")));
    advance(SECOND).await;
    drop(checks);
    timeout(SECOND, ended).await.unwrap().unwrap();
}
