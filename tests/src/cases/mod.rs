//! Packet cases as data: what a node is told, what has happened before, what comes in; what must
//! come out of each program, byte for byte, and what must be counted. All else must stay as it is.
//!
//! - this file: what a case is
//! - [`nodes`]: the nodes that the cases share, as specs that users write
//! - `modes`, `steering_nodes`: nodes for every mode and pair of families, and for steering
//! - [`run`]: runs cases through the loaded programs and says what was otherwise
//! - [`hashed`]: what outer headers show of a flow's hash
//! - [`table`]: what came of them, for people
//! - [`pcapng`]: writes what went in and came out, for Wireshark
//! - [`tshark`]: what Wireshark's eyes find in that
//! - the others: the cases, a topic each
//!
//! A node's services have one backend for each flow, so that an expectation never follows from
//! weir's own decision.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "only tests use it"
)]

mod any_port;
mod direct;
mod dsr_l2;
mod following;
mod fragments;
pub mod gue;
pub mod hashed;
mod icmp;
mod ipip;
mod left_alone;
mod malformed;
mod modes;
mod nat;
pub mod nodes;
mod options;
pub mod pcapng;
mod returns;
pub mod run;
mod steering;
mod steering_nodes;
pub mod table;
mod told;
mod too_big;
mod transition;
pub mod tshark;
mod vlan;

use weir::dataplane::next_hop::NextHop;
use weir_ebpf::abi::{Counters, FlowEntry, Reason, Signals};

use crate::packet::{Body, FIN, Packet, RST};
use crate::program::{Counts, Program, Verdict};
use nodes::{Node, Spec};

/// All cases.
#[must_use]
pub fn all() -> Vec<Case> {
    [
        nat::cases(),
        dsr_l2::cases(),
        ipip::cases(),
        gue::cases(),
        options::cases(),
        vlan::cases(),
        too_big::cases(),
        any_port::cases(),
        steering::cases(),
        malformed::cases(),
        left_alone::cases(),
        icmp::cases(),
        fragments::cases(),
        following::cases(),
        returns::cases(),
        transition::cases(),
    ]
    .concat()
}

/// One case.
#[must_use]
#[derive(Clone, Debug)]
pub struct Case {
    /// Unique, like a path: `nat/ipv4/tcp/syn`. What comes first is the topic.
    pub name: String,
    /// The node.
    pub node: &'static Spec,
    /// What has happened before.
    pub before: Vec<Before>,
    /// What comes in, several times in a row.
    pub input: Packet,
    /// What XDP makes of it.
    pub xdp: Outcome,
    /// What TC makes of it.
    pub tc: Outcome,
}

impl Case {
    /// The first part of its name.
    #[must_use]
    pub fn topic(&self) -> &str {
        self.name.split('/').next().unwrap_or_default()
    }

    /// The same, but that the flow is remembered all the same: by XDP only if it leaves it to nobody.
    pub fn and_remembered(mut self) -> Self {
        if self.xdp.verdict != Verdict::Pass {
            self.xdp.rises.push(Rise::Remembered);
        }
        self.tc.rises.push(Rise::Remembered);
        self
    }

    /// The same, but that the connection is established by it.
    pub fn and_established(mut self, backend: &'static str) -> Self {
        self.xdp.rises.push(Rise::Established(backend));
        self.tc.rises.push(Rise::Established(backend));
        self
    }

    /// What a program makes of it.
    #[must_use]
    pub fn outcome(&self, program: Program) -> &Outcome {
        match program {
            Program::Xdp => &self.xdp,
            Program::Tc => &self.tc,
        }
    }
}

/// What has happened before a case's input comes.
#[derive(Clone, Debug)]
pub enum Before {
    /// This frame came. What it shows outside of its flow's hash, the case's frames must show too.
    Came(Packet),
    /// The flow of this packet is remembered: its backend, and what its client has shown
    /// ([`weir_ebpf::abi::SEEN_SYN`] and the like).
    Remembered(Packet, &'static str, u8),
}

/// What becomes of a frame at one hook.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The verdict.
    pub verdict: Verdict,
    /// The frame after it; nothing: as it was.
    pub frame: Option<Packet>,
    /// What is counted.
    pub rises: Vec<Rise>,
}

impl Outcome {
    /// It goes on as it came, and is not counted: TC sees next what XDP passes.
    #[must_use]
    pub fn left() -> Self {
        Self { verdict: Verdict::Pass, frame: None, rises: Vec::new() }
    }

    /// It goes on as it came, for a reason.
    #[must_use]
    pub fn passed(reason: Reason) -> Self {
        Self { rises: vec![Rise::Reason(reason)], ..Self::left() }
    }

