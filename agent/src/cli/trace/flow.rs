//! `weir trace flow`

use std::net::SocketAddr;

use clap::Args;

use crate::cli::{
    fail::Failure,
    figures::count,
    output::Output,
    table::{Side::Left, Table, dim, text, warning},
};
use crate::{
    client::Client,
    model::{Protocol, ServiceName, Version},
    node::trace::answer::{
        FlowTrace, RememberedFlow, SteeredBy, TraceFlow, TracedBackend, TracedBackendSlot, Walked,
        Way,
    },
};

/// Show why the packets of one flow go where they go: the way through the kernel's tables, read
/// back. Nothing is changed.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  weir trace flow --from 10.50.3.7:51515 --to 10.50.0.100:80
  weir trace flow shop --from [fd00::7]:51515 --udp -o json")]
pub(super) struct Flow {
    /// The service that is meant. It is refused if the listener is another's.
    #[arg(value_name = "SERVICE", value_parser = ServiceName::new)]
    service: Option<ServiceName>,
    /// The client.
    #[arg(long, value_name = "ADDRESS:PORT")]
    from: SocketAddr,
    /// Where it connects to; without it, the service's only listener.
    #[arg(long, value_name = "ADDRESS:PORT", required_unless_present = "service")]
    to: Option<SocketAddr>,
    /// A TCP connection, which is what is meant if nothing is said.
    #[arg(long, conflicts_with = "udp")]
    tcp: bool,
    /// Datagrams.
    #[arg(long)]
    udp: bool,
}

impl Flow {
    pub(super) async fn run(self, mut client: Client, output: Output) -> Result<(), Failure> {
        let protocol = if self.udp { Protocol::Udp } else { Protocol::Tcp };
        let asked = TraceFlow { from: self.from, to: self.to, protocol, service: self.service };
        output.answer(&client.trace_flow(&asked).await?, render)
    }
}

/// One step a line, from the packet to its backend.
fn render(trace: &FlowTrace, colour: bool) -> String {
    let mut table = Table::new(&[("STEP", Left), ("FOUND", Left)], colour);
    let mut step = |name: &str, found: String| table.row([dim(name), text(found)]);
    step("flow", format!("{} → {} {}", trace.from, trace.to, trace.protocol));
    let answer = if let Some(walk) = &trace.walk {
        steps(walk, trace.generation, &mut step);
        answer(walk, trace.protocol)
    } else {
        step("listener", "none".to_owned());
        trace.not_taken.clone().unwrap_or_default()
    };
    let dropped = trace.walk.as_ref().is_none_or(|w| w.opens.goes.is_none());
    table.row([dim("answer"), if dropped { warning(answer) } else { text(answer) }]);
    table.render()
}

fn steps(walk: &Walked, generation: u64, step: &mut impl FnMut(&str, String)) {
    let Walked { service, listener, forwarding, affinity, .. } = walk;
    let udp = walk.udp.as_ref().map(|udp| format!(", udp {udp}")).unwrap_or_default();
    step("listener", format!("{listener} of {service}: {forwarding}, affinity {affinity}{udp}"));
    step("tables", format!("of commit {}; the last one is {generation}", walk.generation));
    let Walked { slot, slots, backend, hash, .. } = walk;
    step("hash", format!("version slot {slot} of {slots}, backend slots by {hash:#010x}"));
    let of = |cur: &dyn ToString, base: &dyn ToString, tracked: bool| {
        let (cur, base) = (cur.to_string(), base.to_string());
        let older = if cur == base { String::new() } else { format!(", older flows to {base}") };
        let tracked = if tracked { "; has moved: flows are looked up" } else { "" };
        format!("to {cur}{older}{tracked}")
    };
    step("version slot", of(&walk.table.cur, &walk.table.base, walk.table.tracked));
    if let Some(steering) = &walk.steering {
        step("steering", steered(steering, &of));
        let now = &walk.version;
        step("version", of(&now.cur, &now.base, now.tracked));
    } else {
        step("steering", "no rule for this client".to_owned());
    }
    for place in std::iter::once(backend).chain(&walk.base) {
        let TracedBackendSlot { version, slot, slots, tracked, .. } = place;
        let to = of(&name(place.cur.as_ref()), &name(place.base.as_ref()), *tracked);
        step("backend slot", format!("{slot} of {version}'s {slots}: {to}"));
    }
    step("flow table", flow_table(walk));
    if let Some(room) = walk.room {
        let (used, capacity) = (count(room.used), count(room.capacity));
        let refusing = match room.refusing {
            0 => String::new(),
            n => format!("; {n} of {} processors refuse: new flows come too fast", room.processors),
        };
        step(
            "room",
            format!("{used} of the {capacity} places that it may have are taken{refusing}"),
        );
    }
    if walk.opens == walk.continues {
        step("any packet", way(&walk.opens));
    } else {
        step("opens", way(&walk.opens));
        step("continues", way(&walk.continues));
    }
    for goes in hops(walk) {
        step("next hop", goes);
    }
}

