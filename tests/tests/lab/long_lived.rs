//! Long-lived connections are judged, and each way to break one is noticed.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use weir_tests::identity::{Identity, Version};
use weir_tests::lab::addresses::{ECHO_PORT, FAR_END, Family, backend};
use weir_tests::lab::spec::Protocol;
use weir_tests::lab::{Lab, LabBuilder};
use weir_tests::load::Fault;
use weir_tests::load::long_lived::{LongLived, LongLivedPlan};

use crate::{direct, small_lab};

fn long_lived(lab: &Lab, target: SocketAddr) -> LongLivedPlan {
    LongLivedPlan::new(target, lab.client_addresses(Family::of(target.ip())), 40)
        .talking(20, Duration::from_millis(50))
        .stall_after(Duration::from_secs(1))
}

#[test]
fn long_lived_connections_stay_and_are_counted() {
    let lab = small_lab();
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        for family in Family::ALL {
            let target = direct(family, Version::Canary, ECHO_PORT);
            let load = LongLived::open(lab.clients(), long_lived(&lab, target).protocol(protocol))
                .unwrap();
            load.state().check().unwrap();
            std::thread::sleep(Duration::from_millis(300));
            let before = load.state();
            assert!(before.exchanges() >= 20, "the talking half is silent: {before}");
            assert!(before.connections[20..].iter().all(|silent| silent.exchanges == 0));
            let after = load.verify();
            after.check().unwrap();
            assert_eq!(after.by_version(), [0, 0, 40]);
            assert!(after.connections[20..].iter().all(|silent| silent.exchanges == 1));
            let served = lab.served()[&Identity { version: Version::Canary, address: target.ip() }];
            match protocol {
                Protocol::Tcp => assert_eq!(served.echo_connections, 40),
                Protocol::Udp => {
                    let state = load.state();
                    let sent: u64 =
                        state.connections.iter().map(|flow| 1 + flow.exchanges + flow.resent).sum();
                    assert!(
                        served.datagrams >= sent,
                        "{} datagrams, {sent} sent",
                        served.datagrams
                    );
                }
            }
        }
    }
}

#[test]
fn a_server_that_ends_is_noticed_at_once() {
    let mut lab = small_lab();
    let load = LongLived::open(
        lab.clients(),
        long_lived(&lab, direct(Family::V4, Version::Blue, ECHO_PORT)),
    )
    .unwrap();
    load.verify().check().unwrap();
    lab.stop_servers(Version::Blue);
    let state = load.verify();
    assert_eq!(state.healthy(), 0, "{state}");
    assert_eq!(state.faults().values().sum::<usize>(), 40);
    assert!(state.check().is_err());
    let again = LongLived::open(
        lab.clients(),
        long_lived(&lab, direct(Family::V4, Version::Blue, ECHO_PORT)),
    )
    .unwrap();
    assert_eq!(again.state().faults().into_iter().collect::<Vec<_>>(), [(Fault::Refused, 40)]);
}

#[test]
fn a_silent_path_is_a_stall() {
    let lab = small_lab();
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let load = LongLived::open(
            lab.clients(),
            long_lived(&lab, direct(Family::V4, Version::Blue, ECHO_PORT)).protocol(protocol),
        )
        .unwrap();
        lab.version(Version::Blue)
            .ip(&["route del default".to_owned(), "route add blackhole default".to_owned()])
            .unwrap();
        let state = load.verify();
        assert_eq!(
            state.faults().into_iter().collect::<Vec<_>>(),
            [(Fault::Stalled, 40)],
            "{state}"
        );
        lab.version(Version::Blue)
            .ip(&[
                "route del blackhole default".to_owned(),
                "route add default via 10.61.0.1".to_owned(),
            ])
            .unwrap();
    }
}

/// What a load balancer that forgets does: the flows of one backend arrive at another.
#[test]
fn flows_that_move_to_another_backend_are_broken() {
    for (protocol, moved) in [(Protocol::Tcp, false), (Protocol::Udp, true)] {
        let lab = small_lab();
        let target = direct(Family::V4, Version::Blue, ECHO_PORT);
        let green: IpAddr = backend(Family::V4, Version::Green, 0);
        let load =
            LongLived::open(lab.clients(), long_lived(&lab, target).protocol(protocol)).unwrap();
        load.verify().check().unwrap();
        // Green takes blue's address, and a redirection sends it to green's own server.
        lab.version(Version::Green)
            .ip(&[format!("address add {}/32 dev {FAR_END}", target.ip())])
            .unwrap();
        let stand_in = moved
            .then(|| lab.version(Version::Green).spawn(move || stand_in(target, green)).unwrap());
        std::thread::sleep(Duration::from_millis(100));
        lab.lb().ip(&[format!("route add {}/32 via {green}", target.ip())]).unwrap();
        let state = load.verify();
        assert_eq!(state.healthy(), 0, "{state}");
        let fault = *state.faults().keys().next().unwrap();
        match protocol {
            Protocol::Tcp => assert_eq!(fault, Fault::Reset),
            Protocol::Udp => assert!(
                matches!(fault, Fault::Moved { to, .. } if to.version == Version::Green),
                "{fault}"
            ),
        }
        assert_eq!(state.faults().len(), 1, "{state}");
        drop(stand_in);
    }
}

/// A green echo server on another address.
async fn stand_in(at: SocketAddr, green: IpAddr) {
    let socket = tokio::net::UdpSocket::bind(at).await.unwrap();
    let mut datagram = [0; 256];
    loop {
        let (length, client) = socket.recv_from(&mut datagram).await.unwrap();
        let mut answer = format!("green {green}\n").into_bytes();
        answer.extend(&datagram[..length]);
        socket.send_to(&answer, client).await.unwrap();
    }
}

#[test]
fn two_thousand_connections_are_held_and_verified() {
    let lab = LabBuilder::new().start().unwrap();
    let target = direct(Family::V6, Version::Green, ECHO_PORT);
    let clients = lab.client_addresses(Family::V6);
    let started = Instant::now();
    let load = LongLived::open(lab.clients(), LongLivedPlan::new(target, clients, 2000)).unwrap();
    let opened = started.elapsed();
    for _ in 0..5 {
        load.verify().check().unwrap();
    }
    let in_all = started.elapsed();
    println!("2000 connections: opened in {opened:?}, verified five times by {in_all:?}");
    assert_eq!(load.state().by_version(), [0, 2000, 0]);
    assert!(in_all < Duration::from_secs(30));
}
