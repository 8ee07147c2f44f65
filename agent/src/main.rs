//! weir: one binary, the agent of a load-balancer host and its command line.

fn main() {}
