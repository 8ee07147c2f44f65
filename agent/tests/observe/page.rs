//! The page and its feed, as a client that is no browser sees them.

use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};

use crate::http::get;
use crate::live::Live;
use crate::many::services;

const SHOP: &str = "services:
  - name: shop
    listeners: [{ address: 10.50.0.1, port: 80, protocol: tcp }]
    versions:
      blue: { release: v1, weight: 95%, backends: [{ address: 10.60.0.1, port: 80 }] }
      canary: { weight: 5%, backends: [{ address: 10.60.0.9, port: 80 }] }
";

/// A client of the feed.
struct Watcher(TcpStream, Vec<u8>);

impl Watcher {
    async fn start(node: &Live) -> Self {
        Self::over(TcpStream::connect(node.address).await.unwrap(), node).await
    }

    async fn over(mut stream: TcpStream, node: &Live) -> Self {
        let request = format!("GET /events HTTP/1.1\r\nHost: {}\r\n\r\n", node.address);
        stream.write_all(request.as_bytes()).await.unwrap();
        Self(stream, Vec::new())
    }

    /// Reads until the text holds `end`, and gives all up to it.
    async fn until(&mut self, end: &str) -> String {
        let reading = async {
            loop {
                let text = String::from_utf8_lossy(&self.1).into_owned();
                if let Some(place) = text.find(end) {
                    self.1.drain(..place + end.len());
                    return text[..place].to_owned();
                }
                let mut more = vec![0; 1 << 16];
                let length = self.0.read(&mut more).await.unwrap();
                assert!(length > 0, "the feed has ended: {text}");
                self.1.extend_from_slice(&more[..length]);
            }
        };
        timeout(Duration::from_secs(20), reading).await.unwrap()
    }

    /// The next look.
    async fn look(&mut self) -> Value {
        self.until("data: ").await;
        let data = self.until("\n\n").await;
        serde_json::from_str(&data).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_allows_itself_nothing_from_elsewhere() {
    let node = Live::start(&[("lo", true)]);
    let answer = get(node.address, "/").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.field("content-type"), Some("text/html; charset=utf-8"));
    let policy = answer.field("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'sha256-"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(answer.field("x-content-type-options"), Some("nosniff"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_feed_tells_what_there_is_and_what_happens() {
    let node = Live::start(&[("lo", true)]);
    node.apply(SHOP).await;
    let mut watcher = Watcher::start(&node).await;
    let head = watcher.until("\r\n\r\n").await;
    assert!(head.contains("content-type: text/event-stream"), "{head}");
    let look = watcher.look().await;
    let shop = &look["services"][0];
    assert_eq!(
        (&shop["name"], &shop["listeners"][0]),
        (&"shop".into(), &"10.50.0.1:80/tcp".into())
    );
    let canary = &shop["versions"][2];
    assert_eq!((&canary["version"], &canary["asked"]), (&"canary".into(), &0.05.into()));
    assert_eq!(canary["rate"], Value::Null, "there is nothing yet to compare with");
    assert_eq!(look["events"][0]["kind"], "created");
    assert_eq!(look["node"]["http"], node.address.to_string());

    // Then once a second, with rates.
    let start = Instant::now();
    let looks = [watcher.look().await, watcher.look().await];
    assert!(
        looks.iter().all(|look| look["services"][0]["versions"][0]["rate"] == 0.0),
        "{looks:?}"
    );
    assert!(looks[1]["time_ms"].as_u64() > looks[0]["time_ms"].as_u64());
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());

    let detail: Value =
        serde_json::from_str(&get(node.address, "/services/shop").await.body).unwrap();
    assert_eq!(detail["versions"]["canary"][0]["address"], "10.60.0.9:80");
    assert_eq!(detail["versions"]["canary"][0]["share"], 1.0);
    assert_eq!(get(node.address, "/services/nothing").await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn watchers_are_bounded_and_make_room_when_they_leave() {
    let node = Live::start(&[("lo", true)]);
    let mut watchers = Vec::new();
    for _ in 0..32 {
        let mut watcher = Watcher::start(&node).await;
        watcher.until("\r\n\r\n").await;
        watchers.push(watcher);
    }
    let answer = get(node.address, "/events").await;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.body.contains("32 clients"), "{answer:?}");
    assert_eq!(get(node.address, "/healthz").await.status, 200, "others are served");
    drop(watchers);
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let mut again = Watcher::start(&node).await;
        if again.until("\r\n\r\n").await.contains("200 OK") {
            again.look().await;
            return;
        }
        assert!(Instant::now() < deadline, "nobody has made room");
        sleep(Duration::from_millis(100)).await;
    }
}

/// A client that reads nothing is dropped; meanwhile nothing is kept for it, and others go on.
#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_that_reads_nothing_is_dropped() {
    let node = Live::start(&[("lo", true)]);
    // A look that does not fit into the kernel's buffers, where this one has a small one.
    node.apply(&services(128)).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4 << 10).unwrap();
    let idle = socket.connect(node.address).await.unwrap();
    let mut idle = Watcher::over(idle, &node).await;
    idle.until("data: ").await;
    let mut other = Watcher::start(&node).await;
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(25) {
        other.look().await;
    }
    // It still may read what is in the buffers. One that is still there gets look after look.
    let mut rest = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        match timeout(Duration::from_secs(20), idle.0.read(&mut rest)).await.unwrap() {
            Ok(0) | Err(_) => return,
            Ok(more) => bytes += more,
        }
        assert!(bytes < 16 << 20 && start.elapsed() < Duration::from_secs(70), "it goes on");
    }
}