    /// It is dropped, for a reason.
    #[must_use]
    pub fn dropped(reason: Reason) -> Self {
        Self { verdict: Verdict::Drop, ..Self::passed(reason) }
    }

    /// It is sent as another frame, through another interface.
    #[must_use]
    pub fn sent(frame: Packet, rises: Vec<Rise>) -> Self {
        Self { verdict: Verdict::Redirect, frame: Some(frame), rises }
    }
}

/// A counter that rises.
#[derive(Clone, Copy, Debug)]
pub enum Rise {
    /// A reason, at the hook at which the outcome is.
    Reason(Reason),
    /// What a backend gets.
    In(In),
    /// What a backend sends.
    Out(&'static str),
    /// It is this backend's first answer to a SYN.
    Established(&'static str),
    /// The flow is remembered with the first packet, though no backend counts it.
    Remembered,
}

/// How a backend counts a packet that it gets.
#[derive(Clone, Copy, Debug)]
pub struct In {
    backend: &'static str,
    connections: Times,
    tracked: Times,
    flood: Times,
    steered: Times,
    again: Times,
}

/// At which of several equal packets in a row a counter rises.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Times {
    Never,
    First,
    Later,
    Each,
}

impl Times {
    fn count(self, round: usize) -> u64 {
        u64::from(match self {
            Self::Never => false,
            Self::First => round == 0,
            Self::Later => round > 0,
            Self::Each => true,
        })
    }
}

/// A packet within a connection, for this backend.
#[must_use]
pub const fn goes(backend: &'static str) -> In {
    use Times::Never;
    In { backend, connections: Never, tracked: Never, flood: Never, steered: Never, again: Never }
}

/// A SYN that begins a connection, for this backend. Those that are like it are the same SYN again.
#[must_use]
pub const fn begins(backend: &'static str) -> In {
    In { connections: Times::First, again: Times::Later, ..goes(backend) }
}

/// A datagram, for this backend: the first one begins a flow, which is remembered.
#[must_use]
pub const fn datagram(backend: &'static str) -> In {
    In { connections: Times::First, ..goes(backend) }.remembered()
}

impl In {
    /// The first of equal packets makes that the flow is remembered.
    #[must_use]
    pub const fn remembered(self) -> Self {
        Self { tracked: Times::First, ..self }
    }

    /// The connection that it begins is led to its version by a rule.
    #[must_use]
    pub const fn steered(self) -> Self {
        Self { steered: Times::First, ..self }
    }

    /// The flow cannot be remembered: flows come too fast.
    #[must_use]
    pub const fn flooded(self) -> Self {
        Self { flood: Times::Each, ..self }
    }
}

impl Rise {
    /// How many flows are remembered in a round.
    fn remembers(self, round: usize) -> u64 {
        match self {
            Self::In(counted) => counted.tracked.count(round),
            Self::Remembered => Times::First.count(round),
            Self::Reason(_) | Self::Out(_) | Self::Established(_) => 0,
        }
    }

    /// Adds what is counted for one frame.
    fn add(
        self,
        to: Counts,
        node: &Node,
        program: Program,
        round: usize,
        input: &Packet,
    ) -> Counts {
        let bytes = input.bytes().len() as u64;
        match self {
            Self::Reason(reason) => to.and_reason(program, reason),
            Self::Remembered => to,
            Self::Established(backend) => to.and_signals(node.index(backend), |signals| {
                signals.established += Times::First.count(round);
            }),
            Self::In(counted) => told(to, node.index(counted.backend), input, |signals, flags| {
                signals.resets_in += u64::from(flags & RST != 0);
                signals.fins_in += u64::from(flags & (FIN | RST) == FIN);
            })
            .and_signals(node.index(counted.backend), |signals| {
                signals.retransmissions += counted.again.count(round);
                signals.steered += counted.steered.count(round);
            })
            .and_backend(node.index(counted.backend), |counters| {
                *counters = Counters {
                    connections: counters.connections + counted.connections.count(round),
                    packets_in: counters.packets_in + 1,
                    bytes_in: counters.bytes_in + bytes,
                    tracked: counters.tracked + counted.tracked.count(round),
                    fallback_flood: counters.fallback_flood + counted.flood.count(round),
                    ..*counters
                }
            }),
            Self::Out(backend) => told(to, node.index(backend), input, |signals, flags| {
                signals.resets_out += u64::from(flags & RST != 0);
                signals.fins_out += u64::from(flags & (FIN | RST) == FIN);
            })
            .and_backend(node.index(backend), |counters| {
                counters.packets_out += 1;
                counters.bytes_out += bytes;
            }),
        }
    }
}

/// Adds what TCP's flags tell, where the input is TCP.
fn told(to: Counts, backend: usize, input: &Packet, add: impl FnOnce(&mut Signals, u8)) -> Counts {
    match &input.inner().body {
        Body::Tcp(tcp) => to.and_signals(backend, |signals| add(signals, tcp.flags)),
        _ => to,
    }
}

/// A case as far as its input: one of the methods says what must become of it.
#[must_use]
#[derive(Clone, Debug)]
pub struct Draft {
    name: String,
    node: &'static Spec,
    before: Vec<Before>,
    input: Packet,
}

/// Begins a case.
pub fn case(name: impl Into<String>, node: &'static Spec, input: Packet) -> Draft {
    Draft { name: name.into(), node, before: Vec::new(), input }
}

impl Draft {
    /// This frame came before.
    pub fn after(mut self, frame: Packet) -> Self {
        self.before.push(Before::Came(frame));
        self
    }

