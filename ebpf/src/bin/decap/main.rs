//! The decapsulator for backends: a program of its own, with small maps of its own, so that a
//! backend has none of the balancer's. What is stripped, and why something is not, is decided by
//! `weir_ebpf::decap`; here is how each hook does it.

#![no_std]
#![no_main]
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
#![allow(clippy::needless_pass_by_value, reason = "the macros of entry points pass by value")]
#![allow(
    unsafe_code,
    reason = "maps, helpers and packets are raw memory; each block says why it is sound"
)]

mod maps;
mod tc;
mod xdp;

use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};

/// On interfaces whose mode is XDP. The headers lie in the first buffer of a frame in several.
#[xdp(frags)]
fn weir_decap_xdp(context: XdpContext) -> u32 {
    xdp::handle(&context)
}

/// The same in generic mode: there the kernel would spoil a frame that has too little room in front
/// for whoever looks at it behind a program that takes several buffers (Linux 6.9).
#[xdp]
fn weir_decap_xdp_generic(context: XdpContext) -> u32 {
    xdp::handle(&context)
}

/// On the others.
#[classifier]
fn weir_decap_tc(context: TcContext) -> i32 {
    tc::handle(&context)
}

weir_ebpf::program!();
