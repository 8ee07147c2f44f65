//! Checks over real sockets of the loopback interface: what is well, what is not and why, and what
//! they leave behind.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic_health::ServingStatus;
use weir::health::{Order, Outcome, check::network};
use weir::model::{Health, SpecFile, parse_services};

/// A check as in a spec file.
fn health(text: &str) -> Arc<Health> {
    let file = format!(
        "services: [{{ name: a, listeners: [{{ address: 10.0.0.1, port: 80, protocol: tcp }}], health: {{ {text} }},
         versions: {{ blue: {{ weight: 100%, backends: [{{ address: 10.0.0.2, port: 80 }}] }} }} }}]"
    );
    let file = SpecFile::parse(&file).unwrap();
    Arc::clone(parse_services(&file.services, false).unwrap()[0].health().unwrap())
}

async fn asks(address: SocketAddr, check: &str) -> Outcome {
    network(Order { address, health: health(check) }).await
}

fn ill(text: &str) -> Outcome {
    Outcome::Ill(text.to_owned())
}

/// A server that reads a request and answers with these bytes, or never.
async fn answers(answer: Option<Vec<u8>>) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, answer.clone()));
        }
    });
    address
}

async fn serve(mut stream: TcpStream, answer: Option<Vec<u8>>) {
    let mut request = [0; 2_048];
    let length = stream.read(&mut request).await.unwrap_or(0);
    let Some(answer) = answer else { return std::future::pending().await };
    let request = String::from_utf8_lossy(&request[..length]).into_owned();
    let answer = if answer == b"as asked" {
        // What was asked decides the status.
        let well = request.starts_with("GET /healthz?full=1 HTTP/1.1\r\n")
            && request.contains("\r\nhost: shop.example\r\n");
        let status = if well { "204 No Content" } else { "404 Not Found" };
        format!("HTTP/1.1 {status}\r\n\r\n").into_bytes()
    } else {
        answer
    };
    let _ = stream.write_all(&answer).await;
    // The other end closes.
    let _ = stream.read(&mut [0; 16]).await;
}

/// An address where nobody listens.
async fn nobody() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn tcp_wants_a_connection() {
    assert_eq!(asks(answers(None).await, "type: tcp").await, Outcome::Well);
    assert_eq!(asks(nobody().await, "type: tcp").await, ill("connection refused"));
}

#[tokio::test]
async fn http_wants_a_status() {
    let says = |status: &str| answers(Some(format!("HTTP/1.1 {status}\r\n\r\n").into_bytes()));
    assert_eq!(asks(says("200 OK").await, "type: http").await, Outcome::Well);
    assert_eq!(
        asks(says("302 Found\r\nLocation: /there").await, "type: http").await,
        Outcome::Well
    );
    let failing = says("500 Internal Server Error").await;
    assert_eq!(asks(failing, "type: http").await, ill("status 500, wanted 200-399"));
    assert_eq!(asks(failing, "type: http, status: [200, 500]").await, Outcome::Well);
    let picky = answers(Some(b"as asked".to_vec())).await;
    let asked = "type: http, path: \"/healthz?full=1\", host: shop.example, status: 204";
    assert_eq!(asks(picky, asked).await, Outcome::Well);
    assert_eq!(asks(picky, "type: http, status: 204").await, ill("status 404, wanted 204"));
    assert_eq!(asks(nobody().await, "type: http").await, ill("connection refused"));
}

#[tokio::test]
async fn what_is_no_answer_is_refused_and_bounded() {
    let http = "type: http, interval: 300ms";
    for odd in [
        b"hello\r\n\r\n".to_vec(),
        b"".to_vec(),
        b"SSH-2.0-x\r\n".to_vec(),
        [b"HTTP/1.1 200 OK\r\nx: ".to_vec(), vec![b'a'; 64 << 10]].concat(),
        [b"HTTP/1.1 200 OK\r\n".to_vec(), b"a: b\r\n".repeat(1_000)].concat(),
    ] {
        let outcome = asks(answers(Some(odd)).await, http).await;
        assert!(matches!(outcome, Outcome::Ill(_)), "{outcome:?}");
    }
    // The body is not waited for.
    let endless = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\nno more".to_vec();
    assert_eq!(asks(answers(Some(endless)).await, http).await, Outcome::Well);
    let began = Instant::now();
    assert_eq!(asks(answers(None).await, http).await, ill("no answer within 300ms"));
    assert!((300..1_000).contains(&began.elapsed().as_millis()));
}

#[tokio::test]
async fn grpc_wants_serving() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (reporter, service) = tonic_health::server::health_reporter();
    let serving = Server::builder().add_service(service);
    tokio::spawn(serving.serve_with_incoming(TcpListenerStream::new(listener)));
    assert_eq!(asks(address, "type: grpc").await, Outcome::Well);
    reporter.set_service_status("shop", ServingStatus::Serving).await;
    assert_eq!(asks(address, "type: grpc, service: shop").await, Outcome::Well);
    reporter.set_service_status("shop", ServingStatus::NotServing).await;
    assert_eq!(asks(address, "type: grpc, service: shop").await, ill("it says NOT_SERVING"));
    let unknown = asks(address, "type: grpc, service: none").await;
    assert_eq!(unknown, ill("service not registered"));
    assert_eq!(asks(nobody().await, "type: grpc").await, ill("connection refused"));
    let http = answers(Some(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec())).await;
    assert!(matches!(asks(http, "type: grpc").await, Outcome::Ill(_)));
    let mute = asks(answers(None).await, "type: grpc, interval: 300ms").await;
    assert_eq!(mute, ill("no answer within 300ms"));
}

/// Lines of `/proc/net/tcp` with this port at either end, and this state.
fn sockets(port: u16, state: &str) -> usize {
    let text = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let port = format!(":{port:04X}");
    let has = |line: &&str| {
        let mut words = line.split_whitespace().skip(1);
        let ends = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        (ends.0.ends_with(&port) || ends.1.ends_with(&port)) && words.next() == Some(state)
    };
    text.lines().filter(has).count()
}

#[tokio::test]
async fn nothing_is_left_in_time_wait() {
    let http = answers(Some(b"HTTP/1.1 200 OK\r\n\r\n".to_vec())).await;
    for _ in 0..50 {
        for check in ["type: tcp", "type: http"] {
            assert_eq!(asks(http, check).await, Outcome::Well);
        }
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(sockets(http.port(), "06"), 0, "TIME_WAIT");
    // What is looked for is found where it is.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let client = TcpStream::connect(address).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    drop(client);
    drop(server);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(sockets(address.port(), "06"), 1, "TIME_WAIT");
}
