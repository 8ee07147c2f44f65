//! Programs for `cargo xtask bench packet`: what runs the program under test, and what it is compared
//! with. They are never attached.
//!
//! - [`harness`]: puts the next frame in place of the last one, and calls the program under test
//! - `bench_nothing`: sends the frame as it is: what the harness itself costs
//! - [`floor`]: parse, swap addresses, send: what no balancer can be below
//! - [`textbook`]: what a balancer with a table of connections does at the least

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

mod floor;
mod harness;
mod place;
mod textbook;

use aya_ebpf::bindings::xdp_action::XDP_TX;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;

// All of one kind, like the program under test: else the kernel does not let one call another.

/// What is run.
#[xdp(frags)]
fn bench_harness(context: XdpContext) -> u32 {
    harness::handle(&context)
}

/// Does nothing.
#[xdp(frags)]
fn bench_nothing(_: XdpContext) -> u32 {
    XDP_TX
}

/// Parses, swaps addresses, sends.
#[xdp(frags)]
fn bench_floor(context: XdpContext) -> u32 {
    floor::handle(&context)
}

/// A balancer as it is in textbooks.
#[xdp(frags)]
fn bench_textbook(context: XdpContext) -> u32 {
    textbook::handle(&context)
}

weir_ebpf::program!();
