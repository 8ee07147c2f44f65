//! What every store must do.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use weir::rollout::ledger::entry::limits;
use weir::rollout::ledger::{Change, Command, Error, Fence, Revision};
use weir_tests::ledger::Place;
use weir_tests::ledger::holder::Holder;
use weir_tests::pace;

use super::world::{LEASE, World, command, event, holder, id, says, service, shop};

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(30);

pub(crate) async fn what_is_saved_is_loaded(world: World) {
    let store = world.store("one");
    assert_eq!(store.load(&shop()).await.unwrap(), None);
    assert_eq!(store.services().await.unwrap(), []);
    assert_eq!(store.events(&shop(), 0).await.unwrap(), []);
    assert_eq!(store.revisions(&shop()).await.unwrap(), []);
    assert_eq!(store.commands().await.unwrap(), []);
    assert_eq!(store.leader().await.unwrap(), None);

    let leadership = store.campaign().await.unwrap();
    let leader = store.leader().await.unwrap().unwrap();
    assert_eq!((leader.name.as_str(), leader.fence), ("one", leadership.fence()));
    let revision = Revision { at_ms: 5, name: "v1.42".to_owned(), document: json!([1, 2]) };
    let change = Change {
        document: json!({ "step": 3, "text": "Zürich \"1\"\n" }),
        evidence: json!([0.5, -1.25e-300, 9_007_199_254_740_991_u64]),
        events: vec![event("start"), event("step")],
        revision: Some(revision.clone()),
        handled: Vec::new(),
    };
    let fence = leadership.fence();
    let version = store.save(fence, &shop(), None, change.clone()).await.unwrap();
    store.save(fence, &service("a-2"), None, says(json!(1))).await.unwrap();

    // Another coordinator reads the same.
    let other = world.store("two");
    let entry = other.load(&shop()).await.unwrap().unwrap();
    assert_eq!(entry.version, version);
    assert_eq!((entry.document, entry.evidence), (change.document, change.evidence));
    assert_eq!(entry.warning, None);
    assert_eq!(other.services().await.unwrap(), [service("a-2"), shop()]);
    let events = other.events(&shop(), 0).await.unwrap();
    assert_eq!(events.iter().map(|event| event.number).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(events[1].item, event("step"));
    assert_eq!(other.events(&shop(), 1).await.unwrap(), events[1..]);
    assert_eq!(other.events(&service("a-2"), 0).await.unwrap(), []);
    let revisions = other.revisions(&shop()).await.unwrap();
    assert_eq!((revisions[0].number, &revisions[0].item), (1, &revision));

    // Evidence that goes is gone.
    let next = store.save(fence, &shop(), Some(version), says(json!(2))).await.unwrap();
    assert!(next > version);
    let entry = other.load(&shop()).await.unwrap().unwrap();
    assert_eq!((entry.version, entry.document, entry.evidence), (next, json!(2), Value::Null));
    leadership.resign().await;
    assert_eq!(other.leader().await.unwrap(), None);
}

pub(crate) async fn one_leads_and_fences_grow(world: World) {
    let [one, two] = ["one", "two"].map(|name| world.store(name));
    let first = one.campaign().await.unwrap();
    let version = one.save(first.fence(), &shop(), None, says(json!("one"))).await.unwrap();
    let waits = timeout(LEASE * 2, two.campaign()).await;
    assert!(waits.is_err(), "the lease is renewed, so nobody else leads");
    first.check().unwrap();

    let fence = first.fence();
    let start = Instant::now();
    let (second, ()) = tokio::join!(two.campaign(), async {
        sleep(Duration::from_millis(100)).await;
        first.resign().await;
    });
    let second = second.unwrap();
    assert!(start.elapsed() < pace::wait(LEASE), "a resignation need not wait for the lease");
    assert!(second.fence() > fence, "{:?} after {fence:?}", second.fence());
    assert_eq!(one.leader().await.unwrap().unwrap().name, "two");

    let refused = one.save(fence, &shop(), Some(version), says(json!("late"))).await.unwrap_err();
    assert!(
        matches!(refused, Error::Fenced { fence: f, leads: Some(l) }
            if f == fence && l == second.fence()),
        "{refused}"
    );
    // Nor is a number taken that was never given, or that is another's.
    for stranger in [Fence(u64::MAX >> 1), Fence(0), second.fence()] {
        let refused = one.save(stranger, &shop(), Some(version), says(json!("never"))).await;
        assert!(matches!(refused, Err(Error::Fenced { .. })), "{refused:?}");
    }
    two.save(second.fence(), &shop(), Some(version), says(json!("two"))).await.unwrap();
    drop(second);
    let third = timeout(LONG, one.campaign()).await.unwrap().unwrap();
    assert_eq!(one.load(&shop()).await.unwrap().unwrap().document, json!("two"));
    assert!(third.fence() > fence);
}

pub(crate) async fn a_change_of_what_was_not_read_is_refused(world: World) {
    let store = world.store("one");
    let leadership = store.campaign().await.unwrap();
    let fence = leadership.fence();
    let first = store.save(fence, &shop(), None, says(json!(1))).await.unwrap();
    let second = store.save(fence, &shop(), Some(first), says(json!(2))).await.unwrap();
    for read in [None, Some(first)] {
        let refused = store.save(fence, &shop(), read, says(json!(3))).await.unwrap_err();
        assert!(
            matches!(refused, Error::Conflict { read: r, found } if r == read && found == Some(second)),
            "{refused}"
        );
        assert!(!refused.is_outage());
    }
    let refused = store.save(fence, &service("new"), Some(second), says(json!(3))).await;
    assert!(matches!(refused, Err(Error::Conflict { found: None, .. })), "{refused:?}");
    assert_eq!(store.load(&shop()).await.unwrap().unwrap().document, json!(2));
}

pub(crate) async fn a_refused_save_keeps_nothing(world: World) {
    let store = world.store("one");
    let leadership = store.campaign().await.unwrap();
    let fence = leadership.fence();
    store.submit(command("c1", 1)).await.unwrap();
    let version = store.save(fence, &shop(), None, says(json!(1))).await.unwrap();
    let full = Change {
        document: json!(2),
        evidence: json!(2),
        events: vec![event("late")],
        revision: Some(Revision { at_ms: 1, name: "v".to_owned(), document: json!(2) }),
        handled: vec![id("c1")],
    };
    leadership.resign().await;
    let long = Value::String("x".repeat(limits::REVISION));
    let too_long = Revision { at_ms: 1, name: "v".to_owned(), document: long };
    let refused = store.save(fence, &shop(), Some(version), full.clone()).await;
    assert!(matches!(refused, Err(Error::Fenced { leads: None, .. })), "{refused:?}");
    let leadership = store.campaign().await.unwrap();
    let fence = leadership.fence();
    let refused = store.save(fence, &shop(), None, full.clone()).await;
    assert!(matches!(refused, Err(Error::Conflict { .. })), "{refused:?}");
    let longer = Change { revision: Some(too_long), ..full.clone() };
    let refused = store.save(fence, &shop(), Some(version), longer).await;
    assert!(matches!(refused, Err(Error::TooLarge { .. })), "{refused:?}");

    assert_eq!(store.load(&shop()).await.unwrap().unwrap().document, json!(1));
    assert_eq!(store.events(&shop(), 0).await.unwrap(), []);
    assert_eq!(store.revisions(&shop()).await.unwrap(), []);
    assert_eq!(store.commands().await.unwrap(), [command("c1", 1)]);
    // And the same one is kept whole when it may be.
    store.save(fence, &shop(), Some(version), full).await.unwrap();
    assert_eq!(store.events(&shop(), 0).await.unwrap()[0].number, 1);
    assert_eq!(store.revisions(&shop()).await.unwrap().len(), 1);
    assert_eq!(store.commands().await.unwrap(), []);
}

pub(crate) async fn history_is_bounded_and_its_numbers_go_on(world: World) {
    let store = world.store("one");
    let leadership = store.campaign().await.unwrap();
    let mut version = None;
    let saves: u64 = 2 * limits::EVENTS / 32 + 2;
    for save in 0..saves {
        let revision = Revision { at_ms: save, name: format!("v{save}"), document: json!(save) };
        let change = Change {
            events: vec![event("many"); 32],
            revision: Some(revision),
            ..says(json!(save))
        };
        version = Some(store.save(leadership.fence(), &shop(), version, change).await.unwrap());
    }
    let events = store.events(&shop(), 0).await.unwrap();
    let numbers: Vec<u64> = events.iter().map(|event| event.number).collect();
    let last = saves * 32;
    assert_eq!(numbers, (last - limits::EVENTS + 1..=last).collect::<Vec<_>>());
    assert_eq!(store.events(&shop(), last - 3).await.unwrap().len(), 3);
    assert_eq!(store.events(&shop(), u64::MAX).await.unwrap(), []);
    let revisions = store.revisions(&shop()).await.unwrap();
    let names: Vec<&str> = revisions.iter().map(|revision| revision.item.name.as_str()).collect();
    let first = saves - limits::REVISIONS;
    let expected: Vec<String> = (first..saves).map(|save| format!("v{save}")).collect();
    assert_eq!(names, expected);
    assert_eq!(revisions[0].number, first + 1);
    if let Place::File(directory) = &world.place {
        let files = std::fs::read_dir(directory.join("services/shop")).unwrap().count();
        assert!(files < 30, "{files} files remain");
    }
}

pub(crate) async fn what_is_too_large_or_too_much_is_refused(world: World) {
    let store = world.store("one");
    let leadership = store.campaign().await.unwrap();
    let long = |length: usize| Value::String("x".repeat(length));
    let longer = |limit: usize| long(limit - 1);
    let too_many = vec![event("e"); limits::EVENTS_A_SAVE + 1];
    let commands = (0..=limits::COMMANDS).map(|n| id(&format!("c{n}")));
    for (change, expected) in [
        (says(longer(limits::DOCUMENT)), "the document has 524289 bytes"),
        (Change { evidence: longer(limits::EVIDENCE), ..says(json!(1)) }, "the evidence has"),
        (Change { events: vec![event(&"v".repeat(limits::EVENT))], ..says(json!(1)) }, "an event"),
        (Change { events: too_many, ..says(json!(1)) }, "too many events in one save"),
        (Change { handled: commands.collect(), ..says(json!(1)) }, "too many commands in one save"),
    ] {
        let said = store.save(leadership.fence(), &shop(), None, change).await.unwrap_err();
        assert!(said.to_string().contains(expected), "{said}");
        assert!(!said.is_outage());
    }
    assert_eq!(store.load(&shop()).await.unwrap(), None);

    // All of it at its limit is one save.
    let big = Change {
        document: long(limits::DOCUMENT - 2),
        evidence: long(limits::EVIDENCE - 2),
        events: vec![event(&"v".repeat(limits::EVENT - 120)); limits::EVENTS_A_SAVE],
        revision: Some(Revision {
            at_ms: 1,
            name: "v".to_owned(),
            document: long(limits::REVISION - 60),
        }),
        handled: (0..limits::COMMANDS).map(|n| id(&format!("{n:064}"))).collect(),
    };
    store.save(leadership.fence(), &shop(), None, big.clone()).await.unwrap();
    let entry = store.load(&shop()).await.unwrap().unwrap();
    assert_eq!((entry.document, entry.evidence), (big.document, big.evidence));
    assert_eq!(store.events(&shop(), 0).await.unwrap().len(), limits::EVENTS_A_SAVE);

    let huge = Command { request: longer(limits::COMMAND), ..command("huge", 1) };
    let said = store.submit(huge).await.unwrap_err();
    assert!(said.to_string().contains("a command has"), "{said}");
    for number in 0..limits::COMMANDS {
        store.submit(command(&format!("c{number}"), 1)).await.unwrap();
    }
    let said = store.submit(command("more", 1)).await.unwrap_err();
    assert!(said.to_string().contains("too many commands that wait: at most 32"), "{said}");
    store.submit(command("c1", 1)).await.unwrap();
    let other = Command { service: service("other"), ..command("more", 1) };
    store.submit(other).await.unwrap();
    assert_eq!(store.commands().await.unwrap().len(), limits::COMMANDS + 1);
}

pub(crate) async fn a_command_is_put_once_and_answered_once(world: World) {
    let [leader, follower] = ["leader", "follower"].map(|name| world.store(name));
    // Nobody need lead for it.
    follower.submit(command("c1", 1)).await.unwrap();
    follower.submit(command("c0", 2)).await.unwrap();
    let other = Command { request: json!("another"), ..command("c1", 3) };
    leader.submit(other).await.unwrap();
    let waiting = leader.commands().await.unwrap();
    assert_eq!(waiting, [command("c1", 1), command("c0", 2)], "oldest first, each once");

    let leadership = leader.campaign().await.unwrap();
    let change = Change { handled: vec![id("c1")], ..says(json!("answered")) };
    let version = leader.save(leadership.fence(), &shop(), None, change).await.unwrap();
    assert_eq!(follower.commands().await.unwrap(), [command("c0", 2)]);
    // Somebody whose answer was lost puts it again.
    follower.submit(command("c1", 4)).await.unwrap();
    assert_eq!(leader.commands().await.unwrap(), [command("c0", 2)]);
    let change = Change { handled: vec![id("c0"), id("gone")], ..says(json!("all")) };
    leader.save(leadership.fence(), &shop(), Some(version), change).await.unwrap();
    assert_eq!(leader.commands().await.unwrap(), []);
}

/// Both campaign, do some commands, and step down in the midst of it, again and again; one of them
/// also writes with the fence it has lost.
pub(crate) async fn two_contenders_do_each_command_exactly_once(world: World) {
    const COMMANDS: usize = 24;
    let contender = |name: &'static str| {
        let store = world.store(name);
        tokio::spawn(async move {
            let mut stale: Option<Fence> = None;
            let mut turns = 0;
            loop {
                let leadership = store.campaign().await.unwrap();
                turns += 1;
                for _ in 0..3 {
                    let entry = store.load(&shop()).await.unwrap();
                    let version = entry.as_ref().map(|entry| entry.version);
                    let sum = entry.map_or(0, |entry| entry.document.as_u64().unwrap());
                    if sum == COMMANDS as u64 {
                        return turns;
                    }
                    let Some(command) = store.commands().await.unwrap().into_iter().next() else {
                        break;
                    };
                    let done = |verb: &str| Change {
                        events: vec![event(&format!("{verb} {}", command.id))],
                        handled: vec![command.id.clone()],
                        ..says(json!(sum + 1))
                    };
                    if let Some(stale) = stale {
                        let refused = store.save(stale, &shop(), version, done("stole")).await;
                        assert!(matches!(refused, Err(Error::Fenced { .. })), "{refused:?}");
                    }
                    let fence = leadership.fence();
                    store.save(fence, &shop(), version, done("did")).await.unwrap();
                }
                stale = Some(leadership.fence());
                leadership.resign().await;
                sleep(Duration::from_millis(120)).await;
            }
        })
    };
    let [one, two] = [contender("one"), contender("two")];
    let putter = world.store("putter");
    for number in 0..COMMANDS {
        // Each is put twice, as by somebody who has seen no answer.
        for at in 0..2 {
            putter.submit(command(&format!("c{number}"), at)).await.unwrap();
        }
    }
    let turns = timeout(LONG, async { [one.await.unwrap(), two.await.unwrap()] }).await.unwrap();
    assert!(turns.iter().all(|turns| *turns > 1), "both have led: {turns:?}");
    assert_eq!(putter.commands().await.unwrap(), []);
    let events = putter.events(&shop(), 0).await.unwrap();
    let mut verbs: Vec<String> = events.into_iter().map(|event| event.item.verb).collect();
    verbs.sort();
    let mut expected: Vec<String> = (0..COMMANDS).map(|number| format!("did c{number}")).collect();
    expected.sort();
    assert_eq!(verbs, expected);
}

