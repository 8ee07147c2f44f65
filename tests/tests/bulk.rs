//! Large transfers through a service arrive unharmed both ways while weights change: with offloads
//! they travel in packets of up to 64 KiB with unfinished checksums, which TC must rewrite right;
//! without, in packets of the wire's size, for XDP.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;
use weir::node::messages::{NodeStatus, Traffic};
use weir_tests::lab::LabBuilder;
use weir_tests::lab::addresses::{ECHO_PORT, Family, vip};
use weir_tests::lab::spec::Protocol;
use weir_tests::node::{Mode, Node};
use weir_tests::pace;
use weir_tests::random::Random;

/// Bytes of one transfer, in each direction.
const LENGTH: usize = 8 << 20;
/// More than this no frame of the wire's size carries; half of the frames are bare ACKs.
const WIRE: u64 = 1_514;
/// The first kernel that says which devices take redirected XDP frames.
const TELLS_FEATURES: (u32, u32) = (6, 3);

#[test]
fn large_packets_pass_in_tc() {
    for family in Family::ALL {
        let (traffic, _) = transfer(Mode::Tc, family);
        let mean = traffic.bytes_in / traffic.packets_in;
        assert!(mean > WIRE, "{family:?}: no large packets: {traffic:?}");
    }
}

#[test]
fn packets_of_the_wires_size_pass_in_native_xdp() {
    for family in Family::ALL {
        let (traffic, status) = transfer(Mode::Xdp, family);
        let mean = traffic.bytes_in / traffic.packets_in;
        // Where the kernel does not say which devices take redirected frames, TC does the work, after
        // GRO has made larger packets of them; and the agent says so.
        let by_tc = status.warnings.iter().any(|text| text.contains("redirected XDP frames"));
        assert_eq!(by_tc, release(&status.kernel) < TELLS_FEATURES, "{status:?}");
        assert!(by_tc || mean <= WIRE, "{family:?}: larger than the wire's: {traffic:?}");
    }
}

/// Sends random bytes to an echo server and compares what comes back.
fn transfer(mode: Mode, family: Family) -> (Traffic, NodeStatus) {
    let mut node = Node::start(LabBuilder::new().clients(1), mode, &[]).unwrap();
    let target = SocketAddr::new(vip(family, 0), ECHO_PORT);
    node.apply(&[node.lab().service("echo", target, Protocol::Tcp)]).unwrap();
    let limit = pace::wait(Duration::from_secs(20));
    let echo = node.lab().clients().spawn(move || timeout(limit, echo(target)));
    let echo = echo.unwrap();
    for weights in [[0, 10_000, 0], [0, 0, 10_000], [5_000, 0, 5_000], [10_000, 0, 0]] {
        node.shift(&["echo"], weights).unwrap();
    }
    let same = echo.join().unwrap();
    assert!(matches!(same, Ok(true)), "{} {family:?}: {same:?}", mode.name());
    let total = node.total("echo").unwrap();
    println!("{} {family:?}: {total:?}", mode.name());
    let least = u64::try_from(LENGTH).unwrap();
    assert!(total.bytes_in > least && total.bytes_out > least, "{total:?}");
    (total, node.node_status().unwrap())
}

/// `6.12.1-amd64` is 6, 12.
fn release(kernel: &str) -> (u32, u32) {
    let mut numbers = kernel.split(['.', '-']).map(|part| part.parse().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

/// Whether all bytes came back as they were sent.
async fn echo(target: SocketAddr) -> bool {
    let sent = Random(8).bytes(LENGTH);
    let (reader, mut writer) = TcpStream::connect(target).await.unwrap().into_split();
    let mut reader = BufReader::new(reader);
    let mut greeting = String::new();
    reader.read_line(&mut greeting).await.unwrap();
    let mut received = vec![0; LENGTH];
    let (written, read) = tokio::join!(writer.write_all(&sent), reader.read_exact(&mut received));
    written.unwrap();
    read.unwrap();
    sent == received
}