    /// The input's flow is remembered, with this backend and what its client has shown.
    pub fn remembered(mut self, backend: &'static str, client: u8) -> Self {
        self.before.push(Before::Remembered(self.input.clone(), backend, client));
        self
    }

    /// What must become of it at each hook.
    pub fn becomes(self, xdp: Outcome, tc: Outcome) -> Case {
        let Self { name, node, before, input } = self;
        Case { name, node, before, input, xdp, tc }
    }

    /// Both programs send it through `hop` as this frame, but for the MAC addresses and the tags:
    /// XDP writes those of the hop, TC leaves that to the interface.
    pub fn to_backend(self, frame: Packet, hop: &NextHop, counted: In) -> Case {
        let frame = frame.macs(hop.mac, hop.interface_mac).untagged();
        let tags = hop.tags.iter().filter(|tag| **tag != 0);
        let tagged = tags.fold(frame.clone(), |frame, tag| {
            let [p, q, high, low] = tag.to_ne_bytes();
            frame.tagged(u16::from_be_bytes([p, q]), u16::from_be_bytes([high, low]))
        });
        let tc = Outcome::sent(frame, vec![Rise::In(counted)]);
        let mut xdp = Outcome { frame: Some(tagged), ..tc.clone() };
        if hop.lower == nodes::HERE.interface {
            xdp.verdict = Verdict::Back;
        }
        self.becomes(xdp, tc)
    }

    /// XDP leaves it to TC, which lets the kernel find the way and sends it as this frame.
    pub fn to_backend_by_kernel(self, frame: Packet, counted: In) -> Case {
        let rises = vec![Rise::In(counted), Rise::Reason(Reason::Fib)];
        self.becomes(Outcome::left(), Outcome::sent(frame, rises))
    }

    /// Both programs send this backend's answer through `hop`, without tags, as this frame, but
    /// for the MAC addresses.
    pub fn to_client(self, frame: Packet, hop: &NextHop, backend: &'static str) -> Case {
        let frame = frame.macs(hop.mac, hop.interface_mac).untagged();
        let sent = Outcome::sent(frame, vec![Rise::Out(backend)]);
        self.becomes(sent.clone(), sent)
    }

    /// XDP leaves it to TC, which leaves it to the stack.
    pub fn passes(self, reason: Reason) -> Case {
        self.becomes(Outcome::left(), Outcome::passed(reason))
    }

    /// Both programs drop it.
    pub fn drops(self, reason: Reason) -> Case {
        self.becomes(Outcome::dropped(reason), Outcome::dropped(reason))
    }

    /// XDP leaves it to TC, which sends it as this frame, and counts a reason.
    pub fn tc_sends(self, frame: Packet, reason: Reason) -> Case {
        self.becomes(Outcome::left(), Outcome::sent(frame, vec![Rise::Reason(reason)]))
    }

    /// XDP leaves it to TC, which sends it to a backend as this frame, but for the MAC addresses.
    pub fn tc_to_backend(self, frame: Packet, hop: &NextHop, counted: In) -> Case {
        let frame = frame.macs(hop.mac, hop.interface_mac);
        self.becomes(Outcome::left(), Outcome::sent(frame, vec![Rise::In(counted)]))
    }

    /// XDP leaves it to TC, which drops it.
    pub fn tc_drops(self, reason: Reason) -> Case {
        self.becomes(Outcome::left(), Outcome::dropped(reason))
    }
}

/// An entry of the flow table as [`Before::Remembered`] makes it.
fn entry(backend: usize, client: u8, seen: u32) -> FlowEntry {
    FlowEntry { backend: u16::try_from(backend).unwrap(), client, server: 0, seen }
}
