//! Web hooks, and everything that can go wrong with them.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use tokio_rustls::TlsAcceptor;
use weir::rollout::external::{Hooks, Http};
use weir::rollout::machine::{HookAnswer, HookCall};
use weir::rollout::spec::Target;
use weir_tests::certificates::Authority;

use super::server::{Answer, Server, says};
use super::{about, answer, call, ended, failed, hooks, key};

fn url(server: &Server) -> Target {
    Target::Url(server.url())
}

#[tokio::test]
async fn it_is_told_what_it_is_about() {
    let server = Server::start(vec![says("SUCCEEDED")]).await;
    let mut hooks = hooks();
    let backend = Some("10.0.0.1:80".parse().unwrap());
    let asked = HookCall { backend, revert: true, ..call(url(&server), 10) };
    hooks.call(&about(), [(key(3), asked)]);
    assert_eq!(ended(&hooks, &key(3)).await, HookAnswer::Succeeded);
    let expected = json!({
        "id": "shop/7/preWeight/3", "rollout": "shop/v1.42", "service": "shop",
        "revision": "v1.42", "stage": "preWeight", "step": 2, "backend": "10.0.0.1:80",
        "revert": true, "event": null
    });
    assert_eq!(server.asked(), [("shop/7/preWeight/3".to_owned(), expected)]);
}

#[tokio::test]
async fn in_progress_is_asked_again_by_the_same_id() {
    let soon = says("IN_PROGRESS");
    let server = Server::start(vec![soon.clone(), soon, says("SUCCEEDED")]).await;
    let mut hooks = hooks();
    let asked = || [(key(0), call(url(&server), 30))];
    hooks.call(&about(), asked());
    // The machine asks at each tick for what is not there yet.
    for _ in 0..50 {
        hooks.call(&about(), asked());
    }
    assert_eq!(ended(&hooks, &key(0)).await, HookAnswer::Succeeded);
    hooks.call(&about(), asked());
    let ids: Vec<String> = server.asked().into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids, ["shop/7/preWeight/0"; 3]);
}

#[tokio::test]
async fn what_passes_is_tried_again() {
    let broken = Answer::Says(503, "down".to_owned());
    let odd = Answer::Says(200, "<html>".to_owned());
    let script = vec![broken, Answer::HangsUp, odd, says("SUCCEEDED")];
    let server = Server::start(script).await;
    assert_eq!(answer(url(&server), 30).await, HookAnswer::Succeeded);
    assert_eq!(server.asked().len(), 4);
}

#[tokio::test]
async fn a_server_that_comes_later_is_met() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut hooks = hooks();
    hooks.call(&about(), [(key(0), call(Target::Url(format!("http://{free}/hook")), 30))]);
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    let _server = Server::at(free, vec![says("SUCCEEDED")], None).await;
    assert_eq!(ended(&hooks, &key(0)).await, HookAnswer::Succeeded);
}

#[tokio::test]
async fn a_refusal_stays() {
    for (script, expected) in [
        (says("FAILED"), "so it is"),
        (Answer::Says(404, "no such hook".to_owned()), "status 404 Not Found: no such hook"),
    ] {
        let server = Server::start(vec![script]).await;
        assert_eq!(failed(&answer(url(&server), 30).await), expected);
        assert_eq!(server.asked().len(), 1);
    }
}

#[tokio::test]
async fn time_is_bounded_and_the_last_trouble_is_said() {
    let big = Answer::Says(200, " ".repeat(3 << 20));
    for (script, expected) in [
        (Answer::Nothing, "no answer within"),
        (says("IN_PROGRESS"), "at last: it is in progress: so it is"),
        (Answer::Says(500, "oops".to_owned()), "at last: status 500"),
        (big, "length limit exceeded"),
    ] {
        let server = Server::start(vec![script]).await;
        let start = Instant::now();
        let answer = answer(url(&server), 2).await;
        let took = start.elapsed();
        let why = failed(&answer);
        assert!(why.starts_with("it was not done within 2s") && why.contains(expected), "{why}");
        assert!((1_900..5_000).contains(&took.as_millis()), "{took:?}");
    }
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let answer = answer(Target::Url(format!("http://{dead}/")), 1).await;
    assert!(failed(&answer).contains("refused"), "{answer:?}");
}

#[tokio::test]
async fn a_slow_one_holds_nobody_up() {
    let [slow, fast] =
        [Server::start(vec![Answer::Nothing]).await, Server::start(vec![says("SUCCEEDED")]).await];
    let mut hooks = hooks();
    let start = Instant::now();
    let asked = [(key(0), call(url(&slow), 3600)), (key(1), call(url(&fast), 10))];
    hooks.call(&about(), asked);
    assert!(start.elapsed() < Duration::from_millis(200));
    assert_eq!(ended(&hooks, &key(1)).await, HookAnswer::Succeeded);
    assert_eq!(hooks.answers()[&key(0)], HookAnswer::InProgress);
}

/// An authority in PEM, and a server with its certificate for 127.0.0.1.
fn tls() -> (String, TlsAcceptor) {
    let authority = Authority::new().unwrap();
    let identity = authority.issue("hooks").unwrap();
    let provider = rustls::crypto::ring::default_provider();
    let certificate = CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    (authority.pem(), TlsAcceptor::from(Arc::new(config)))
}

#[tokio::test]
async fn https_is_judged_by_the_authorities() {
    let (authority, acceptor) = tls();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ca.pem");
    fs::write(&file, authority).unwrap();
    let any = "127.0.0.1:0".parse().unwrap();
    let server = Server::at(any, vec![says("SUCCEEDED")], Some(acceptor)).await;
    let target = Target::Url(format!("https://{}/hook", server.at));

    let mut trusting = Hooks::new(Http::new(Some(&file)).unwrap());
    trusting.call(&about(), [(key(0), call(target.clone(), 10))]);
    assert_eq!(ended(&trusting, &key(0)).await, HookAnswer::Succeeded);
    let answer = answer(target, 1).await;
    assert!(failed(&answer).contains("UnknownIssuer"), "{answer:?}");
    assert_eq!(server.asked().len(), 1);

    fs::write(&file, "no certificate").unwrap();
    let said = Http::new(Some(&file)).unwrap_err();
    assert!(said.contains("ca.pem: holds no certificate in PEM"), "{said}");
}
