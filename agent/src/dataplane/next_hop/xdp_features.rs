//! Which interfaces take frames that an XDP program redirects to them, by what the kernel says in
//! the generic netlink family `netdev` (Linux 6.3; `Documentation/netlink/specs/netdev.yaml`).

use std::collections::BTreeMap;
use std::io;

use netlink_packet_generic::ctrl::nlas::{GenlCtrlAttrs, McastGrpAttrs};
use netlink_packet_generic::ctrl::{GenlCtrl, GenlCtrlCmd};
use netlink_packet_generic::{GenlFamily, GenlHeader, GenlMessage};
use rtnetlink::packet_core::{
    DecodeError, Emitable, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable,
    NetlinkMessage, NetlinkPayload, NetlinkSerializable, NlasIterator, ParseableParametrized,
    parse_u32, parse_u64,
};
use rtnetlink::proto::{ConnectionHandle, new_connection};
use rtnetlink::sys::{AsyncSocket as _, SocketAddr, protocols::NETLINK_GENERIC};
use tokio::task::JoinSet;
use tokio_stream::{Stream, StreamExt as _};

use super::netlink::{Failure, collect};

/// Name of the family, and of its group of events.
const FAMILY: &str = "netdev";
const EVENTS: &str = "mgmt";
/// `NETDEV_CMD_DEV_GET`.
const DEV_GET: u8 = 1;
/// `NETDEV_A_DEV_IFINDEX` and `NETDEV_A_DEV_XDP_FEATURES`.
const IFINDEX: u16 = 1;
const XDP_FEATURES: u16 = 3;
/// `NETDEV_XDP_ACT_NDO_XMIT`: the interface takes redirected frames.
const NDO_XMIT: u64 = 4;
/// `NETDEV_XDP_ACT_NDO_XMIT_SG`: those in several buffers too.
const NDO_XMIT_SG: u64 = 64;

/// Which redirected frames an interface takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Takes {
    pub(super) redirected: bool,
    /// In several buffers, too.
    pub(super) in_buffers: bool,
}

/// Where an interface's features are asked for.
pub(super) struct XdpFeatures {
    handle: ConnectionHandle<GenlMessage<Netdev>>,
    family: u16,
}

impl XdpFeatures {
    /// Opens a socket, whose connection runs in `tasks`, and gives the events of the family. None
    /// if the kernel has no such family.
    pub(super) async fn open(
        tasks: &mut JoinSet<()>,
    ) -> Result<Option<(Self, impl Stream<Item = ()> + use<>)>, Failure> {
        let socket = |error| Failure::Refused("a generic netlink socket", error);
        let Some((family, group)) = resolve().await? else { return Ok(None) };
        let (mut connection, handle, heard) =
            new_connection::<GenlMessage<Netdev>>(NETLINK_GENERIC).map_err(socket)?;
        let join = connection.socket_mut().socket_mut().add_membership(group);
        join.map_err(|error| Failure::Refused("its events", error))?;
        tasks.spawn(connection);
        Ok(Some((Self { handle, family }, heard.map(|_| ()))))
    }

    /// What the interfaces take, by their index.
    pub(super) async fn takes(&self) -> Result<BTreeMap<u32, Takes>, Failure> {
        let question = Netdev { command: DEV_GET, index: 0, features: 0 };
        let header = GenlHeader { cmd: DEV_GET, version: 1 };
        let message = GenlMessage::new(header, question, self.family);
        // Unlike others, this family does not mark its answers as some of many. Asked for an
        // acknowledgement, the library waits for the end of the list, which takes its place.
        let flags = NLM_F_DUMP | NLM_F_ACK;
        let answers = ask(&self.handle, "NETDEV_CMD_DEV_GET", message, flags).await?;
        Ok(answers.iter().map(|answer| (answer.payload.index, answer.payload.takes())).collect())
    }
}

/// The numbers of the family and of its events.
async fn resolve() -> Result<Option<(u16, u32)>, Failure> {
    let socket = |error| Failure::Refused("a generic netlink socket", error);
    let (connection, handle, _) =
        new_connection::<GenlMessage<GenlCtrl>>(NETLINK_GENERIC).map_err(socket)?;
    let mut task = JoinSet::new();
    task.spawn(connection);
    let question = GenlMessage::from_payload(GenlCtrl {
        cmd: GenlCtrlCmd::GetFamily,
        nlas: vec![GenlCtrlAttrs::FamilyName(FAMILY.to_owned())],
    });
    let answers = match ask(&handle, "CTRL_CMD_GETFAMILY", question, NLM_F_ACK).await {
        Ok(answers) => answers,
        Err(Failure::Refused(_, error)) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(None);
        }
        Err(failure) => return Err(failure),
    };
    Ok(answers.iter().find_map(|answer| numbers(&answer.payload)))
}

