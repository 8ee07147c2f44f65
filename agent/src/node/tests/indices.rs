//! Indices of services and backends, listeners and return paths, next hops.

use Version::{Blue, Canary, Green};
use weir_ebpf::abi::{Endpoint, MAX_BACKENDS, Return};

use super::super::directory::Key;
use super::*;
use crate::dataplane::next_hop::Change;

fn at(address: [u8; 4]) -> Endpoint {
    Endpoint { address: Address::from_v4(address), port: 80_u16.to_be(), protocol: TCP, pad: 0 }
}

/// Whose answers from `10.60.0.last:80` are: the last byte of the listener, and the backend's index.
fn return_of(node: &Node, last: u8) -> Option<(u8, u16)> {
    let plane = node.plane.lock();
    let back: Return = *plane.returns.get(&at([10, 60, 0, last]))?;
    Some((back.address.0[3].to_ne_bytes()[3], back.backend))
}

fn listener_of(node: &Node, last: u8) -> Option<u32> {
    node.plane.lock().listeners.get(&at([10, 50, 0, last])).map(|listener| listener.service)
}

#[test]
fn a_delete_frees_indices_and_forgets_flows_and_counts() {
    let mut node = Node::with(&[
        spec("a", 1, &[(Blue, 100, &[1]), (Green, 0, &[2])]),
        spec("b", 2, &[(Blue, 100, &[3]), (Green, 0, &[4])]),
    ]);
    node.shift(&[("a", Green, 100), ("b", Green, 100)]).unwrap();
    node.open(1, 0..20);
    let of_b = node.open(2, 0..20);
    assert_eq!(node.plane.lock().flows.borrow().entries.len(), 40);
    let (index, place) = (listener_of(&node, 1).unwrap(), node.place("a", Green, 2).unwrap());
    node.delete("a").unwrap();

    assert_eq!(node.plane.lock().flows.borrow().entries.len(), 20);
    assert_eq!(
        (listener_of(&node, 1), return_of(&node, 1), return_of(&node, 2)),
        (None, None, None)
    );
    assert_eq!(node.owner.state.directory.len(), 2);
    assert_eq!(node.go_on(2, 0..20), of_b);

    node.apply(&[spec("c", 5, &[(Blue, 100, &[6, 7])])]).unwrap();
    assert_eq!(listener_of(&node, 5), Some(index), "the service's index is used again");
    let new = [node.place("c", Blue, 6).unwrap(), node.place("c", Blue, 7).unwrap()];
    assert!(new.iter().any(|new| new.index == place.index), "and its backends'");
    let status = node.owner.get(&name("c")).unwrap();
    assert_eq!(status.versions[Blue].backends.iter().map(|b| b.connections).sum::<u64>(), 0);
}

/// What errors and echoes to an address go by is its own, whoever listens there.
#[test]
fn an_address_is_served_for_as_long_as_any_service_listens_there() {
    let beside =
        spec("b", 1, &[(Blue, 100, &[2])]).replace("port: 80, protocol", "port: 81, protocol");
    let first = spec("a", 1, &[(Blue, 100, &[1])]);
    let mut node = Node::with(&[first.clone(), beside]);
    let address = Endpoint { port: 0, protocol: 0, ..at([10, 50, 0, 1]) };
    let serves = |node: &Node| node.plane.lock().listeners.contains_key(&address);
    node.delete("a").unwrap();
    assert!(serves(&node), "b listens");
    node.apply(&[first]).unwrap();
    node.delete("b").unwrap();
    assert!(serves(&node), "a listens");
    node.delete("a").unwrap();
    assert!(!serves(&node), "nobody does");
}

#[test]
fn a_backend_that_comes_back_has_its_old_index() {
    let both = spec("a", 1, &[(Blue, 100, &[1, 2])]);
    let mut node = Node::with(std::slice::from_ref(&both));
    let (first, before) = (node.place("a", Blue, 2).unwrap(), node.digest_in_plane("a"));
    let flows = node.open(1, 0..100);
    node.apply(&[spec("a", 1, &[(Blue, 100, &[1])])]).unwrap();
    let place = node.place("a", Blue, 2).unwrap();
    assert!(place.draining.is_some());
    assert_eq!(place, Place { drains: true, draining: place.draining, ..first });
    assert_eq!(return_of(&node, 2), Some((1, first.index)), "answers of its flows come back");
    assert_eq!(node.go_on(1, 0..100), flows);
    node.apply(&[both]).unwrap();
    assert_eq!(node.place("a", Blue, 2), Some(first));
    assert_eq!(node.digest_in_plane("a"), before);
    assert_eq!(node.go_on(1, 0..100), flows);
}

