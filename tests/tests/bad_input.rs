//! Bad input changes nothing: the real node, over the kernel's maps and behind the real API, holds
//! two services in the midst of a shift. Each refused file and request leaves every byte as it was.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

#[allow(dead_code, reason = "another test uses the rest")]
mod frame;
#[path = "../../agent/tests/common/refused.rs"]
mod refused;

use std::path::Path;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use refused::{Case, FILE, Files, Request, answer, requests, said};
use tokio::sync::{mpsc, oneshot};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use weir::api::convert::request::apply_to_proto;
use weir::api::{Ends, serve, socket};
use weir::dataplane::kernel::{Kernel, Options};
use weir::dataplane::next_hop::{NextHop, Resolver};
use weir::dataplane::shared::Shared;
use weir::dataplane::{DataPlane as _, ReasonCounts};
use weir::model::SpecFile;
use weir::node::messages::ChangeOptions;
use weir::node::{self, Owner};
use weir::plan::tables::BackendTable;
use weir::store::Directory;
use weir_ebpf::abi::{Counters, Line};
use weir_proto::v1::{self, weir_client::WeirClient};

/// Indices of services and backends that are looked at: more than the node uses.
const SERVICES: u32 = 8;
const BACKENDS: u16 = 16;

/// A node, and the hands to reach it by: the API, its kernel, its disk.
struct Node {
    weir: WeirClient<Channel>,
    kernel: Shared<Kernel>,
    directory: tempfile::TempDir,
}

/// All that must stay as it was.
#[derive(PartialEq, Debug)]
struct Held {
    file: String,
    tables: Vec<Option<Vec<Line>>>,
    counters: Vec<Counters>,
    reasons: ReasonCounts,
    list: v1::ListResponse,
    generation: u64,
    /// Resource and use: services, backends, listeners, lines of the pool, flows.
    capacity: Vec<v1::Capacity>,
}

impl Node {
    /// Lets a client open a flow to `shop`. There is no way to any backend in this namespace, so
    /// one is made up: nothing is sent.
    fn open(&self, port: u16) {
        let mut kernel = self.kernel.lock();
        let hop = NextHop::plain(1, [2; 6], [4; 6]);
        for backend in 0..BACKENDS {
            kernel.set_next_hop(backend, Some(hop)).unwrap();
        }
        let syn = frame::syn(([10, 9, 0, 1], port), ([10, 50, 0, 100], 80));
        kernel.run_tc(&syn, 1).unwrap();
    }

    async fn held(&mut self) -> Held {
        let list = self.weir.list(v1::ListRequest {}).await.unwrap().into_inner();
        let status = self.weir.node_status(v1::NodeStatusRequest {}).await.unwrap().into_inner();
        let kernel = self.kernel.lock();
        let lines = |service| {
            let tables = kernel.tables(service).unwrap()?;
            let mut lines = tables.version_lines();
            lines.extend(tables.backends().iter().flat_map(BackendTable::lines));
            Some(lines)
        };
        Held {
            file: std::fs::read_to_string(self.directory.path().join("state/state.json")).unwrap(),
            tables: (0..SERVICES).map(lines).collect(),
            counters: (0..BACKENDS).map(|backend| kernel.counters(backend)).collect(),
            reasons: kernel.reasons(),
            list,
            generation: status.generation,
            capacity: status.capacity,
        }
    }
}

/// Serves a node in `directory` until `stop`; says when its socket is there.
async fn agent(
    directory: &Path,
    kernel: Shared<Kernel>,
    ready: oneshot::Sender<()>,
    stop: oneshot::Receiver<()>,
) {
    let store = Directory::open(&directory.join("state")).unwrap();
    let owner = Owner::start(kernel, store).unwrap_or_else(|error| panic!("{error}"));
    let (changes, followed) = mpsc::channel(1);
    let resolver = Resolver::start(changes).unwrap();
    let (handle, asked) = node::channel();
    let (_stop, stopped) = tokio::sync::oneshot::channel();
    let owner = node::serve(owner, asked, resolver, followed, stopped);
    let (listener, guard) = socket::bind(&directory.join("weir.sock")).unwrap();
    ready.send(()).unwrap();
    let ends = Ends { socket: listener, guard: &guard, port: None };
    let api = serve(ends, handle, async { drop(stop.await) });
    let (_, served) = tokio::join!(owner, api);
    served.unwrap();
}

