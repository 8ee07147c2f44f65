//! The data plane: what the kernel's program reads, and how it gets there.

pub mod next_hop;
