//! Steering: clients of a prefix go to a version, whatever the weights. The longest prefix counts.
//! A rule that comes or goes is a transition like any other: what began before stays where it is.

use weir_ebpf::abi::{Reason, SEEN_DATA, SEEN_FIN, SEEN_SYN};

use super::nodes::{AWAY, Spec};
use super::steering_nodes::{
    ADDED, ADDED_FLOOD, BACK_AGAIN, BOTH, CHANGED, NESTED, OTHER_RULES, REMOVED, REMOVED_FLOOD,
    SHIFTED, STEERED, STEERED_FLOOD,
};
use super::{Case, In, begins, case, datagram, goes};
use crate::packet::{ACK, FIN, PSH, Packet, RST, SYN, ip};

/// Of blue, green and canary, by family.
const BACKENDS: [[&str; 3]; 2] = [
    ["10.0.0.1:8080", "10.0.0.2:8080", "10.0.0.3:8080"],
    ["[fd00::1]:8080", "[fd00::2]:8080", "[fd00::3]:8080"],
];
const BLUE: usize = 0;
const GREEN: usize = 1;
const CANARY: usize = 2;

/// By family: a listener's address, a client within the rules' longest prefixes, one beside them.
const LISTENER: [&str; 2] = ["198.51.100.1", "2001:db8::1"];
const CLIENT: [&str; 2] = ["192.0.2.7", "2001:db8:7::7"];
const OUTSIDE: [&str; 2] = ["192.0.3.7", "2001:db8:8::7"];
const FAMILIES: [&str; 2] = ["ipv4", "ipv6"];

pub(super) fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for family in [0, 1] {
        all.extend(longest_match(family));
        all.extend(other_rules(family));
        all.extend(rule_comes(family));
        all.extend(rule_goes(family));
        all.extend(rule_changes(family));
        all.extend(with_a_shift(family));
        all.extend(flood(family));
    }
    all
}

/// What a client sends.
#[derive(Clone, Copy)]
struct From {
    family: usize,
    client: &'static str,
}

impl From {
    fn tcp(self, flags: u8) -> Packet {
        ip(self.client, LISTENER[self.family]).tcp(40_000, 80, flags)
    }

    fn udp(self) -> Packet {
        ip(self.client, LISTENER[self.family]).udp(40_000, 80).data(b"hello")
    }