/// The services of [`FILE`], and a shift away and back, with flows begun before and in between. So
/// there are slots in transition, remembered flows and counts; and the weights are those of the file.
async fn fill(node: &mut Node) {
    let services = SpecFile::parse(FILE).unwrap().services;
    node.weir.apply(apply_to_proto(&services, &ChangeOptions::default())).await.unwrap();
    for (round, weight_bp) in [(1, 5_000), (2, 500)] {
        for port in round * 1_000..round * 1_000 + 100 {
            node.open(port);
        }
        node.weir.shift_weights(used(weight_bp)).await.unwrap();
    }
    let held = node.held().await;
    assert!(held.counters.iter().any(|counters| counters.tracked > 0), "{:?}", held.counters);
}

/// A shift under an id that [`fill`] uses.
fn used(weight_bp: u32) -> v1::ShiftWeightsRequest {
    let shift =
        refused::shift(|shift| shift.set = vec![v1::VersionWeight { version: 3, weight_bp }]);
    v1::ShiftWeightsRequest { request_id: format!("shift-to-{weight_bp}"), ..shift }
}

/// What only a real node refuses: it knows what it was asked before.
fn reused() -> Case {
    let request = v1::ShiftWeightsRequest { dry_run: true, ..used(500) };
    let says = "request id \"shift-to-500\" was used for another request; choose a new one";
    Case {
        request: Request::Shift(request),
        code: Code::AlreadyExists,
        reason: "REQUEST_ID_REUSED",
        says: vec![says.to_owned()],
    }
}

/// Sends a wrong file as `weir apply` would, unless its text alone shows that it is wrong.
async fn send_file(node: &mut Node, text: &str) -> Option<Status> {
    let services = SpecFile::parse(text).ok()?.services;
    let request = apply_to_proto(&services, &ChangeOptions::default());
    Some(Request::Apply(request).refusal(&mut node.weir).await)
}

async fn check(node: &mut Node) {
    fill(node).await;
    counted(node, 0).await;
    let before = node.held().await;
    let (mut wrong, mut parsed, mut sent) = (Vec::new(), 0, 0);

    let files = Files::read();
    for case in &files.cases {
        let text = files.text(case);
        let says = if let Some(status) = send_file(node, &text).await {
            sent += 1;
            assert_eq!(status.code(), Code::InvalidArgument, "{}: {status:?}", case.about);
            said(&status)
        } else {
            parsed += 1;
            answer(&text)
        };
        if says != case.says {
            wrong.push(format!("{}:\n  wanted {:#?}\n  got {says:#?}", case.about, case.says));
        }
        assert!(node.held().await == before, "changed by the file with {}", case.about);
    }
    for case in requests(3).into_iter().chain([reused()]) {
        sent += 1;
        let status = case.request.clone().refusal(&mut node.weir).await;
        wrong.extend(case.difference(&status));
        assert!(node.held().await == before, "changed by {:?}", case.request);
    }
    println!("{} cases: {parsed} refused by their text, {sent} by the node", parsed + sent);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(sent >= 60, "only {sent} cases reach the node");

    // The look itself can see a change.
    node.weir.shift_weights(used(5_001)).await.unwrap();
    let after = node.held().await;
    assert!(after.file != before.file && after.tables != before.tables);
    assert!(after.list != before.list && after.generation != before.generation);
    (3_000..3_100).for_each(|port| node.open(port));
    assert!(node.held().await.counters != before.counters);
    counted(node, flows(&before)).await;
}

/// Flows that are in use, as the node says.
fn flows(held: &Held) -> u64 {
    held.capacity.iter().filter(|one| one.resource == "flows").map(|one| one.used).sum()
}

/// Waits until the node says that there are other flows than so many: they are counted by rounds, of
/// which there is one every five seconds.
async fn counted(node: &mut Node, before: u64) {
    let seen = async {
        while flows(&node.held().await) == before {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), seen).await.expect("the flows are counted");
}

#[tokio::test]
async fn what_is_refused_changes_no_byte() {
    // The resolver is not to meet the machine's own routes. Only this thread moves.
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let kernel = Kernel::load(Options { flows: 1_000, ..Options::default() });
    let kernel = Shared::new(kernel.unwrap_or_else(|error| panic!("{error}")));
    let (ready, started) = oneshot::channel();
    let (stop, stopped) = oneshot::channel();
    let path = directory.path().to_owned();
    let agent = tokio::spawn({
        let kernel = kernel.clone();
        async move { agent(&path, kernel, ready, stopped).await }
    });
    started.await.expect("the agent starts");
    let socket = format!("unix:{}", directory.path().join("weir.sock").display());
    let channel = Endpoint::from_shared(socket).unwrap().connect().await.unwrap();
    let mut node = Node { weir: WeirClient::new(channel), kernel, directory };
    check(&mut node).await;

    stop.send(()).unwrap();
    drop(node);
    tokio::time::timeout(Duration::from_secs(10), agent).await.expect("the agent stops").unwrap();
}
