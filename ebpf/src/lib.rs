//! weir's packet path, as far as it needs no kernel: the program for the BPF target and the host
//! share every line here, so what the tests prove of the one holds for the other.
//!
//! - [`abi`]: what lies in the maps, byte for byte
//! - [`packet`]: from a frame to the flow it belongs to; [`frame`]: how headers are read
//! - [`fragment`]: the same where a packet comes in pieces
//! - [`icmp`]: the errors and echoes that a balancer takes part in
//! - [`outer`]: what is put around a packet in a tunnel
//! - [`quic`]: what a datagram of a QUIC service tells
//! - [`latency`]: times in buckets
//! - [`handshake`]: how the end of a handshake is found out
//! - [`hash`]: the keyed hash that turns a flow into slots
//! - [`decide`]: the rules by which a flow gets a version and a backend
//! - [`listener_table`]: how a listener is found
//! - [`flow_table`]: how the table of TCP flows is read and written
//! - [`checksum`]: incremental Internet checksums
//! - [`decap`]: from a frame to the tunnel that it came by, for `weir decap`
//! - [`mod@bench`]: what the benchmark's programs and who runs them agree on
//! - [`program!`]: what every object has beside its programs
//! - [`unaligned`]: words in a packet; [`opaque`]: values that the verifier is to forget
//!
//! Nothing here allocates, panics or loops without a bound.

#![cfg_attr(not(test), no_std)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]
#![allow(
    clippy::inline_always,
    reason = "the program is one function to the verifier: what touches a packet must be inlined"
)]
#![allow(clippy::cast_possible_truncation, reason = "words are cut to their low bits on purpose")]
#![allow(unsafe_code, reason = "headers are read from raw bytes; each block says why it is sound")]

pub mod abi;
pub mod bench;
pub mod checksum;
pub mod decap;
pub mod decide;
pub mod flow_table;
pub mod fragment;
pub mod frame;
pub mod handshake;
pub mod hash;
pub mod icmp;
pub mod latency;
pub mod listener_table;
pub mod opaque;
pub mod outer;
pub mod packet;
mod program;
pub mod quic;
pub mod unaligned;
