//! The rooms of weir, lowest first. A room depends only on rooms above it in this list.

mod causes;
pub mod fault;
pub mod log;
pub mod pcapng;
pub mod tls;

pub mod model;

pub mod plan;

pub mod health;

pub mod store;

pub mod dataplane;

pub mod decap;
pub mod outer_source;

pub mod node;

pub mod api;
pub mod observe;

pub mod client;

pub mod rollout;

pub mod cli;

pub mod agent;
