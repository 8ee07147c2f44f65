//! What crosses the rooms of weir: the lab and the tests that use it.
//!
//! - [`lab`]: network namespaces for clients, the balancer host and the backends of each version.
//! - [`servers`]: the HTTP and echo servers that run on the backends.
//! - [`load`]: the clients: fresh connections, long-lived connections, UDP flows.
//! - [`agent`]: a running `weir agent` on the balancer host, and calls of the command line.
//! - [`node`]: a lab, its agent and a gRPC client in one: what most tests begin with.
//! - [`fleet`]: several labs with their agents, and a coordinator.
//! - [`demo`]: a release in front of your eyes, with a verdict.
//! - [`identity`]: which version and backend answered.
//! - [`interrupt`]: Ctrl-C as a value, so that a program can clean up.
//! - [`pace`]: how fast this machine is.
//! - [`mod@bench`]: what something costs.
//! - [`frames`]: TCP and UDP frames as they stand on the wire.
//! - [`packet`]: packets of any layers, as they stand on the wire.
//! - [`capture`]: every packet of an interface, as it was seen there.
//! - [`cases`]: packet cases as data: what goes in, what must come out, what must be counted.
//! - [`certificates`]: an authority, what it has signed, and both as files.
//! - [`watch`]: a Prometheus and a browser that look at the agent.
//! - [`ledger`]: an etcd, and coordinators that hold the leadership.
//! - [`tunnels`]: frames, wrapped in an outer header.
//! - [`process`]: a program that stays, in a namespace.
//! - [`program`]: the loaded program, run without an interface.
//! - [`moved`]: a node whose every slot is in transition, run likewise.
//! - [`history`]: random histories of a service, and the model that flows stay where they began.
//! - [`soak`]: connections that live through everything that happens to a balancer.
//! - [`operations`]: random operations on a whole node, against the same model.
//! - [`random`]: chance that can be repeated.
//! - [`releases`]: simulated releases, good and bad, and what rules make of them.

#![forbid(unsafe_code)]

pub mod agent;
pub mod bench;
pub mod capture;
pub mod cases;
pub mod certificates;
pub mod decap;
pub mod demo;
pub mod fleet;
pub mod frames;
pub mod history;
pub mod identity;
pub mod interrupt;
pub mod lab;
pub mod ledger;
pub mod load;
pub mod moved;
pub mod node;
pub mod operations;
pub mod pace;
pub mod packet;
pub mod process;
pub mod program;
pub mod random;
pub mod releases;
pub mod servers;
pub mod soak;
pub mod tracer;
pub mod tunnels;
pub mod watch;
