//! Several interfaces: packets come in by one and leave by another, whatever program each has, and
//! XDP sends only through those that take its frames.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::net::{IpAddr, SocketAddr};
use std::thread::sleep;
use std::time::{Duration, Instant};

use weir_tests::agent::AgentOptions;
use weir_tests::identity::Version;
use weir_tests::lab::addresses::{CLIENT_SIDE, FAR_END, Family, HTTP_PORT, version_side, vip};
use weir_tests::lab::spec::Protocol;
use weir_tests::lab::{Lab, LabBuilder, Namespace};
use weir_tests::load::fresh::{Fresh, FreshPlan};
use weir_tests::node::{Mode, Node};

const CONNECTIONS: u64 = 60;

fn target(family: Family) -> SocketAddr {
    SocketAddr::new(vip(family, 0), HTTP_PORT)
}

fn start(mode: Mode) -> Node {
    let mut node = Node::start(LabBuilder::new().clients(20), mode, &[]).unwrap();
    for (family, name) in [(Family::V4, "web4"), (Family::V6, "web6")] {
        let service = node.lab().service(name, target(family), Protocol::Tcp);
        node.apply(&[service.weights([3_400, 3_300, 3_300])]).unwrap();
    }
    node
}

/// Starts the agent anew with other options.
fn restart(node: &mut Node, options: AgentOptions) {
    assert!(node.take_agent().unwrap().stop().unwrap().success());
    node.restart_with(options).unwrap();
}

/// Connections from these clients, all of which must be answered.
fn connect_from(lab: &Lab, family: Family, clients: Vec<IpAddr>) {
    let plan = FreshPlan::new(target(family), clients).count(CONNECTIONS);
    let counts = Fresh::start(lab.clients(), plan).unwrap().finish().unwrap();
    counts.check().unwrap();
    assert_eq!(counts.answered(), CONNECTIONS, "{counts}");
}

fn connect(lab: &Lab) {
    for family in Family::ALL {
        connect_from(lab, family, lab.client_addresses(family));
    }
}

/// One of the counters that a veth keeps for each of its receive queues, summed over them.
fn counted(namespace: &Namespace, interface: &str, counter: &str) -> u64 {
    let output = namespace.exec("ethtool", &["-S", interface]).unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let suffix = format!("_{counter}");
    let lines = text.lines().filter_map(|line| line.trim().split_once(": "));
    let lines = lines.filter(|(name, _)| name.starts_with("rx_queue_") && name.ends_with(&suffix));
    lines.map(|(_, count)| count.trim().parse::<u64>().unwrap()).sum()
}

/// Frames that came in by an interface and that its XDP program has redirected.
fn redirected(lab: &Lab, interface: &str) -> u64 {
    counted(lab.lb(), interface, "xdp_redirect")
}

fn gro(namespace: &Namespace, interface: &str, state: &str) {
    namespace.exec("ethtool", &["-K", interface, "gro", state]).unwrap();
}

/// Waits until the agent says just this of interfaces that are slow, by their names.
fn slow(node: &mut Node, wanted: &[&str]) {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let warnings = node.node_status().unwrap().warnings;
        let found: Vec<&str> = warnings
            .iter()
            .filter_map(|text| text.strip_prefix("packets to ")?.split_once(" leave through TC: "))
            .map(|(name, why)| {
                assert!(why.contains("ethtool -K PEER gro on"), "{why}");
                name
            })
            .collect();
        if found == wanted {
            return;
        }
        assert!(Instant::now() < deadline, "wanted {wanted:?}, said {warnings:?}");
        sleep(Duration::from_millis(50));
    }
}

#[test]
fn interfaces_may_have_different_programs() {
    let mut node = start(Mode::Xdp);
    connect(node.lab());
    let options = node.options().clone();
    for by_xdp in [CLIENT_SIDE, version_side(Version::Blue)] {
        restart(&mut node, options.clone().mode("tc").mode_of(by_xdp, "xdp"));
        let before = redirected(node.lab(), by_xdp);
        connect(node.lab());
        assert!(redirected(node.lab(), by_xdp) > before, "{by_xdp} redirects nothing");
    }
}

