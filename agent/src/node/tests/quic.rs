//! Server ids of QUIC services: they follow the backends, and outlive them as long as datagrams
//! name them.

use Version::{Blue, Canary};
use weir_ebpf::abi::ServerKey;

use super::*;
use crate::node::clock;
use crate::node::owner::DEFAULT_IDLE;

/// A QUIC service whose backends are `10.60.0.x`, each with its server id.
fn quic(length: u8, versions: &[(Version, &[(u8, &str)])]) -> String {
    let mut text = format!(
        "  - name: shop
    listeners: [{{ address: 10.50.0.1, port: 443, protocol: udp }}]
    udp: quic
    quic: {{ config: 3, server_id_length: {length} }}
    versions:
"
    );
    for (n, (version, backends)) in versions.iter().enumerate() {
        let list = backends.iter().map(|(last, id)| {
            format!("{{ address: 10.60.0.{last}, port: 443, server_id: \"{id}\" }}")
        });
        let (weight, list) = (if n == 0 { 100 } else { 0 }, list.collect::<Vec<_>>().join(", "));
        writeln!(text, "      {version}: {{ weight: {weight}%, backends: [{list}] }}").unwrap();
    }
    text
}

/// The server ids that the data plane has, and the last byte of each backend's address.
fn ids(node: &Node) -> BTreeMap<(u32, u64), u8> {
    let plane = node.plane.lock();
    let last = |index: &u16| plane.backends[index].address.0[3].to_ne_bytes()[3];
    let ids = plane.server_ids.iter();
    ids.map(|(ServerKey { length, id, .. }, index)| ((*length, *id), last(index))).collect()
}

fn count(node: &Node, last: u8) {
    let index = node.places().into_iter().find(|((.., at, _), _)| *at == backend(last));
    let index = index.unwrap().1.index;
    node.plane.lock().counters.entry(index).or_default().packets_in += 1;
}

#[test]
fn ids_follow_the_backends() {
    let mut node = Node::with(&[quic(2, &[(Blue, &[(1, "0a01"), (2, "0a02")]), (Canary, &[])])]);
    assert_eq!(ids(&node), BTreeMap::from([((2, 0x0a01), 1), ((2, 0x0a02), 2)]));
    let (_, image) = node.plane.lock().services[&0].clone();
    assert_eq!((image.record.quic_config, image.record.quic_id_length), (0x60, 2));

    // One changes its id, one comes; one that drains keeps its own, unless another has got it.
    node.apply(&[quic(2, &[(Blue, &[(1, "0b01")]), (Canary, &[(3, "0a03")])])]).unwrap();
    let mut expected = BTreeMap::from([((2, 0x0b01), 1), ((2, 0x0a02), 2), ((2, 0x0a03), 3)]);
    assert_eq!(ids(&node), expected);
    let again =
        Owner::start(Chaos::new(node.plane.clone(), chaos::Plan::default()), node.store.clone());
    drop(again.unwrap_or_else(|error| panic!("{error}")));
    assert_eq!(ids(&node), expected, "also after a restart");
    node.apply(&[quic(2, &[(Blue, &[(1, "0a02")]), (Canary, &[(3, "0a03")])])]).unwrap();
    expected = BTreeMap::from([((2, 0x0a02), 1), ((2, 0x0a03), 3)]);
    assert_eq!(ids(&node), expected);

    // Of another length all are others.
    node.apply(&[quic(1, &[(Blue, &[(1, "02")])])]).unwrap();
    assert_eq!(ids(&node), BTreeMap::from([((1, 2), 1)]));
    node.delete("shop").unwrap();
    assert_eq!(ids(&node), BTreeMap::new());
}

#[test]
fn a_backend_is_not_released_while_datagrams_name_it() {
    let mut node = Node::with(&[quic(1, &[(Blue, &[(1, "01"), (2, "02")])])]);
    let start = clock::seconds();
    node.apply(&[quic(1, &[(Blue, &[(1, "01")])])]).unwrap();
    let drained = |node: &Node| !ids(node).contains_key(&(1, 2));
    // The slots settle, no flow is remembered, but somebody goes on naming it.
    for n in 1..6 {
        count(&node, 2);
        node.owner.round(start + n * DEFAULT_IDLE).unwrap();
        assert!(!drained(&node), "round {n}");
    }
    node.owner.round(start + 6 * DEFAULT_IDLE).unwrap();
    assert!(!drained(&node));
    node.owner.round(start + 6 * DEFAULT_IDLE + 5).unwrap();
    assert!(drained(&node));
    assert_eq!(node.places().len(), 1);
}