fn numbers(family: &GenlCtrl) -> Option<(u16, u32)> {
    let id = family.nlas.iter().find_map(|attribute| match attribute {
        GenlCtrlAttrs::FamilyId(id) => Some(*id),
        _ => None,
    })?;
    let groups = family.nlas.iter().find_map(|attribute| match attribute {
        GenlCtrlAttrs::McastGroups(groups) => Some(groups),
        _ => None,
    })?;
    let events = groups.iter().find(|group| {
        group.iter().any(|part| matches!(part, McastGrpAttrs::Name(name) if name == EVENTS))
    })?;
    let group = events.iter().find_map(|part| match part {
        McastGrpAttrs::Id(group) => Some(*group),
        McastGrpAttrs::Name(_) => None,
    })?;
    Some((id, group))
}

async fn ask<T>(
    handle: &ConnectionHandle<T>,
    name: &'static str,
    question: T,
    flags: u16,
) -> Result<Vec<T>, Failure>
where
    T: NetlinkSerializable + NetlinkDeserializable + std::fmt::Debug,
    NetlinkPayload<T>: From<T>,
{
    let mut message = NetlinkMessage::from(question);
    message.header.flags = NLM_F_REQUEST | flags;
    let answers =
        handle.request(message, SocketAddr::new(0, 0)).map_err(|_| Failure::Closed(name))?;
    collect(name, answers).await
}

/// An interface in the family `netdev`: all that is read of it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Netdev {
    command: u8,
    index: u32,
    features: u64,
}

impl Netdev {
    fn takes(&self) -> Takes {
        let has = |bits| self.features & bits == bits;
        Takes { redirected: has(NDO_XMIT), in_buffers: has(NDO_XMIT | NDO_XMIT_SG) }
    }
}

impl GenlFamily for Netdev {
    fn family_name() -> &'static str {
        FAMILY
    }

    fn command(&self) -> u8 {
        self.command
    }

    fn version(&self) -> u8 {
        1
    }
}

/// A question has no attributes: it is for all interfaces.
impl Emitable for Netdev {
    fn buffer_len(&self) -> usize {
        0
    }

    fn emit(&self, _: &mut [u8]) {}
}

impl ParseableParametrized<[u8], GenlHeader> for Netdev {
    fn parse_with_param(bytes: &[u8], header: GenlHeader) -> Result<Self, DecodeError> {
        let mut device = Self { command: header.cmd, index: 0, features: 0 };
        for attribute in NlasIterator::new(bytes) {
            let attribute = attribute?;
            match attribute.kind() {
                IFINDEX => device.index = parse_u32(attribute.value())?,
                XDP_FEATURES => device.features = parse_u64(attribute.value())?,
                _ => {}
            }
        }
        Ok(device)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    /// What Linux 6.18 says of a veth whose peer has GRO on: index, padding, features, two more.
    const VETH: [u8; 44] = [
        8, 0, 1, 0, 3, 0, 0, 0, // index
        12, 0, 3, 0, 0x67, 0, 0, 0, 0, 0, 0, 0, // features
        12, 0, 5, 0, 7, 0, 0, 0, 0, 0, 0, 0, // metadata
        12, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, // AF_XDP
    ];

    #[test]
    fn features_are_read() {
        let header = GenlHeader { cmd: DEV_GET, version: 1 };
        let read = |bytes: &[u8]| Netdev::parse_with_param(bytes, header);
        let device = Netdev { command: DEV_GET, index: 3, features: 0x67 };
        assert_eq!(read(&VETH).unwrap(), device);
        let all = Takes { redirected: true, in_buffers: true };
        assert_eq!(device.takes(), all);
        let without = |features| Netdev { features, ..device.clone() }.takes();
        assert_eq!(without(0x27), Takes { in_buffers: false, ..all });
        assert_eq!(without(0x63), Takes::default());
        assert_eq!(read(&VETH[..8]).unwrap(), Netdev { features: 0, ..device });
        for cut in [3, 10, 19] {
            assert!(read(&VETH[..cut]).is_err(), "{cut}");
        }
    }

    #[test]
    fn the_family_and_its_events_are_found_by_name() {
        let group = |name: &str, id| vec![McastGrpAttrs::Id(id), McastGrpAttrs::Name(name.into())];
        let family = |nlas| GenlCtrl { cmd: GenlCtrlCmd::NewFamily, nlas };
        let id = GenlCtrlAttrs::FamilyId(20);
        let groups = GenlCtrlAttrs::McastGroups(vec![group("page-pool", 5), group("mgmt", 4)]);
        assert_eq!(numbers(&family(vec![id.clone(), groups])), Some((20, 4)));
        let without = GenlCtrlAttrs::McastGroups(vec![group("page-pool", 5)]);
        assert_eq!(numbers(&family(vec![id, without])), None);
    }
}
