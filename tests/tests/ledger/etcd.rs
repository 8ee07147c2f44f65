//! What only etcd can do to a coordinator.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::time::{sleep, timeout};
use weir::rollout::ledger::{Error, StateStore};
use weir_tests::ledger::Place;
use weir_tests::pace;

use super::world::{LEASE, World, command, says, shop};

const LONG: Duration = Duration::from_secs(30);

/// A call fails as one for which the store is not there, and soon.
async fn is_away(store: &dyn StateStore) {
    let start = Instant::now();
    let error = store.load(&shop()).await.unwrap_err();
    let took = start.elapsed();
    assert!(matches!(error, Error::Unavailable { .. }) && error.is_outage(), "{error}");
    assert!(error.to_string().starts_with("etcd at http://127.0.0.1:"), "{error}");
    assert!(took < pace::wait(Duration::from_millis(1_500)), "{took:?}");
}

/// Until it answers again.
async fn comes_back(store: &dyn StateStore) {
    let back = async {
        while store.load(&shop()).await.is_err() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(pace::wait(LONG), back).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_survives_a_restart_of_etcd_that_is_shorter_than_its_lease() {
    let mut world = World::etcd();
    let endpoint = world.etcd.as_ref().unwrap().endpoint();
    world.place = Place::Etcd { endpoint, lease: Duration::from_secs(20) };
    let store = world.store("one");
    let leadership = store.campaign().await.unwrap();
    let version = store.save(leadership.fence(), &shop(), None, says(json!(1))).await.unwrap();
    let etcd = world.etcd.as_mut().unwrap();
    etcd.kill().unwrap();
    is_away(&*store).await;
    leadership.check().unwrap();
    etcd.restart().unwrap();
    comes_back(&*store).await;
    leadership.check().unwrap();
    let next = says(json!(2));
    store.save(leadership.fence(), &shop(), Some(version), next).await.unwrap();
    // Also when renewals go on over the new connection, for longer than the lease.
    sleep(Duration::from_secs(7)).await;
    leadership.check().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_etcd_is_gone_steps_down_before_another_could_lead() {
    let mut world = World::etcd();
    let store = world.store("one");
    let leadership = store.campaign().await.unwrap();
    let version = store.save(leadership.fence(), &shop(), None, says(json!(1))).await.unwrap();
    let etcd = world.etcd.as_mut().unwrap();
    etcd.kill().unwrap();
    let start = Instant::now();
    let why = timeout(LEASE * 2, leadership.lost()).await.unwrap();
    let took = start.elapsed();
    println!("stepped down {} ms after etcd was gone", took.as_millis());
    assert!(took < LEASE, "{took:?}: {why}");
    assert!(why.contains("renewed in time"), "{why}");
    is_away(&*store).await;
    for answer in [store.campaign().await.map(drop), store.submit(command("c", 1)).await] {
        assert!(matches!(answer, Err(Error::Unavailable { .. })), "{answer:?}");
    }

    etcd.restart().unwrap();
    comes_back(&*store).await;
    assert!(leadership.check().is_err(), "what is over stays over");
    let fence = leadership.fence();
    drop(leadership);
    let again = timeout(LONG, store.campaign()).await.unwrap().unwrap();
    assert!(again.fence() > fence);
    let entry = store.load(&shop()).await.unwrap().unwrap();
    assert_eq!((entry.version, entry.document), (version, json!(1)), "nothing is lost");
    store.save(again.fence(), &shop(), Some(version), says(json!(2))).await.unwrap();
}

/// It takes connections, and answers nothing: worse than a closed port.
#[tokio::test(flavor = "multi_thread")]
async fn an_etcd_that_hangs_is_told_from_one_that_answers() {
    let world = World::etcd();
    let [store, fresh] = ["one", "two"].map(|name| world.store(name));
    let leadership = store.campaign().await.unwrap();
    let version = store.save(leadership.fence(), &shop(), None, says(json!(1))).await.unwrap();
    let etcd = world.etcd.as_ref().unwrap();
    etcd.pause().unwrap();
    is_away(&*store).await;
    is_away(&*fresh).await;
    let unsure = store.save(leadership.fence(), &shop(), Some(version), says(json!(2))).await;
    assert!(matches!(unsure, Err(Error::Unavailable { .. })), "{unsure:?}");
    timeout(LEASE * 2, leadership.lost()).await.unwrap();
    etcd.resume().unwrap();
    comes_back(&*store).await;
    // Whether it was kept or not: what there is can be loaded, and is one of the two.
    let entry = store.load(&shop()).await.unwrap().unwrap();
    let kept = entry.document == json!(2) && entry.version > version;
    assert!(kept || (entry.document == json!(1) && entry.version == version), "{entry:?}");
}

/// A campaign whose lease runs out while it waits must not win, whatever etcd says.
#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_is_kept_alive_while_it_waits() {
    let world = World::etcd();
    let [one, two] = ["one", "two"].map(|name| world.store(name));
    let first = one.campaign().await.unwrap();
    let waits = tokio::spawn(async move { (two.campaign().await, two) });
    sleep(LEASE * 3).await;
    assert!(!waits.is_finished());
    first.resign().await;
    let (second, two) = timeout(LONG, waits).await.unwrap().unwrap();
    let second = second.unwrap();
    second.check().unwrap();
    two.save(second.fence(), &shop(), None, says(json!(1))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_listens_that_is_said() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let endpoint = format!("http://127.0.0.1:{port}");
    let store = Place::Etcd { endpoint: endpoint.clone(), lease: LEASE }.open("one").unwrap();
    is_away(&*store).await;
}
