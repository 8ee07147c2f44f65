//! Traces from end to end: what the node answers reaches the client as it is, and wrong questions
//! are refused by field.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use std::process::Command;

use common::FakeAgent;
use common::trace::any;
use tonic_types::StatusExt as _;
use weir::client::Client;
use weir::model::{Protocol, ServiceName};
use weir::node::trace::answer::TraceFlow;
use weir_proto::v1::{self, weir_client::WeirClient};

fn asked(to: Option<&str>, protocol: Protocol) -> TraceFlow {
    TraceFlow {
        from: "10.50.3.7:51515".parse().unwrap(),
        to: to.map(|to| to.parse().unwrap()),
        protocol,
        service: Some(ServiceName::new("shop").unwrap()),
    }
}

#[tokio::test]
async fn a_trace_comes_as_it_was_answered() {
    let agent = FakeAgent::start();
    let mut client = Client::connect(&agent.socket).await.unwrap();
    for to in [None, Some("10.50.0.100:80"), Some("[fd00::1]:81")] {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let asked = asked(to, protocol);
            assert_eq!(client.trace_flow(&asked).await.unwrap(), any(&asked));
        }
    }
}

#[tokio::test]
async fn what_is_no_flow_is_refused_by_field() {
    let agent = FakeAgent::start();
    let socket = format!("unix:{}", agent.socket.display());
    let mut client = WeirClient::connect(socket).await.unwrap();
    let wrong = v1::TraceFlowRequest {
        from: "10.50.3.7".to_owned(),
        to: "shop:80".to_owned(),
        protocol: 9,
        service: "No Name".to_owned(),
    };
    let status = client.trace_flow(wrong).await.unwrap_err();
    let details = status.get_error_details();
    let fields = details.bad_request().unwrap().field_violations.iter();
    let fields: Vec<&str> = fields.map(|wrong| wrong.field.as_str()).collect();
    assert_eq!(fields, ["from", "to", "protocol", "service"]);
}

/// One step a line, and the answer last.
#[tokio::test(flavor = "multi_thread")]
async fn a_walk_is_shown_from_top_to_bottom() {
    let agent = FakeAgent::start();
    let weir = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        let output = command.arg("--socket").arg(&agent.socket).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let flow = ["trace", "flow", "shop", "--from", "10.50.3.7:51515", "--udp"];
    assert_eq!(
        weir(&flow),
        "\
STEP          FOUND
flow          10.50.3.7:51515 → 10.50.0.100:80 udp
listener      10.50.0.100:any of shop: nat, affinity client, udp tracked
tables        of commit 7; the last one is 9
hash          version slot 11203 of 16384, backend slots by 0x0041f2ab
version slot  to blue
steering      10.9.0.0/16: to canary, older flows to the table's; has moved: flows are looked up
version       to canary, older flows to blue; has moved: flows are looked up
backend slot  555 of canary's 1024: to 10.63.0.2:80, older flows to no backend; has moved: flows are looked up
backend slot  555 of blue's 1024: to 10.61.0.2:80
flow table    at blue 10.61.0.2:80, seen 3s ago; of client syn+data, of server nothing; but it has ended
room          10 of the 1 000 places that it may have are taken; 1 of 2 processors refuse: new flows come too fast
opens         canary 10.63.0.2:80 (remembered): so
continues     dropped (drop-no-backend): so
next hop      of 10.63.0.2:80: 02:00:00:00:00:07 through eth1
answer        an Initial goes to canary 10.63.0.2:80; any other packet is dropped
"
    );
    let json: serde_json::Value =
        serde_json::from_str(&weir(&[&flow[..], &["-o", "json"]].concat())).unwrap();
    assert_eq!(json["walk"]["opens"]["goes"]["backend"]["address"], "10.63.0.2:80");
    assert_eq!(json["walk"]["steering"]["base"], serde_json::Value::Null);
    let none = weir(&["trace", "flow", "--from", "10.50.3.7:1", "--to", "10.50.0.9:1"]);
    assert!(none.ends_with("answer    nothing is at 10.50.0.9:1\n"), "{none}");
}
