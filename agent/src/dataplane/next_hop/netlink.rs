//! The thin shell: two rtnetlink sockets, one to ask by and one to hear events on, and a generic
//! one for what interfaces can do.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::address::AddressMessage;
use rtnetlink::packet_route::link::LinkMessage;
use rtnetlink::packet_route::neighbour::{
    NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage, RouteType};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{Handle, MulticastGroup};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_stream::{Stream, StreamExt};

use super::link::Links;
use super::table::{Hints, Neighbour, Route, Target};
use super::xdp_features::XdpFeatures;
use super::{OwnAddress, messages};

/// How long the kernel may take for one answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// All that can change a next hop or the node's own addresses.
const GROUPS: [MulticastGroup; 8] = [
    MulticastGroup::Link,
    MulticastGroup::Neigh,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Ipv4Rule,
    MulticastGroup::Ipv6Rule,
];

/// Why the kernel gave no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The kernel answered with an error.
    #[error("the kernel refused {0}: {1}")]
    Refused(&'static str, io::Error),
    /// No answer in [`PATIENCE`].
    #[error("no answer from the kernel to {0} within {PATIENCE:?}")]
    Late(&'static str),
    /// The socket is gone.
    #[error("the netlink socket closed before {0}")]
    Closed(&'static str),
}

/// The kernel of the network namespace in which it was opened.
pub(super) struct Kernel {
    handle: Handle,
    events: Arc<Events>,
    /// None before [`Kernel::hear_of_features`], and where the kernel does not tell.
    features: Option<XdpFeatures>,
    /// Aborted with us.
    tasks: JoinSet<()>,
}

/// What has been heard and not yet looked at.
#[derive(Default)]
struct Events {
    hints: Mutex<Hints>,
    news: Notify,
}

impl Events {
    fn with<T>(&self, act: impl FnOnce(&mut Hints) -> T) -> T {
        act(&mut self.hints.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Kernel {
    /// Opens both sockets. From here on no event is missed unnoticed.
    pub(super) fn open() -> io::Result<Self> {
        let (listening, listening_handle, heard) = rtnetlink::new_multicast_connection(&GROUPS)?;
        let (asking, handle, _) = rtnetlink::new_connection()?;
        let events = Arc::new(Events::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(listening);
        tasks.spawn(asking);
        let fold_into = Arc::clone(&events);
        tasks.spawn(async move {
            // The connection ends when nobody can ask by it any more.
            let _open = listening_handle;
            fold(heard, &fold_into).await;
        });
        Ok(Self { handle, events, features: None, tasks })
    }

    /// From here on interfaces say whether they take redirected frames, if the kernel tells, and
    /// no change of that is missed.
    pub(super) async fn hear_of_features(&mut self) -> Result<(), Failure> {
        let Some((features, heard)) = XdpFeatures::open(&mut self.tasks).await? else {
            return Ok(());
        };
        self.features = Some(features);
        let events = Arc::clone(&self.events);
        self.tasks.spawn(async move {
            let mut heard = std::pin::pin!(heard);
            while let Some(()) = heard.next().await {
                events.with(|hints| hints.everything = true);
                events.news.notify_one();
            }
            events.with(|hints| hints.closed = true);
            events.news.notify_one();
        });
        Ok(())
    }

    /// Waits until something may have changed.
    pub(super) async fn news(&self) {
        self.events.news.notified().await;
    }

    /// Takes what may have changed so far.
    pub(super) fn take_hints(&self) -> Hints {
        self.events.with(std::mem::take)
    }

    /// The interfaces, by index.
    pub(super) async fn links(&self) -> Result<Links, Failure> {
        let question = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let answers = self.ask("RTM_GETLINK", question, NLM_F_DUMP).await?;
        let links = answers.iter().filter_map(|answer| match answer {
            RouteNetlinkMessage::NewLink(message) => Some(messages::link(message)),
            _ => None,
        });
        let mut links: Links = links.collect();
        if let Some(features) = &self.features {
            let takes = features.takes().await?;
            for (index, link) in &mut links {
                let takes = takes.get(index).copied().unwrap_or_default();
                link.device.redirect = Some(takes.redirected);
                link.device.in_buffers = takes.in_buffers;
            }
        }
        Ok(links)
    }

    /// The node's own addresses, on all interfaces.
    pub(super) async fn locals(&self) -> Result<BTreeSet<IpAddr>, Failure> {
        Ok(self.addresses().await?.iter().filter_map(messages::local).collect())
    }

    /// Those that other hosts can send to, in the kernel's order.
    pub(super) async fn own(&self) -> Result<Vec<OwnAddress>, Failure> {
        Ok(self.addresses().await?.iter().filter_map(messages::own).collect())
    }

    async fn addresses(&self) -> Result<Vec<AddressMessage>, Failure> {
        let question = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let answers = self.ask("RTM_GETADDR", question, NLM_F_DUMP).await?;
        let addresses = answers.into_iter().filter_map(|answer| match answer {
            RouteNetlinkMessage::NewAddress(message) => Some(message),
            _ => None,
        });
        Ok(addresses.collect())
    }

    /// Where the kernel would send a packet of the node's own to `address`. Of several equal ways
    /// it names the one it would take. An address without a way out is no failure.
    pub(super) async fn route(&self, address: IpAddr) -> Result<Option<Route>, Failure> {
        let mut message = RouteMessage::default();
        message.header.address_family = family(address);
        message.header.destination_prefix_length = if address.is_ipv4() { 32 } else { 128 };
        message.attributes.push(RouteAttribute::Destination(address.into()));
        match self.ask("RTM_GETROUTE", RouteNetlinkMessage::GetRoute(message), NLM_F_ACK).await {
            Ok(answers) => Ok(answers.iter().find_map(|answer| match answer {
                RouteNetlinkMessage::NewRoute(message) => messages::route(address, message),
                _ => None,
            })),
            Err(Failure::Refused(..)) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// What the neighbour table says.
    pub(super) async fn neighbour(&self, target: Target) -> Result<Neighbour, Failure> {
        let question = RouteNetlinkMessage::GetNeighbour(neighbour_message(target));
        match self.ask("RTM_GETNEIGH", question, NLM_F_ACK).await {
            Ok(answers) => Ok(answers
                .iter()
                .find_map(|answer| match answer {
                    RouteNetlinkMessage::NewNeighbour(message) => {
                        Some(messages::neighbour(message))
                    }
                    _ => None,
                })
                .unwrap_or(Neighbour::Missing)),
            Err(Failure::Refused(..)) => Ok(Neighbour::Missing),
            Err(failure) => Err(failure),
        }
    }

    /// Has the kernel verify a neighbour, as if it had just sent a packet there: a missing or
    /// failed entry is asked for, a stale one goes on to delay, probe, and reachable or failed.
    pub(super) async fn poke(&self, target: Target) -> Result<(), Failure> {
        let mut message = neighbour_message(target);
        message.header.flags = NeighbourFlags::Use;
        let order = RouteNetlinkMessage::NewNeighbour(message);
        self.ask("RTM_NEWNEIGH", order, NLM_F_ACK | NLM_F_CREATE).await.map(|_| ())
    }

    /// Asks and collects the answers. `flags` holds `NLM_F_DUMP` or `NLM_F_ACK`: with either the
    /// kernel says where its answers end, even if one of them is dropped as undecodable.
    async fn ask(
        &self,
        name: &'static str,
        question: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Vec<RouteNetlinkMessage>, Failure> {
        let mut message = NetlinkMessage::from(question);
        message.header.flags = NLM_F_REQUEST | flags;
        let answers = self.handle.clone().request(message).map_err(|_| Failure::Closed(name))?;
        collect(name, answers).await
    }
}

/// Waits for all answers to a question, up to [`PATIENCE`].
pub(super) async fn collect<T>(
    name: &'static str,
    answers: impl Stream<Item = NetlinkMessage<T>>,
) -> Result<Vec<T>, Failure> {
    let collecting = async {
        let mut answers = std::pin::pin!(answers);
        let mut found = Vec::new();
        while let Some(answer) = answers.next().await {
            match answer.payload {
                NetlinkPayload::InnerMessage(message) => found.push(message),
                NetlinkPayload::Error(error) if error.code.is_some() => {
                    return Err(Failure::Refused(name, error.to_io()));
                }
                _ => {}
            }
        }
        Ok(found)
    };
    tokio::time::timeout(PATIENCE, collecting).await.unwrap_or(Err(Failure::Late(name)))
}

/// Folds events into hints as they come. It never waits for anything else, so the library's
/// unbounded queue stays short however busy the reader of the hints is.
async fn fold<A>(
    heard: impl Stream<Item = (NetlinkMessage<RouteNetlinkMessage>, A)>,
    events: &Events,
) {
    let mut heard = std::pin::pin!(heard);
    while let Some((message, _)) = heard.next().await {
        events.with(|hints| match message.payload {
            NetlinkPayload::InnerMessage(message) => messages::hint(&message, hints),
            // Overrun: the kernel dropped events because we read too slowly.
            _ => hints.everything = true,
        });
        events.news.notify_one();
    }
    events.with(|hints| hints.closed = true);
    events.news.notify_one();
}

fn neighbour_message(target: Target) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(target.address);
    message.header.ifindex = target.interface;
    message.header.state = NeighbourState::None;
    message.header.kind = RouteType::Unspec;
    message.attributes.push(NeighbourAttribute::Destination(target.address.into()));
    message
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}
