//! A listener that leads to a version, through all that can happen to the weights.

use Version::{Blue, Canary, Green};

use super::*;
use crate::node::clock;
use crate::node::messages::{MayStop, RollBack};

/// Backends 1, 2 and 3 are blue's, green's and canary's; 10.50.0.9 leads to a version.
fn shop(weights: [u32; 3], preview: Option<Version>) -> String {
    let mut text = "  - name: shop\n    forwarding: dsr-l2\n    listeners:\n".to_owned();
    writeln!(text, "      - {{ address: 10.50.0.1, port: 80, protocol: tcp }}").unwrap();
    if let Some(version) = preview {
        writeln!(
            text,
            "      - {{ address: 10.50.0.9, port: 80, protocol: tcp, version: {version} }}"
        )
        .unwrap();
    }
    text += "    versions:\n";
    for (version, weight) in Version::ALL.into_iter().zip(weights) {
        let last = version.index() + 1;
        let backends = format!("{{ address: 10.60.0.{last} }}");
        writeln!(text, "      {version}: {{ weight: {weight}%, backends: [{backends}] }}").unwrap();
    }
    text
}

#[test]
fn its_connections_go_there_and_stay_whatever_happens_to_the_weights() {
    let mut node = Node::with(&[shop([100, 0, 0], Some(Green))]);
    let (all, preview) = (node.open(1, 0..200), node.open(9, 0..200));
    assert_eq!((all.clone(), preview.clone()), (vec![Some(1); 200], vec![Some(2); 200]));
    for weights in [[95, 0, 5], [0, 0, 100], [50, 50, 0], [0, 100, 0]] {
        node.apply(&[shop(weights, Some(Green))]).unwrap();
        assert_eq!(node.go_on(9, 0..200), preview, "{weights:?}");
        assert_eq!(node.open(9, 200..400), vec![Some(2); 200], "{weights:?}");
        assert_eq!(node.go_on(1, 0..200), all, "{weights:?}");
        node.owner.round(clock::seconds()).unwrap();
    }
    let back = RollBack {
        service: name("shop"),
        in_flight: InFlight::Reset,
        expected_generation: None,
        options: ChangeOptions::default(),
    };
    node.owner.roll_back(&back).unwrap();
    assert_eq!(node.go_on(9, 0..200), preview, "also when green is given up");
    let node = node.restart();
    assert_eq!(node.go_on(9, 0..400), vec![Some(2); 400]);
}

#[test]
fn a_version_that_is_shown_in_a_preview_is_not_idle() {
    let mut node = Node::with(&[shop([0, 100, 0], Some(Green))]);
    node.owner.shift(&shift(&[("shop", Green, 0)])).unwrap();
    node.owner
        .settle_now(&crate::node::messages::Settle {
            service: name("shop"),
            dry_run: false,
            fence: None,
        })
        .unwrap();
    node.owner.round(clock::seconds()).unwrap();
    let drains = node.owner.drains(&[name("shop")]).unwrap();
    assert!(drains.iter().all(|one| one.may_stop != MayStop::Yes), "{drains:?}");
    assert!(drains.iter().all(|one| one.why != "no weight"), "{drains:?}");
}

#[test]
fn it_is_not_led_elsewhere_in_place_nor_to_nobody() {
    let mut node = Node::with(&[shop([100, 0, 0], Some(Green))]);
    let held = node.held();
    let error = node.apply(&[shop([100, 0, 0], Some(Canary))]).unwrap_err().to_string();
    assert_eq!(
        error,
        "services[0].listeners[1].version: leads to canary instead of to green, which would break \
         its connections: take the listener out, then put it back"
    );
    assert_eq!(node.held(), held);
    node.apply(&[shop([100, 0, 0], None)]).unwrap();
    node.apply(&[shop([100, 0, 0], Some(Canary))]).unwrap();
    assert_eq!(node.open(9, 0..50), vec![Some(3); 50]);

    let empty = shop([100, 0, 0], Some(Blue)).replace("{ address: 10.60.0.1 }", "");
    let file = SpecFile::parse(&format!("services:\n{empty}")).unwrap();
    let refused = parse_services(&file.services, false).unwrap_err();
    let fields: Vec<&str> = refused.iter().map(|one| one.field.as_str()).collect();
    assert!(fields.contains(&"services[0].listeners[1].version"), "{fields:?}");
}
