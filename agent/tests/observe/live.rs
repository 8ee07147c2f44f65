//! A node in memory with its owner task and its HTTP port.

use std::net::SocketAddr;

use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use weir::dataplane::memory::Memory;
use weir::dataplane::next_hop::Resolver;
use weir::model::{AttachMode, Hook, SpecFile, parse_services};
use weir::node::messages::{Apply, ChangeOptions, InterfaceStatus};
use weir::node::{self, ATTACHED, GONE, Handle, Identity, Owner};
use weir::observe::{self, Listen, Serving};
use weir::store::Directory;

pub(crate) struct Live {
    pub(crate) address: SocketAddr,
    pub(crate) node: Handle,
    stop: Option<oneshot::Sender<()>>,
    owner: Option<JoinHandle<()>>,
    _serving: Serving,
    _state: TempDir,
}

impl Live {
    /// Starts it. `interfaces`: name, and whether the program is attached.
    pub(crate) fn start(interfaces: &[(&str, bool)]) -> Self {
        let state = tempfile::tempdir().unwrap();
        let store = Directory::open(state.path()).unwrap();
        let mut owner =
            Owner::start(Memory::new(1_000), store).unwrap_or_else(|error| panic!("{error}"));
        let (bound, warning) = observe::bind(Listen::At("127.0.0.1:0".parse().unwrap()));
        let bound = bound.unwrap_or_else(|| panic!("{warning:?}"));
        let address = bound.address();
        let interfaces = interfaces.iter().map(|(name, attached)| InterfaceStatus {
            name: (*name).to_owned(),
            index: 1,
            asked: AttachMode::Tc,
            actual: attached.then_some(Hook::Tcx),
            state: if *attached { ATTACHED } else { GONE }.to_owned(),
        });
        owner.introduce(Identity {
            interfaces: interfaces.collect(),
            http: Some(address),
            ..Identity::default()
        });
        let (changes, followed) = mpsc::channel(1);
        let resolver = Resolver::start(changes).unwrap();
        let (handle, requests) = node::channel();
        let (stop, stopped) = oneshot::channel();
        let owner = tokio::spawn(async move {
            node::serve(owner, requests, resolver, followed, stopped).await;
        });
        Self {
            address,
            node: handle.clone(),
            stop: Some(stop),
            owner: Some(owner),
            _serving: observe::serve(bound, handle),
            _state: state,
        }
    }

    pub(crate) async fn apply(&self, yaml: &str) {
        let file = SpecFile::parse(yaml).unwrap();
        let services = parse_services(&file.services, false).unwrap();
        self.node.apply(Apply { services, options: ChangeOptions::default() }).await.unwrap();
    }

    /// Ends the owner task, as no agent would.
    pub(crate) async fn end_owner(&mut self) {
        drop(self.stop.take());
        self.owner.take().unwrap().await.unwrap();
    }
}
