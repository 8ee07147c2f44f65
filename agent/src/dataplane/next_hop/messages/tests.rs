#![allow(clippy::unwrap_used, reason = "a test may panic")]

use rtnetlink::packet_core::Parseable as _;
use rtnetlink::packet_route::link::VlanProtocol;
use rtnetlink::packet_route::route::RouteLwEnCapType;

use super::*;

const PEER: Mac = [2, 0, 0, 0, 0, 2];

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn link_with(kind: LinkLayerType, flags: LinkFlags, address: &[u8]) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = 3;
    message.header.link_layer_type = kind;
    message.header.flags = flags;
    message.attributes.push(LinkAttribute::Address(address.to_vec()));
    message
}

#[test]
fn only_live_ethernet_interfaces_carry_frames() {
    let live = LinkFlags::Up | LinkFlags::LowerUp;
    let carries = |message: &LinkMessage| {
        let (index, link) = link(message);
        assert_eq!(index, 3);
        link.mac
    };
    assert_eq!(carries(&link_with(LinkLayerType::Ether, live, &PEER)), Some(PEER));
    for (why, message) in [
        ("down", link_with(LinkLayerType::Ether, LinkFlags::empty(), &PEER)),
        ("no carrier", link_with(LinkLayerType::Ether, LinkFlags::Up, &PEER)),
        ("loopback", link_with(LinkLayerType::Ether, live | LinkFlags::Loopback, &PEER)),
        ("not Ethernet", link_with(LinkLayerType::Ppp, live, &PEER)),
        ("no address", link_with(LinkLayerType::Ether, live, &[])),
        ("address of zeros", link_with(LinkLayerType::Ether, live, &[0; 6])),
    ] {
        assert_eq!(carries(&message), None, "{why}");
    }
}

/// A link with a name, an MTU, and these attributes besides.
fn device(attributes: &[LinkAttribute]) -> Link {
    let mut message = LinkMessage::default();
    message.attributes = vec![LinkAttribute::IfName("eth0".into()), LinkAttribute::Mtu(9000)];
    message.attributes.extend_from_slice(attributes);
    link(&message).1
}

#[test]
fn an_interface_has_a_name_a_kind_and_an_mtu() {
    let kind = |kind| LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind)]);
    for (attributes, kind) in [
        (vec![], DeviceKind::Hardware),
        // Its peer, in another namespace.
        (vec![kind(InfoKind::Veth), LinkAttribute::Link(7)], DeviceKind::Veth),
        (vec![kind(InfoKind::Bond)], DeviceKind::Other),
        (vec![kind(InfoKind::Other("quite-new".into()))], DeviceKind::Other),
    ] {
        let device_is = Device { name: "eth0".into(), kind, redirect: None, in_buffers: false };
        let wanted = Link { device: device_is, mac: None, mtu: 9000, vlan: None };
        assert_eq!(device(&attributes), wanted);
    }
}

#[test]
fn a_vlan_names_the_device_below_and_its_tag() {
    let vlan = |parts: Vec<InfoVlan>| {
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Vlan),
            LinkInfo::Data(InfoData::Vlan(parts)),
        ])
    };
    let (id, lower) = (InfoVlan::Id(0x123), LinkAttribute::Link(7));
    let plain = vlan(vec![InfoVlan::Protocol(VlanProtocol::Ieee8021Q), id.clone()]);
    let outer = vlan(vec![InfoVlan::Protocol(VlanProtocol::Ieee8021Ad), id.clone()]);
    let tag = |bytes| Some(Vlan { lower: 7, tag: u32::from_ne_bytes(bytes) });
    assert_eq!(device(&[lower.clone(), plain.clone()]).vlan, tag([0x81, 0x00, 0x01, 0x23]));
    assert_eq!(device(&[outer, lower.clone()]).vlan, tag([0x88, 0xa8, 0x01, 0x23]));
    assert_eq!(device(&[lower.clone(), vlan(vec![id])]).vlan, None, "no protocol");
    assert_eq!(device(std::slice::from_ref(&plain)).vlan, None, "nothing below");
    let elsewhere = LinkAttribute::LinkNetNsId(0);
    assert_eq!(device(&[lower, elsewhere, plain]).vlan, None, "below in another namespace");
}

