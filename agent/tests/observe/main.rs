//! The HTTP port of an agent: a real port and real requests; behind them a node in memory.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod http;
mod live;
mod many;
mod metrics;
mod page;

use std::time::{Duration, Instant};

use http::{get, request};
use live::Live;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_healthy_and_ready_or_says_what_is_missing() {
    let node = Live::start(&[("lo", true)]);
    let answer = get(node.address, "/healthz").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "ok\n"));
    let answer = get(node.address, "/readyz").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "ready\n"));

    let half = Live::start(&[("lo", true), ("eth1", false)]);
    let answer = get(half.address, "/readyz").await;
    assert_eq!(answer.status, 503);
    assert!(answer.body.starts_with("interface eth1: gone"), "{answer:?}");
    assert!(!answer.body.contains("lo"), "{answer:?}");
    assert_eq!(get(half.address, "/healthz").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_owner_has_ended_is_not_healthy() {
    let mut node = Live::start(&[("lo", true)]);
    node.end_owner().await;
    for path in ["/healthz", "/readyz", "/metrics"] {
        let answer = get(node.address, path).await;
        assert_eq!((answer.status, answer.body.is_empty()), (503, false), "{path}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_question_is_refused() {
    let node = Live::start(&[("lo", true)]);
    let at = node.address;
    let answer = get(at, "/nothing").await;
    assert_eq!(answer.status, 404);
    assert!(answer.body.contains("/metrics") && answer.body.contains("/readyz"), "{answer:?}");
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let answer =
            request(at, &format!("{method} /metrics HTTP/1.1\r\nHost: localhost\r\n")).await;
        assert_eq!(answer.status, 405, "{method}");
        assert!(answer.head.contains("allow: GET, HEAD"), "{answer:?}");
    }
    let head = request(at, "HEAD /metrics HTTP/1.1\r\nHost: localhost\r\n").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert_eq!(request(at, "nonsense\r\n").await.status, 400);

    // Names that a page of another site can have resolve to here.
    let from = |host: &str| format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\n");
    for host in ["evil.example", "evil.example:9180", "127.0.0.1.evil.example", "localhost.evil"] {
        assert_eq!(request(at, &from(host)).await.status, 403, "{host}");
    }
    for host in ["127.0.0.1", "localhost:9180", "[::1]:9180", "LocalHost"] {
        assert_eq!(request(at, &from(host)).await.status, 200, "{host}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_are_bounded_in_size() {
    let node = Live::start(&[("lo", true)]);
    let long = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n", "x".repeat(64 << 10));
    let many = "X: y\r\n".repeat(100);
    let many = format!("GET / HTTP/1.1\r\nHost: localhost\r\n{many}");
    for wrong in [long, many] {
        let status = request(node.address, &wrong).await.status;
        assert!(matches!(status, 431 | 400 | 0), "{status}");
    }
    assert_eq!(get(node.address, "/healthz").await.status, 200);
}

/// 128 clients that send a byte now and then, or nothing, keep nobody out for long.
#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_lose_their_places() {
    let node = Live::start(&[("lo", true)]);
    let mut slow = Vec::new();
    for number in 0..128 {
        let mut stream = TcpStream::connect(node.address).await.unwrap();
        if number % 2 == 0 {
            stream.write_all(b"GET / HTTP/1.1\r\nX-Slow: ").await.unwrap();
        }
        slow.push(stream);
    }
    let start = Instant::now();
    let answer = get(node.address, "/healthz").await;
    assert_eq!(answer.status, 200);
    let waited = start.elapsed();
    assert!(waited < Duration::from_secs(12), "{waited:?}");
    assert!(waited > Duration::from_secs(2), "the places were not taken: {waited:?}");
    for mut stream in slow {
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest));
        // Closed, or reset.
        let _ = ended.await.unwrap();
    }
}
