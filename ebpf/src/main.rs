//! The BPF program: entry points only. See `route` for what becomes of a packet, `xdp` and `tc`
//! for how each hook rewrites and sends it, `rare` for what the TC program does in programs apart,
//! `maps` for what it knows.

#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]
#![allow(missing_docs, reason = "the macros of entry points make items of their own")]
#![allow(
    clippy::inline_always,
    reason = "the program is one function to the verifier: what touches a packet must be inlined"
)]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "the helpers' C types are wider or narrower than what they carry"
)]
#![allow(
    clippy::needless_borrows_for_generic_args,
    reason = "a key that is passed by value is copied to the stack first"
)]
#![allow(clippy::needless_pass_by_value, reason = "the macros of entry points pass by value")]
#![allow(
    unsafe_code,
    reason = "maps, helpers and packets are raw memory; each block says why it is sound"
)]

mod atomic;
mod count;
mod fib;
mod flows;
mod limit;
mod log;
mod maps;
mod rare;
mod route;
mod signal;
mod skb;
mod tc;
mod trace;
mod tunnel;
mod xdp;
mod xdp_frame;

use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};

/// The fast path, on interfaces whose mode is XDP. Jumbo frames come in several buffers.
#[xdp(frags)]
#[inline(always)]
fn weir_xdp(context: XdpContext) -> u32 {
    xdp::handle(&context)
}

/// The same in generic mode. For a program that takes several buffers the kernel copies a frame that
/// has too little room in front (Linux 6.9), and loses the length of its MAC header: the TC program
/// would read what it is left from the IP header on. For this one it makes room in the frame itself.
#[xdp]
#[inline(always)]
fn weir_xdp_generic(context: XdpContext) -> u32 {
    xdp::handle(&context)
}

/// The path with the whole stack at hand, on every interface.
#[classifier]
#[inline(always)]
fn weir_tc(context: TcContext) -> i32 {
    tc::handle(&context)
}

/// ICMP and ICMPv6, for `weir_tc`.
#[classifier]
#[inline(always)]
fn weir_tc_icmp(context: TcContext) -> i32 {
    rare::icmp::handle(&context)
}

/// What an ICMP error quotes, for `weir_tc_icmp`.
#[classifier]
#[inline(always)]
fn weir_tc_quote(context: TcContext) -> i32 {
    rare::quote::handle(&context)
}

/// Fragments, for `weir_tc`.
#[classifier]
#[inline(always)]
fn weir_tc_fragment(context: TcContext) -> i32 {
    rare::fragment::handle(&context)
}

/// Errors to senders, for the other TC programs.
#[classifier]
#[inline(always)]
fn weir_tc_reply(context: TcContext) -> i32 {
    rare::reply::handle(&context)
}

weir_ebpf::program!();
