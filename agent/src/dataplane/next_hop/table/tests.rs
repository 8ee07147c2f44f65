#![allow(clippy::unwrap_used, reason = "a test may panic")]

use super::super::DeviceKind;
use super::super::link::{Link, Vlan};
use super::*;

const OUT: Mac = [2, 0, 0, 0, 0, 1];
const PEER: Mac = [2, 0, 0, 0, 0, 2];
const OTHER: Mac = [2, 0, 0, 0, 0, 3];

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn via(interface: u32, address: &str) -> Target {
    Target { interface, address: ip(address) }
}

fn route(via: Target) -> Route {
    Route { via, mtu: 0 }
}

fn plain(mac: Option<Mac>) -> Link {
    let (name, kind) = ("eth0".into(), DeviceKind::Hardware);
    let device = Device { name, kind, redirect: Some(true), in_buffers: true };
    Link { device, mac, mtu: 0, vlan: None }
}

fn hop_by(interface: u32, mac: Mac) -> NextHop {
    NextHop::plain(interface, OUT, mac)
}

/// A table with interfaces 1 and 2 that wants these addresses, each by the given way.
fn table(ways: &[(&str, Option<Target>)], now: Instant) -> Table {
    let mut table = Table::default();
    table.want(&ways.iter().map(|(address, _)| (ip(address), 1)).collect());
    table.links(BTreeMap::from([(1, plain(Some(OUT))), (2, plain(Some(OUT)))]));
    table.routes(&ways.iter().map(|(address, way)| (ip(address), way.map(route))).collect(), now);
    table
}

/// The next hops told by these changes.
fn told(changes: Vec<Change>) -> Vec<(IpAddr, Option<NextHop>)> {
    changes
        .into_iter()
        .filter_map(|change| match change {
            Change::Hop(address, hop) => Some((address, hop)),
            Change::Locals(_) | Change::Devices(_) => None,
        })
        .collect()
}

#[test]
fn two_addresses_behind_one_gateway_share_its_neighbour() {
    let now = Instant::now();
    let gateway = via(1, "10.0.0.1");
    let mut table = table(&[("192.0.2.1", Some(gateway)), ("192.0.2.2", Some(gateway))], now);
    assert_eq!(table.neighbours_to_ask(now), [gateway]);
    table.neighbour(gateway, Neighbour::Fresh(PEER), now);
    let both = [(ip("192.0.2.1"), Some(hop_by(1, PEER))), (ip("192.0.2.2"), Some(hop_by(1, PEER)))];
    assert_eq!(told(table.changes()), both);
    assert_eq!(table.changes(), [], "nothing is told twice");
    table.neighbour(gateway, Neighbour::Missing, now);
    assert_eq!(told(table.changes()), [(ip("192.0.2.1"), None), (ip("192.0.2.2"), None)]);
}

#[test]
fn a_new_mac_a_new_way_and_a_lost_interface_are_told() {
    let now = Instant::now();
    let address = ip("10.0.0.2");
    let mut table = table(&[("10.0.0.2", Some(via(1, "10.0.0.2")))], now);
    table.neighbour(via(1, "10.0.0.2"), Neighbour::Stale(PEER), now);
    assert_eq!(told(table.changes()), [(address, Some(hop_by(1, PEER)))]);
    table.neighbour(via(1, "10.0.0.2"), Neighbour::Fresh(OTHER), now);
    assert_eq!(told(table.changes()), [(address, Some(hop_by(1, OTHER)))]);

    let way = via(2, "10.9.0.1");
    table.routes(&BTreeMap::from([(address, Some(route(way)))]), now);
    assert_eq!(told(table.changes()), [(address, None)], "the new gateway is not known yet");
    assert_eq!(table.neighbours_to_ask(now), [way], "the old neighbour is forgotten");
    table.neighbour(way, Neighbour::Fixed(PEER), now);
    assert_eq!(told(table.changes()), [(address, Some(hop_by(2, PEER)))]);

    table.links(BTreeMap::from([(1, plain(Some(OUT))), (2, plain(None))]));
    assert_eq!(told(table.changes()), [(address, None)]);
    table.routes(&BTreeMap::from([(address, Some(route(way)))]), now);
    assert_eq!(table.next_due(), None, "no neighbour is looked for on a dead interface");
}

