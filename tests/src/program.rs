//! The loaded program, run over frames by `BPF_PROG_TEST_RUN`: no interface, and nothing is sent.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "only tests use it"
)]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;

use nix::net::if_::{Interface, if_nameindex};
use nix::sched::{CloneFlags, unshare};
use weir::dataplane::kernel::{BpfLog, Kernel, LoadError, Options, Run};
use weir::dataplane::{Commit, DataPlane as _, Devices, Image, OuterSource, ReasonCounts};
use weir::plan::steering::Steering;
use weir::plan::tables::ServiceTables;
use weir_ebpf::abi::{
    Backend, Counters, HOOK_TC, HOOK_XDP, HOOKS, REASONS, Reason, Service, Signals,
};

use crate::frames::{ETHERNET, IPV6, address};

/// One of the two programs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Program {
    /// The fast path.
    Xdp,
    /// The one with the stack at hand.
    Tc,
}

/// Both.
pub const PROGRAMS: [Program; 2] = [Program::Xdp, Program::Tc];

/// What a verdict means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// To the next program, or the stack.
    Pass,
    /// Dropped.
    Drop,
    /// Out through the interface it came by.
    Back,
    /// Out through another interface.
    Redirect,
}

impl Program {
    /// The program's row in the counts of reasons.
    #[must_use]
    pub fn hook(self) -> usize {
        (match self {
            Self::Xdp => HOOK_XDP,
            Self::Tc => HOOK_TC,
        }) as usize
    }

    /// What the program said; nothing when it was aborted or said what it never may.
    #[must_use]
    pub fn verdict(self, said: i32) -> Option<Verdict> {
        match (self, said) {
            (Self::Xdp, 1) | (Self::Tc, 2) => Some(Verdict::Drop),
            (Self::Xdp, 2) | (Self::Tc, -1) => Some(Verdict::Pass),
            (Self::Xdp, 3) => Some(Verdict::Back),
            (Self::Xdp, 4) | (Self::Tc, 7) => Some(Verdict::Redirect),
            _ => None,
        }
    }

    /// Whether `BPF_PROG_TEST_RUN` takes this frame at all: no frame shorter than an Ethernet
    /// header, and for TC none whose IP header is cut short.
    #[must_use]
    pub fn takes(self, frame: &[u8]) -> bool {
        let least = match (self, frame.get(12..14)) {
            (Self::Tc, Some([0x08, 0x00])) => ETHERNET + 20,
            (Self::Tc, Some([0x86, 0xdd])) => ETHERNET + IPV6,
            _ => ETHERNET,
        };
        frame.len() >= least
    }

    /// Runs it once.
    #[must_use]
    pub fn run(self, kernel: &Kernel, frame: &[u8]) -> (Verdict, Vec<u8>) {
        self.said(self.run_once(kernel, frame))
    }

    /// Runs it once, and gives what the kernel says of the run.
    #[must_use]
    pub fn run_once(self, kernel: &Kernel, frame: &[u8]) -> Run {
        let run = match self {
            Self::Xdp => kernel.run_xdp(frame, 1),
            Self::Tc => kernel.run_tc(frame, 1),
        };
        run.expect("the kernel runs the program")
    }

    /// What a run of it means.
    #[must_use]
    pub fn said(self, run: Run) -> (Verdict, Vec<u8>) {
        let Some(verdict) = self.verdict(run.verdict) else {
            panic!("{self:?} said {} to {:02x?}", run.verdict, run.frame);
        };
        (verdict, run.frame)
    }
}

/// Sizes that load quickly and are enough for most tests.
pub const SMALL: Options = Options {
    flows: 16_384,
    udp_flows: 16_384,
    inserts_per_second: 1 << 30,
    pool_lines: 65_536,
    outer: OuterSource { v4: None, v6: None },
    icmp_per_second: 1 << 20,
    log: BpfLog::Off,
};

/// Index of the interface that [`load`] makes beside the loopback interface, whose is 1.
pub const AWAY: u32 = 7;

/// Loads the program, in a network namespace of the calling thread's own: there is nothing but a
/// loopback interface and one other, [`AWAY`], both without a route, whatever the machine's network
/// is.
#[must_use]
pub fn load(options: Options) -> Kernel {
    let rights = "these tests load a BPF program: run them as root";
    unshare(CloneFlags::CLONE_NEWNET).unwrap_or_else(|error| panic!("{rights} ({error})"));
    let index = AWAY.to_string();
    let pair = ["link", "add", "away", "index", &index, "type", "veth", "peer", "name", "there"];
    let made = Command::new("ip").args(pair).status().expect("ip, of the package iproute2");
    assert!(made.success(), "cannot make an interface: {rights}");
    match Kernel::load(options) {
        Ok(mut kernel) => {
            redirect_to_all(&mut kernel);
            kernel
        }
        Err(error @ LoadError::Rights) => panic!("{rights} ({error})"),
        Err(error) => panic!("{error}"),
    }
}

