//! Flows that are over: the program tells of them, and they are forgotten without a look at all flows,
//! after the time that late packets have; not if something was seen of them meanwhile.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::net::SocketAddr;

use weir::dataplane::kernel::Kernel;
use weir::dataplane::{DataPlane as _, Swept, Use};
use weir::node::Owner;
use weir::store::Directory;
use weir_ebpf::abi::{FlowKey, TCP};
use weir_tests::frames::{ACK, FIN, Frame, RST, SYN};
use weir_tests::moved::{self, CANARY, LISTENER};
use weir_tests::program::{PROGRAMS, Program, SMALL};

/// Seconds until a flow that is over is forgotten, and a time to begin with.
const AGE: u32 = 10;
const NOW: u32 = 1_000;

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A node whose every slot has just moved.
fn moved() -> (Owner<Kernel, Directory>, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    (moved::everything(SMALL, directory.path()).unwrap(), directory)
}

/// A connection from this port, of which the program sees packets.
#[derive(Clone, Copy)]
struct Connection<'a>(&'a Kernel, Program, u16);

impl Connection<'_> {
    fn client(self) -> SocketAddr {
        ("10.9.0.1".parse::<std::net::IpAddr>().unwrap(), self.2).into()
    }

    fn key(self) -> FlowKey {
        Frame::tcp(self.client(), at(LISTENER), SYN).key()
    }

    fn client_says(self, flags: u8) -> Self {
        let _ = self.1.run(self.0, &Frame::tcp(self.client(), at(LISTENER), flags).bytes());
        self
    }

    fn server_says(self, flags: u8) -> Self {
        let _ = self.1.run(self.0, &Frame::tcp(at(CANARY), self.client(), flags).bytes());
        self
    }

    fn is_remembered(self) -> bool {
        self.0.flow(&self.key()).unwrap().is_some()
    }
}

fn swept(forgotten: u64) -> Swept {
    Swept { forgotten, ended: true }
}

#[test]
fn flows_that_are_over_are_forgotten_in_time_and_no_others() {
    let (mut owner, _directory) = moved();
    for program in PROGRAMS {
        let kernel = owner.plane();
        let open = |port| {
            let flow = Connection(kernel, program, port).client_says(SYN);
            assert!(flow.is_remembered(), "{program:?}, port {port}");
            flow.server_says(SYN | ACK).client_says(ACK)
        };
        open(1_001).client_says(RST);
        open(1_002).server_says(RST | ACK);
        open(1_003).client_says(FIN | ACK).server_says(FIN | ACK).client_says(ACK);
        open(1_004).server_says(FIN | ACK).client_says(FIN | ACK).server_says(ACK);
        // It is told of with each change, and forgotten once.
        open(1_005).client_says(RST).client_says(RST).server_says(RST).client_says(FIN | ACK);
        let over = 1_001..=1_005;
        open(1_011);
        open(1_012).client_says(FIN | ACK).server_says(ACK);
        open(1_013).server_says(FIN | ACK).client_says(ACK);
        let not_over = 1_011..=1_013;
        assert_eq!(owner.plane().forget_closed(NOW, AGE).unwrap(), swept(0));
        assert_eq!(owner.plane().forget_closed(NOW + AGE - 1, AGE).unwrap(), swept(0));
        let kernel = owner.plane();
        let is_left = |port| Connection(kernel, program, port).is_remembered();
        assert!(over.clone().all(is_left), "{program:?}: {over:?} are left for late packets");
        assert_eq!(owner.plane().forget_closed(NOW + AGE, AGE).unwrap(), swept(5));
        let kernel = owner.plane();
        let is_left = |port: &u16| Connection(kernel, program, *port).is_remembered();
        assert_eq!(over.filter(is_left).count(), 0, "{program:?}");
        assert_eq!(not_over.clone().filter(is_left).count(), 3, "{program:?}");
        assert_eq!(owner.plane().forget_closed(NOW + 9 * AGE, AGE).unwrap(), swept(0));
        for port in not_over {
            let key = Connection(owner.plane(), program, port).key();
            assert!(owner.plane().remove_flow(&key).unwrap());
        }
    }
}

/// The client comes again from the same port, or says something more, after the flow was over.
#[test]
fn what_was_heard_of_since_stays() {
    let (mut owner, _directory) = moved();
    for program in PROGRAMS {
        let kernel = owner.plane();
        let (again, late) =
            (Connection(kernel, program, 1_001), Connection(kernel, program, 1_002));
        again.client_says(SYN).client_says(RST).client_says(SYN);
        late.client_says(SYN).client_says(RST);
        let (key, mut entry) = (late.key(), kernel.flow(&late.key()).unwrap().unwrap());
        entry.seen += 1;
        owner.plane().put_flow(&key, entry).unwrap();
        assert_eq!(owner.plane().forget_closed(NOW, AGE).unwrap(), swept(0));
        assert_eq!(owner.plane().forget_closed(NOW + AGE, AGE).unwrap(), swept(0));
        let left = owner.plane().flows(TCP).unwrap();
        assert_eq!(left.len(), 2, "{program:?}");
        for (key, _) in left {
            assert!(owner.plane().remove_flow(&key).unwrap());
        }
    }
}

/// More than one call forgets.
#[test]
fn many_are_forgotten_a_piece_at_a_time() {
    let (mut owner, _directory) = moved();
    let kernel = owner.plane();
    for port in 1_024..4_096 {
        Connection(kernel, Program::Tc, port).client_says(SYN).client_says(RST);
    }
    owner.plane().forget_closed(NOW, AGE).unwrap();
    let waits = |one: &Use| one.resource == "closed_flows" && one.used == 3_072;
    assert!(owner.plane().uses().iter().any(waits), "{:?}", owner.plane().uses());
    let mut calls = Vec::new();
    loop {
        let swept = owner.plane().forget_closed(NOW + AGE, AGE).unwrap();
        calls.push(swept.forgotten);
        if swept.ended {
            break;
        }
    }
    assert_eq!(calls, [512; 6]);
    assert_eq!(owner.plane().flows(TCP).unwrap(), []);
}
