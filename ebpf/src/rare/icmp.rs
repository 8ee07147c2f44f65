//! ICMP and ICMPv6 that come in: echo requests to a listener's address are answered, and errors
//! about a flow of ours go where that flow goes. All else is left to the stack.
//!
//! An error goes where a packet would go that answers the quoted one. Quoting a listener, it is
//! about an answer that a client was sent, and is for the backend; quoting a backend, it is about
//! a client's packet, and is for the client. Either must read its own packet in the quote, as it
//! has sent it: so the other end is translated there too.

use aya_ebpf::bindings::TC_ACT_SHOT;
use aya_ebpf::helpers::generated::bpf_redirect;
use aya_ebpf::programs::TcContext;
use weir_ebpf::abi::{FORWARD_NAT, FlowKey, HOOK_TC, PROGRAM_QUOTE, Reason};
use weir_ebpf::checksum::Delta;
use weir_ebpf::icmp::{self, HOP_LIMIT, Kind, Message, may_be_told};
use weir_ebpf::packet::{
    self, IPV4_CHECKSUM, IPV4_DESTINATION, IPV4_HOP_LIMIT, IPV6_DESTINATION, IPV6_HOP_LIMIT,
    Network,
};

use super::quote::Change;
use super::{HEADERS, ends, is_listener, may_speak};
use crate::count;
use crate::maps::{self, ANSWER, CHANGE, PACKET, QUOTE};
use crate::rare;
use crate::route::{self, Route, Side, Standing};
use crate::skb::SkbFrame;
use crate::tc::{self, Refused};
use crate::trace;

/// What is left to the stack, as the program that called has counted it before there was this one.
const NOT_OURS: Refused = Refused::Pass(Reason::NotTransport);

/// Handles a packet that is neither TCP nor UDP.
#[inline(always)]
pub(crate) fn handle(context: &TcContext) -> i32 {
    let frame = SkbFrame(context);
    frame.pull(HEADERS);
    let outcome = forward(&frame);
    tc::verdict(&frame, outcome)
}

#[inline(always)]
fn forward(frame: &SkbFrame) -> Result<i32, Refused> {
    let network = packet::network(frame).map_err(Refused::Pass)?;
    let message = icmp::message(frame, &network).ok_or(NOT_OURS)?;
    match message.kind {
        Kind::EchoRequest => echo(frame, &network, message),
        Kind::Error => error(frame, &network, message),
        Kind::Other => Err(NOT_OURS),
    }
}

/// Answers an echo request: the packet itself goes back.
#[inline(always)]
fn echo(frame: &SkbFrame, network: &Network, message: Message) -> Result<i32, Refused> {
    if !is_listener(network.destination) || !may_be_told(&network.source) {
        return Err(NOT_OURS);
    }
    let [to, from] = ends(frame).ok_or(NOT_OURS)?;
    if !may_speak() {
        return Ok(TC_ACT_SHOT);
    }
    answer(frame, network, message, [from, to]).map_err(Refused::Drop)?;
    count::reason(HOOK_TC, Reason::Echo);
    // SAFETY: the helper has no preconditions.
    Ok(unsafe { bpf_redirect(frame.ifindex(), 0) } as i32)
}

#[inline(always)]
fn answer(
    frame: &SkbFrame,
    network: &Network,
    message: Message,
    ends: [[u8; 6]; 2],
) -> Result<(), Reason> {
    let Network { l3, source, destination, .. } = *network;
    // The addresses only change places, which no sum notices.
    if source.is_v4() {
        frame.store(l3 + IPV4_DESTINATION - 4, &[destination.0[3], source.0[3]])?;
        let hops = |limit| u32::from(u16::from_ne_bytes([limit, network.protocol]));
        let (old, new) = (hops(network.hop_limit), hops(HOP_LIMIT));
        frame.ip_checksum(l3 + IPV4_CHECKSUM, old, new, 2)?;
        frame.store(l3 + IPV4_HOP_LIMIT, &HOP_LIMIT)?;
    } else {
        frame.store(l3 + IPV6_DESTINATION - 16, &[destination, source])?;
        frame.store_summed(l3 + IPV6_HOP_LIMIT, &HOP_LIMIT)?;
    }
    let reply = icmp::echo_reply(network.protocol);
    let checksum = Delta::default().half(message.type_code, reply).apply(message.checksum);
    frame.store(network.l4, &[reply, checksum])?;
    frame.store(0, &ends)
}

/// Sends an error where the flow goes that it is about.
#[inline(always)]
fn error(frame: &SkbFrame, network: &Network, message: Message) -> Result<i32, Refused> {
    let quote = icmp::quote(frame, network).ok_or(NOT_OURS)?;
    // Whoever sent the quoted packet is told of it. Anything else is no error, but an attempt.
    if network.destination != quote.key.source {
        return Err(NOT_OURS);
    }
    let quote = &*maps::keep(&QUOTE, quote).map_err(Refused::Drop)?;
    let answer = maps::keep(&ANSWER, network.packet()).map_err(Refused::Drop)?;
    let error = maps::keep(&PACKET, *answer).map_err(Refused::Drop)?;
    answer.key = reversed(&quote.key);
    let answer = &*answer;
    // In its place from the start: on the stack there is no room for it.
    let change = Change::of(error.l3, message.checksum);
    let change = maps::keep(&CHANGE, change).map_err(Refused::Drop)?;
    // First the way, then the quote: what has no way stays as it is.
    match route::route(answer, Standing::Follows) {
        Route::ToService(ours) => {
            let chosen = &route::choose(frame, answer, ours, Standing::Follows, |_, _| true);
            let chosen = chosen.as_ref().map_err(|reason| Refused::Drop(*reason))?;
            change.verdict = tc::to_backend(frame, error, chosen, Standing::Follows)?;
            trace::sent(chosen);
            if chosen.service.forwarding != FORWARD_NAT {
                count::reason(HOOK_TC, Reason::Quoted);
                return Ok(change.verdict); // the backend has the listener's address
            }
            change.side = Side::Source;
            (change.address, change.port) = (chosen.backend.address, chosen.backend.port);
        }
        Route::ToClient(back) => {
            // From the backend itself it is from the listener; a router stays what it is.
            change.outer = error.key.source == quote.key.destination;
            change.side = Side::Destination;
            change.address = if change.outer { back.address } else { error.key.source };
            let from = (&change.address, 0);
            change.verdict = tc::to_client(frame, error, from, Standing::Follows)?;
            (change.address, change.port) = (back.address, back.port);
        }
        Route::Pass(_) => return Err(NOT_OURS),
    }
    // Another program, for the verifier: here it would walk all of that once for each way.
    rare::call(frame, PROGRAM_QUOTE);
    Err(Refused::Drop(Reason::NoTable))
}

/// The flow of packets that answer those of `key`.
#[inline(always)]
fn reversed(key: &FlowKey) -> FlowKey {
    FlowKey {
        source: key.destination,
        destination: key.source,
        source_port: key.destination_port,
        destination_port: key.source_port,
        ..*key
    }
}