#[test]
fn a_vlan_is_read_from_the_bytes_of_a_message() {
    // As the kernel lays out RTM_NEWLINK for `ip link add link eth0 name eth0.100 type vlan id 100`, without statistics.
    let header = [0, 0, 1, 0, 5, 0, 0, 0, 0x43, 0x10, 1, 0, 0, 0, 0, 0];
    let name = [13, 0, 3, 0, b'e', b't', b'h', b'0', b'.', b'1', b'0', b'0', 0, 0, 0, 0];
    let mtu_and_below = [8, 0, 4, 0, 0xdc, 5, 0, 0, 8, 0, 5, 0, 2, 0, 0, 0];
    let mac = [10, 0, 1, 0, 2, 0, 0, 0, 0, 2, 0, 0];
    let info_and_kind = [48, 0, 18, 0, 9, 0, 1, 0, b'v', b'l', b'a', b'n', 0, 0, 0, 0];
    // Nested: protocol 0x8100, id 100, flags REORDER_HDR of all.
    let data = [32, 0, 2, 0, 6, 0, 5, 0, 0x81, 0, 0, 0, 6, 0, 1, 0, 100, 0, 0, 0];
    let flags = [12, 0, 2, 0, 1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
    let parts: [&[u8]; 7] = [&header, &name, &mtu_and_below, &mac, &info_and_kind, &data, &flags];
    let message = LinkMessage::parse(&parts.concat()[..]).unwrap();
    let (index, link) = link(&message);
    assert_eq!((index, link.mac, link.mtu), (5, Some(PEER), 1500));
    assert_eq!(link.device.name, "eth0.100");
    let tag = u32::from_ne_bytes([0x81, 0x00, 0, 100]);
    assert_eq!(link.vlan, Some(Vlan { lower: 2, tag }));
}

#[test]
fn only_addresses_that_others_can_send_to_are_offered() {
    let with = |scope, flags| {
        let mut message = AddressMessage::default();
        message.header.index = 3;
        message.header.prefix_len = 24;
        message.header.scope = scope;
        message.header.flags = flags;
        message.attributes.push(AddressAttribute::Address(ip("10.0.0.1")));
        own(&message)
    };
    let (global, none) = (AddressScope::Universe, AddressHeaderFlags::empty());
    let wanted = OwnAddress { interface: 3, address: ip("10.0.0.1"), prefix: 24 };
    assert_eq!(with(global, none), Some(wanted));
    assert_eq!(with(global, AddressHeaderFlags::Permanent), Some(wanted));
    assert_eq!(with(AddressScope::Link, none), None);
    assert_eq!(with(AddressScope::Host, none), None);
    for flags in [
        AddressHeaderFlags::Deprecated,
        AddressHeaderFlags::Tentative,
        AddressHeaderFlags::Dadfailed,
    ] {
        assert_eq!(with(global, flags | AddressHeaderFlags::Permanent), None, "{flags:?}");
    }
}

#[test]
fn our_end_of_a_point_to_point_interface_is_the_local_one() {
    let mut message = AddressMessage::default();
    message.attributes.push(AddressAttribute::Address(ip("10.0.0.2")));
    assert_eq!(local(&message), Some(ip("10.0.0.2")));
    message.attributes.push(AddressAttribute::Local(ip("10.0.0.1")));
    assert_eq!(local(&message), Some(ip("10.0.0.1")));
    assert_eq!(local(&AddressMessage::default()), None);
}

fn route_with(kind: RouteType, attributes: &[RouteAttribute]) -> Option<Route> {
    let mut message = RouteMessage::default();
    message.header.kind = kind;
    message.attributes = attributes.to_vec();
    route(ip("192.0.2.1"), &message)
}

#[test]
fn a_route_leads_to_the_gateway_or_to_the_address() {
    let out = RouteAttribute::Oif(3);
    let by =
        |address: &str| Some(Route { via: Target { interface: 3, address: ip(address) }, mtu: 0 });
    let four = RouteAttribute::Gateway(RouteAddress::Inet("10.0.0.1".parse().unwrap()));
    let six = RouteAttribute::Via(RouteVia::Inet6("fe80::1".parse().unwrap()));
    let unicast = |attributes: &[_]| route_with(RouteType::Unicast, attributes);
    assert_eq!(unicast(std::slice::from_ref(&out)), by("192.0.2.1"));
    assert_eq!(unicast(&[out.clone(), four.clone()]), by("10.0.0.1"));
    assert_eq!(unicast(&[six, out.clone()]), by("fe80::1"));
    assert_eq!(unicast(&[four]), None, "no interface");
    let tunnel = RouteAttribute::EncapType(RouteLwEnCapType::Mpls);
    assert_eq!(unicast(&[out.clone(), tunnel]), None, "to be encapsulated");
    for kind in [RouteType::Local, RouteType::Unreachable, RouteType::BlackHole] {
        assert_eq!(route_with(kind, std::slice::from_ref(&out)), None, "{kind:?}");
    }
}

#[test]
fn a_route_may_have_an_mtu_of_its_own() {
    let mtu = |metrics: Vec<RouteMetric>| {
        let attributes = [RouteAttribute::Oif(3), RouteAttribute::Metrics(metrics)];
        route_with(RouteType::Unicast, &attributes).unwrap().mtu
    };
    assert_eq!(mtu(vec![RouteMetric::Lock(4), RouteMetric::Mtu(1400)]), 1400);
    assert_eq!(mtu(vec![RouteMetric::Hoplimit(9)]), 0);
}

fn entry(state: NeighbourState, address: &[u8]) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.ifindex = 3;
    message.header.state = state;
    message.attributes = vec![
        NeighbourAttribute::Destination(ip("10.0.0.2").into()),
        NeighbourAttribute::LinkLayerAddress(address.to_vec()),
    ];
    message
}

