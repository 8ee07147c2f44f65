//! News for hooks whose answer changes nothing.

use std::time::{Duration, Instant};

use tokio::time::sleep;
use weir::rollout::external::{Http, Notifier};
use weir::rollout::machine::{Event, EventKind, Status};
use weir::rollout::spec::{Hook, Stage, Target};
use weir::rollout::time::{Seconds, Timestamp};

use super::about;
use super::server::{Answer, Server, says};

fn hook(server: &Server, stage: Stage) -> Hook {
    Hook { stage, target: Target::Url(server.url()), timeout: Seconds::new(20) }
}

fn event(number: u64) -> Event {
    Event {
        number,
        at: Timestamp(5),
        kind: EventKind::Transition,
        by: None,
        before: Status::Pending,
        after: Status::Pending,
        reason: "because".to_owned(),
    }
}

fn notifier() -> Notifier {
    Notifier::new(Http::new(None).unwrap())
}

#[tokio::test]
async fn each_event_is_told_once_in_order_to_each_hook_that_asks_for_it() {
    let [one, two, other] = [
        Server::start(vec![says("SUCCEEDED")]).await,
        // Its answer changes nothing.
        Server::start(vec![says("IN_PROGRESS")]).await,
        Server::start(vec![says("SUCCEEDED")]).await,
    ];
    let hooks =
        [hook(&one, Stage::Event), hook(&two, Stage::Event), hook(&other, Stage::PreWeight)];
    let mut notifier = notifier();
    for number in 1..=5 {
        // The machine says it again at each tick.
        for _ in 0..3 {
            notifier.notify(&about(), &hooks, &event(number));
        }
    }
    let expected: Vec<String> = (1..=5).map(|number| format!("shop/event/{number}")).collect();
    for server in [&one, &two] {
        let asked = server.was_asked(5).await;
        let ids: Vec<String> = asked.iter().map(|(id, _)| id.clone()).collect();
        assert_eq!(ids, expected);
        assert_eq!(asked[4].1["event"]["reason"], "because");
        assert_eq!(asked[4].1["stage"], "event");
    }
    sleep(Duration::from_millis(300)).await;
    assert_eq!((one.asked().len(), other.asked().len()), (5, 0));
}

#[tokio::test]
async fn what_does_not_arrive_is_told_again_by_the_same_id() {
    let broken = Answer::Says(500, String::new());
    let script =
        vec![broken.clone(), Answer::HangsUp, says("SUCCEEDED"), broken, says("SUCCEEDED")];
    let server = Server::start(script).await;
    let mut notifier = notifier();
    let hooks = [hook(&server, Stage::Event)];
    notifier.notify(&about(), &hooks, &event(1));
    notifier.notify(&about(), &hooks, &event(2));
    let asked = server.was_asked(5).await;
    let ids: Vec<&str> = asked.iter().map(|(id, _)| &id[11..]).collect();
    assert_eq!(ids, ["1", "1", "1", "2", "2"]);
}

#[tokio::test]
async fn nobody_waits_for_a_hook_and_no_queue_grows_without_end() {
    let [dead, well] =
        [Server::start(vec![Answer::Nothing]).await, Server::start(vec![says("SUCCEEDED")]).await];
    let hooks = [hook(&dead, Stage::Event), hook(&well, Stage::Event)];
    let mut notifier = notifier();
    let start = Instant::now();
    for number in 1..=2_000 {
        notifier.notify(&about(), &hooks, &event(number));
        if number % 100 == 0 {
            // So that the one that is well keeps up.
            well.was_asked(usize::try_from(number).unwrap()).await;
        }
    }
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    assert_eq!(well.asked().len(), 2_000);
    assert_eq!(dead.asked().len(), 1);
}
