//! The commands of `docs/tls.md` make certificates that work.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

mod common;

use std::process::{Command, Stdio};

use common::FakeAgent;
use weir::api::port::Port;
use weir::client::{Address, Client, ClientError};
use weir::model::ServiceName;
use weir::node::messages::{Delete, Settle};
use weir::tls::Files;

/// The text of all fenced blocks of a kind.
fn blocks(page: &str, kind: &str) -> String {
    let opening = format!("```{kind}\n");
    let bodies = page.split(&opening).skip(1).map(|rest| rest.split("```").next().unwrap());
    bodies.collect()
}

#[tokio::test]
async fn the_commands_of_the_page_make_certificates_that_work() {
    let commands = blocks(include_str!("../../docs/tls.md"), "sh make");
    assert_eq!(commands.matches("openssl x509").count(), 2);
    let directory = tempfile::tempdir().unwrap();
    let output = Command::new("bash")
        .args(["-e", "-o", "pipefail", "-c", &commands])
        .current_dir(directory.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let files = |name: &str| Files {
        certificate: directory.path().join(format!("{name}.pem")),
        key: directory.path().join(format!("{name}.key")),
        authority: directory.path().join("ca.pem"),
    };
    let port = Port::bind("127.0.0.1:0".parse().unwrap(), files("agent")).unwrap();
    let at = format!("https://{}", port.address());
    let agent = FakeAgent::start_at(Some(port));
    let denied = |result: Result<(), ClientError>| match result {
        Err(ClientError::Refused { reason, .. }) => reason == "ROLE",
        _ => false,
    };
    for (role, may) in
        [("reader", [false, false]), ("shifter", [true, false]), ("admin", [true; 2])]
    {
        let address = Address::parse(&at, Some(&files(role)), Some("lb1.weir.example")).unwrap();
        let mut client = Client::connect(address).await.unwrap();
        client.list().await.unwrap();
        let service = ServiceName::new("shop").unwrap();
        let settle = Settle { service: service.clone(), dry_run: true, fence: None };
        let delete = Delete { services: vec![service], request_id: None, fence: None };
        let denials = [
            denied(client.settle(&settle).await.map(|_| ())),
            denied(client.delete(&delete).await.map(|_| ())),
        ];
        assert_eq!(denials, may.map(|may| !may), "{role}");
    }
    agent.stop().await;
}
