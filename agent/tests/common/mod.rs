//! A node that lives in memory, behind the real API on a real socket.
//!
//! It keeps services and answers with plausible tables; it moves no packet. What it answers is right in form and
//! follows what was asked, so that the API, the client and the command line can be tested from end to end.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking; no test uses all of this"
)]

mod answers;
pub(crate) mod certificates;
mod changes;
mod node;
pub(crate) mod refused;
pub(crate) mod trace;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use weir::api::{Ends, port::Port, serve, socket};
use weir::client::Client;
use weir::node::{Handle, Request, channel};

use self::node::{Planted, run};

/// An agent with a fake node, on a socket of its own.
pub(crate) struct FakeAgent {
    pub(crate) socket: PathBuf,
    planted: Planted,
    stop: Option<oneshot::Sender<()>>,
    server: JoinHandle<()>,
    node: JoinHandle<()>,
    _directory: tempfile::TempDir,
}

impl FakeAgent {
    /// Starts it; the socket is there when this returns.
    pub(crate) fn start() -> Self {
        Self::start_at(None)
    }

    /// The same, which listens at a port too.
    pub(crate) fn start_at(port: Option<Port>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let planted = Arc::default();
        let path = directory.path().join("weir.sock");
        let (handle, requests): (Handle, mpsc::Receiver<Request>) = channel();
        let node = tokio::spawn(run(requests, Arc::clone(&planted)));
        let (listener, guard) = socket::bind(&path).unwrap();
        let (stop, stopped) = oneshot::channel();
        let server = tokio::spawn(async move {
            serve(Ends { socket: listener, guard: &guard, port }, handle, async {
                drop(stopped.await);
            })
            .await
            .unwrap();
        });
        Self { socket: path, planted, stop: Some(stop), server, node, _directory: directory }
    }

    /// From now on so many new connections of blue, green and canary are observed.
    pub(crate) fn plant(&self, connections: [u64; 3]) {
        *self.planted.lock().unwrap() = Some(connections);
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(&self.socket).await.unwrap()
    }

    /// Stops serving, and waits until all has ended.
    pub(crate) async fn stop(mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        let ended = async {
            self.server.await.unwrap();
            // The node ends when the last who could ask it is gone.
            self.node.await.unwrap();
        };
        tokio::time::timeout(Duration::from_secs(10), ended).await.expect("the agent stops");
    }
}