/// A second way to the clients: `cli1` on the host, `eth1` at theirs, 10.51.0.0/24 and `fd51::/64`.
fn second_client_side(lab: &Lab, mode: Mode) -> [IpAddr; 2] {
    let clients = lab.clients().name();
    let lb = [
        format!("link add cli1 type veth peer name eth1 netns {clients}"),
        "link set cli1 up".to_owned(),
        "address add 10.51.0.1/24 dev cli1".to_owned(),
        "address add fd51::1/64 dev cli1 nodad".to_owned(),
    ];
    lab.lb().ip(&lb).unwrap();
    let theirs = [
        "link set eth1 up",
        "address add 10.51.0.2/24 dev eth1",
        "address add fd51::2/64 dev eth1 nodad",
        "route add default via 10.51.0.1 dev eth1 table 51",
        "route add default via fd51::1 dev eth1 table 51",
        "rule add from 10.51.0.2 lookup 51",
    ];
    lab.clients().ip(&theirs.map(str::to_owned)).unwrap();
    // A batch cannot name the family, which is not taken from the address here.
    let rule = ["-6", "rule", "add", "from", "fd51::2", "lookup", "51"];
    lab.clients().exec("ip", &rule).unwrap();
    if mode != Mode::Tc {
        for (namespace, interface) in [(lab.lb(), "cli1"), (lab.clients(), "eth1")] {
            let off = ["-K", interface, "tx", "off", "tso", "off", "gso", "off", "gro", "on"];
            namespace.exec("ethtool", &off).unwrap();
        }
    }
    ["10.51.0.2".parse().unwrap(), "fd51::2".parse().unwrap()]
}