#[test]
fn the_states_of_a_neighbour() {
    for (state, expected) in [
        (NeighbourState::None, Neighbour::Missing),
        (NeighbourState::Incomplete, Neighbour::Asked),
        (NeighbourState::Reachable, Neighbour::Fresh(PEER)),
        (NeighbourState::Stale, Neighbour::Stale(PEER)),
        (NeighbourState::Delay, Neighbour::Fresh(PEER)),
        (NeighbourState::Probe, Neighbour::Fresh(PEER)),
        (NeighbourState::Failed, Neighbour::Missing),
        (NeighbourState::Noarp, Neighbour::Fixed(PEER)),
        (NeighbourState::Permanent, Neighbour::Fixed(PEER)),
    ] {
        assert_eq!(neighbour(&entry(state, &PEER)), expected, "{state}");
    }
    let infiniband = entry(NeighbourState::Reachable, &[1; 20]);
    assert_eq!(neighbour(&infiniband), Neighbour::Missing);
}

#[test]
fn events_hint_at_what_they_may_change() {
    let hinted = |event| {
        let mut hints = Hints::default();
        hint(&event, &mut hints);
        (hints.everything, hints.neighbours.into_iter().collect::<Vec<_>>())
    };
    let target = Target { interface: 3, address: ip("10.0.0.2") };
    let event = entry(NeighbourState::Failed, &[]);
    let named = (false, vec![target]);
    assert_eq!(hinted(RouteNetlinkMessage::NewNeighbour(event.clone())), named);
    assert_eq!(hinted(RouteNetlinkMessage::DelNeighbour(event.clone())), named);
    let mut bridged = event;
    bridged.header.family = AddressFamily::Bridge;
    assert_eq!(hinted(RouteNetlinkMessage::NewNeighbour(bridged)), (false, vec![]));
    let everything = (true, vec![]);
    assert_eq!(hinted(RouteNetlinkMessage::DelRoute(RouteMessage::default())), everything);
    assert_eq!(hinted(RouteNetlinkMessage::NewLink(LinkMessage::default())), everything);
    assert_eq!(hinted(RouteNetlinkMessage::DelAddress(AddressMessage::default())), everything);
}
