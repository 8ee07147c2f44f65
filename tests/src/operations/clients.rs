//! What clients do, and what the model expects of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use weir::dataplane::DataPlane as _;
use weir::node::clock;
use weir_ebpf::abi::FlowEntry;

use super::model::Flow;
use super::world::{INDICES, SEED, World};
use crate::frames::{self, Frame, read};
use crate::program::{PROGRAMS, Verdict};

impl World {
    /// A network of clients: four of them, by number.
    pub(super) fn network(&self, number: u8) -> String {
        let number = number % 4;
        if self.setting.ipv6 {
            format!("2001:db8::{number}00/120")
        } else {
            format!("192.0.{number}.0/24")
        }
    }

    pub(super) fn frame(&self, number: u32, flags: u8) -> (Frame, u8) {
        let [.., a, b] = number.to_be_bytes();
        let (network, host) = (b % 4, 1 + a % 200);
        let address: IpAddr = if self.setting.ipv6 {
            let last = u16::from(network) << 8 | u16::from(host);
            Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last).into()
        } else {
            Ipv4Addr::new(192, 0, network, host).into()
        };
        let port = 1_024 + u16::try_from(number % 60_000).unwrap();
        (Frame::tcp((address, port).into(), self.listener(), flags), network)
    }

    /// Sends a packet of a flow, and gives the backend that it reached.
    pub(super) fn send(&mut self, number: u32, flags: u8) -> Result<Option<SocketAddr>, String> {
        let (frame, _) = self.frame(number, flags);
        self.tally.packets += 1;
        let program = PROGRAMS[usize::from(self.tally.packets.is_multiple_of(2))];
        let said = if self.setting.traced { Some(self.trace(&frame, flags)?) } else { None };
        let (verdict, out) = program.run(self.kernel(), &frame.bytes());
        let key = frame.key();
        // The kernel's clock stands still while hours pass here.
        let entry = self.kernel().flow(&key).map_err(|error| error.to_string())?;
        if let Some(entry) = entry {
            let entry = FlowEntry { seen: clock::seconds(), ..entry };
            self.kernel().put_flow(&key, entry).map_err(|error| error.to_string())?;
        }
        let reached = match verdict {
            Verdict::Redirect => Some(read(&out)?.to),
            Verdict::Drop => None,
            other => return Err(format!("{program:?}: {other:?}")),
        };
        if let Some((at, walk)) = said.filter(|(at, _)| *at != reached) {
            return Err(format!("flow {number} reached {reached:?}, not {at:?} as said: {walk}"));
        }
        self.tally.traced += u64::from(self.setting.traced);
        Ok(reached)
    }

    pub(super) fn open(&mut self) -> Result<(), String> {
        let number = if self.next_flow % 3 == 2 { self.reset.pop() } else { None };
        let number = number.unwrap_or_else(|| {
            self.next_flow += 1;
            self.next_flow
        });
        let before = self.fallbacks();
        let (frame, network) = self.frame(number, frames::SYN);
        let home = self.send(number, frames::SYN)?;
        let home = home.ok_or("a new flow was dropped")?;
        let fell_back = self.fallbacks() > before;
        let version = self.spec.version(SEED, &frame.key(), network);
        // One that others stand in for is where the weights lead all the same.
        let may = [version, self.spec.asked(SEED, &frame.key())];
        let off = self.rolled_back && !self.steered;
        if fell_back && off && !self.versions.get(&home).is_some_and(|at| may.contains(at)) {
            return Err(format!("flow {number} of {version} went to {home} after a rollback"));
        }
        if fell_back {
            self.tally.fallbacks += 1;
        } else if !self.spec.ready(version).contains(&home) {
            return Err(format!("new flow {number} of version {version} went to {home}"));
        }
        self.tally.flows += 1;
        // A flow of which nothing but a SYN was ever seen need not be remembered for long.
        let mut flow = Flow { number, home, spoke: clock::seconds() };
        self.go_on(&mut flow, frames::ACK)?;
        self.live.push(flow);
        Ok(())
    }

    /// Flows that found no room, or came too fast, so far.
    pub(super) fn fallbacks(&mut self) -> u64 {
        let kernel = self.kernel();
        let counters = (0..INDICES).map(|index| kernel.counters(index));
        counters.map(|counters| counters.fallback_full + counters.fallback_flood).sum()
    }

    /// The model: a flow stays where it began.
    pub(super) fn go_on(&mut self, flow: &mut Flow, flags: u8) -> Result<(), String> {
        let reached = self.send(flow.number, flags)?;
        if reached != Some(flow.home) {
            let Flow { number, home, .. } = flow;
            return Err(format!("flow {number} began at {home} and reached {reached:?}"));
        }
        flow.spoke = clock::seconds();
        Ok(())
    }

    pub(super) fn speak(&mut self, count: u16) -> Result<(), String> {
        self.live.sort_by_key(|flow| (flow.spoke, flow.number));
        let count = usize::from(count).min(self.live.len());
        for at in 0..count {
            let mut flow = self.live[at];
            self.go_on(&mut flow, frames::PSH | frames::ACK)?;
            self.live[at] = flow;
        }
        Ok(())
    }

    /// By FIN, by RST, or without a word.
    pub(super) fn end(&mut self, number: u16) -> Result<(), String> {
        if self.live.is_empty() {
            return Ok(());
        }
        let at = usize::from(number) * 7 % self.live.len();
        let mut flow = self.live.swap_remove(at);
        match number % 3 {
            0 => self.go_on(&mut flow, frames::FIN | frames::ACK),
            1 => {
                self.reset.push(flow.number);
                self.go_on(&mut flow, frames::RST)
            }
            _ => Ok(()),
        }
    }
}