fn received(namespace: &Namespace, interface: &str) -> u64 {
    let path = format!("/sys/class/net/{interface}/statistics/rx_packets");
    let output = namespace.exec("cat", &[&path]).unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

#[test]
fn clients_come_by_two_interfaces_and_are_answered_by_their_own() {
    for mode in [Mode::Tc, Mode::Xdp] {
        let mut node = start(mode);
        let [v4, v6] = second_client_side(node.lab(), mode);
        let options = node.options().clone().with(&format!("cli1:{}", mode.name()));
        restart(&mut node, options);
        connect(node.lab());
        let (first, second) =
            (received(node.lab().clients(), FAR_END), received(node.lab().clients(), "eth1"));
        connect_from(node.lab(), Family::V4, vec![v4]);
        connect_from(node.lab(), Family::V6, vec![v6]);
        let (other, own) = (
            received(node.lab().clients(), FAR_END) - first,
            received(node.lab().clients(), "eth1") - second,
        );
        assert!(own >= 2 * 4 * CONNECTIONS, "{mode:?}: {own} packets by their own interface");
        assert!(other < CONNECTIONS, "{mode:?}: {other} packets by the other interface");
    }
}

#[test]
fn xdp_leaves_to_tc_what_a_peer_cannot_receive() {
    let mut node = start(Mode::Xdp);
    slow(&mut node, &[]);
    let blue = version_side(Version::Blue);
    let all_by_xdp = redirected(node.lab(), CLIENT_SIDE);
    connect(node.lab());
    assert!(redirected(node.lab(), CLIENT_SIDE) > all_by_xdp);

    // The peers of the host's interfaces can receive no frame of XDP now.
    for version in Version::ALL {
        gro(node.lab().version(version), FAR_END, "off");
    }
    gro(node.lab().clients(), FAR_END, "off");
    slow(&mut node, &[CLIENT_SIDE, blue, "green0", "canary0"]);
    let before = redirected(node.lab(), CLIENT_SIDE);
    connect(node.lab());
    assert_eq!(redirected(node.lab(), CLIENT_SIDE), before, "what XDP sent there would be lost");

    for version in Version::ALL {
        gro(node.lab().version(version), FAR_END, "on");
    }
    slow(&mut node, &[CLIENT_SIDE]);
    let answers = redirected(node.lab(), blue);
    connect(node.lab());
    assert!(redirected(node.lab(), CLIENT_SIDE) > before, "XDP sends again");
    assert_eq!(redirected(node.lab(), blue), answers, "answers still go by TC");
    gro(node.lab().clients(), FAR_END, "on");
    slow(&mut node, &[]);
    connect(node.lab());
    assert!(redirected(node.lab(), blue) > answers);

    let log = std::fs::read_to_string(node.lab().directory().join("agent.log")).unwrap();
    let said = log.matches(&format!("packets to {blue} leave through TC")).count();
    assert_eq!(said, 1, "it is explained once: {log}");
}

#[test]
fn a_port_of_a_bridge_works_and_is_warned_of() {
    a_port_works("bridge", &["tc"]);
}

#[test]
#[ignore = "needs a kernel with bonding: cargo xtask vm"]
fn a_port_of_a_bond_works_and_is_warned_of() {
    a_port_works("bond mode active-backup miimon 100", &["tc", "xdp"]);
}

/// Attached to the port, then to its master as advised, in these modes.
fn a_port_works(kind: &str, modes: &[&str]) {
    let mut node = start(Mode::Xdp);
    assert!(node.take_agent().unwrap().stop().unwrap().success());
    put_under(node.lab(), kind);
    let options = node.options().clone();
    for mode in ["tc", "xdp"] {
        node.restart_with(options.clone().mode_of(CLIENT_SIDE, mode)).unwrap();
        let warnings = node.node_status().unwrap().warnings;
        let of_port = format!("{CLIENT_SIDE} is a port of up0");
        assert!(warnings.iter().any(|text| text.starts_with(&of_port)), "{warnings:?}");
        connect(node.lab());
        assert!(node.take_agent().unwrap().stop().unwrap().success());
    }
    for mode in modes {
        let to_master = options.clone().without(CLIENT_SIDE).with(&format!("up0:{mode}"));
        node.restart_with(to_master).unwrap();
        let warnings = node.node_status().unwrap().warnings;
        assert!(!warnings.iter().any(|text| text.contains("is a port of")), "{warnings:?}");
        connect(node.lab());
        assert!(node.take_agent().unwrap().stop().unwrap().success());
    }
}

/// Puts the host's interface toward the clients, with its addresses, under a device of this kind.
fn put_under(lab: &Lab, kind: &str) {
    let lines = [
        format!("address flush dev {CLIENT_SIDE} scope global"),
        format!("link add up0 type {kind}"),
        // A bond takes none that is up.
        format!("link set {CLIENT_SIDE} down"),
        format!("link set {CLIENT_SIDE} master up0"),
        format!("link set {CLIENT_SIDE} up"),
        "link set up0 up".to_owned(),
        "address add 10.50.0.1/24 dev up0".to_owned(),
        "address add fd50::1/64 dev up0 nodad".to_owned(),
        "route replace 10.50.0.0/16 via 10.50.0.2".to_owned(),
        "route replace fd50::/48 via fd50::2".to_owned(),
    ];
    lab.lb().ip(&lines).unwrap();
    // The clients know the MAC address of the port.
    lab.clients().ip(&["neigh flush all".to_owned()]).unwrap();
}

/// A backend on the clients' side is reached by the interface that packets come in by.
#[test]
fn what_goes_back_where_it_came_from_needs_a_peer_that_takes_it_too() {
    let mut node = start(Mode::Xdp);
    let nobody: IpAddr = "10.50.0.99".parse().unwrap();
    let mac = "02:00:00:00:00:99";
    let entry = format!("neigh replace {nobody} lladdr {mac} dev {CLIENT_SIDE} nud permanent");
    node.lab().lb().ip(&[entry]).unwrap();
    let listener = SocketAddr::new(vip(Family::V4, 1), 8_080);
    let mut service = node.lab().service("back", listener, Protocol::Tcp);
    service.backends[0] = vec![nobody];
    node.apply(&[service.weights([10_000, 0, 0])]).unwrap();
    for (state, slow_ones) in [("on", &[][..]), ("off", &[CLIENT_SIDE][..])] {
        gro(node.lab().clients(), FAR_END, state);
        slow(&mut node, slow_ones);
        let before = received(node.lab().clients(), FAR_END);
        let clients = node.lab().client_addresses(Family::V4);
        let plan = FreshPlan::new(listener, clients).count(20).limit(Duration::from_millis(300));
        let counts = Fresh::start(node.lab().clients(), plan).unwrap().finish().unwrap();
        assert_eq!(counts.answered(), 0);
        let came_back = received(node.lab().clients(), FAR_END) - before;
        assert!(came_back >= 20, "with GRO {state}, {came_back} of 20 SYNs came back");
    }
}