#[test]
fn an_address_wanted_again_is_told_again() {
    let now = Instant::now();
    let mut table = table(&[("10.0.0.2", None)], now);
    assert_eq!(told(table.changes()), [(ip("10.0.0.2"), None)]);
    table.want(&BTreeMap::from([(ip("10.0.0.2"), 1)]));
    assert_eq!(table.changes(), []);
    assert!(table.routes_to_ask().is_empty());
    table.want(&BTreeMap::from([(ip("10.0.0.2"), 3)]));
    assert_eq!(table.routes_to_ask(), [ip("10.0.0.2")]);
    assert_eq!(told(table.changes()), [(ip("10.0.0.2"), None)]);
    table.want(&BTreeMap::new());
    assert_eq!(table.changes(), []);
}

#[test]
fn locals_are_told_at_the_start_and_at_each_difference() {
    let mut table = Table::default();
    let mine = BTreeSet::from([ip("10.0.0.1")]);
    let devices = Change::Devices(BTreeMap::new());
    assert_eq!(table.changes(), [Change::Locals(BTreeSet::new()), devices]);
    table.locals(mine.clone());
    assert_eq!(table.changes(), [Change::Locals(mine.clone())]);
    table.locals(mine);
    assert_eq!(table.changes(), []);
}

#[test]
fn devices_are_told_at_each_difference_of_theirs() {
    let mut table = table(&[], Instant::now());
    let told = |table: &mut Table| {
        let devices = table.changes().into_iter().find_map(|change| match change {
            Change::Devices(devices) => Some(devices),
            _ => None,
        });
        devices.map(|devices| devices.into_values().map(|device| device.redirect).collect())
    };
    assert_eq!(told(&mut table), Some(vec![Some(true), Some(true)]));
    // Another MTU or MAC is none of it.
    let mut link = Link { mtu: 1400, ..plain(None) };
    table.links(BTreeMap::from([(1, link.clone()), (2, link.clone())]));
    assert_eq!(told(&mut table), None);
    link.device.redirect = Some(false);
    table.links(BTreeMap::from([(1, plain(None)), (2, link)]));
    assert_eq!(told(&mut table), Some(vec![Some(true), Some(false)]));
    table.links(BTreeMap::from([(1, plain(None))]));
    assert_eq!(told(&mut table), Some(vec![Some(true)]));
}

#[test]
fn the_mtu_is_the_smaller_of_the_interfaces_and_the_routes() {
    let now = Instant::now();
    let (address, via) = (ip("10.0.0.2"), via(1, "10.0.0.2"));
    let mut table = table(&[("10.0.0.2", Some(via))], now);
    table.neighbour(via, Neighbour::Fixed(PEER), now);
    let mut mtu = |link, route| {
        table.links(BTreeMap::from([(1, Link { mtu: link, ..plain(Some(OUT)) })]));
        table.routes(&BTreeMap::from([(address, Some(Route { via, mtu: route }))]), now);
        let told = told(table.changes());
        told.first().map(|(_, hop)| hop.unwrap().mtu)
    };
    assert_eq!(mtu(1500, 0), Some(1500));
    assert_eq!(mtu(1500, 0), None, "nothing is told twice");
    assert_eq!(mtu(1500, 1400), Some(1400));
    assert_eq!(mtu(1280, 1400), Some(1280));
    assert_eq!(mtu(0, 1400), Some(1400));
    assert_eq!(mtu(9000, 9100), Some(9000));
}

#[test]
fn a_hop_over_a_vlan_says_what_is_below() {
    let now = Instant::now();
    let (address, via) = (ip("10.0.0.2"), via(2, "10.0.0.2"));
    let mut table = table(&[("10.0.0.2", Some(via))], now);
    table.neighbour(via, Neighbour::Fixed(PEER), now);
    assert_eq!(told(table.changes()), [(address, Some(hop_by(2, PEER)))]);
    let vlan = Link { vlan: Some(Vlan { lower: 1, tag: 0xabcd }), ..plain(Some(OUT)) };
    table.links(BTreeMap::from([(1, plain(None)), (2, vlan)]));
    let tagged = NextHop { lower: 1, tags: [0xabcd, 0], ..hop_by(2, PEER) };
    assert_eq!(told(table.changes()), [(address, Some(tagged))]);
}

