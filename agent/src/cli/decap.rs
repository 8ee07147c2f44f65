//! `weir decap`

use std::{collections::HashSet, net::IpAddr, path::PathBuf};

use clap::{Args, Subcommand};
use comfy_table::Cell;

use super::{
    fail::Failure,
    figures::{bytes, count},
    output::Output,
    table::{
        Side::{Left, Right},
        Table, dim, text,
    },
};
use crate::{
    decap::{self, DEFAULT_BPFFS, GUE_PORT, NotRunning, Options, Totals},
    model::InterfaceSpec,
};

const NOTES: &str = "\
What the host must have:
  - The listener's address, which is the inner destination, so that the stack takes the packet:
      ip addr add 10.50.0.100/32 dev lo
    Where balancer and backends share a segment, keep the backend from answering ARP for it:
      sysctl net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2
  - For IPv4, a reverse path: the inner packet enters by the same interface, but its source is the
    client. Strict rp_filter (1) is fine where the route back to clients leaves by that interface;
    else set net.ipv4.conf.all.rp_filter and that of the interface to 2.
  - A smaller MSS toward clients, or a larger MTU between balancer and backend, where the outer
    header would make packets too big.

Whoever can send tunnelled packets to the host chooses their inner source address: let only
balancers send IP protocols 4 and 41, and UDP to the GUE port.

What is taken: IPv4 and IPv6 in each other, and GUE of variant 1, or of variant 0 without optional
fields. Left to the stack: packets to other addresses, fragments, and IPv6 with extension headers
before the tunnel's. Dropped: what holds no sound packet, and what met congestion (CE) although its
sender does not know ECN (RFC 6040). The outer UDP checksum is not looked at. One VLAN tag is kept,
by xdp also two; with tc, attach to the VLAN device where frames have two.";

/// Strip tunnels on a backend that has no tunnel devices, until SIGTERM or Ctrl-C.
///
/// Takes the outer headers off IPIP and GUE packets that are addressed to the host; what was inside goes on to the
/// host's stack as if it had come without.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_long_help = NOTES
)]
pub(super) struct Decap {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// Attach to this interface; repeat for more. MODE is xdp (native), xdp-generic or tc; without it, native XDP
    /// where the driver has it, and tc on veth and other virtual devices.
    #[arg(short, long = "interface", required = true, value_name = "NAME[:MODE]")]
    interfaces: Vec<InterfaceSpec>,
    /// Take packets to this address; repeat for more. Without it, to all addresses of the host, as they change.
    #[arg(short = 'a', long = "take", value_name = "ADDRESS")]
    addresses: Vec<IpAddr>,
    /// UDP port of GUE.
    #[arg(long, default_value_t = GUE_PORT, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    gue_port: u16,
    /// Pin the counters here, in a BPF file system, for `weir decap counters`.
    #[arg(long, default_value = DEFAULT_BPFFS, value_name = "DIR")]
    bpffs: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Counters(Counters),
}

/// Show what a running `weir decap` has counted since it started.
#[derive(Debug, Args)]
struct Counters {
    /// Where it pins its counters.
    #[arg(long, default_value = DEFAULT_BPFFS, value_name = "DIR")]
    bpffs: PathBuf,
}

impl Decap {
    pub(super) fn run(self, output: Output) -> Result<(), Failure> {
        if let Some(Verb::Counters(counters)) = self.verb {
            let totals = Totals::of_running(&counters.bpffs).map_err(|error| match error {
                NotRunning::None(_) => Failure::NoAgent(error.to_string()),
                other => Failure::Failed(other.to_string()),
            })?;
            return output.answer(&totals, render);
        }
        let mut names = HashSet::new();
        if let Some(twice) = self.interfaces.iter().find(|interface| !names.insert(&interface.name))
        {
            return Err(Failure::Usage(format!("--interface names {} twice", twice.name)));
        }
        let options = Options {
            interfaces: self.interfaces,
            addresses: self.addresses.into_iter().collect(),
            gue_port: self.gue_port,
            bpffs: self.bpffs,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(runtime.block_on(decap::run(options))?)
    }
}

fn render(totals: &Totals, colour: bool) -> String {
    let columns = [("STRIPPED", Left), ("PACKETS", Right), ("BYTES", Right)];
    let mut stripped = Table::new(&columns, colour);
    for one in &totals.stripped {
        let cells = [one.kind.to_owned(), count(one.packets), bytes(one.bytes)];
        stripped.row(cells.map(cell(one.packets)));
    }
    let columns = [("NOT STRIPPED", Left), ("REASON", Left), ("PACKETS", Right)];
    let mut others = Table::new(&columns, colour);
    for one in &totals.not_stripped {
        let cells = [one.verdict.to_owned(), one.reason.to_owned(), count(one.packets)];
        others.row(cells.map(cell(one.packets)));
    }
    format!("{}\n{}", stripped.render(), others.render())
}

/// Cells of a row with so many packets: what did not happen matters less.
fn cell(packets: u64) -> impl Fn(String) -> Cell {
    move |value| if packets == 0 { dim(value) } else { text(value) }
}