pub(crate) async fn a_follower_sees_a_change_within_a_second(world: World) {
    let [leader, follower] = ["leader", "follower"].map(|name| world.store(name));
    let leadership = leader.campaign().await.unwrap();
    let mut version = None;
    for round in 0..4 {
        let seen = version;
        let watch = tokio::spawn({
            let follower = follower.clone();
            async move { (follower.changed(&shop(), seen).await.unwrap(), Instant::now()) }
        });
        sleep(Duration::from_millis(130 * round)).await;
        assert!(!watch.is_finished());
        let change = says(json!(round));
        version = Some(leader.save(leadership.fence(), &shop(), seen, change).await.unwrap());
        let saved = Instant::now();
        let (told, at) = watch.await.unwrap();
        assert_eq!(told, version);
        assert!(at.saturating_duration_since(saved) < pace::wait(Duration::from_secs(1)));
    }
}

pub(crate) async fn another_takes_over_when_the_holder_is_killed(world: World) {
    let (mut killed, fence) = Holder::start(holder(), &world.place).unwrap();
    assert_eq!(killed.ask("save half done").unwrap(), "saved");
    let store = world.store("next");
    assert!(timeout(Duration::from_millis(300), store.campaign()).await.is_err());
    killed.signal(Signal::SIGKILL).unwrap();
    let start = Instant::now();
    let leadership = timeout(LONG, store.campaign()).await.unwrap().unwrap();
    let took = start.elapsed();
    println!("a takeover after kill -9 took {} ms", took.as_millis());
    // etcd looks for leases that have run out twice a second.
    let limit = match world.place {
        Place::File(_) => Duration::from_secs(1),
        Place::Etcd { .. } => LEASE + Duration::from_secs(2),
    };
    assert!(took < pace::wait(limit), "{took:?}");
    assert!(leadership.fence() > fence);
    let entry = store.load(&shop()).await.unwrap().unwrap();
    assert_eq!(entry.document, json!("half done"), "it goes on from there");
    let next = says(json!("done"));
    store.save(leadership.fence(), &shop(), Some(entry.version), next).await.unwrap();
}