/// Lets the XDP program send out of every interface of the calling thread's namespace. Nothing is
/// ever sent.
pub fn redirect_to_all(kernel: &mut Kernel) {
    let interfaces = if_nameindex().expect("the interfaces");
    let indices: BTreeSet<u32> = interfaces.iter().map(Interface::index).collect();
    let devices = Devices { redirect: indices.clone(), in_buffers: indices.clone(), back: indices };
    kernel.set_devices(&devices).expect("all are there");
}

/// Lets the namespace of the calling thread forward packets, or not.
pub fn set_forwarding(on: bool) {
    let value = if on { "1" } else { "0" };
    for family in ["ipv4", "ipv6"] {
        let path = format!("/proc/sys/net/{family}/conf/all/forwarding");
        std::fs::write(&path, value).unwrap_or_else(|error| panic!("{path}: {error}"));
    }
}

/// A backend's record, without a next hop.
#[must_use]
pub fn backend(at: SocketAddr) -> Backend {
    Backend { address: address(at.ip()), port: at.port().to_be(), ..Backend::default() }
}

/// What the program shall see of a service, by the parts that `slots` reads.
#[must_use]
pub fn image(service: &Service, tables: &ServiceTables) -> Image {
    steered_image(service, tables, &Steering::default())
}

/// The same with steering entries.
#[must_use]
pub fn steered_image(service: &Service, tables: &ServiceTables, steering: &Steering) -> Image {
    let (tables, steering) = (Arc::new(tables.clone()), Arc::new(steering.clone()));
    Image { record: *service, tables, steering }
}

/// Makes a commit that must succeed.
pub fn commit(kernel: &mut Kernel, commit: Commit) {
    kernel.commit(&Commit { generation: 1, ..commit }).expect("a commit");
}

/// All counters of the program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Counts {
    /// Of backends, by index.
    pub backends: Vec<Counters>,
    /// Their signals.
    pub signals: Vec<Signals>,
    /// Of everything else.
    pub reasons: ReasonCounts,
}

impl Counts {
    /// Nothing counted, for so many backends.
    #[must_use]
    pub fn none(backends: u16) -> Self {
        Self {
            backends: vec![Counters::default(); usize::from(backends)],
            signals: vec![Signals::default(); usize::from(backends)],
            reasons: [[0; REASONS]; HOOKS as usize],
        }
    }

    /// As they are, of the first so many backends.
    #[must_use]
    pub fn read(kernel: &Kernel, backends: u16) -> Self {
        Self {
            backends: (0..backends).map(|index| kernel.counters(index)).collect(),
            signals: (0..backends).map(|index| kernel.signals(index)).collect(),
            reasons: kernel.reasons(),
        }
    }

    /// What has been counted since `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let mut reasons = self.reasons;
        for (row, old) in reasons.iter_mut().flatten().zip(before.reasons.iter().flatten()) {
            *row -= old;
        }
        let pairs = self.backends.iter().zip(&before.backends);
        let backends = pairs.map(|(new, old)| minus(new, old)).collect();
        let pairs = self.signals.iter().zip(&before.signals);
        Self { backends, signals: pairs.map(|(new, old)| fewer(new, old)).collect(), reasons }
    }

    /// Adds one packet to a program's reason.
    #[must_use]
    pub fn and_reason(mut self, program: Program, reason: Reason) -> Self {
        self.reasons[program.hook()][reason as usize] += 1;
        self
    }

    /// Changes a backend's counters.
    #[must_use]
    pub fn and_backend(mut self, backend: usize, change: impl FnOnce(&mut Counters)) -> Self {
        change(&mut self.backends[backend]);
        self
    }

    /// Changes a backend's signals.
    #[must_use]
    pub fn and_signals(mut self, backend: usize, change: impl FnOnce(&mut Signals)) -> Self {
        change(&mut self.signals[backend]);
        self
    }
}

fn minus(new: &Counters, old: &Counters) -> Counters {
    Counters {
        connections: new.connections - old.connections,
        packets_in: new.packets_in - old.packets_in,
        bytes_in: new.bytes_in - old.bytes_in,
        packets_out: new.packets_out - old.packets_out,
        bytes_out: new.bytes_out - old.bytes_out,
        tracked: new.tracked - old.tracked,
        fallback_full: new.fallback_full - old.fallback_full,
        fallback_flood: new.fallback_flood - old.fallback_flood,
    }
}

fn fewer(new: &Signals, old: &Signals) -> Signals {
    macro_rules! minus {
        ($($field:ident),*) => {
            Signals { $($field: new.$field - old.$field,)* pad: [0; 2] }
        };
    }
    minus!(
        retransmissions,
        established,
        refused,
        unanswered,
        abandoned,
        lost_samples,
        resets_in,
        resets_out,
        early_resets,
        fins_in,
        fins_out,
        failing_clients,
        steered,
        handshake_ns
    )
}
