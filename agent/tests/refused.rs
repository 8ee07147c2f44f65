//! What is refused, each with exactly the message it gets: spec files (`refused.yaml`) and requests.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

mod common;

use common::FakeAgent;
use common::refused::{FILE, Files, answer, requests, said, shift};
use tonic::transport::Endpoint;
use weir::{model::SpecFile, node::messages::ChangeOptions};
use weir_proto::v1::{self, weir_client::WeirClient};

#[test]
fn each_bad_file_is_refused_with_its_message() {
    let files = Files::read();
    assert_eq!(answer(&files.file), Vec::<String>::new(), "the file itself is valid");
    assert!(files.cases.len() >= 60, "only {} cases", files.cases.len());

    let mut wrong = Vec::new();
    for case in &files.cases {
        let says = answer(&files.text(case));
        if says != case.says || says.is_empty() {
            wrong.push(format!("{}:\n  wanted {:#?}\n  got {says:#?}", case.about, case.says));
        }
    }
    let (wrong, of) = (wrong.join("\n"), files.cases.len());
    assert!(wrong.is_empty(), "of {of} cases these differ:\n{wrong}");
}

#[tokio::test]
async fn each_bad_request_is_refused_with_its_message() {
    let agent = FakeAgent::start();
    let mut client = agent.client().await;
    let services = SpecFile::parse(FILE).unwrap().services;
    client.apply(&services, &ChangeOptions::default()).await.unwrap();
    let endpoint = Endpoint::from_shared(format!("unix:{}", agent.socket.display())).unwrap();
    let mut weir = WeirClient::new(endpoint.connect().await.unwrap());
    let before = client.list().await.unwrap();

    let mut wrong = Vec::new();
    for case in requests(1) {
        let status = case.request.clone().refusal(&mut weir).await;
        wrong.extend(case.difference(&status));
        assert_eq!(client.list().await.unwrap(), before, "changed by {:?}", case.request);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    // More violations than an answer lists.
    let shifts = vec![shift(|_| ()).shifts.remove(0); 513];
    let crowd = v1::ShiftWeightsRequest { shifts, ..Default::default() };
    let status = weir.shift_weights(crowd).await.expect_err("refused");
    assert_eq!(said(&status)[0], "shifts: holds 513; a node takes at most 512");
    agent.stop().await;
}