fn steered(
    steering: &SteeredBy,
    of: &dyn Fn(&dyn ToString, &dyn ToString, bool) -> String,
) -> String {
    let version = |version: Option<Version>| {
        version.map_or_else(|| "the table's".to_owned(), |version| version.to_string())
    };
    let (cur, base) = (version(steering.cur), version(steering.base));
    format!("{}: {}", steering.prefix, of(&cur, &base, steering.tracked))
}

fn name(backend: Option<&TracedBackend>) -> String {
    backend.map_or_else(|| "no backend".to_owned(), |backend| backend.address.to_string())
}

/// `canary 10.63.0.2:80`
fn full_name(backend: &TracedBackend) -> String {
    let version = backend.version.map_or("removed", Version::name);
    format!("{version} {}", backend.address)
}

fn flow_table(walk: &Walked) -> String {
    let tracked = walk.version.tracked || walk.backend.tracked;
    match (&walk.remembered, walk.udp.as_deref()) {
        (_, Some("stateless")) => "not kept: the service is stateless".to_owned(),
        (Some(flow), udp) => {
            let asked = tracked || udp == Some("tracked");
            let not = if asked { "" } else { "not asked, for neither slot has moved; " };
            format!("{not}{}", remembered(flow))
        }
        (None, Some("tracked")) => "not remembered".to_owned(),
        (None, _) if tracked => "not remembered".to_owned(),
        (None, _) => "not asked, for neither slot has moved".to_owned(),
    }
}

fn remembered(flow: &RememberedFlow) -> String {
    let side = |seen: &[String]| match seen {
        [] => "nothing".to_owned(),
        seen => seen.join("+"),
    };
    let (client, server) = (side(&flow.client), side(&flow.server));
    let void = flow.void.as_ref().map(|void| format!("; but {void}")).unwrap_or_default();
    let to = full_name(&flow.backend);
    format!("at {to}, seen {}s ago; of client {client}, of server {server}{void}", flow.seen_s)
}

fn way(way: &Way) -> String {
    let to = way.goes.as_ref().map_or("dropped".to_owned(), |goes| full_name(&goes.backend));
    format!("{to} ({}): {}", way.why, way.because)
}

/// The next hops of where packets go, each once.
fn hops(walk: &Walked) -> Vec<String> {
    let mut hops = Vec::new();
    for goes in [&walk.opens, &walk.continues].into_iter().filter_map(|way| way.goes.as_ref()) {
        let hop = goes.hop.as_ref().map_or_else(
            || "not known; the kernel looks it up for each packet".to_owned(),
            |hop| format!("{} through {}", hop.mac, hop.interface),
        );
        let line = format!("of {}: {hop}", goes.backend.address);
        if !hops.contains(&line) {
            hops.push(line);
        }
    }
    hops
}

/// The answer in one line.
fn answer(walk: &Walked, protocol: Protocol) -> String {
    let to = |way: &Way| match &way.goes {
        Some(goes) => format!("goes to {}", full_name(&goes.backend)),
        None => "is dropped".to_owned(),
    };
    let (opens, continues) = (to(&walk.opens), to(&walk.continues));
    let quic = walk.udp.as_deref() == Some("quic");
    let named = if quic { "; one whose connection id names a server goes there" } else { "" };
    if opens == continues {
        return format!("each packet {opens}{named}");
    }
    let opening = if protocol == Protocol::Tcp { "a SYN" } else { "an Initial" };
    format!("{opening} {opens}; any other packet {continues}{named}")
}
