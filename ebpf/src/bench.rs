//! What the benchmark's programs and who runs them agree on. See `bin/bench`.

/// Words of 64 bits of each frame that are put back before each run: all headers.
pub const FRAME_WORDS: usize = 10;
/// Bytes of the first of them that are not written. So none of the others ends within a word of the IP
/// header, at which a processor would have to wait for both of two writes; a network card is done before.
pub const FRAME_SKIPS: usize = 6;
/// Bytes of each frame.
pub const FRAME_LEN: usize = 96;
/// Place of the program under test in `TARGET`.
pub const TARGET: u32 = 0;

/// Words of `STATE`: how often the harness has run,
pub const RUNS: usize = 0;
/// where the flows at hand begin in `FRAMES`,
pub const FIRST: usize = 1;
/// and how many there are, less one. A power of two less one.
pub const MASK: usize = 2;

/// Entries of the textbook program's table of connections.
pub const KNOWN: usize = 1 << 21;
/// Entries of its ring: a prime, as it is usual.
pub const RING: usize = 65_537;
/// Its listeners and backends.
pub const TEXTBOOK_SERVICES: usize = 512;
/// Its backends.
pub const TEXTBOOK_BACKENDS: usize = 4_096;
/// A key of its listeners: an address (of IPv4 in the first word), then port and protocol.
pub type ListenerKey = [u32; 5];
/// The key of a connection: both addresses, both ports, protocol.
pub type ConnectionKey = [u32; 10];

/// The last word of a [`ListenerKey`]: the port as it lies in the packet, and the protocol.
#[inline(always)]
#[must_use]
pub const fn endpoint(port: u16, protocol: u8) -> u32 {
    port as u32 | (protocol as u32) << 16
}
