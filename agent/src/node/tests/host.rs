//! What the host offers, its addresses and its interfaces, and what the node makes of it.

use std::collections::BTreeSet;

use Version::{Blue, Canary};

use super::super::Identity;
use super::super::messages::InterfaceStatus;
use super::*;
use crate::dataplane::OuterSource;
use crate::dataplane::next_hop::{Change, Device, DeviceKind};
use crate::model::{AttachMode, Hook};

fn tunnelled(name: &str, backends: &[(Version, &str)]) -> String {
    let mut text = format!("  - name: {name}\n    forwarding: dsr-gue\n    listeners:\n");
    text += "      - { address: 10.50.0.1, port: 80, protocol: tcp }\n    versions:\n";
    for (version, address) in backends {
        let weight = if *version == Blue { 100 } else { 0 };
        let backend = format!("weight: {weight}%, backends: [{{ address: \"{address}\" }}]");
        writeln!(text, "      {version}: {{ {backend} }}").unwrap();
    }
    text
}

#[test]
fn tunnels_from_nowhere_are_refused() {
    let mut node = Node::with(&[spec("shop", 9, &[(Blue, 100, &[1])])]);
    let both = tunnelled("far", &[(Blue, "10.60.0.1"), (Canary, "fd60::2")]);
    let mut fields = |outer: OuterSource| -> Vec<String> {
        node.plane.lock().outer = outer;
        let before = node.held();
        match node.apply(std::slice::from_ref(&both)) {
            Ok(_) => Vec::new(),
            Err(Error::Invalid(violations)) => {
                assert_eq!(node.held(), before);
                let helps = |message: &str| message.contains("--outer-source ADDRESS");
                assert!(violations.iter().all(|wrong| helps(&wrong.message)), "{violations:?}");
                violations.into_iter().map(|wrong| wrong.field).collect()
            }
            Err(other) => panic!("{other}"),
        }
    };
    let (v4, v6) = (Some(Ipv4Addr::new(10, 0, 0, 1)), "fd00::1".parse().ok());
    let (blue, canary) = (
        "services[0].versions.blue.backends[0].address".to_owned(),
        "services[0].versions.canary.backends[0].address".to_owned(),
    );
    assert_eq!(fields(OuterSource::default()), [blue.clone(), canary.clone()]);
    assert_eq!(fields(OuterSource { v4, v6: None }), [canary]);
    assert_eq!(fields(OuterSource { v4: None, v6 }), [blue]);
    assert_eq!(fields(OuterSource { v4, v6 }), [""; 0]);
}

#[test]
fn a_tunnel_that_has_lost_its_source_is_kept_with_a_warning() {
    let mut node = Node::new();
    node.plane.lock().outer.v6 = "fd00::1".parse().ok();
    let far = tunnelled("far", &[(Blue, "fd60::1"), (Canary, "fd60::2")]);
    node.apply(&[far]).unwrap();
    assert_eq!(node.owner.status().warnings, [""; 0]);
    assert_eq!(node.owner.status().outer_sources, ["fd00::1".parse::<IpAddr>().unwrap()]);

    let again = Node::start(node.store.clone()).unwrap_or_else(|error| panic!("{error}"));
    assert!(again.owner.get(&name("far")).is_ok());
    assert_eq!(
        again.owner.status().warnings,
        ["service far: packets to its IPv6 backends are dropped, for this node has no IPv6 \
          address that tunnels could come from; start the agent with --outer-source ADDRESS"]
    );
}

fn veth(name: &str, redirect: bool) -> Device {
    let name = name.to_owned();
    Device { name, kind: DeviceKind::Veth, redirect: Some(redirect), in_buffers: redirect }
}

#[test]
fn xdp_may_send_through_interfaces_that_take_it_and_others_are_explained() {
    let mut node = Node::with(&[spec("shop", 1, &[(Blue, 100, &[1])])]);
    let cli0 = InterfaceStatus {
        name: "cli0".to_owned(),
        index: 2,
        asked: AttachMode::Xdp,
        actual: Some(Hook::XdpNative),
        state: "attached".to_owned(),
    };
    node.owner.introduce(Identity { interfaces: vec![cli0], ..Identity::default() });
    let mut tell = |blue0: bool| {
        let devices = [(2, veth("cli0", true)), (3, veth("blue0", blue0))];
        let devices = devices.into_iter().chain([(4, veth("other", false))]);
        node.owner.follow(vec![Change::Devices(devices.collect())]);
        let there = node.plane.lock().devices.redirect.clone();
        (there, node.owner.status().warnings.len())
    };
    assert_eq!(tell(false), (BTreeSet::from([2]), 0), "nothing is sent through blue0 yet");
    let hop = NextHop { lower: 3, ..hop(7) };
    node.owner.follow(vec![Change::Hop(backend(1), Some(hop))]);
    let warnings = node.owner.status().warnings;
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].starts_with("packets to blue0 leave through TC: its peer"), "{warnings:?}");
    let devices = [(2, veth("cli0", true)), (3, veth("blue0", true))];
    node.owner.follow(vec![Change::Devices(devices.into_iter().collect())]);
    assert_eq!(node.plane.lock().devices.redirect, BTreeSet::from([2, 3]));
    assert_eq!(node.owner.status().warnings, [""; 0]);
}