/// With etcd another takes over, and the paused one knows at once when it goes on that it is late;
/// whatever it writes all the same is refused. With files nobody else can lead meanwhile.
pub(crate) async fn a_holder_that_was_paused_does_no_harm(world: World) {
    let (mut paused, fence) = Holder::start(holder(), &world.place).unwrap();
    assert_eq!(paused.ask("save one").unwrap(), "saved");
    paused.signal(Signal::SIGSTOP).unwrap();
    let store = world.store("next");
    let won = timeout(LEASE * 3, store.campaign()).await;
    if matches!(world.place, Place::File(_)) {
        assert!(won.is_err());
        paused.signal(Signal::SIGCONT).unwrap();
        assert_eq!(paused.ask("check").unwrap(), "leads");
        assert_eq!(paused.ask("save two").unwrap(), "saved");
        return;
    }
    let leadership = won.unwrap().unwrap();
    assert!(leadership.fence() > fence);
    let entry = store.load(&shop()).await.unwrap().unwrap();
    let version = Some(entry.version);
    store.save(leadership.fence(), &shop(), version, says(json!("new"))).await.unwrap();
    paused.signal(Signal::SIGCONT).unwrap();
    let said = paused.ask("check").unwrap();
    assert!(said.starts_with("lost: the lease could not be renewed in time"), "{said}");
    let said = paused.ask("save late").unwrap();
    assert!(said.starts_with(&format!("refused: fence {fence} leads no longer")), "{said}");
    assert_eq!(store.load(&shop()).await.unwrap().unwrap().document, json!("new"));
    leadership.check().unwrap();
}
