//! Crowds at the API of a running agent: a thousand clients at once, streams that nobody reads,
//! messages that never end, and files of ten thousand services. Memory stays bounded, the refusals
//! are clear, others are served meanwhile, and nothing changes.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};
use weir::client::Client;
use weir::model::ServiceName;
use weir_proto::v1::{self, weir_client::WeirClient};
use weir_tests::agent::socket;
use weir_tests::lab::LabBuilder;
use weir_tests::lab::addresses::{Family, HTTP_PORT, vip};
use weir_tests::lab::spec::Protocol;
use weir_tests::node::{Mode, Node};

const CLIENTS: usize = 1_000;
/// What a message may hold, and a little more than that.
const LARGE: usize = 15 << 20;
const TOO_LARGE: usize = 17 << 20;
/// What the agent may take more than before in any of this, in KiB: 32 messages, as bytes and as what
/// they say, and the connections.
const MORE: u64 = 1 << 20;

/// A node with one service, and what of it must not change.
struct Watched {
    node: Node,
    before: String,
    memory: u64,
}

impl Watched {
    fn start() -> Self {
        let mut node = Node::start(LabBuilder::new().clients(1), Mode::Tc, &[]).unwrap();
        let target = SocketAddr::new(vip(Family::V4, 0), HTTP_PORT);
        node.apply(&[node.lab().service("shop", target, Protocol::Tcp)]).unwrap();
        let (before, memory) = (state(&node), peak(&node));
        Self { node, before, memory }
    }

    fn socket(&self) -> PathBuf {
        socket(self.node.lab())
    }

    /// Nothing has changed, and the agent's memory has stayed within bounds.
    fn end(self) {
        assert_eq!(state(&self.node), self.before);
        let grown = peak(&self.node) - self.memory;
        println!("the agent took {} MiB more than {} MiB", grown >> 10, self.memory >> 10);
        assert!(grown < MORE, "{grown} KiB");
    }
}

/// Spec, tables' digest and generation.
fn state(node: &Node) -> String {
    let text = node.lab().weir(&["get", "shop", "-o", "json"]).unwrap();
    let shop: serde_json::Value = serde_json::from_str(&text).unwrap();
    let kept = ["spec", "digest", "generation"].map(|key| shop.get(key).unwrap().to_string());
    kept.join("\n")
}

/// The most memory that the agent has had, in KiB.
fn peak(node: &Node) -> u64 {
    let path = format!("/proc/{}/status", node.agent().unwrap().pid());
    let status = fs::read_to_string(path).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

async fn raw(socket: PathBuf) -> WeirClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("unix:{}", socket.display())).unwrap();
    let channel = endpoint.connect().await.unwrap();
    WeirClient::new(channel).max_encoding_message_size(2 * TOO_LARGE)
}

/// A request of about so many bytes that says nothing valid.
fn large(bytes: usize) -> v1::ApplyRequest {
    let service = v1::ServiceSpec { name: "x".repeat(1 << 20), ..v1::ServiceSpec::default() };
    v1::ApplyRequest { services: vec![service; bytes >> 20], ..v1::ApplyRequest::default() }
}

#[test]
fn a_thousand_clients_at_once_are_all_answered() {
    let watched = Watched::start();
    let socket = watched.socket();
    runtime().block_on(async {
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            let socket = socket.clone();
            clients.spawn(async move {
                let mut client = Client::connect(&socket).await?;
                client.get(&ServiceName::new("shop").unwrap()).await?;
                client.counters(&[]).await.map(drop)
            });
        }
        for answer in clients.join_all().await {
            answer.unwrap();
        }
    });
    watched.end();
}

#[test]
fn connections_that_say_nothing_are_in_nobodys_way() {
    let watched = Watched::start();
    let idle: Vec<_> =
        (0..CLIENTS).map(|_| UnixStream::connect(watched.socket()).unwrap()).collect();
    let began = Instant::now();
    watched.node.lab().weir(&["get"]).unwrap();
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    drop(idle);
    watched.end();
}

#[test]
fn streams_that_nobody_reads_hold_one_answer_each() {
    let watched = Watched::start();
    let socket = watched.socket();
    let runtime = runtime();
    runtime.block_on(async {
        let mut weir = raw(socket).await;
        let request = v1::WatchCountersRequest { interval_ms: 100, services: vec![] };
        let mut held = Vec::new();
        let refused = loop {
            match weir.watch_counters(request.clone()).await {
                Ok(stream) => held.push(stream),
                Err(status) => break status,
            }
            assert!(held.len() <= 64, "no limit on streams");
        };
        assert_eq!((held.len(), refused.code()), (64, Code::ResourceExhausted), "{refused}");
        assert!(refused.message().contains("64"), "{refused}");
        tokio::time::sleep(Duration::from_secs(3)).await;
        // They go on from what is true now, not through all that they have missed.
        let mut stream = held.remove(0).into_inner();
        for _ in 0..3 {
            stream.message().await.unwrap().unwrap();
        }
    });
    watched.end();
}

#[test]
fn messages_without_end_are_refused_or_wait_for_their_turn() {
    let watched = Watched::start();
    let socket = watched.socket();
    runtime().block_on(async {
        let mut weir = raw(socket.clone()).await;
        let refused = weir.apply(large(TOO_LARGE)).await.unwrap_err();
        assert_eq!(refused.code(), Code::OutOfRange, "{refused}");
        // A hundred at once, of a size that is allowed.
        let mut clients = JoinSet::new();
        for _ in 0..100 {
            let socket = socket.clone();
            clients.spawn(async move { raw(socket).await.apply(large(LARGE)).await.unwrap_err() });
        }
        for refused in clients.join_all().await {
            assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        }
    });
    watched.end();
}

#[test]
fn what_is_no_grpc_is_hung_up_on() {
    let watched = Watched::start();
    let junk: [&[u8]; 4] = [
        b"GET / HTTP/1.1\r\nHost: weir\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        &[0; 10_000],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ];
    let held: Vec<UnixStream> = (0..200)
        .map(|number| {
            let mut stream = UnixStream::connect(watched.socket()).unwrap();
            // It may be hung up on before all is written.
            let _ = stream.write_all(junk[number % junk.len()]);
            stream
        })
        .collect();
    watched.node.lab().weir(&["get"]).unwrap();
    drop(held);
    watched.end();
}

#[test]
fn ten_thousand_services_in_a_file_are_refused_in_a_sentence() {
    let watched = Watched::start();
    let mut file = "services:\n".to_owned();
    for number in 0..10_000 {
        let (high, low) = (number / 250, number % 250);
        writeln!(
            file,
            "  - {{ name: s{number}, forwarding: nat, listeners: [{{ address: 10.50.{high}.{low}, port: 80, \
             protocol: tcp }}], versions: {{ blue: {{ weight: 100%, backends: [{{ address: \
             10.61.{high}.{low}, port: 80 }}] }} }} }}"
        )
        .unwrap();
    }
    let path = watched.node.lab().directory().join("many.yaml");
    fs::write(&path, file).unwrap();
    let output = watched.node.lab().weir_output(&["apply", "-f", path.to_str().unwrap()]).unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    assert!(said.contains("512"), "{said}");
    assert!(said.lines().count() < 30, "{said}");
    watched.end();
}