    fn backend(self, version: usize) -> &'static str {
        BACKENDS[self.family][version]
    }

    /// It goes to this version.
    fn case(
        self,
        name: &str,
        node: &'static Spec,
        input: Packet,
        version: usize,
        counted: impl Fn(&'static str) -> In,
    ) -> Case {
        let backend = self.backend(version);
        let output = input.clone().to(backend).ttl(63);
        case(named(self.family, name), node, input).to_backend(output, &AWAY, counted(backend))
    }

    /// The same of a flow that is remembered with a version.
    fn known(
        self,
        name: &str,
        node: &'static Spec,
        input: Packet,
        (version, client): (usize, u8),
        counted: impl Fn(&'static str) -> In,
    ) -> Case {
        let backend = self.backend(version);
        let output = input.clone().to(backend).ttl(63);
        let draft = case(named(self.family, name), node, input).remembered(backend, client);
        draft.to_backend(output, &AWAY, counted(backend))
    }
}

fn named(family: usize, name: &str) -> String {
    format!("steering/{}/{name}", FAMILIES[family])
}

fn at(family: usize, clients: [&'static str; 2]) -> From {
    From { family, client: clients[family] }
}

fn begins_remembered(backend: &'static str) -> In {
    begins(backend).remembered()
}

fn steered(backend: &'static str) -> In {
    begins(backend).steered()
}

fn steered_remembered(backend: &'static str) -> In {
    begins_remembered(backend).steered()
}

fn goes_remembered(backend: &'static str) -> In {
    goes(backend).remembered()
}

/// Nothing is remembered for it but what is for every datagram.
fn longest_match(family: usize) -> Vec<Case> {
    let clients: [[(&str, usize); 9]; 2] = [
        [
            ("192.0.2.7", BLUE),
            ("192.0.2.6", GREEN),
            ("192.0.2.0", GREEN),
            ("192.0.2.127", GREEN),
            ("192.0.2.128", CANARY),
            ("192.0.2.255", BLUE),
            ("192.0.3.0", CANARY),
            ("10.255.255.255", CANARY),
            ("11.0.0.0", BLUE),
        ],
        [
            ("2001:db8:7::7", BLUE),
            ("2001:db8:7::6", GREEN),
            ("2001:db8:7:7fff:ffff:ffff:ffff:ffff", GREEN),
            ("2001:db8:7:8000::", CANARY),
            ("2001:db8:7:0:8000::1", CANARY),
            ("2001:db8:8::7", CANARY),
            ("2001:db9::", BLUE),
            ("fd12::1", CANARY),
            ("fc00::1", BLUE),
        ],
    ];
    let mut all = Vec::new();
    for (client, version) in clients[family] {
        let from = From { family, client };
        let named = |kind: &str| format!("longest/{client}/{kind}");
        let syn = from.tcp(SYN);
        // The others have no rule.
        let ruled = !["11.0.0.0", "2001:db9::", "fc00::1"].contains(&client);
        let counted = if ruled { steered } else { begins };
        all.push(from.case(&named("syn"), &STEERED, syn, version, counted));
        let data = from.tcp(PSH | ACK).payload(40);
        all.push(from.case(&named("data"), &STEERED, data, version, goes));
        all.push(from.case(&named("udp"), &STEERED, from.udp(), version, datagram));
    }
    all
}

fn other_rules(family: usize) -> Vec<Case> {
    let [everyone, nobody] = [["198.51.100.2", "2001:db8::2"], ["198.51.100.3", "2001:db8::3"]];
    let [green, blue] =
        [["10.0.0.12:8080", "[fd00::12]:8080"], ["10.0.0.21:8080", "[fd00::21]:8080"]];
    let tcp =
        |client: [&str; 2], to: [&str; 2]| ip(client[family], to[family]).tcp(40_000, 80, SYN);
    let sent = |name: &str, input: Packet, backend: [&'static str; 2]| {
        let output = input.clone().to(backend[family]).ttl(63);
        let draft = case(named(family, name), &OTHER_RULES, input);
        let ruled = name.starts_with("everyone");
        let counted = if ruled { steered } else { begins };
        draft.to_backend(output, &AWAY, counted(backend[family]))
    };
    let far = ["233.252.0.1", "3fff::1"];
    vec![
        sent("everyone/far", tcp(["8.8.8.8", "3fff::1"], everyone), green),
        sent("everyone/near", tcp(OUTSIDE, everyone), green),
        sent("no-rules/far", tcp(["8.8.8.8", far[1]], nobody), blue),
        sent("no-rules/near", tcp(CLIENT, nobody), blue),
        case(named(family, "to-a-version-without-a-backend"), &OTHER_RULES, tcp(CLIENT, everyone))
            .drops(Reason::NoBackend),
    ]
}

fn rule_comes(family: usize) -> Vec<Case> {
    let (client, outside) = (at(family, CLIENT), at(family, OUTSIDE));
    let open = SEEN_SYN | SEEN_DATA;
    let (syn, ack, fin) = (client.tcp(SYN), client.tcp(ACK), client.tcp(FIN | ACK));
    let rst = client.tcp(RST);
    vec![
        client.case("comes/syn", &ADDED, syn.clone(), GREEN, steered_remembered),
        client.case("comes/udp", &ADDED, client.udp(), GREEN, datagram),
        client.case("comes/ack-of-an-old-flow", &ADDED, ack.clone(), BLUE, goes_remembered),
        client.case("comes/fin-of-an-old-flow", &ADDED, fin, BLUE, goes_remembered),
        client.case("comes/rst-of-an-old-flow", &ADDED, rst, BLUE, goes_remembered),
        client.known("comes/ack-of-a-new-flow", &ADDED, ack.clone(), (GREEN, open), goes),
        client.known("comes/remembered-old-flow", &ADDED, ack, (BLUE, open), goes),
        client.known("comes/syn-again", &ADDED, syn, (BLUE, SEEN_SYN), begins),
        client.known("comes/udp-of-an-old-flow", &ADDED, client.udp(), (BLUE, SEEN_DATA), goes),
        outside.case("comes/others-syn", &ADDED, outside.tcp(SYN), BLUE, begins),
        outside.case("comes/others-ack", &ADDED, outside.tcp(ACK), BLUE, goes),
    ]
}

fn rule_goes(family: usize) -> Vec<Case> {
    let (client, outside) = (at(family, CLIENT), at(family, OUTSIDE));
    let (syn, ack) = (client.tcp(SYN), client.tcp(ACK));
    vec![
        client.case("goes/syn", &REMOVED, syn.clone(), BLUE, begins_remembered),
        client.case("goes/udp", &REMOVED, client.udp(), BLUE, datagram),
        client.case("goes/ack-of-an-old-flow", &REMOVED, ack.clone(), GREEN, goes_remembered),
        client.known("goes/ack-of-a-new-flow", &REMOVED, ack.clone(), (BLUE, SEEN_SYN), goes),
        client.known("goes/udp-of-an-old-flow", &REMOVED, client.udp(), (GREEN, SEEN_DATA), goes),
        outside.case("goes/others", &REMOVED, outside.tcp(SYN), BLUE, begins),
        // What began under the rule in between is remembered; all else never knew it.
        client.case("reverted/syn", &BACK_AGAIN, syn, BLUE, begins),
        client.case("reverted/ack", &BACK_AGAIN, ack.clone(), BLUE, goes),
        client.known("reverted/in-between", &BACK_AGAIN, ack, (GREEN, SEEN_SYN), goes),
    ]
}

fn rule_changes(family: usize) -> Vec<Case> {
    let (client, outside) = (at(family, CLIENT), at(family, OUTSIDE));
    let beside = at(family, ["192.0.2.8", "2001:db8:7::8"]);
    let (syn, ack) = (client.tcp(SYN), client.tcp(ACK));
    vec![
        client.case("changes/syn", &CHANGED, syn.clone(), CANARY, steered_remembered),
        client.case("changes/udp", &CHANGED, client.udp(), CANARY, datagram),
        client.case("changes/ack-of-an-old-flow", &CHANGED, ack.clone(), GREEN, goes_remembered),
        outside.case("changes/others", &CHANGED, outside.tcp(SYN), BLUE, begins),
        client.case("within/syn", &NESTED, syn.clone(), CANARY, steered_remembered),
        client.case("within/ack-of-an-old-flow", &NESTED, ack.clone(), GREEN, goes_remembered),
        client.known(
            "within/syn-behind-a-fin",
            &NESTED,
            syn,
            (CANARY, SEEN_SYN | SEEN_DATA | SEEN_FIN),
            steered_remembered,
        ),
        beside.case("within/others-syn", &NESTED, beside.tcp(SYN), GREEN, steered),
        beside.case("within/others-ack", &NESTED, beside.tcp(ACK), GREEN, goes),
    ]
}

/// Blue gives all to canary.
fn with_a_shift(family: usize) -> Vec<Case> {
    let (client, outside) = (at(family, CLIENT), at(family, OUTSIDE));
    let (syn, ack) = (client.tcp(SYN), client.tcp(ACK));
    vec![
        // Who is steered does not notice.
        client.case("shift/steered-syn", &SHIFTED, syn.clone(), GREEN, steered),
        client.case("shift/steered-ack", &SHIFTED, ack.clone(), GREEN, goes),
        outside.case("shift/syn", &SHIFTED, outside.tcp(SYN), CANARY, begins_remembered),
        outside.case("shift/ack", &SHIFTED, outside.tcp(ACK), BLUE, goes_remembered),
        // What is older than both is where the table had it.
        client.case("shift-and-rule/syn", &BOTH, syn, GREEN, steered_remembered),
        client.case("shift-and-rule/ack", &BOTH, ack, BLUE, goes_remembered),
        outside.case("shift-and-rule/others", &BOTH, outside.tcp(SYN), CANARY, begins_remembered),
    ]
}

/// A rule that has settled needs no memory; flows of one that has not go where older ones are.
fn flood(family: usize) -> Vec<Case> {
    let client = at(family, CLIENT);
    let green = at(family, ["192.0.2.6", "2001:db8:7::6"]);
    let (syn, ack) = (client.tcp(SYN), client.tcp(ACK));
    let flooded = |counted: fn(&'static str) -> In| move |backend| counted(backend).flooded();
    vec![
        green.case("flood/settled-syn", &STEERED_FLOOD, green.tcp(SYN), GREEN, steered),
        green.case("flood/settled-ack", &STEERED_FLOOD, green.tcp(ACK), GREEN, goes),
        green.case("flood/settled-udp", &STEERED_FLOOD, green.udp(), GREEN, datagram),
        client.case("flood/comes-syn", &ADDED_FLOOD, syn.clone(), BLUE, flooded(begins)),
        client.case("flood/comes-ack", &ADDED_FLOOD, ack.clone(), BLUE, flooded(goes)),
        client.case("flood/comes-udp", &ADDED_FLOOD, client.udp(), GREEN, datagram),
        client.known("flood/comes-known", &ADDED_FLOOD, ack.clone(), (GREEN, SEEN_SYN), goes),
        client.case("flood/goes-syn", &REMOVED_FLOOD, syn, GREEN, flooded(begins)),
        client.case("flood/goes-ack", &REMOVED_FLOOD, ack, GREEN, flooded(goes)),
    ]
}