#[test]
fn a_service_that_is_replaced_keeps_its_index_and_its_flows() {
    let mut node = Node::with(&[
        spec("a", 1, &[(Blue, 100, &[1])]),
        spec("b", 2, &[(Blue, 100, &[2])]),
        spec("c", 3, &[(Blue, 100, &[3])]),
    ]);
    let flows = node.open(2, 0..50);
    node.delete("a").unwrap();
    node.apply(&[spec("b", 2, &[(Blue, 50, &[4]), (Canary, 50, &[5])])]).unwrap();
    assert_eq!((listener_of(&node, 2), listener_of(&node, 3)), (Some(1), Some(2)));
    assert_eq!(node.go_on(2, 0..50), flows);
    assert_eq!(node.owner.state.get(&name("b")).unwrap().generation, 2);
}

#[test]
fn an_unchanged_service_is_not_touched() {
    let specs = [spec("a", 1, &[(Blue, 100, &[1])]), spec("b", 2, &[(Blue, 100, &[2])])];
    let mut node = Node::with(&specs);
    let before = node.plane.lock().services.clone();
    let said = node.apply(&specs).unwrap();
    assert_eq!(said.changes.iter().map(|change| change.generation).collect::<Vec<_>>(), [1, 1]);
    assert_eq!(node.plane.lock().services, before);
}

/// A backend in another version has another index, and one return path: that of the version
/// where it is active.
#[test]
fn a_backend_moves_between_versions() {
    let mut node = Node::with(&[spec("a", 1, &[(Blue, 100, &[1, 2]), (Green, 0, &[3])])]);
    let flows = node.open(1, 0..100);
    node.apply(&[spec("a", 1, &[(Blue, 100, &[1]), (Green, 0, &[2, 3])])]).unwrap();
    let (blue, green) = (node.place("a", Blue, 2).unwrap(), node.place("a", Green, 2).unwrap());
    assert!(blue.drains && !green.drains && blue.index != green.index);
    assert_eq!(return_of(&node, 2), Some((1, green.index)));
    assert_eq!(node.go_on(1, 0..100), flows);
    node.apply(&[spec("a", 1, &[(Blue, 100, &[1, 2]), (Green, 0, &[3])])]).unwrap();
    assert_eq!(return_of(&node, 2), Some((1, blue.index)));
    node.apply(&[spec("a", 1, &[(Blue, 100, &[1]), (Green, 0, &[3])])]).unwrap();
    assert!(return_of(&node, 2).is_some(), "it drains from both");
    assert_eq!(node.go_on(1, 0..100), flows);
}

/// Flows of a listener belong to the service that had it: another one that takes it over does not
/// inherit them.
#[test]
fn a_listener_moves_to_another_service_without_its_flows() {
    let mut node = Node::with(&[
        spec("a", 1, &[(Blue, 100, &[1]), (Green, 0, &[2])]),
        spec("b", 2, &[(Blue, 100, &[3]), (Green, 0, &[4])]),
    ]);
    node.shift(&[("a", Green, 100), ("b", Green, 100)]).unwrap();
    node.open(1, 0..50);
    let of_b = node.open(2, 0..50);
    node.apply(&[
        spec("a", 5, &[(Blue, 0, &[1]), (Green, 100, &[2])]),
        spec("b", 1, &[(Blue, 0, &[3]), (Green, 100, &[4])]),
    ])
    .unwrap();
    assert_eq!(
        (listener_of(&node, 1), listener_of(&node, 2), listener_of(&node, 5)),
        (Some(1), None, Some(0))
    );
    // The same ports again, by clients that begin anew.
    assert_eq!(node.open(1, 0..50), of_b);
}

/// The same in two steps, with the listener closed in between.
#[test]
fn a_closed_listener_takes_its_flows_along() {
    let mut node = Node::with(&[spec("a", 1, &[(Blue, 100, &[1]), (Green, 0, &[2])])]);
    node.shift(&[("a", Green, 100)]).unwrap();
    node.open(1, 0..50);
    node.apply(&[spec("a", 5, &[(Blue, 0, &[1]), (Green, 100, &[2])])]).unwrap();
    node.apply(&[spec("b", 1, &[(Blue, 100, &[3]), (Green, 0, &[4])])]).unwrap();
    node.shift(&[("b", Green, 100)]).unwrap();
    assert_eq!(node.open(1, 0..50), vec![Some(4); 50]);
}

#[test]
fn a_draining_backend_is_not_given_to_another_service() {
    for (from, to) in [("a", "b"), ("b", "a")] {
        let mut node = Node::with(&[
            spec(from, 1, &[(Blue, 100, &[1, 2])]),
            spec(to, 2, &[(Blue, 100, &[3])]),
        ]);
        let before = node.held();
        let (less, more) =
            (spec(from, 1, &[(Blue, 100, &[1])]), spec(to, 2, &[(Blue, 100, &[3, 2])]));
        let said = format!(
            "services[1].versions.blue.backends[1]: 10.60.0.2:80/tcp drains from service {from:?}, \
             whose answers come back from there; wait until it has drained, or delete that service"
        );
        // In one step,
        let error = node.apply(&[less.clone(), more.clone()]).unwrap_err();
        assert_eq!(error.to_string(), said);
        assert_eq!(node.held(), before);
        // or in two.
        node.apply(&[less]).unwrap();
        let error = node.apply(std::slice::from_ref(&more)).unwrap_err();
        assert_eq!(error.to_string(), said.replace("services[1]", "services[0]"));
        node.delete(from).unwrap();
        node.apply(&[more]).unwrap();
        assert_eq!(return_of(&node, 2).unwrap().0, 2);
    }
}