#[test]
fn a_missing_neighbour_is_asked_for_ever_more_rarely() {
    let start = Instant::now();
    let target = via(1, "10.0.0.9");
    let mut table = table(&[("10.0.0.9", Some(target))], start);
    let mut poked = Vec::new();
    for second in 0..300 {
        let now = start + Duration::from_secs(second);
        for target in table.neighbours_to_ask(now) {
            table.neighbour(target, Neighbour::Missing, now);
        }
        // An event for each poke, as the kernel sends them, must not make it hurry.
        table.mark(&Hints { neighbours: [target].into(), ..Hints::default() });
        table.neighbour(target, Neighbour::Missing, now);
        poked.extend(table.pokes(now).iter().map(|_| second));
    }
    assert_eq!(poked, [0, 1, 3, 7, 15, 31, 63, 123, 183, 243]);
}

#[test]
fn a_lost_neighbour_is_asked_for_at_once() {
    let now = Instant::now();
    let target = via(1, "10.0.0.2");
    let mut table = table(&[("10.0.0.2", Some(target))], now);
    table.neighbour(target, Neighbour::Fresh(PEER), now);
    assert_eq!(table.pokes(now), [], "a fresh one needs nothing");
    table.neighbour(target, Neighbour::Missing, now);
    assert_eq!(table.pokes(now), [target]);
    assert_eq!(table.pokes(now), [], "once");
}

#[test]
fn stale_neighbours_are_verified_and_fixed_ones_left_alone() {
    let start = Instant::now();
    let (stale, fixed) = (via(1, "10.0.0.2"), via(1, "10.0.0.3"));
    let mut table = table(&[("10.0.0.2", Some(stale)), ("10.0.0.3", Some(fixed))], start);
    let mut poked = 0;
    for second in 0..100 {
        let now = start + Duration::from_secs(second);
        for target in table.neighbours_to_ask(now) {
            let found =
                if target == stale { Neighbour::Stale(PEER) } else { Neighbour::Fixed(PEER) };
            table.neighbour(target, found, now);
        }
        for target in table.pokes(now) {
            assert_eq!(target, stale);
            poked += 1;
        }
    }
    assert!((5..=7).contains(&poked), "at the start, then every 15 to 25 seconds, not {poked}");
}

#[test]
fn one_round_pokes_a_bounded_number() {
    let now = Instant::now();
    let addresses: Vec<String> =
        (0..200).map(|host| format!("10.0.{}.{}", host / 100, host % 100)).collect();
    let ways: Vec<_> = addresses.iter().map(|text| (text.as_str(), Some(via(1, text)))).collect();
    let mut table = table(&ways, now);
    let mut rounds = Vec::new();
    while table.next_due() == Some(now) {
        for target in table.neighbours_to_ask(now) {
            table.neighbour(target, Neighbour::Missing, now);
        }
        rounds.push(table.pokes(now).len());
    }
    assert_eq!(rounds, [64, 64, 64, 8]);
}

#[test]
fn too_many_hints_mean_everything() {
    let mut hints = Hints::default();
    for host in 0..=u32::try_from(HINTS).unwrap() {
        assert!(!hints.everything);
        hints.add(Target { interface: 1, address: IpAddr::V4(host.into()) });
    }
    assert!(hints.everything);
    assert_eq!(hints.neighbours.len(), HINTS);
}

#[test]
fn hints_mark_what_they_name() {
    let now = Instant::now();
    let (one, two) = (via(1, "10.0.0.2"), via(1, "10.0.0.3"));
    let mut table = table(&[("10.0.0.2", Some(one)), ("10.0.0.3", Some(two))], now);
    for target in [one, two] {
        table.neighbour(target, Neighbour::Fresh(PEER), now);
    }
    assert_eq!(table.neighbours_to_ask(now), []);
    let strange = via(7, "10.0.0.2");
    table.mark(&Hints { neighbours: [two, strange].into(), ..Hints::default() });
    assert_eq!((table.neighbours_to_ask(now), table.routes_to_ask()), (vec![two], vec![]));
    table.mark(&Hints { everything: true, ..Hints::default() });
    assert_eq!(table.neighbours_to_ask(now), [one, two]);
    assert_eq!(table.routes_to_ask(), [ip("10.0.0.2"), ip("10.0.0.3")]);
}
