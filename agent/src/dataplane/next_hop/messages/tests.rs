#![allow(clippy::unwrap_used, reason = "a test may panic")]

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
    assert_eq!(link(&link_with(LinkLayerType::Ether, live, &PEER)), Some((3, PEER)));
    for (why, message) in [
        ("down", link_with(LinkLayerType::Ether, LinkFlags::empty(), &PEER)),
        ("no carrier", link_with(LinkLayerType::Ether, LinkFlags::Up, &PEER)),
        ("loopback", link_with(LinkLayerType::Ether, live | LinkFlags::Loopback, &PEER)),
        ("not Ethernet", link_with(LinkLayerType::Ppp, live, &PEER)),
        ("no address", link_with(LinkLayerType::Ether, live, &[])),
        ("address of zeros", link_with(LinkLayerType::Ether, live, &[0; 6])),
    ] {
        assert_eq!(link(&message), None, "{why}");
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

fn route_with(kind: RouteType, attributes: &[RouteAttribute]) -> Option<Target> {
    let mut message = RouteMessage::default();
    message.header.kind = kind;
    message.attributes = attributes.to_vec();
    route(ip("192.0.2.1"), &message)
}

#[test]
fn a_route_leads_to_the_gateway_or_to_the_address() {
    let out = RouteAttribute::Oif(3);
    let by = |address: &str| Some(Target { interface: 3, address: ip(address) });
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