/// Answers over TCP and over UDP are told apart, so a backend may drain from a service of the one
/// and serve a service of the other; until one of them wants both.
#[test]
fn a_backend_drains_for_its_protocols_only() {
    let udp = |spec: String| spec.replace("tcp", "udp");
    let mut node = Node::with(&[spec("a", 1, &[(Blue, 100, &[1, 2])])]);
    node.apply(&[spec("a", 1, &[(Blue, 100, &[1])])]).unwrap();
    node.apply(&[udp(spec("b", 2, &[(Blue, 100, &[2, 3])]))]).unwrap();
    node.apply(&[udp(spec("b", 2, &[(Blue, 100, &[3])]))]).unwrap();
    // It drains from both, and each may have it again.
    node.apply(&[spec("a", 1, &[(Blue, 100, &[1, 2])])]).unwrap();
    node.apply(&[udp(spec("b", 2, &[(Blue, 100, &[2, 3])]))]).unwrap();
    node.apply(&[spec("a", 1, &[(Blue, 100, &[1])])]).unwrap();

    let both = spec("a", 1, &[(Blue, 100, &[1])]).replace(
        "    versions",
        "      - { address: 10.50.0.1, port: 80, protocol: udp }\n    versions",
    );
    let before = node.held();
    let error = node.apply(&[both]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "services[0].listeners[1]: 10.60.0.2:80/udp drains from this service, but its answers \
         belong to service \"b\"; leave the listener out, or wait until it has drained"
    );
    assert_eq!(node.held(), before);
}

#[test]
fn next_hops_reach_backends_that_come_later_and_go_with_their_address() {
    let mut node = Node::with(&[spec("a", 1, &[(Blue, 100, &[1])])]);
    node.owner.follow(vec![
        Change::Hop(backend(1), Some(hop(7))),
        Change::Hop(backend(99), Some(hop(9))),
        Change::Locals([backend(1)].into()),
    ]);
    let hops = |node: &Node| node.plane.lock().hops.clone();
    let index = |node: &Node, service, version| node.place(service, version, 1).unwrap().index;
    let blue = index(&node, "a", Blue);
    assert_eq!(hops(&node), [(blue, hop(7))].into());
    assert!(!node.owner.hops.contains_key(&backend(99)), "nobody wants it");

    // The same address in another version: known already, so written at once.
    node.apply(&[spec("a", 1, &[(Blue, 100, &[2]), (Green, 0, &[1])])]).unwrap();
    let green = index(&node, "a", Green);
    assert_eq!(hops(&node), [(blue, hop(7)), (green, hop(7))].into());
    node.owner.follow(vec![Change::Hop(backend(1), Some(hop(8)))]);
    assert_eq!(hops(&node), [(blue, hop(8)), (green, hop(8))].into());
    node.owner.follow(vec![Change::Hop(backend(1), None)]);
    assert_eq!(hops(&node), [].into());

    node.owner.follow(vec![Change::Hop(backend(1), Some(hop(8)))]);
    node.delete("a").unwrap();
    assert!(node.owner.hops.is_empty(), "told anew when it is wanted again");
    assert!(node.owner.addresses().is_empty());
}

#[test]
fn commit_numbers_wrap_past_zero() {
    let mut node = Node::with(&[spec("a", 1, &[(Blue, 100, &[1]), (Green, 0, &[2])])]);
    node.owner.generation = u32::MAX - 1;
    let mut numbers = Vec::new();
    for percent in [10, 20, 30] {
        numbers.push(node.shift(&[("a", Green, percent)]).unwrap().commit.generation);
    }
    assert_eq!(numbers, [u64::from(u32::MAX), 1, 2]);
}

#[test]
fn more_backends_than_the_node_has_room_for_are_refused() {
    let mut node = Node::with(&[spec("a", 1, &[(Blue, 100, &[1])])]);
    let key = |n| Key { version: Blue, address: Ipv4Addr::from(0x0a00_0000 + n).into(), port: 80 };
    let many = (2..=MAX_BACKENDS).map(|n| (key(n), None));
    Arc::make_mut(&mut node.owner.state.directory).set(&name("b"), many).unwrap();
    let before = node.held();
    let error = node.apply(&[spec("a", 1, &[(Blue, 100, &[1, 2])])]).unwrap_err();
    assert_eq!(error.to_string(), "backends: 16385 would be needed, this node has room for 16384");
    assert_eq!(node.held(), before);
}
